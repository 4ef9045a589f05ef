"""What an operator lets pass a guard: the step that a service waits for, once, for a limited time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from reconciler.journal import Approval, HistoryEntry, Journal, Waiting
from reconciler.journal.tables import approval
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import NOW, make_desired

HOUR = timedelta(hours=1)
MOMENT = timedelta(milliseconds=1)


def make_wait(journal: Journal, *items: int, guard: str = "deletions", step: str = "delete") -> None:
    """Have services wait for a guard, on the server of their last digit."""
    journal.services.note_desired([make_desired(item, server_id=item % 10) for item in items], NOW)
    for item in items:
        journal.services.update(item, blocked_guard=guard, blocked_step=f"{step} {item}")


def give(
    journal: Journal,
    guard: str = "deletions",
    server_id: int | None = None,
    *,
    actor: str = "root",
    now: datetime = NOW,
    length: timedelta = HOUR,
) -> list[int]:
    """Approve what waits; which services may pass."""
    return [each.item_id for each in journal.approvals.add(guard, server_id, actor, now, now + length)]


def find(
    journal: Journal, item: int, guard: str = "deletions", *, step: str = "delete", now: datetime = NOW
) -> Approval | None:
    return journal.approvals.find(guard, item, f"{step} {item}", now)


def use(journal: Journal, found: Approval | None, item: int = 7, now: datetime = NOW) -> bool:
    assert found is not None
    entry = HistoryEntry(
        item_id=item,
        server_id=7,
        at=now,
        actor="daemon",
        action="delete",
        wanted="absent",
        observed="",
        result="approved",
        why=f"by {found.actor}",
    )
    return journal.approvals.use(found, entry)


def read_history(journal: Journal, item: int = 7) -> list[tuple[str, str]]:
    return [(entry.result, entry.actor) for entry in journal.history.list_entries(item)]


def test_it_is_for_one_guard_and_the_services_that_wait_for_it_on_that_server(journal: Journal) -> None:
    make_wait(journal, 7, 8, 18)
    make_wait(journal, 28, guard="disables", step="disable")
    given = journal.approvals.add("deletions", 8, "root", NOW, NOW + HOUR)
    assert given == [Waiting(8, 8, "delete 8"), Waiting(18, 8, "delete 18")]
    assert [item for item in (7, 8, 18, 28) if find(journal, item)] == [8, 18]
    assert find(journal, 8, "disables") is None
    assert give(journal) == [7, 8, 18]


def test_who_gave_it_for_what_and_until_when_stands_in_the_history(journal: Journal) -> None:
    make_wait(journal, 7)
    give(journal)
    (entry,) = journal.history.list_entries(7)
    assert (entry.action, entry.actor, entry.result) == ("approve", "root", "done")
    assert (entry.wanted, entry.server_id, entry.at) == ("delete 7", 7, NOW)
    assert entry.why == "may pass guard deletions once until 2026-01-15 13:00:00 UTC"


def test_a_service_whose_step_is_not_known_is_left_out(journal: Journal) -> None:
    make_wait(journal, 7, 8)
    journal.services.update(7, blocked_step=None)
    assert give(journal) == [8]


def test_it_can_be_used_once(journal: Journal) -> None:
    make_wait(journal, 7, 17)
    give(journal)
    found = find(journal, 7)
    assert found is not None
    assert found.actor == "root"
    assert use(journal, found)
    assert not use(journal, found)
    assert find(journal, 7) is None
    assert find(journal, 17) is not None
    assert read_history(journal) == [("done", "root"), ("approved", "daemon")]


def test_it_expires_and_the_history_says_so_once(journal: Journal) -> None:
    make_wait(journal, 7)
    give(journal)
    assert find(journal, 7, now=NOW + HOUR - MOMENT) is not None
    for _ in range(2):
        assert find(journal, 7, now=NOW + HOUR) is None
    assert read_history(journal) == [("done", "root"), ("expired", "reconciler")]
    why = journal.history.list_entries(7)[-1].why
    assert why == ("the permission of root to pass guard deletions expired unused at 2026-01-15 13:00:00 UTC")
    assert find(journal, 7) is None, "also when the clock goes back"


def test_those_that_nobody_asks_for_are_ended_when_their_time_is_over(journal: Journal) -> None:
    make_wait(journal, 7, 8, 9)
    give(journal)
    assert use(journal, find(journal, 8), 8)
    give(journal, server_id=9, length=2 * HOUR)
    for _ in range(2):
        journal.approvals.end_expired(NOW + HOUR)
    assert read_history(journal, 7) == [("done", "root"), ("expired", "reconciler")]
    assert read_history(journal, 8) == [("done", "root"), ("approved", "daemon")]
    assert find(journal, 9, now=NOW + HOUR) is not None


def test_it_lets_no_other_step_through_and_is_withdrawn_by_it(journal: Journal) -> None:
    make_wait(journal, 7, guard="quota_decreases", step="quota 5 GB")
    give(journal, "quota_decreases")
    for _ in range(2):
        assert find(journal, 7, "quota_decreases", step="quota 1 GB") is None
    assert read_history(journal) == [("done", "root"), ("withdrawn", "reconciler")]
    why = journal.history.list_entries(7)[-1].why
    assert why.endswith("is withdrawn: it was for another step; what waits now is quota 1 GB 7")
    assert find(journal, 7, "quota_decreases", step="quota 5 GB") is None, "not even for its own any more"


@pytest.mark.parametrize("meanwhile", [None, "another step"])
def test_it_is_withdrawn_when_the_service_did_not_wait_for_the_step_meanwhile(
    journal: Journal, meanwhile: str | None
) -> None:
    make_wait(journal, 7)
    give(journal)
    journal.services.update(7, blocked_step=meanwhile)
    assert find(journal, 7) is None
    journal.services.update(7, blocked_step="delete 7")
    assert find(journal, 7) is None
    assert read_history(journal) == [("done", "root"), ("withdrawn", "reconciler")]


def test_one_of_before_they_were_bound_is_good_for_nothing(place: JournalPlace) -> None:
    journal = place.open()
    make_wait(journal, 7)
    place.execute(
        "INSERT INTO approval (guard, item_id, actor, expires_at) "
        f"VALUES ('deletions', 7, 'root', {(NOW + HOUR).timestamp()})"
    )
    assert find(journal, 7) is None
    assert read_history(journal) == [("withdrawn", "reconciler")]


def test_approving_twice_lets_pass_once_with_the_later_end(journal: Journal) -> None:
    make_wait(journal, 7)
    give(journal)
    give(journal, actor="ann", length=2 * HOUR)
    found = find(journal, 7, now=NOW + 1.5 * HOUR)
    assert found is not None
    assert found.actor == "ann"
    assert use(journal, found)
    assert find(journal, 7) is None


def test_a_new_approval_after_use_counts_again(journal: Journal) -> None:
    make_wait(journal, 7)
    for _ in range(2):
        give(journal)
        assert use(journal, find(journal, 7))


def test_workers_that_come_at_once_use_it_once(place: JournalPlace) -> None:
    journals = [place.open() for _ in range(6)]
    make_wait(journals[0], 7)
    give(journals[0])
    found = find(journals[0], 7)
    with ThreadPoolExecutor(6) as pool:
        used = list(pool.map(lambda each: use(each, found), journals))
    assert used.count(True) == 1
    assert read_history(journals[0]) == [("done", "root"), ("approved", "daemon")]


def test_many_services_are_approved_at_once(journal: Journal) -> None:
    journal.services.note_desired([make_desired(item) for item in range(1, 1301)], NOW)
    assert give(journal, "disables") == []
    with journal.approvals._store.write() as connection:
        connection.exec_driver_sql("UPDATE service SET blocked_guard = 'disables', blocked_step = 'disable'")
    for _ in range(2):
        assert give(journal, "disables") == list(range(1, 1301))
    for item in (1, 500, 501, 1300):
        assert journal.approvals.find("disables", item, "disable", NOW) is not None
        assert len(journal.history.list_entries(item)) == 2


def test_expired_ones_are_forgotten_after_a_time(place: JournalPlace) -> None:
    journal = place.open()
    make_wait(journal, 7)
    give(journal, length=timedelta(0))
    make_wait(journal, 8)
    give(journal, server_id=8)
    journal.approvals.forget(NOW + MOMENT)
    assert place.query(sa.select(approval.c.item_id)) == [(8,)]
