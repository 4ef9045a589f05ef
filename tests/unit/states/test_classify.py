"""Situations in words, and the one state that each of them is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from states import (
    ADMIN_GROUP,
    DEFAULT,
    STABLE_STATES,
    UNKNOWN_QUOTA,
    UNLIMITED,
    FaultField,
    Mode,
    Ownership,
    ServiceState,
    Wish,
    is_quota_as_sold,
    is_same_place,
    to_storable_bytes,
)
from states.classify import compare_groups
from tests.unit.states.situations import (
    ACCOUNT,
    ADMINISTRATOR,
    API_USER,
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
    Situation,
    account,
    around,
    faulty,
    made,
    retired,
    sold,
    under,
)

S = ServiceState
ALL_REPORT = under(**dict.fromkeys(("existence", "quota", "enabled", "group", "email"), Mode.REPORT))
ALL_IGNORE = under(**dict.fromkeys(("existence", "quota", "enabled", "group", "email"), Mode.IGNORE))


@dataclass(frozen=True)
class Row:
    words: str
    situation: Situation
    state: ServiceState
    differs: str = ""
    """The fields that differ, "quota?" for one that is only reported."""

    def __str__(self) -> str:
        return self.words


TABLE = [
    # --- sold and paid
    Row("as sold", Situation(), S.ACTIVE),
    Row("as sold, seen for the first time", Situation(BY_BILLING, memory=NEW), S.ACTIVE),
    Row("never made", Situation(observed=None, memory=NEW), S.PROVISIONING, "existence"),
    Row("somebody deleted it", Situation(observed=None), S.PROVISIONING, "existence"),
    Row("half made", Situation(observed=HALF_MADE, memory=made(is_provisioned=False)),
        S.PROVISIONING, "quota group email"),
    Row("another quota", Situation(observed=account(quota=5 * GIB)), S.DRIFTED, "quota"),
    Row("somebody disabled it", Situation(observed=OFF), S.RESUMING, "enabled"),
    Row("paid again, and the tariff is another",
        Situation(sold(quota=20 * GIB), OFF, made(state=S.SUSPENDED)), S.RESUMING, "enabled quota"),
    # --- sold and not paid
    Row("not paid", Situation(DISABLED), S.SUSPENDING, "enabled"),
    Row("not paid, and disabled", Situation(DISABLED, OFF), S.SUSPENDED),
    Row("not paid, disabled, another quota",
        Situation(DISABLED, account(is_enabled=False, quota=0)), S.DRIFTED, "quota"),
    Row("not paid, and never made", Situation(DISABLED, None, NEW), S.PROVISIONING, "existence"),
    # --- ordered only
    Row("ordered, not paid", Situation(UNPAID, None, NEW), S.ABSENT),
    Row("ordered, not paid, and somebody has the name", Situation(UNPAID, memory=NEW), S.ABSENT),
    Row("ordered, not paid, and a person has the name who may never be touched",
        Situation(UNPAID, ADMINISTRATOR, NEW), S.ABSENT),
    Row("ordered, not paid, and another service has the name",
        Situation(UNPAID, memory=NEW, circumstances=around(namesake=8)), S.ABSENT),
    Row("ordered, not paid, and its account is there", Situation(UNPAID), S.HELD),
    Row("ordered, not paid, and billing names its account",
        Situation(sold(wish=Wish.NONE, is_username_recorded=True), memory=NEW), S.HELD),
    Row("ordered, not paid, its account is gone", Situation(UNPAID, None), S.ABSENT),
    # --- no longer sold
    Row("no longer sold", Situation(GONE), S.RETIRING, "enabled"),
    Row("no longer sold, and disabled", Situation(GONE, OFF), S.RETIRING),
    Row("no longer sold, below its grace", retired(hours=71.99), S.RETIRING),
    Row("no longer sold, at the end of its grace", retired(hours=72), S.DELETING, "existence"),
    Row("no longer sold, past its grace", retired(hours=100), S.DELETING, "existence"),
    Row("past its grace, but the reconciler has not retired it yet",
        Situation(GONE, OFF, made(retired_since=NOW - 100 * HOUR)), S.RETIRING),
    Row("past its grace, after a failed try: retired first",
        retired(hours=100, state=S.BACKOFF), S.RETIRING),
    Row("to be deleted, and billing wants it gone for ever",
        retired(100, S.DELETING), S.DELETING, "existence"),
    Row("to be deleted, and the grace was made longer", retired(71, S.DELETING), S.RETIRING),
    Row("retired, and nobody knows since when", Situation(GONE, OFF, made(state=S.RETIRING)), S.RETIRING),
    Row("no longer sold, the account is gone", Situation(GONE, None), S.DELETED),
    Row("no longer sold, deleted by us", Situation(GONE, None, made(state=S.DELETING)), S.DELETED),
    Row("no longer sold, deleted long ago", Situation(GONE, None, made(state=S.DELETED)), S.DELETED),
    Row("no longer sold, nothing there at the first look", Situation(GONE, None, NEW), S.ABSENT),
    Row("no longer sold, nothing there as before", Situation(GONE, None, made(state=S.ABSENT)), S.ABSENT),
    Row("no longer sold, and the account is another's", Situation(GONE, memory=NEW), S.ABSENT),
    Row("no longer sold, and billing names the account",
        Situation(sold(wish=Wish.ABSENT, is_username_recorded=True), memory=NEW), S.RETIRING, "enabled"),
    Row("a deleted account came back", Situation(GONE, memory=made(state=S.DELETED)), S.RETIRING, "enabled"),
    Row("sold again within its grace", Situation(SOLD, OFF, made(state=S.RETIRING)), S.RESUMING, "enabled"),
    Row("sold again, and gone", Situation(SOLD, None, made(state=S.DELETED)), S.PROVISIONING, "existence"),
    # --- stopped
    Row("an operator's pause", Situation(memory=made(hold_reason="moving house")), S.HELD),
    Row("an operator's pause goes before a deletion",
        Situation(GONE, OFF, made(state=S.DELETING, hold_reason="x", retired_since=NOW - 99 * HOUR)), S.HELD),
    Row("an operator's pause goes before a wrong row",
        Situation(faulty(FaultField.STATUS), memory=made(hold_reason="x")), S.HELD),
    Row("in progress without an operation", Situation(AS_IS), S.HELD),
    Row("in progress without an operation, no account", Situation(AS_IS, None, NEW), S.HELD),
    Row("a person must lift it", Situation(memory=made(quarantine_reason="hot loop")), S.QUARANTINED),
    Row("a quarantine goes before a deletion",
        Situation(GONE, OFF, made(state=S.DELETING, quarantine_reason="x", retired_since=NOW - 99 * HOUR)),
        S.QUARANTINED),
    Row("two services name the account", Situation(circumstances=around(namesake=8)), S.QUARANTINED),
    Row("two services name an account that is not there",
        Situation(observed=None, memory=NEW, circumstances=around(namesake=8)), S.QUARANTINED),
    Row("the tariff's server is another", Situation(sold(server_id=4)), S.QUARANTINED),
    Row("the account's name is another", Situation(sold(username="new_name"), None), S.QUARANTINED),
    Row("a moved service is not deleted on either server",
        Situation(sold(server_id=4, wish=Wish.ABSENT)), S.QUARANTINED),
    Row("the name is written in other letters", Situation(sold(username="User_7")), S.ACTIVE),
    Row("the service's row vanished", Situation(None), S.ORPHANED),
    Row("the service's row vanished, past its grace", Situation(None, OFF, retired(100).memory), S.ORPHANED),
    Row("the row of a service vanished that had no account", Situation(None, None, NEW), S.ABSENT),
    # --- whose account it is
    Row("somebody else has the name", Situation(memory=NEW), S.QUARANTINED),
    Row("somebody else has the name of a service that is not paid",
        Situation(DISABLED, memory=NEW), S.QUARANTINED),
    Row("a create was never answered, and the account is there",
        Situation(observed=HALF_MADE, memory=OPEN_CREATE), S.PROVISIONING),
    Row("a create was never answered, and no account is there",
        Situation(observed=None, memory=OPEN_CREATE), S.PROVISIONING, "existence"),
    Row("a create was never answered, and it is no longer sold",
        Situation(GONE, HALF_MADE, OPEN_CREATE), S.RETIRING),
    Row("a create was never answered, no longer sold, no account",
        Situation(GONE, None, OPEN_CREATE), S.ABSENT),
    Row("a create was never answered of an account that was ours before, and it is half made",
        Situation(observed=HALF_MADE, memory=made(has_open_create=True)),
        S.PROVISIONING, "quota group email"),
    # --- who is never touched
    Row("an administrator", Situation(observed=ADMINISTRATOR), S.QUARANTINED),
    Row("an administrator that billing names", Situation(BY_BILLING, ADMINISTRATOR, NEW), S.QUARANTINED),
    Row("an administrator of a group", Situation(observed=account(is_subadmin=True)), S.QUARANTINED),
    Row("the account we work with", Situation(
        sold(username=API_USER, is_username_recorded=True), account(userid=API_USER.upper()), NEW),
        S.QUARANTINED),
    Row("an administrator whose service is no longer sold",
        Situation(GONE, ADMINISTRATOR), S.QUARANTINED),
    # --- unknown is not absent
    Row("only an id was listed", Situation(observed=INCOMPLETE), S.UNKNOWN),
    Row("nobody knows whether it is enabled", Situation(observed=account(is_enabled=None)), S.UNKNOWN),
    Row("nobody knows its groups", Situation(observed=account(groups=None)), S.UNKNOWN),
    Row("an incomplete answer about somebody's account",
        Situation(observed=INCOMPLETE, memory=NEW), S.UNKNOWN),
    Row("an incomplete answer past the grace",
        Situation(GONE, INCOMPLETE, retired(100, S.DELETING).memory), S.UNKNOWN),
    Row("an incomplete answer about an ordered service", Situation(UNPAID, INCOMPLETE), S.UNKNOWN),
    Row("nobody knows whether it administers a group",
        Situation(observed=account(is_subadmin=None)), S.ACTIVE),
    # --- quota
    Row("the quota a server makes of what was sold",
        Situation(sold(quota=1500 * 1024**2), account(quota=1610612736)), S.ACTIVE),
    Row("less than was sold by the server's rounding",
        Situation(sold(quota=10**10), account(quota=9985798963)), S.DRIFTED, "quota"),
    Row("more than was sold", Situation(observed=account(quota=11 * GIB)), S.DRIFTED, "quota"),
    Row("unlimited instead of a number", Situation(observed=account(quota=UNLIMITED)), S.DRIFTED, "quota"),
    Row("the server's default instead of a number",
        Situation(observed=account(quota=DEFAULT)), S.DRIFTED, "quota"),
    Row("the server does not say the quota", Situation(observed=account(quota=UNKNOWN_QUOTA)), S.ACTIVE),
    Row("unlimited, as sold", Situation(sold(quota=UNLIMITED), account(quota=UNLIMITED)), S.ACTIVE),
    Row("sold unlimited, and limited", Situation(sold(quota=UNLIMITED)), S.DRIFTED, "quota"),
    Row("sold unlimited, and the server's default",
        Situation(sold(quota=UNLIMITED), account(quota=DEFAULT)), S.DRIFTED, "quota"),
    Row("sold nothing, and nothing", Situation(sold(quota=0), account(quota=0)), S.ACTIVE),
    # --- groups
    Row("not in its group", Situation(observed=account(groups=frozenset({"friends"}))), S.DRIFTED, "group"),
    Row("also in another tariff's group",
        Situation(observed=account(groups=frozenset({"gold", "silver"}))), S.DRIFTED, "group"),
    Row("also in a group that no tariff names",
        Situation(observed=account(groups=frozenset({"gold", "friends"}))), S.ACTIVE),
    Row("the tariff names no group any more", Situation(sold(group=None)), S.DRIFTED, "group"),
    Row("the tariff names no group, and it is in none of ours",
        Situation(sold(group=None), account(groups=frozenset({"friends"}))), S.ACTIVE),
    Row("the server lacks the new group: the old one is kept", Situation(sold(group="platinum")), S.ACTIVE),
    Row("the server lacks the new group, which may be made",
        Situation(sold(group="platinum"), circumstances=under(create_missing_groups=True)),
        S.DRIFTED, "group"),
    Row("the server's groups are unknown: the new one is tried",
        Situation(sold(group="platinum"), circumstances=around(server_groups=None)), S.DRIFTED, "group"),
    Row("the tariff names the administrators' group", Situation(sold(group=ADMIN_GROUP)), S.ACTIVE),
    # --- e-mail: wanted, there, set by us
    Row("billing has a new e-mail, the account what we set",
        Situation(sold(email="new@example.org")), S.DRIFTED, "email"),
    Row("the customer changed the e-mail", Situation(observed=account(email="own@example.org")), S.ACTIVE),
    Row("the customer removed the e-mail", Situation(observed=account(email="")), S.ACTIVE),
    Row("the customer changed the e-mail, and billing has a new one, too",
        Situation(sold(email="new@example.org"), account(email="own@example.org")), S.ACTIVE),
    Row("the e-mail differs in letters only", Situation(sold(email="Client@Example.ORG")), S.ACTIVE),
    Row("we set the e-mail in other letters",
        Situation(sold(email="new@example.org"), memory=made(applied_email="CLIENT@example.org")),
        S.DRIFTED, "email"),
    Row("an adopted account has an e-mail that we never set",
        Situation(observed=account(email="own@example.org"), memory=made(applied_email=None)), S.ACTIVE),
    Row("an adopted account has no e-mail",
        Situation(observed=account(email=None), memory=made(applied_email=None)), S.DRIFTED, "email"),
    Row("an account that was never complete has another e-mail",
        Situation(observed=account(email="own@example.org"), memory=made(is_provisioned=False)),
        S.PROVISIONING, "email"),
    # --- a policy that only reports
    Row("reported: missing",
        Situation(observed=None, circumstances=ALL_REPORT), S.PROVISIONING, "existence?"),
    Row("reported: quota, group and e-mail",
        Situation(sold(email="new@example.org"), account(quota=0, groups=frozenset()), MADE, ALL_REPORT),
        S.DRIFTED, "quota? group? email?"),
    Row("reported: to be disabled", Situation(DISABLED, circumstances=ALL_REPORT), S.SUSPENDING, "enabled?"),
    Row("reported: to be enabled", Situation(SOLD, OFF, MADE, ALL_REPORT), S.RESUMING, "enabled?"),
    Row("reported: to be deleted",
        Situation(GONE, OFF, retired(72).memory, ALL_REPORT), S.DELETING, "existence?"),
    Row("reported: no longer sold", Situation(GONE, ACCOUNT, MADE, ALL_REPORT), S.RETIRING, "enabled?"),
    # --- a policy that ignores
    Row("ignored: missing", Situation(observed=None, circumstances=ALL_IGNORE), S.PROVISIONING),
    Row("ignored: quota, group and e-mail",
        Situation(sold(email="new@example.org"), account(quota=0, groups=frozenset()), MADE, ALL_IGNORE),
        S.ACTIVE),
    Row("ignored: to be disabled", Situation(DISABLED, circumstances=ALL_IGNORE), S.ACTIVE),
    Row("ignored: to be enabled", Situation(SOLD, OFF, MADE, ALL_IGNORE), S.SUSPENDED),
    Row("ignored: to be deleted", Situation(GONE, OFF, retired(72).memory, ALL_IGNORE), S.DELETING),
    Row("ignored: no longer sold", Situation(GONE, ACCOUNT, MADE, ALL_IGNORE), S.RETIRING),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_situation_is_exactly_one_state(row: Row) -> None:
    verdict = row.situation.classify()
    assert verdict.state is row.state
    assert verdict.reason
    fields = [one.field if one.is_enforced else f"{one.field}?" for one in verdict.differences]
    assert fields == row.differs.split()


def test_every_situation_of_the_table_has_other_words() -> None:
    assert len({row.words for row in TABLE}) == len(TABLE)


def test_the_table_meets_every_state_but_backoff_which_is_no_verdict() -> None:
    assert {row.state for row in TABLE} == set(ServiceState) - {S.BACKOFF}


def test_four_states_are_stable() -> None:
    assert {state for state in ServiceState if state.is_stable} == STABLE_STATES
    assert {S.ABSENT, S.ACTIVE, S.SUSPENDED, S.DELETED} == STABLE_STATES


# --- faults, for every wish -----------------------------------------------------------------------

ANY_WISH = dict.fromkeys(Wish, S.QUARANTINED)
WITHOUT_ACCOUNT = {Wish.NONE: S.ABSENT, Wish.ABSENT: S.ABSENT, Wish.AS_IS: S.HELD}
WITH_ACCOUNT = {
    Wish.NONE: S.HELD,
    Wish.ENABLED: S.ACTIVE,
    Wish.DISABLED: S.SUSPENDING,
    Wish.ABSENT: S.RETIRING,
    Wish.AS_IS: S.HELD,
}
NOT_MADE = {**WITHOUT_ACCOUNT, Wish.ENABLED: S.QUARANTINED, Wish.DISABLED: S.QUARANTINED}
IS_MADE = {**WITHOUT_ACCOUNT, Wish.ENABLED: S.PROVISIONING, Wish.DISABLED: S.PROVISIONING}
FAULTS = [
    (FaultField.STATUS, ANY_WISH, ANY_WISH),
    (FaultField.USERNAME, ANY_WISH, ANY_WISH),
    (FaultField.QUOTA, NOT_MADE, {**WITH_ACCOUNT, Wish.ENABLED: S.QUARANTINED}),
    (FaultField.EMAIL, NOT_MADE, WITH_ACCOUNT),
    (FaultField.PASSWORD, NOT_MADE, WITH_ACCOUNT),
    (FaultField.GROUP, IS_MADE, WITH_ACCOUNT),
]


def test_every_field_has_its_row_of_faults() -> None:
    assert [field for field, _, _ in FAULTS] == list(FaultField)


@pytest.mark.parametrize("wish", Wish)
@pytest.mark.parametrize(("field", "missing", "present"), FAULTS)
def test_a_fault_stops_what_depends_on_its_field_and_nothing_else(
    field: FaultField,
    missing: dict[Wish, ServiceState],
    present: dict[Wish, ServiceState],
    wish: Wish,
) -> None:
    desired = faulty(field, wish=wish)
    assert Situation(desired, None, NEW).classify().state is missing[wish]
    verdict = Situation(desired).classify()
    assert verdict.state is present[wish]
    if verdict.state is S.QUARANTINED:
        assert verdict.reason == f"the {field} is wrong"


def test_a_fault_that_stops_nothing_is_told_as_a_note() -> None:
    for field in (FaultField.EMAIL, FaultField.GROUP, FaultField.PASSWORD):
        assert Situation(faulty(field)).classify().notes == (f"the {field} is wrong",)
    assert Situation(faulty(FaultField.GROUP), None, NEW).classify().notes == ("the group is wrong",)


def test_without_a_quota_a_disabled_account_is_neither_enabled_nor_resized() -> None:
    situation = Situation(faulty(FaultField.QUOTA), account(is_enabled=False, quota=0))
    assert situation.classify().state is S.QUARANTINED
    suspended = Situation(faulty(FaultField.QUOTA, wish=Wish.DISABLED), account(is_enabled=False, quota=0))
    assert suspended.classify().state is S.SUSPENDED


def test_an_account_is_made_without_an_email_where_emails_are_not_enforced() -> None:
    for mode in (Mode.REPORT, Mode.IGNORE):
        situation = Situation(faulty(FaultField.EMAIL), None, NEW, under(email=mode))
        assert situation.classify().state is S.PROVISIONING


# --- grace ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.RETIRING, S.DELETING])
@pytest.mark.parametrize(
    ("grace", "confirm", "waited", "is_over"),
    [
        pytest.param(72, 0.1, 71.9, False, id="below"),
        pytest.param(72, 0.1, 72, True, id="at"),
        pytest.param(72, 0.1, 73, True, id="above"),
        pytest.param(96, 0.1, 73, False, id="made longer"),
        pytest.param(1, 2, 1.5, False, id="a second read too soon"),
        pytest.param(1, 2, 2, True, id="a second read far enough apart"),
        pytest.param(0, 2, 0, True, id="no grace needs no second read"),
    ],
)
def test_an_account_is_deleted_once_its_grace_is_over_and_never_before(
    state: ServiceState, grace: float, confirm: float, waited: float, is_over: bool
) -> None:
    memory = made(state=state, retired_since=NOW - waited * HOUR)
    circumstances = around(deletion_grace=grace * HOUR, confirm_interval=confirm * HOUR)
    verdict = Situation(GONE, OFF, memory, circumstances).classify()
    assert verdict.state is (S.DELETING if is_over else S.RETIRING)


def test_a_clock_that_went_backwards_deletes_nothing() -> None:
    assert retired(hours=-100).classify().state is S.RETIRING


def test_a_retiring_account_without_grace_is_shown_as_to_be_deleted() -> None:
    verdict = Situation(GONE, ACCOUNT, MADE, around(deletion_grace=timedelta(0))).classify()
    assert verdict.state is S.RETIRING
    assert [one.field for one in verdict.differences] == ["enabled", "existence"]


# --- the parts ------------------------------------------------------------------------------------


def test_an_unknown_quota_is_never_seen_to_differ() -> None:
    for quota in (0, GIB, UNLIMITED):
        assert is_quota_as_sold(quota, UNKNOWN_QUOTA)
        assert not is_quota_as_sold(quota, DEFAULT)


@pytest.mark.parametrize("size", [10 * GIB, 1000 * GIB, 1024**4])
def test_another_quota_differs_even_where_a_server_shows_the_same_text(size: int) -> None:
    assert is_quota_as_sold(size, size)
    assert not is_quota_as_sold(size, size - 1)
    assert not is_quota_as_sold(size, size + 1)


def test_some_bytes_of_a_petabyte_are_the_servers_floating_point() -> None:
    wanted = to_storable_bytes(103 * 1024**5 // 10)
    for offset in (-1, 0, 1):
        assert is_quota_as_sold(wanted, wanted + offset)
    assert not is_quota_as_sold(wanted, wanted - 1000)


def test_the_administrators_group_is_neither_joined_nor_left() -> None:
    managed = around(managed_groups=frozenset({"gold", ADMIN_GROUP}))
    assert compare_groups(sold(group=None), ADMINISTRATOR, managed) == (None, frozenset({"gold"}))
    for name in (ADMIN_GROUP, "Admin"):
        for circumstances in (managed, under(create_missing_groups=True)):
            assert compare_groups(sold(group=name), ACCOUNT, circumstances) == (None, frozenset())


def test_memberships_that_were_not_seen_are_left_alone() -> None:
    assert compare_groups(SOLD, account(groups=None), around()) == (None, frozenset())


def test_memberships_are_left_alone_when_the_tariffs_group_cannot_be_given() -> None:
    assert compare_groups(faulty(FaultField.GROUP), ACCOUNT, around()) == (None, frozenset())


def test_a_service_is_where_the_journal_knows_its_account_whatever_the_letters() -> None:
    assert is_same_place(SOLD, MADE)
    assert is_same_place(sold(username="USER_7"), MADE)
    assert not is_same_place(sold(server_id=4), MADE)
    assert not is_same_place(sold(server_id=None), MADE)
    assert not is_same_place(sold(username="user_70"), MADE)


def test_a_service_without_an_account_is_in_no_other_place() -> None:
    assert is_same_place(sold(server_id=4), NEW)
    assert is_same_place(sold(server_id=4), made(ownership=Ownership.NONE))
    assert is_same_place(sold(server_id=4), made(userid=None))
