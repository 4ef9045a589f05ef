"""What an operator lets pass a guard: one service, once, for a limited time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import sqlalchemy as sa

from reconciler.journal import Journal
from reconciler.journal.tables import approval
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import NOW

HOUR = timedelta(hours=1)
MOMENT = timedelta(milliseconds=1)


def test_an_approval_is_for_one_guard_and_the_services_that_are_named(journal: Journal) -> None:
    journal.approvals.add("deletions", [7, 8], "root", NOW + HOUR)
    assert journal.approvals.has("deletions", 7, NOW)
    assert journal.approvals.has("deletions", 8, NOW)
    assert not journal.approvals.has("deletions", 9, NOW)
    assert not journal.approvals.has("disables", 7, NOW)


def test_it_can_be_used_once(journal: Journal) -> None:
    journal.approvals.add("deletions", [7, 8], "root", NOW + HOUR)
    assert journal.approvals.use("deletions", 7, NOW) == "root"
    assert journal.approvals.use("deletions", 7, NOW) is None
    assert not journal.approvals.has("deletions", 7, NOW)
    assert journal.approvals.use("deletions", 8, NOW) == "root"


def test_it_expires(journal: Journal) -> None:
    journal.approvals.add("deletions", [7], "root", NOW + HOUR)
    assert journal.approvals.has("deletions", 7, NOW + HOUR - MOMENT)
    assert not journal.approvals.has("deletions", 7, NOW + HOUR)
    assert journal.approvals.use("deletions", 7, NOW + HOUR) is None


def test_approving_twice_lets_pass_once_with_the_later_end(journal: Journal) -> None:
    journal.approvals.add("deletions", [7], "root", NOW + HOUR)
    journal.approvals.add("disables", [7], "root", NOW + HOUR)
    journal.approvals.add("deletions", [7], "ann", NOW + 2 * HOUR)
    assert journal.approvals.use("deletions", 7, NOW + 1.5 * HOUR) == "ann"
    assert journal.approvals.use("deletions", 7, NOW) is None
    assert journal.approvals.has("disables", 7, NOW), "another guard's is left"


def test_a_new_approval_after_use_counts_again(journal: Journal) -> None:
    for _ in range(2):
        journal.approvals.add("deletions", [7], "root", NOW + HOUR)
        assert journal.approvals.use("deletions", 7, NOW) == "root"


def test_workers_that_come_at_once_use_it_once(place: JournalPlace) -> None:
    journals = [place.open() for _ in range(6)]
    journals[0].approvals.add("deletions", [7], "root", NOW + HOUR)
    with ThreadPoolExecutor(6) as pool:
        users = list(pool.map(lambda each: each.approvals.use("deletions", 7, NOW), journals))
    assert users.count("root") == 1


def test_many_services_are_approved_at_once(journal: Journal) -> None:
    journal.approvals.add("disables", range(1, 1301), "root", NOW + HOUR)
    assert all(journal.approvals.has("disables", item, NOW) for item in (1, 500, 501, 1300))
    journal.approvals.add("disables", [], "root", NOW + HOUR)


def test_expired_ones_are_forgotten_after_a_time(place: JournalPlace) -> None:
    journal = place.open()
    journal.approvals.add("deletions", [7], "root", NOW)
    journal.approvals.add("deletions", [8], "root", NOW + HOUR)
    journal.approvals.forget(NOW + MOMENT)
    assert place.query(sa.select(approval.c.item_id)) == [(8,)]
