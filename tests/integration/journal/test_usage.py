"""How much of what was sold is used, as last seen."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.journal import Journal, ServerUsage, ServiceUsage
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import NOW

LATER = NOW + timedelta(hours=1)
PB = 1024**5


def see(item_id: int, used: int, quota: int | None, *, server_id: int = 1) -> ServiceUsage:
    return ServiceUsage(item_id, server_id, used, quota, NOW)


def test_what_was_seen_comes_back(place: JournalPlace) -> None:
    seen = [see(7, 0, 10), see(8, 5 * PB, None, server_id=2), see(9, 900 * PB, 1000 * PB)]
    place.open().usage.record(seen)
    journal = place.open()
    assert journal.usage.list_all() == seen
    assert journal.usage.list_all(2) == [seen[1]]
    assert journal.usage.get(9) == seen[2]
    assert journal.usage.get(10) is None


def test_a_later_look_replaces_and_leaves_who_was_not_seen(journal: Journal) -> None:
    journal.usage.record([see(7, 1, 10), see(8, 2, 10)])
    moved = ServiceUsage(7, 2, 3, 20, LATER)
    journal.usage.record([moved])
    assert journal.usage.list_all() == [moved, see(8, 2, 10)]


def test_many_services_are_recorded(journal: Journal) -> None:
    journal.usage.record([see(item, item, 10_000) for item in range(1, 1302)])
    journal.usage.record([see(item, item, 10_000) for item in range(1, 1302)])
    assert len(journal.usage.list_all()) == 1301
    journal.usage.record([])


@pytest.mark.parametrize(
    ("used", "quota", "percent"),
    [(0, 10, 0.0), (8, 10, 80.0), (15, 10, 150.0), (7, None, None), (0, 0, 100.0), (5, 0, 100.0)],
)
def test_the_share_of_the_quota(used: int, quota: int | None, percent: float | None) -> None:
    assert see(7, used, quota).percent == percent


def test_sums_of_each_server(journal: Journal) -> None:
    journal.usage.record(
        [
            see(1, 79, 100),
            see(2, 80, 100),
            see(3, 99, 100),
            see(4, 100, 100),
            see(5, 250, 100),
            see(6, 1000, None),
            see(7, 3 * PB, 4 * PB, server_id=2),
        ]
    )
    assert journal.usage.sum_by_server() == {
        1: ServerUsage(79 + 80 + 99 + 100 + 250 + 1000, 500, (4, 2)),
        2: ServerUsage(3 * PB, 4 * PB, (0, 0)),
    }


def test_without_any_there_are_no_sums(journal: Journal) -> None:
    assert journal.usage.sum_by_server() == {}
    journal.usage.record([see(1, 5, None)])
    assert journal.usage.sum_by_server() == {1: ServerUsage(5, 0, (0, 0))}


def test_the_fullest_come_first_and_only_those_that_are_nearly_full(journal: Journal) -> None:
    journal.usage.record(
        [
            see(1, 79, 100),
            see(2, 80, 100),
            see(3, 300 * PB, 100 * PB),
            see(4, 95, 100),
            see(5, 10**15, None),
            see(6, 80, 100),
        ]
    )
    assert [one.item_id for one in journal.usage.list_near(limit=10)] == [3, 4, 2, 6]
    assert [one.item_id for one in journal.usage.list_near(limit=2)] == [3, 4]


def test_services_that_are_not_seen_any_more_are_forgotten(journal: Journal) -> None:
    journal.usage.record([see(7, 1, 10), ServiceUsage(8, 1, 1, 10, LATER)])
    journal.usage.forget(LATER)
    assert [one.item_id for one in journal.usage.list_all()] == [8]
