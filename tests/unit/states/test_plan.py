"""Situations in words, and the steps that each of them is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from states import (
    ADMIN_GROUP,
    DEFAULT,
    UNKNOWN_QUOTA,
    UNLIMITED,
    DesiredService,
    FaultField,
    Mode,
    ObservedQuota,
    Ownership,
    ServiceState,
    SoldQuota,
    Step,
    StepKind,
    Wish,
    plan,
)
from tests.unit.states.situations import (
    ACCOUNT,
    ADMINISTRATOR,
    AS_IS,
    BY_BILLING,
    DISABLED,
    GIB,
    GONE,
    HALF_MADE,
    HOUR,
    INCOMPLETE,
    MADE,
    NEW,
    NOW,
    OFF,
    OPEN_CREATE,
    SOLD,
    UNPAID,
    USER,
    Situation,
    account,
    around,
    faulty,
    made,
    retired,
    sold,
    under,
)

REPORT, IGNORE = Mode.REPORT, Mode.IGNORE
CROOKED = account(
    is_enabled=False, quota=UNLIMITED, email=None, groups=frozenset({"silver", "bronze", "friends"})
)
TARIFFS = frozenset({"gold", "silver", "bronze"})
HALF_MEMORY = made(is_provisioned=False, applied_email=None)


@dataclass(frozen=True)
class Row:
    words: str
    situation: Situation
    steps: str = ""

    def __str__(self) -> str:
        return self.words


def crooked(**modes: Mode) -> Situation:
    """Every field differs, under a policy."""
    return Situation(
        observed=CROOKED, memory=HALF_MEMORY, circumstances=replace(under(**modes), managed_groups=TARIFFS)
    )


TABLE = [
    # --- nothing to do, or nothing that may be done
    Row("as sold", Situation()),
    Row("suspended", Situation(DISABLED, OFF)),
    Row("ordered only", Situation(UNPAID, None, NEW)),
    Row("ordered only, the account is there", Situation(UNPAID)),
    Row("ordered only, billing names the account",
        Situation(sold(wish=Wish.NONE, is_username_recorded=True), memory=NEW)),
    Row("in progress without an operation", Situation(AS_IS, CROOKED)),
    Row("held", Situation(observed=CROOKED, memory=made(hold_reason="x"))),
    Row("held, and billing names the account",
        Situation(BY_BILLING, CROOKED, replace(NEW, hold_reason="x"))),
    Row("quarantined", Situation(observed=CROOKED, memory=made(quarantine_reason="x"))),
    Row("somebody else has the name", Situation(observed=CROOKED, memory=NEW)),
    Row("somebody else has the name of a closed service", Situation(GONE, memory=NEW)),
    Row("two services name the account", Situation(observed=CROOKED, circumstances=around(namesake=8))),
    Row("moved to another server", Situation(sold(server_id=4), None)),
    Row("an administrator", Situation(DISABLED, ADMINISTRATOR)),
    Row("an administrator that billing names",
        Situation(sold(wish=Wish.ABSENT, is_username_recorded=True),
                  ADMINISTRATOR, NEW)),
    Row("an incomplete answer", Situation(observed=INCOMPLETE)),
    Row("an incomplete answer about an account that billing names", Situation(BY_BILLING, INCOMPLETE, NEW)),
    Row("an incomplete answer about somebody's account", Situation(observed=INCOMPLETE, memory=NEW)),
    Row("an incomplete answer after a create without an answer",
        Situation(observed=INCOMPLETE, memory=OPEN_CREATE)),
    Row("the row vanished", Situation(None, CROOKED)),
    Row("retired and disabled, within its grace", retired(1)),
    Row("deleted", Situation(GONE, None, made(state=ServiceState.DELETED))),
    Row("without a quota", Situation(faulty(FaultField.QUOTA), None, NEW)),
    Row("the server does not say the quota", Situation(observed=account(quota=UNKNOWN_QUOTA))),
    Row("the server lacks the group, the old one is kept", Situation(sold(group="platinum"))),
    Row("the tariff names the administrators' group", Situation(sold(group=ADMIN_GROUP), HALF_MADE),
        "set_quota"),
    # --- whose account it is
    Row("billing names the account", Situation(BY_BILLING, memory=NEW), "adopt"),
    Row("billing names the account, which is not paid",
        Situation(sold(wish=Wish.DISABLED, is_username_recorded=True), memory=NEW), "adopt disable"),
    Row("billing names the account, which is no longer sold",
        Situation(sold(wish=Wish.ABSENT, is_username_recorded=True), memory=NEW), "adopt disable"),
    Row("a create without an answer", Situation(observed=HALF_MADE, memory=OPEN_CREATE), "prove_ownership"),
    Row("a create without an answer, no longer sold",
        Situation(GONE, HALF_MADE, OPEN_CREATE), "prove_ownership"),
    Row("an account of ours was made again, without an answer",
        Situation(observed=HALF_MADE, memory=made(has_open_create=True)), "prove_ownership"),
    Row("a create without an answer, and it is as sold",
        Situation(memory=made(has_open_create=True)), "prove_ownership"),
    Row("a create without an answer, and billing names the account",
        Situation(BY_BILLING, HALF_MADE, OPEN_CREATE), "prove_ownership"),
    Row("a create without an answer, and nothing there",
        Situation(observed=None, memory=OPEN_CREATE), "create"),
    # --- there and not as sold
    Row("everything differs", crooked(),
        "enable set_quota add_group remove_group remove_group set_email"),
    Row("half made on ownCloud", Situation(observed=HALF_MADE, memory=HALF_MEMORY),
        "set_quota add_group set_email"),
    Row("not paid", Situation(DISABLED), "disable"),
    Row("not paid, and half made", Situation(DISABLED, HALF_MADE, HALF_MEMORY),
        "disable set_quota add_group set_email"),
    Row("not paid, disabled, another quota", Situation(DISABLED, replace(OFF, quota=0)), "set_quota"),
    Row("paid again", Situation(SOLD, OFF), "enable"),
    Row("another tariff",
        Situation(sold(quota=20 * GIB, group="silver")), "set_quota add_group remove_group"),
    Row("a tariff without group", Situation(sold(group=None)), "remove_group"),
    Row("a group that the server lacks and that may be made",
        Situation(sold(group="platinum"), circumstances=under(create_missing_groups=True)),
        "create_group add_group remove_group"),
    Row("a group that may be made and is there", Situation(sold(group="silver"),
        circumstances=under(create_missing_groups=True)), "add_group remove_group"),
    # --- not there
    Row("never made", Situation(observed=None, memory=NEW), "create"),
    Row("never made, not paid", Situation(DISABLED, None, NEW), "create"),
    Row("never made, the server lacks the group", Situation(sold(group="platinum"), None, NEW), "create"),
    Row("never made, the group may be made",
        Situation(sold(group="platinum"), None, NEW, under(create_missing_groups=True)),
        "create_group create"),
    # --- no longer sold
    Row("no longer sold", Situation(GONE), "disable"),
    Row("no longer sold, the fields are left alone", Situation(GONE, HALF_MADE), "disable"),
    Row("its grace is over", retired(72), "delete"),
    Row("its grace is over, and it is enabled",
        Situation(GONE, ACCOUNT, retired(72).memory), "delete"),
    # --- policies
    Row("reported: existence, missing",
        Situation(observed=None, memory=NEW, circumstances=under(existence=REPORT))),
    Row("ignored: existence, missing",
        Situation(observed=None, memory=NEW, circumstances=under(existence=IGNORE))),
    Row("reported: existence, to be deleted",
        Situation(GONE, OFF, retired(72).memory, under(existence=REPORT))),
    Row("ignored: existence, to be deleted",
        Situation(GONE, OFF, retired(72).memory, under(existence=IGNORE))),
    Row("reported: enabled",
        crooked(enabled=REPORT), "set_quota add_group remove_group remove_group set_email"),
    Row("ignored: enabled",
        crooked(enabled=IGNORE), "set_quota add_group remove_group remove_group set_email"),
    Row("reported: enabled, no longer sold", Situation(GONE, circumstances=under(enabled=REPORT))),
    Row("ignored: enabled, no longer sold", Situation(GONE, circumstances=under(enabled=IGNORE))),
    Row("reported: quota", crooked(quota=REPORT), "enable add_group remove_group remove_group set_email"),
    Row("ignored: quota", crooked(quota=IGNORE), "enable add_group remove_group remove_group set_email"),
    Row("reported: group", crooked(group=REPORT), "enable set_quota set_email"),
    Row("ignored: group", crooked(group=IGNORE), "enable set_quota set_email"),
    Row("reported: e-mail", crooked(email=REPORT),
        "enable set_quota add_group remove_group remove_group"),
    Row("ignored: e-mail", crooked(email=IGNORE),
        "enable set_quota add_group remove_group remove_group"),
    # --- faults
    Row("no group can be given", Situation(faulty(FaultField.GROUP), CROOKED, HALF_MEMORY),
        "enable set_quota set_email"),
    Row("no e-mail is known",
        Situation(faulty(FaultField.EMAIL), HALF_MADE, HALF_MEMORY), "set_quota add_group"),
    Row("no quota is known, and not paid",
        Situation(faulty(FaultField.QUOTA, wish=Wish.DISABLED), HALF_MADE, HALF_MEMORY),
        "disable add_group set_email"),
    Row("no quota is known, and no longer sold",
        Situation(faulty(FaultField.QUOTA, wish=Wish.ABSENT), OFF, retired(72).memory), "delete"),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_situation_is_worth_these_steps_in_this_order(row: Row) -> None:
    assert [step.kind.value for step in row.situation.plan_steps()] == row.steps.split()


def test_every_situation_of_the_table_has_other_words() -> None:
    assert len({row.words for row in TABLE}) == len(TABLE)


def test_the_table_has_every_kind_of_step() -> None:
    planned = set(StepKind) - {StepKind.SET_PASSWORD}
    assert {kind for row in TABLE for kind in row.steps.split()} == {kind.value for kind in planned}


def test_the_next_step_is_the_first_one() -> None:
    for row in TABLE:
        one = row.situation
        step = plan(one.classify(), one.desired, one.observed, one.memory, one.circumstances)
        assert step == next(iter(one.plan_steps()), None)


# --- what a step carries --------------------------------------------------------------------------


def step_of(situation: Situation, kind: StepKind) -> Step:
    (step,) = [step for step in situation.plan_steps() if step.kind is kind]
    return step


def test_a_create_carries_everything_that_was_sold() -> None:
    step = step_of(Situation(sold(quota=10**10), None, NEW), StepKind.CREATE)
    assert step == Step(
        StepKind.CREATE, USER, quota=10093173146, email="client@example.org", groups=("gold",)
    )


def test_a_create_of_an_account_without_limit_says_so() -> None:
    assert step_of(Situation(sold(quota=UNLIMITED), None, NEW), StepKind.CREATE).quota is UNLIMITED


@pytest.mark.parametrize(
    ("situation", "is_recreation"),
    [
        (Situation(observed=None, memory=NEW), False),
        (Situation(observed=None), True),
        (Situation(sold(is_username_recorded=True, is_password_recorded=True), None, NEW), True),
        (Situation(sold(is_username_recorded=True), None, NEW), False),
        (Situation(sold(is_password_recorded=True), None, NEW), False),
    ],
)
def test_a_create_of_an_account_that_existed_is_told_apart(situation: Situation, is_recreation: bool) -> None:
    assert step_of(situation, StepKind.CREATE).is_recreation is is_recreation


@pytest.mark.parametrize("mode", [REPORT, IGNORE])
def test_a_create_leaves_out_what_is_not_enforced(mode: Mode) -> None:
    step = step_of(
        Situation(observed=None, memory=NEW, circumstances=under(group=mode, email=mode)), StepKind.CREATE
    )
    assert (step.email, step.groups) == (None, ())
    quota = step_of(
        Situation(observed=None, memory=NEW, circumstances=under(quota=mode)), StepKind.CREATE
    ).quota
    assert quota == 10 * GIB


@pytest.mark.parametrize(
    ("desired", "groups"),
    [
        (sold(group=None), ()),
        (sold(group="platinum"), ()),
        (faulty(FaultField.GROUP, group="gold"), ()),
        (sold(group=ADMIN_GROUP), ()),
        (sold(group="silver"), ("silver",)),
    ],
)
def test_a_create_names_only_a_group_that_can_be_given(
    desired: DesiredService, groups: tuple[str, ...]
) -> None:
    assert step_of(Situation(desired, None, NEW), StepKind.CREATE).groups == groups


def test_a_missing_group_is_made_before_the_account_that_is_to_be_in_it() -> None:
    first, second = Situation(
        sold(group="platinum"), None, NEW, under(create_missing_groups=True)
    ).plan_steps()
    assert (first.kind, first.groups) == (StepKind.CREATE_GROUP, ("platinum",))
    assert (second.kind, second.groups) == (StepKind.CREATE, ("platinum",))


def test_the_administrators_group_is_never_made_nor_given() -> None:
    circumstances = replace(under(create_missing_groups=True), server_groups=frozenset({"gold"}))
    for observed in (None, ACCOUNT):
        steps = Situation(sold(group=ADMIN_GROUP), observed, NEW if observed is None else MADE, circumstances)
        assert [step for step in steps.plan_steps() if ADMIN_GROUP in step.groups] == []


def test_no_account_is_made_without_a_quota_even_if_no_fault_says_so() -> None:
    assert Situation(sold(quota=None), None, NEW).plan_steps() == []


def test_steps_use_the_servers_spelling_of_the_account() -> None:
    steps = replace(crooked(), observed=replace(CROOKED, userid="USER_7")).plan_steps()
    assert {step.userid for step in steps} == {"USER_7"}


def test_groups_are_left_one_by_one_after_the_new_one_is_joined() -> None:
    groups = [(step.kind, step.groups) for step in crooked().plan_steps() if step.kind.name.endswith("GROUP")]
    assert groups == [
        (StepKind.ADD_GROUP, ("gold",)),
        (StepKind.REMOVE_GROUP, ("bronze",)),
        (StepKind.REMOVE_GROUP, ("silver",)),
    ]


@pytest.mark.parametrize(
    ("bought", "has", "is_decrease"),
    [
        pytest.param(5 * GIB, 10 * GIB, True, id="less"),
        pytest.param(20 * GIB, 10 * GIB, False, id="more"),
        pytest.param(10 * GIB, UNLIMITED, True, id="a limit where there was none"),
        pytest.param(10 * GIB, DEFAULT, True, id="a number instead of a default that nobody knows"),
        pytest.param(UNLIMITED, 10 * GIB, False, id="no limit any more"),
        pytest.param(UNLIMITED, DEFAULT, False, id="no limit instead of the default"),
        pytest.param(0, 1, True, id="nothing"),
        pytest.param(10**10, 10**10 + 5 * 10**6, False, id="more, since what was sold is rounded up"),
    ],
)
def test_less_than_the_account_has_is_a_decrease(
    bought: SoldQuota, has: ObservedQuota, is_decrease: bool
) -> None:
    step = step_of(Situation(sold(quota=bought), account(quota=has)), StepKind.SET_QUOTA)
    assert step.is_decrease is is_decrease


def test_a_new_account_loses_nothing_by_its_first_quota() -> None:
    half_made = Situation(observed=HALF_MADE, memory=HALF_MEMORY)
    assert not step_of(half_made, StepKind.SET_QUOTA).is_decrease
    assert step_of(replace(half_made, memory=MADE), StepKind.SET_QUOTA).is_decrease
    adopted = Situation(BY_BILLING, HALF_MADE, NEW)
    assert step_of(adopted, StepKind.SET_QUOTA).is_decrease


def test_a_new_email_is_what_billing_has() -> None:
    assert step_of(Situation(sold(email="new@example.org")), StepKind.SET_EMAIL).email == "new@example.org"


def test_only_proof_and_adoption_change_nothing_on_the_server() -> None:
    harmless = {kind for kind in StepKind if not kind.is_mutating}
    assert harmless == {StepKind.PROVE_OWNERSHIP, StepKind.ADOPT}


def test_an_account_known_to_the_journal_is_not_adopted_again() -> None:
    for ownership in (Ownership.CREATED, Ownership.ADOPTED):
        assert Situation(BY_BILLING, memory=made(ownership=ownership)).plan_steps() == []


def test_an_account_is_adopted_before_it_is_deleted() -> None:
    memory = replace(NEW, state=ServiceState.RETIRING, retired_since=NOW - 72 * HOUR)
    steps = Situation(sold(wish=Wish.ABSENT, is_username_recorded=True), OFF, memory).plan_steps()
    assert [step.kind for step in steps] == [StepKind.ADOPT, StepKind.DELETE]
