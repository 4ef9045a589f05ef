"""What is due, what waits, and how all services stand together."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from reconciler.journal import Due, Journal
from states import ServiceState
from tests.unit.reconciler.samples import NOW, make_desired

HOUR = timedelta(hours=1)
MOMENT = timedelta(milliseconds=1)
GRACE = timedelta(hours=72)


def put(journal: Journal, item_id: int, *, server_id: int | None = 1, **values: Any) -> None:
    """A service's row with these columns."""
    journal.services.note_desired([make_desired(item_id, server_id=server_id)], NOW)
    state = values.pop("state", ServiceState.ACTIVE)
    settled = {"unconverged_since": None, "unconverged_kind": None, **values}
    journal.services.update(item_id, state=state.value, **settled)


def list_due(journal: Journal, now: datetime, **options: Any) -> list[Due]:
    return journal.overview.list_due(now, GRACE, **options)


def test_a_failed_try_is_due_at_its_time(journal: Journal) -> None:
    put(journal, 7, state=ServiceState.BACKOFF, next_attempt_at=NOW, unconverged_kind="drifted")
    put(journal, 8, state=ServiceState.BACKOFF, next_attempt_at=NOW - HOUR, server_id=None)
    put(journal, 9, state=ServiceState.BACKOFF, next_attempt_at=NOW + HOUR)
    put(journal, 10)
    assert list_due(journal, NOW - MOMENT) == [Due(8, None, None)]
    assert list_due(journal, NOW) == [Due(8, None, None), Due(7, 1, "drifted")]
    assert list_due(journal, NOW, limit=1) == [Due(8, None, None)]


def test_a_service_that_a_guard_keeps_waiting_is_due_in_its_state(journal: Journal) -> None:
    put(journal, 7, state=ServiceState.SUSPENDING, next_attempt_at=NOW, unconverged_kind="suspending")
    assert list_due(journal, NOW) == [Due(7, 1, "suspending")]


def test_a_closed_service_is_due_when_its_grace_is_over(journal: Journal) -> None:
    put(journal, 7, state=ServiceState.RETIRING, retired_since=NOW - GRACE)
    put(journal, 8, state=ServiceState.RETIRING, retired_since=NOW - GRACE + HOUR)
    put(journal, 9, state=ServiceState.RETIRING, retired_since=NOW - 2 * GRACE)
    put(journal, 10, state=ServiceState.DELETED, retired_since=NOW - 2 * GRACE)
    put(
        journal,
        11,
        state=ServiceState.RETIRING,
        retired_since=NOW - 2 * GRACE,
        next_attempt_at=NOW + HOUR,
    )
    assert list_due(journal, NOW) == [Due(9, 1, "deleting"), Due(7, 1, "deleting")]


def test_what_the_last_run_was_at_is_unfinished(journal: Journal) -> None:
    working = {
        ServiceState.PROVISIONING,
        ServiceState.DRIFTED,
        ServiceState.SUSPENDING,
        ServiceState.RESUMING,
        ServiceState.DELETING,
    }
    for number, state in enumerate(ServiceState, start=1):
        put(journal, number, state=state, unconverged_kind="drifted")
    put(journal, 100, state=ServiceState.DRIFTED, next_attempt_at=NOW + HOUR)
    found = {due.item_id for due in journal.overview.list_unfinished()}
    assert found == {number for number, state in enumerate(ServiceState, start=1) if state in working}


def test_waiting_services_are_counted_by_server_and_guard(journal: Journal) -> None:
    for item, server, guard in (
        (1, 1, "deletions"),
        (2, 1, "deletions"),
        (3, 2, "deletions"),
        (4, 1, "disables"),
    ):
        put(journal, item, server_id=server, blocked_by="it waits", blocked_guard=guard)
    put(journal, 5, blocked_by="the server is stopped")
    put(journal, 6)
    assert journal.overview.count_blocked() == {
        (1, "deletions"): 2,
        (2, "deletions"): 1,
        (1, "disables"): 1,
    }
    assert journal.overview.count_waiting() == 5
    assert journal.overview.list_blocked_by_guard("deletions", None) == [1, 2, 3]
    assert journal.overview.list_blocked_by_guard("deletions", 1) == [1, 2]
    assert journal.overview.list_blocked_by_guard("recreations", None) == []


def test_the_longest_unconverged_service_of_each_server(journal: Journal) -> None:
    put(journal, 1, unconverged_since=NOW - HOUR)
    put(journal, 2, unconverged_since=NOW - 3 * HOUR)
    put(journal, 3, server_id=2)
    put(journal, 4, server_id=None, unconverged_since=NOW)
    assert journal.overview.get_oldest_unconverged() == {1: NOW - 3 * HOUR, None: NOW}


def test_held_services_are_counted_also_those_that_were_never_looked_at(journal: Journal) -> None:
    assert journal.overview.count_held() == 0
    put(journal, 1)
    for item in (1, 99):
        journal.services.hold(item, "moves house", "root", NOW)
    assert journal.overview.count_held() == 2


# -- search


@pytest.fixture
def shop(journal: Journal) -> Journal:
    """Services 1 to 25, every fifth suspended, the even ones on server 2; two with names of their own."""
    for item in range(1, 26):
        state = ServiceState.SUSPENDED if item % 5 == 0 else ServiceState.ACTIVE
        put(journal, item, state=state, server_id=1 + (item % 2 == 0))
    for item, name in ((3, "Anna_100%"), (4, "ANNABEL")):
        journal.services.note_desired([make_desired(item, username=name, server_id=1 + (item == 4))], NOW)
    return journal


def search(journal: Journal, **options: Any) -> tuple[list[int], int]:
    records, total = journal.overview.search(**options)
    return [record.item_id for record in records], total


def test_pages_hold_all_services_by_id(shop: Journal) -> None:
    pages = [search(shop, page=number, page_size=10) for number in (1, 2, 3, 4)]
    assert [len(page) for page, _ in pages] == [10, 10, 5, 0]
    assert [item for page, _ in pages for item in page] == list(range(1, 26))
    assert {total for _, total in pages} == {25}


def test_services_are_found_by_state_and_server(shop: Journal) -> None:
    assert search(shop, state=ServiceState.SUSPENDED) == ([5, 10, 15, 20, 25], 5)
    assert search(shop, state=ServiceState.SUSPENDED, server_id=2) == ([10, 20], 2)
    assert search(shop, state=ServiceState.DELETED) == ([], 0)


def test_services_are_found_by_the_beginning_of_their_name_or_their_id(shop: Journal) -> None:
    assert search(shop, text="anna") == ([3, 4], 2)
    assert search(shop, text="anna_") == ([3], 1)
    assert search(shop, text="anna_100%") == ([3], 1)
    assert search(shop, text="%") == ([], 0)
    assert search(shop, text="7") == ([7], 1)
    assert search(shop, text="user_1", page_size=3) == ([1, 10, 11], 11)
    assert search(shop, text="9" * 40) == ([], 0)
    assert search(shop, text="²") == ([], 0)
