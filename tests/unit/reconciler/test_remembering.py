"""How a service's memory changes by what billing says and by what was done."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from reconciler.journal import ServiceRecord
from reconciler.remembering import (
    enter,
    forget_account,
    get_agreed_email,
    make_mark,
    recall,
    remember_creation,
    remember_effect,
    to_values,
)
from states import (
    UNKNOWN_QUOTA,
    UNLIMITED,
    DesiredService,
    Memory,
    ObservedAccount,
    Ownership,
    ServiceState,
    StepKind,
    Wish,
)
from tests.unit.reconciler.samples import NOW, PASSWORD, make_desired, make_step

S = ServiceState
EARLIER = NOW - timedelta(hours=5)
FULL = Memory(
    state=ServiceState.ACTIVE,
    ownership=Ownership.CREATED,
    server_id=1,
    userid="user_7",
    is_provisioned=True,
    applied_email="a@example.net",
    has_open_create=True,
    hold_reason="hold",
    quarantine_reason="why",
    retired_since=EARLIER,
)


def make_record(memory: Memory, mark: str | None = None) -> ServiceRecord:
    return ServiceRecord(
        item_id=7,
        server_id=1,
        userid="user_7",
        wish="enabled",
        memory=memory,
        since=EARLIER,
        reason="reason",
        attempts=0,
        next_attempt_at=None,
        last_error=None,
        blocked_by=None,
        blocked_guard=None,
        unconverged_since=None,
        unconverged_kind=None,
        stable_at=None,
        quarantine_mark=mark,
        version=1,
    )


def see(email: str | None) -> ObservedAccount:
    return ObservedAccount("user_7", is_enabled=True, quota=UNKNOWN_QUOTA, email=email)


# -- the grace


def test_grace_begins_when_an_account_is_seen_that_nobody_wants_not_with_the_wish() -> None:
    memory = recall(make_desired(wish=Wish.ABSENT), make_record(Memory()))
    assert memory == Memory()
    assert enter(memory, S.RETIRING, NOW) == Memory(state=S.RETIRING, retired_since=NOW)


@pytest.mark.parametrize("state", [S.RETIRING, S.DELETING, S.BACKOFF, S.HELD, S.QUARANTINED])
def test_later_reads_leave_the_start_of_the_grace(state: S) -> None:
    record = make_record(Memory(state=state, retired_since=EARLIER))
    memory = recall(make_desired(wish=Wish.ABSENT), record)
    assert memory.retired_since == EARLIER
    assert enter(memory, S.RETIRING, NOW).retired_since == EARLIER
    assert enter(memory, S.DELETING, NOW).retired_since == EARLIER


@pytest.mark.parametrize("state", [S.ABSENT, S.DELETED])
def test_account_that_comes_back_has_its_whole_grace_again(state: S) -> None:
    gone = enter(Memory(state=S.DELETING, retired_since=EARLIER), state, NOW)
    assert gone == Memory(state=state)
    assert enter(gone, S.RETIRING, NOW).retired_since == NOW
    known_so = Memory(state=state, retired_since=EARLIER)  # by an earlier version
    assert enter(known_so, S.RETIRING, NOW).retired_since == NOW


@pytest.mark.parametrize("state", [S.ACTIVE, S.SUSPENDED, S.PROVISIONING, S.BACKOFF])
def test_other_states_leave_the_grace_as_it_is(state: S) -> None:
    assert enter(Memory(retired_since=EARLIER), state, NOW) == Memory(state=state, retired_since=EARLIER)


@pytest.mark.parametrize("wish", [Wish.ENABLED, Wish.DISABLED, Wish.NONE])
def test_service_that_is_wanted_again_ends_the_grace(wish: Wish) -> None:
    memory = recall(make_desired(wish=wish), make_record(Memory(retired_since=EARLIER)))
    assert memory.retired_since is None


def test_operation_that_does_not_say_what_it_does_leaves_the_grace_as_it_is() -> None:
    memory = recall(make_desired(wish=Wish.AS_IS), make_record(Memory(retired_since=EARLIER)))
    assert memory.retired_since == EARLIER


def test_vanished_row_changes_nothing() -> None:
    assert recall(None, make_record(FULL, "other mark")) == FULL


# -- quarantine


def test_quarantine_lasts_as_long_as_billing_wants_the_same() -> None:
    desired = make_desired()
    record = make_record(Memory(quarantine_reason="why"), make_mark(desired))
    assert recall(desired, record).quarantine_reason == "why"


@pytest.mark.parametrize(
    "change",
    [
        {"wish": Wish.DISABLED},
        {"server_id": 2},
        {"username": "other"},
        {"quota": 5},
        {"quota": UNLIMITED},
        {"group": "gold"},
        {"email": "b@example.net"},
    ],
)
def test_quarantine_is_lifted_by_another_wish(change: dict[str, Any]) -> None:
    mark = make_mark(make_desired())
    changed = make_desired(**change)
    assert make_mark(changed) != mark
    memory = recall(changed, make_record(Memory(quarantine_reason="why"), mark))
    assert memory.quarantine_reason is None


def test_mark_of_a_wish_holds_no_secret_and_knows_no_progress() -> None:
    desired = make_desired()
    mark = make_mark(desired)
    told = make_desired(password=PASSWORD, status=5, operation="open", is_username_recorded=True)
    assert make_mark(told) == mark
    assert mark is not None
    assert len(mark) == 64
    assert make_mark(None) is None


# -- effects


def test_forgotten_account_leaves_only_what_is_not_about_it() -> None:
    assert forget_account(FULL) == Memory(
        state=ServiceState.ACTIVE,
        has_open_create=True,
        hold_reason="hold",
        quarantine_reason="why",
        retired_since=EARLIER,
    )


def test_created_account_is_ours_at_its_place_and_not_yet_known_to_be_complete() -> None:
    step = make_step(StepKind.CREATE, "User_8")
    expected = dataclasses.replace(
        FULL,
        server_id=3,
        userid="User_8",
        is_provisioned=False,
        applied_email=None,
        has_open_create=False,
    )
    assert remember_effect(FULL, step, 3) == expected
    assert remember_creation(FULL, 3, "User_8") == expected


def test_set_email_is_remembered_as_ours() -> None:
    memory = remember_effect(Memory(), make_step(StepKind.SET_EMAIL, email="a@example.net"), 3)
    assert memory == Memory(applied_email="a@example.net")


@pytest.mark.parametrize(
    "kind", [kind for kind in StepKind if kind not in {StepKind.CREATE, StepKind.SET_EMAIL}]
)
def test_other_steps_leave_the_memory(kind: StepKind) -> None:
    assert remember_effect(FULL, make_step(kind), 3) == FULL


@pytest.mark.parametrize(
    ("desired", "observed", "agreed"),
    [
        (make_desired(email="A@example.net"), see("a@EXAMPLE.net"), "A@example.net"),
        (make_desired(email="a@example.net"), see("b@example.net"), None),
        (make_desired(email="a@example.net"), see(None), None),
        (make_desired(email="a@example.net"), see(""), None),
        (make_desired(email=None), see("a@example.net"), None),
        (make_desired(email="a@example.net"), None, None),
        (None, see("a@example.net"), None),
    ],
)
def test_email_is_agreed_on_when_both_have_the_same_in_any_case(
    desired: DesiredService | None, observed: ObservedAccount | None, agreed: str | None
) -> None:
    assert get_agreed_email(desired, observed) == agreed


# -- columns


def test_memory_becomes_columns() -> None:
    assert to_values(FULL) == {
        "state": "active",
        "ownership": "created",
        "account_server_id": 1,
        "account_userid": "user_7",
        "is_provisioned": True,
        "applied_email": "a@example.net",
        "quarantine_reason": "why",
        "retired_since": EARLIER,
    }


def test_memory_without_a_quarantine_clears_its_mark() -> None:
    values = to_values(dataclasses.replace(FULL, quarantine_reason=None))
    assert values["quarantine_mark"] is None
    assert values["quarantine_reason"] is None
