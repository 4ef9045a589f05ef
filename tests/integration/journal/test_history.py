"""Who did what to which service, in the order in which it was done."""

from __future__ import annotations

from datetime import timedelta

from reconciler.journal import HistoryEntry, Journal
from tests.unit.reconciler.samples import NOW


def make_entry(why: str, item_id: int = 7, **changes: object) -> HistoryEntry:
    values: dict[str, object] = {
        "item_id": item_id,
        "server_id": 3,
        "at": NOW,
        "actor": "operator:анна",
        "action": "hold",
        "wanted": "quota 1 GB; e-mail ö@example.net",
        "observed": "absent",
        "result": "done",
        "why": why,
    }
    return HistoryEntry(**(values | changes))  # type: ignore[arg-type]


def test_lines_come_back_whole_and_in_the_order_of_their_writing(journal: Journal) -> None:
    entries = [
        make_entry("first 😀"),
        make_entry("second", at=NOW - timedelta(hours=1)),  # a clock that was set back changes no order
        make_entry("x" * 20_000, server_id=None),
    ]
    for entry in entries:
        journal.history.add(entry)
    assert journal.history.list_entries(7) == entries


def test_limit_keeps_the_latest_lines_oldest_first(journal: Journal) -> None:
    for number in range(5):
        journal.history.add(make_entry(str(number)))
    assert [entry.why for entry in journal.history.list_entries(7, limit=2)] == ["3", "4"]


def test_history_of_another_service_is_not_shown(journal: Journal) -> None:
    journal.history.add(make_entry("mine"))
    journal.history.add(make_entry("other", item_id=8))
    assert [entry.why for entry in journal.history.list_entries(7)] == ["mine"]
    assert journal.history.list_entries(9) == []
