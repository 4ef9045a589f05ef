"""Steps taken on a small server: every service comes to rest as it was sold, and stays there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from states import (
    DEFAULT,
    UNLIMITED,
    DesiredService,
    Memory,
    ObservedQuota,
    Ownership,
    Policy,
    ServiceState,
    StepKind,
    Wish,
)
from tests.unit.states.cloud import Account, Cloud, Reconciler, later
from tests.unit.states.situations import AROUND, GIB, HOUR, MADE, SOLD, USER, around
from tests.unit.states.storage import find_storable

S = ServiceState
PRESENT = {Wish.ENABLED, Wish.DISABLED}
MANAGED = AROUND.managed_groups

quotas = st.one_of(st.integers(0, 2**60), st.just(UNLIMITED))
stored = st.one_of(st.integers(0, 2**60).map(find_storable), st.sampled_from([UNLIMITED, DEFAULT]))
emails = st.sampled_from(["client@example.org", "Client@Example.org", "new@example.org"])
tariff_groups = st.sampled_from([None, "gold", "silver", "platinum"])
some_groups = st.sets(st.sampled_from(["gold", "silver", "friends"]))
some_accounts = st.builds(
    Account,
    password=st.just("ours"),
    quota=stored,
    email=st.one_of(st.just(""), emails),
    is_enabled=st.booleans(),
    groups=some_groups,
)
some_services = st.builds(
    DesiredService,
    item_id=st.just(7),
    server_id=st.just(3),
    wish=st.sampled_from([Wish.ENABLED, Wish.DISABLED, Wish.ABSENT]),
    username=st.just(USER),
    quota=quotas,
    group=tariff_groups,
    email=emails,
    is_username_recorded=st.booleans(),
)


def check_as_sold(desired: DesiredService, cloud: Cloud) -> None:
    """The world's state: nothing less than what was sold, and nothing of what was not."""
    one = cloud.accounts.get(USER)
    if desired.wish is Wish.ABSENT:
        assert one is None or not one.is_enabled
        return
    assert one is not None
    assert one.is_enabled is (desired.wish is Wish.ENABLED)
    if isinstance(desired.quota, int):
        assert one.quota == find_storable(desired.quota)
    else:
        assert one.quota is UNLIMITED
    if desired.group is None or desired.group in cloud.groups:
        assert one.groups & MANAGED == ({desired.group} & MANAGED)


@settings(max_examples=300)
@given(
    some_services,
    st.one_of(st.none(), some_accounts),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([timedelta(0), 72 * HOUR]),
)
def test_whatever_there_is_becomes_what_was_sold_in_one_pass_and_is_left_alone_then(
    desired: DesiredService,
    present: Account | None,
    is_owncloud: bool,
    is_complete: bool,
    may_make_groups: bool,
    grace: timedelta,
) -> None:
    friends = present.groups - MANAGED if present else set()
    cloud = Cloud(is_owncloud, accounts={USER: present} if present else {})
    memory = replace(MADE, is_provisioned=is_complete, applied_email=None)
    reconciler = Reconciler(cloud, memory=memory)
    circumstances = around(deletion_grace=grace, policy=Policy(create_missing_groups=may_make_groups))

    reconciler.run(desired, circumstances)
    check_as_sold(desired, cloud)
    if desired.wish is Wish.ABSENT and present and grace:
        assert reconciler.memory.state is S.RETIRING
        circumstances = later(circumstances, hours=72)
        reconciler.run(desired, circumstances)
    assert reconciler.memory.state.is_stable
    if desired.wish is Wish.ABSENT:
        assert cloud.accounts == {}
    elif present:
        assert cloud.accounts[USER].groups >= friends
    if (not is_complete or not present) and desired.wish in PRESENT:
        assert cloud.accounts[USER].email.lower() == (desired.email or "").lower()
    assert reconciler.run(desired, circumstances) == []


@settings(max_examples=200)
@given(some_services, st.booleans(), st.booleans())
def test_a_create_that_failed_after_its_row_ends_as_a_complete_account(
    desired: DesiredService, is_owncloud: bool, existed: bool
) -> None:
    desired = replace(desired, wish=Wish.ENABLED, is_username_recorded=existed)
    cloud = Cloud(is_owncloud, fails_next_create=True)
    reconciler = Reconciler(cloud, memory=MADE if existed else Memory())
    done = reconciler.run(desired, AROUND)
    assert done[:2] == [StepKind.CREATE, StepKind.PROVE_OWNERSHIP]
    assert reconciler.memory.state is S.ACTIVE
    check_as_sold(desired, cloud)
    assert cloud.accounts[USER].email.lower() == (desired.email or "").lower()
    assert reconciler.run(desired, AROUND) == []


@given(some_services, some_accounts, st.booleans())
def test_an_account_of_somebody_else_stays_as_it_is(
    desired: DesiredService, present: Account, has_open_create: bool
) -> None:
    desired = replace(desired, is_username_recorded=False)
    before = replace(present, password="theirs", groups=set(present.groups))
    cloud = Cloud(accounts={USER: replace(before, groups=set(present.groups))})
    reconciler = Reconciler(cloud, memory=Memory(has_open_create=has_open_create))
    reconciler.run(desired, AROUND)
    reconciler.run(desired, later(AROUND, hours=100))
    assert cloud.accounts == {USER: before}
    assert reconciler.memory.state is (S.ABSENT if desired.wish is Wish.ABSENT else S.QUARANTINED)


def test_an_empty_journal_adopts_what_billing_names_and_changes_nothing_that_is_right() -> None:
    cloud = Cloud(accounts={USER: Account("theirs", 10 * GIB, "client@example.org", True, {"gold"})})
    reconciler = Reconciler(cloud)
    assert reconciler.run(replace(SOLD, is_username_recorded=True), AROUND) == [StepKind.ADOPT]
    assert reconciler.memory.ownership is Ownership.ADOPTED
    assert reconciler.memory.state is S.ACTIVE


class ServiceLife(RuleBasedStateMachine):
    """Anything happens to one service, at both ends; a pass after each puts it right."""

    def __init__(self) -> None:
        super().__init__()
        self.cloud = Cloud()
        self.reconciler = Reconciler(self.cloud)
        self.desired: DesiredService = replace(SOLD, wish=Wish.NONE)
        self.around = AROUND
        self.own_email: str | None = None
        """What the customer entered; None while he has not."""

    def run_pass(self) -> None:
        self.reconciler.run(self.desired, self.around)
        assert self.reconciler.run(self.desired, self.around) == []
        if USER not in self.cloud.accounts:
            self.own_email = None

    @rule(wish=st.sampled_from(Wish))
    def billing_wants(self, wish: Wish) -> None:
        self.desired = replace(self.desired, wish=wish)
        self.run_pass()

    @rule(quota=quotas, group=tariff_groups)
    def tariff_changes(self, quota: int, group: str | None) -> None:
        self.desired = replace(self.desired, quota=quota, group=group)
        self.run_pass()

    @rule(email=st.sampled_from(["client@example.org", "new@example.org"]))
    def client_changes_his_profile(self, email: str) -> None:
        self.desired = replace(self.desired, email=email)
        self.run_pass()

    @precondition(lambda self: self.reconciler.memory.state in {S.ACTIVE, S.SUSPENDED})
    @rule()
    def customer_enters_an_email_of_his_own(self) -> None:
        self.own_email = self.cloud.accounts[USER].email = "own@example.net"
        self.run_pass()

    @precondition(lambda self: USER in self.cloud.accounts)
    @rule(quota=stored, is_enabled=st.booleans(), groups=some_groups)
    def somebody_tampers(self, quota: ObservedQuota, is_enabled: bool, groups: set[str]) -> None:
        one = self.cloud.accounts[USER]
        one.quota, one.is_enabled, one.groups = quota, is_enabled, groups
        self.run_pass()

    @precondition(lambda self: USER in self.cloud.accounts)
    @rule(fails=st.booleans())
    def account_is_lost(self, fails: bool) -> None:
        self.own_email = None
        self.cloud.fails_next_create = fails
        del self.cloud.accounts[USER]
        self.run_pass()

    @rule(hours=st.sampled_from([1, 71, 72]))
    def time_passes(self, hours: int) -> None:
        self.around = later(self.around, hours)
        self.run_pass()

    @invariant()
    def account_is_as_sold(self) -> None:
        wish, memory, accounts = self.desired.wish, self.reconciler.memory, self.cloud.accounts
        if wish in PRESENT:
            check_as_sold(self.desired, self.cloud)
            assert memory.state is (S.ACTIVE if wish is Wish.ENABLED else S.SUSPENDED)
            wanted = self.own_email or self.desired.email
            assert accounts[USER].email == wanted
        elif wish is Wish.ABSENT:
            since = memory.retired_since
            assert since is not None
            is_kept = self.around.now - since < self.around.deletion_grace
            assert USER not in accounts or (is_kept and not accounts[USER].is_enabled)


TestServiceLife = ServiceLife.TestCase
TestServiceLife.settings = settings(max_examples=100, stateful_step_count=25)
