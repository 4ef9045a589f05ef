"""What was about to be done, what became of it, and the passwords that wait for their delivery."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from reconciler.journal import Begun, Journal, JournalKeyUnusable, LeaseLost, Outcome
from reconciler.journal.leases import LEASE_SECONDS
from reconciler.journal.tables import intent, metadata
from states import ServiceState, Step, StepKind
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import (
    NOW,
    PASSWORD,
    begin,
    do,
    finish,
    make_desired,
    make_step,
    open_sqlite,
    take,
)

CREATE = make_step(StepKind.CREATE, "User_7")
RESET = make_step(StepKind.SET_PASSWORD, "User_7")
OTHER = "Zx9_other-pass.Word1"
LATER = NOW + timedelta(minutes=1)


def create(
    journal: Journal,
    outcome: Outcome | None,
    *,
    step: Step = CREATE,
    item_id: int = 7,
    password: str = PASSWORD,
    server_id: int = 1,
    now: datetime = NOW,
) -> Begun:
    """Create an account (or take another step) and let it end as told; None: it never ended."""
    lease = take(journal, item_id, now)
    begun = begin(journal, lease, step, password=password, server_id=server_id, now=now)
    if outcome is not None:
        finish(journal, begun, outcome)
    journal.leases.release(lease, now)
    return begun


def reset(journal: Journal, outcome: Outcome | None, **options: Any) -> Begun:
    """Set another password."""
    return create(journal, outcome, step=RESET, **options)


def read_intents(place: JournalPlace, *columns: sa.ColumnElement[Any]) -> list[tuple[object, ...]]:
    return place.query(sa.select(*columns).order_by(intent.c.id))


# -- begin and finish


def test_begun_step_stands_in_the_journal_before_its_end(place: JournalPlace) -> None:
    journal = place.open()
    step = make_step(StepKind.SET_QUOTA, "Юзер", is_decrease=True)
    lease = take(journal)
    begun = journal.intents.begin(
        lease, 3, step, before="quota 2 GB", after="quota 1 GB", password=None, now=LATER
    )
    assert (begun.held, begun.server_id, begun.step) == (lease, 3, step)
    columns = [column for column in intent.c if column.name != "id"]
    assert read_intents(place, intent.c.id, *columns) == [
        (
            begun.id,
            7,
            3,
            "set_quota",
            "Юзер",
            "quota 2 GB",
            "quota 1 GB",
            True,
            False,
            None,
            lease.epoch,
            LATER,
            None,
            None,
            None,
        )
    ]


def test_worker_that_lost_its_lease_begins_nothing(place: JournalPlace) -> None:
    journal = place.open()
    lost = take(journal)
    after = NOW + timedelta(seconds=LEASE_SECONDS)
    take(journal, now=after)
    with pytest.raises(LeaseLost):
        begin(journal, lost, CREATE, password=PASSWORD, now=after)
    assert read_intents(place, intent.c.id) == []


def lose_lease(journal: Journal) -> datetime:
    """Let another worker take service 7 after its lease has run out; when that is."""
    after = NOW + timedelta(seconds=LEASE_SECONDS)
    take(journal, now=after)
    return after


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.UNKNOWN, Outcome.FAILED])
def test_worker_that_lost_its_lease_in_a_call_tells_only_the_history(
    place: JournalPlace, outcome: Outcome
) -> None:
    journal = place.open()
    journal.services.note_desired([make_desired(7)], NOW)
    begun = begin(journal, take(journal), CREATE, password=PASSWORD)
    after = lose_lease(journal)
    with pytest.raises(LeaseLost, match="service 7: another worker"):
        finish(journal, begun, outcome, now=after, service_values={"state": "active"})
    assert read_intents(place, intent.c.outcome, intent.c.finished_at) == [(None, None)]
    assert journal.intents.get_open_create(7, 1, "user_7") == (begun.id, PASSWORD), "still to be proved"
    (entry,) = journal.history.list_entries(7)
    assert (entry.result, entry.at) == (outcome.value, after)
    assert "another worker" in entry.why
    record = journal.services.get(7)
    assert record is not None
    assert (record.memory.state, record.version) == (ServiceState.UNKNOWN, 0)


def test_worker_that_lost_its_lease_settles_and_erases_nothing(place: JournalPlace) -> None:
    journal = place.open()
    create(journal, Outcome.DONE)
    create(journal, None, password=OTHER)
    lost = take(journal)
    after = lose_lease(journal)
    with pytest.raises(LeaseLost):
        journal.intents.settle(StepKind.CREATE, lost, "user_7", after)
    with pytest.raises(LeaseLost):
        journal.intents.mark_delivered(lost, after)
    assert read_intents(place, intent.c.outcome, intent.c.password.is_(None)) == [
        ("done", False),
        (None, False),
    ]


def test_finished_step_is_in_the_history_and_in_the_services_row(place: JournalPlace) -> None:
    journal = place.open()
    journal.services.note_desired([make_desired(7)], NOW)
    begun = begin(journal, take(journal), make_step(StepKind.DISABLE), server_id=3)
    finish(journal, begun, now=LATER, service_values={"state": "suspended", "attempts": 2})
    assert read_intents(place, intent.c.outcome, intent.c.finished_at, intent.c.error) == [
        ("done", LATER, None)
    ]
    (entry,) = journal.history.list_entries(7)
    assert (entry.server_id, entry.at, entry.actor, entry.action) == (3, LATER, "test", "disable")
    assert (entry.wanted, entry.observed, entry.result) == ("wanted", "observed", "done")
    assert entry.why == "because"
    record = journal.services.get(7)
    assert record is not None
    assert (record.memory.state, record.attempts, record.version) == (ServiceState.SUSPENDED, 2, 1)


def test_failed_step_says_its_error_and_leaves_the_row_when_nothing_is_given(place: JournalPlace) -> None:
    journal = place.open()
    journal.services.note_desired([make_desired(7)], NOW)
    begun = begin(journal, take(journal), make_step())
    finish(journal, begun, Outcome.FAILED, error="the server refuses it")
    assert read_intents(place, intent.c.outcome, intent.c.error) == [("failed", "the server refuses it")]
    assert journal.history.list_entries(7)[0].why == "because; the server refuses it"
    record = journal.services.get(7)
    assert record is not None
    assert record.version == 0


# -- passwords


@pytest.mark.parametrize(
    ("outcome", "is_kept"),
    [(None, True), (Outcome.UNKNOWN, True), (Outcome.DONE, True), (Outcome.FAILED, False)],
)
def test_password_is_kept_unless_the_create_certainly_made_nothing(
    place: JournalPlace, outcome: Outcome | None, is_kept: bool
) -> None:
    create(place.open(), outcome)
    ((password,),) = read_intents(place, intent.c.password)
    assert (password is not None) is is_kept
    assert PASSWORD not in str(password)


@pytest.mark.parametrize(
    ("outcome", "is_open"),
    [(None, True), (Outcome.UNKNOWN, True), (Outcome.DONE, False), (Outcome.FAILED, False)],
)
def test_open_create_is_one_whose_effect_nobody_knows(
    journal: Journal, outcome: Outcome | None, is_open: bool
) -> None:
    begun = create(journal, outcome)
    expected = (begun.id, PASSWORD) if is_open else None
    assert journal.intents.get_open_create(7, 1, "User_7") == expected


def test_open_create_is_found_by_service_server_and_name_in_any_case(journal: Journal) -> None:
    begun = create(journal, None)
    assert journal.intents.get_open_create(7, 1, "USER_7") == (begun.id, PASSWORD)
    assert journal.intents.get_open_create(8, 1, "User_7") is None
    assert journal.intents.get_open_create(7, 2, "User_7") is None
    assert journal.intents.get_open_create(7, 1, "user_70") is None


def test_latest_of_several_open_creates_is_given(journal: Journal) -> None:
    create(journal, None)
    latest = create(journal, Outcome.UNKNOWN, password=OTHER)
    assert journal.intents.get_open_create(7, 1, "user_7") == (latest.id, OTHER)


@pytest.mark.parametrize("outcome", [None, Outcome.UNKNOWN, Outcome.FAILED])
def test_create_that_did_not_succeed_has_nothing_to_deliver(
    journal: Journal, outcome: Outcome | None
) -> None:
    create(journal, outcome)
    assert journal.intents.get_undelivered(7) is None
    assert journal.intents.list_undelivered() == set()


def test_password_of_a_created_account_waits_until_billing_has_it(place: JournalPlace) -> None:
    journal = place.open()
    begun = create(journal, Outcome.DONE)
    create(journal, Outcome.DONE, item_id=8, password=OTHER)
    assert journal.intents.get_undelivered(7) == (begun.id, PASSWORD)
    assert journal.intents.list_undelivered() == {7, 8}
    journal.intents.mark_delivered(take(journal), NOW)
    assert journal.intents.get_undelivered(7) is None
    assert journal.intents.list_undelivered() == {8}
    passwords = [password for (password,) in read_intents(place, intent.c.password)]
    assert passwords[0] is None
    assert passwords[1] is not None


def test_delivery_leaves_the_password_of_an_open_create(journal: Journal) -> None:
    create(journal, Outcome.DONE)
    begun = create(journal, None, password=OTHER)
    journal.intents.mark_delivered(take(journal), NOW)
    assert journal.intents.get_open_create(7, 1, "user_7") == (begun.id, OTHER)


def test_other_steps_have_nothing_to_deliver(journal: Journal) -> None:
    lease = take(journal)
    finish(journal, begin(journal, lease, make_step(StepKind.ENABLE), password=PASSWORD))
    assert journal.intents.get_undelivered(7) is None
    assert journal.intents.list_undelivered() == set()


def test_password_survives_the_end_of_the_program(place: JournalPlace) -> None:
    create(place.open(), None)
    again = place.open()
    found = again.intents.get_open_create(7, 1, "user_7")
    assert found is not None
    assert found[1] == PASSWORD


def list_texts(place: JournalPlace) -> Iterator[str]:
    for table in metadata.sorted_tables:
        for row in place.query(sa.select(table)):
            yield repr(row)


def test_no_table_holds_a_password_in_the_clear(place: JournalPlace) -> None:
    journal = place.open()
    journal.services.note_desired([make_desired(7)], NOW)
    for outcome in (None, *Outcome):
        create(journal, outcome)
    assert len(list(list_texts(place))) > 10
    assert not any(PASSWORD in text for text in list_texts(place))


def find_in_files(folder: Path, secret: str) -> list[str]:
    return [file.name for file in folder.iterdir() if secret.encode() in file.read_bytes()]


def test_no_file_of_the_journal_holds_a_password_in_the_clear(tmp_path: Path) -> None:
    journal = open_sqlite(tmp_path)
    create(journal, None)
    create(journal, Outcome.DONE)
    assert find_in_files(tmp_path, "user_7".title())  # the name is there, so the search does find things
    assert {file.name for file in tmp_path.iterdir()} >= {"journal.db", "journal.db-wal", "journal.key"}
    assert find_in_files(tmp_path, PASSWORD) == []
    journal.intents.mark_delivered(take(journal), NOW)
    assert find_in_files(tmp_path, PASSWORD) == []
    journal.close()
    assert find_in_files(tmp_path, PASSWORD) == []


def test_password_of_another_key_names_the_key_file(place: JournalPlace) -> None:
    create(place.open(), None)
    journal = place.open()
    place.key_file.unlink()
    place.key_file.write_bytes(Fernet.generate_key())
    stranger = place.open()
    with pytest.raises(JournalKeyUnusable) as caught:
        stranger.intents.get_open_create(7, 1, "user_7")
    assert str(place.key_file) in str(caught.value)
    assert "restore the key file" in str(caught.value)
    assert journal.intents.get_open_create(7, 1, "user_7") is not None


# -- resets


@pytest.mark.parametrize(
    ("outcome", "is_kept"),
    [(None, True), (Outcome.UNKNOWN, True), (Outcome.DONE, True), (Outcome.FAILED, False)],
)
def test_new_password_is_kept_unless_it_certainly_is_not_in_force(
    place: JournalPlace, outcome: Outcome | None, is_kept: bool
) -> None:
    journal = place.open()
    reset(journal, outcome)
    ((password,),) = read_intents(place, intent.c.password)
    assert (password is not None) is is_kept
    assert PASSWORD not in str(password)
    assert journal.intents.list_undelivered() == ({7} if is_kept else set())
    is_done = outcome is Outcome.DONE
    assert (journal.intents.get_undelivered(7) is not None) is is_done
    is_open = is_kept and not is_done
    assert len(journal.intents.list_open(StepKind.SET_PASSWORD, 7, 1, "user_7")) == int(is_open)


def test_open_resets_are_listed_latest_first_and_with_their_times(journal: Journal) -> None:
    first = reset(journal, None)
    second = reset(journal, Outcome.UNKNOWN, password=OTHER, now=LATER)
    create(journal, None, now=LATER)
    found = journal.intents.list_open(StepKind.SET_PASSWORD, 7, 1, "USER_7")
    assert [(one.id, one.begun_at, one.password) for one in found] == [
        (second.id, LATER, OTHER),
        (first.id, NOW, PASSWORD),
    ]
    assert PASSWORD not in repr(found)
    for item, server, name in ((8, 1, "user_7"), (7, 2, "user_7"), (7, 1, "user_70")):
        assert journal.intents.list_open(StepKind.SET_PASSWORD, item, server, name) == []


def test_open_reset_is_no_open_create(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    reset(journal, None)
    assert journal.intents.get_open_create(7, 1, "user_7") is None
    record = journal.services.get(7)
    assert record is not None
    assert not record.memory.has_open_create


def test_latest_password_is_the_one_to_deliver_and_all_are_erased_then(place: JournalPlace) -> None:
    journal = place.open()
    create(journal, Outcome.DONE)
    latest = reset(journal, Outcome.DONE, password=OTHER)
    assert journal.intents.get_undelivered(7) == (latest.id, OTHER)
    journal.intents.mark_delivered(take(journal), NOW)
    assert read_intents(place, intent.c.password) == [(None,), (None,)]


def test_password_that_came_after_the_delivered_one_still_waits(journal: Journal) -> None:
    delivered = create(journal, Outcome.DONE)
    latest = reset(journal, Outcome.DONE, password=OTHER)
    lease = take(journal)
    journal.intents.mark_delivered(lease, NOW, latest_id=delivered.id)
    assert journal.intents.get_undelivered(7) == (latest.id, OTHER)
    journal.intents.mark_delivered(lease, NOW, latest_id=latest.id)
    assert journal.intents.get_undelivered(7) is None


def test_proved_reset_waits_for_its_delivery_and_creates_are_left(place: JournalPlace) -> None:
    journal = place.open()
    proved = reset(journal, None)
    reset(journal, Outcome.UNKNOWN, password=OTHER)
    open_create = create(journal, None)
    journal.intents.settle(
        StepKind.SET_PASSWORD, take(journal, now=LATER), "user_7", LATER, proved_id=proved.id
    )
    assert journal.intents.get_undelivered(7) == (proved.id, PASSWORD)
    assert journal.intents.list_open(StepKind.SET_PASSWORD, 7, 1, "user_7") == []
    assert journal.intents.get_open_create(7, 1, "user_7") == (open_create.id, PASSWORD)


def test_resets_that_may_yet_have_their_effect_stay_open(place: JournalPlace) -> None:
    journal = place.open()
    reset(journal, None)
    late = reset(journal, None, password=OTHER, now=LATER)
    journal.intents.settle(
        StepKind.SET_PASSWORD, take(journal, now=LATER), "user_7", LATER, begun_before=LATER
    )
    found = journal.intents.list_open(StepKind.SET_PASSWORD, 7, 1, "user_7")
    assert [one.id for one in found] == [late.id]
    assert read_intents(place, intent.c.outcome) == [("refused",), (None,)]


# -- settling what was open


def test_proved_create_keeps_its_password_and_the_others_lose_theirs(place: JournalPlace) -> None:
    journal = place.open()
    proved = create(journal, None)
    create(journal, Outcome.UNKNOWN, password=OTHER)
    journal.intents.settle(StepKind.CREATE, take(journal, now=LATER), "USER_7", LATER, proved_id=proved.id)
    assert journal.intents.get_open_create(7, 1, "user_7") is None
    assert journal.intents.get_undelivered(7) == (proved.id, PASSWORD)
    assert read_intents(place, intent.c.outcome, intent.c.finished_at, intent.c.password.is_(None)) == [
        ("done", LATER, False),
        ("refused", LATER, True),
    ]


def test_creates_of_an_account_that_is_not_ours_are_closed(place: JournalPlace) -> None:
    journal = place.open()
    create(journal, None)
    create(journal, Outcome.UNKNOWN)
    journal.intents.settle(StepKind.CREATE, take(journal, now=LATER), "user_7", LATER)
    assert read_intents(place, intent.c.outcome, intent.c.password) == [("refused", None)] * 2
    assert journal.intents.list_undelivered() == set()


def test_settling_leaves_other_services_accounts_steps_and_answered_creates(place: JournalPlace) -> None:
    journal = place.open()
    answered = create(journal, Outcome.DONE)
    create(journal, None, item_id=8)
    lease = take(journal)
    begin(journal, lease, make_step(StepKind.CREATE, "user_70"), password=OTHER)
    begin(journal, lease, make_step(StepKind.DISABLE))
    journal.intents.settle(StepKind.CREATE, lease, "user_7", LATER)
    outcomes = [outcome for (outcome,) in read_intents(place, intent.c.outcome)]
    assert outcomes == ["done", None, None, None]
    assert journal.intents.get_undelivered(7) == (answered.id, PASSWORD)


# -- counting


def test_steps_are_counted_from_a_moment_on(journal: Journal) -> None:
    for minutes in (0, 10, 20):
        do(journal, make_step(), now=NOW + timedelta(minutes=minutes))
    count = journal.intents.count_since
    assert count(NOW - timedelta(seconds=1)) == 3
    assert count(NOW) == 2  # what happened at the moment itself has left the window
    assert count(NOW + timedelta(minutes=10)) == 1
    assert count(NOW + timedelta(minutes=20)) == 0


def test_steps_that_certainly_had_no_effect_do_not_count(journal: Journal) -> None:
    for outcome in Outcome:
        do(journal, make_step(), outcome=outcome)
    begin(journal, take(journal), make_step())
    assert journal.intents.count_since(NOW - timedelta(hours=1)) == len(Outcome)  # all but the failed one


def test_steps_are_counted_by_server_and_condition(journal: Journal) -> None:
    do(journal, make_step(StepKind.DISABLE), server_id=1)
    do(journal, make_step(StepKind.DELETE), server_id=1)
    do(journal, make_step(StepKind.DELETE), server_id=2, item_id=8)
    since, count = NOW - timedelta(hours=1), journal.intents.count_since
    assert count(since, server_id=1) == 2
    assert count(since, intent.c.kind == "delete") == 2
    assert count(since, intent.c.kind == "delete", server_id=2) == 1
    assert count(since, intent.c.kind == "delete", item_id=7, server_id=2) == 0
    assert count(since, item_id=8) == 1
