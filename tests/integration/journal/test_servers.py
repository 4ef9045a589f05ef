"""What is remembered of each server."""

from __future__ import annotations

import threading

from reconciler.journal import Journal, ServerRecord
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import NOW

WORKERS = 6
ROUNDS = 5


def test_server_before_its_first_contact_is_empty_and_has_no_row(journal: Journal) -> None:
    assert journal.servers.get(3) == ServerRecord(3)
    assert journal.servers.list_all() == []


def test_row_is_made_at_the_first_write_and_changed_at_the_next(place: JournalPlace) -> None:
    journal = place.open()
    journal.servers.update(3, product="nextcloud", seen_services=5)
    journal.servers.update(3, product="owncloud", scanned_at=NOW)
    expected = ServerRecord(3, product="owncloud", seen_services=5, scanned_at=NOW)
    assert journal.servers.get(3) == expected
    assert place.open().servers.list_all() == [expected]


def test_writing_the_same_again_is_no_fault(journal: Journal) -> None:
    for _ in range(2):
        journal.servers.update(3, product="nextcloud")
    assert journal.servers.list_all() == [ServerRecord(3, product="nextcloud")]


def test_every_column_comes_back(journal: Journal) -> None:
    whole = ServerRecord(
        server_id=3,
        product="nextcloud",
        version="27.1.0 nightly 2026-01-15T12:00:00+0",  # nc hands on at most 40 characters
        instance_id="oc0123456789",
        strange_identity="owncloud ocabcdefghij",
        breaker_cause="credentials",
        breaker_message="сервер отказал",
        breaker_since=NOW,
        probe_at=NOW,
        credentials_mark="m" * 64,
        seen_services=2**40,
        good_services=2**40,
        scanned_at=NOW,
    )
    values = {name: getattr(whole, name) for name in ServerRecord.__slots__ if name != "server_id"}
    journal.servers.update(3, **values)
    assert journal.servers.get(3) == whole


def test_servers_are_listed_by_id(journal: Journal) -> None:
    for server_id in (9, 2, 5):
        journal.servers.update(server_id, product="nextcloud")
    assert [record.server_id for record in journal.servers.list_all()] == [2, 5, 9]


def test_first_contact_with_many_servers_at_once_records_all_of_them(journal: Journal) -> None:
    failures: list[BaseException] = []

    def record(server_id: int, start: threading.Barrier) -> None:
        try:
            start.wait(20)
            journal.servers.update(server_id, product="nextcloud")
        except BaseException as error:  # noqa: BLE001 - shown in the test's own thread
            failures.append(error)

    for turn in range(ROUNDS):
        start = threading.Barrier(WORKERS)
        ids = range(WORKERS * turn, WORKERS * (turn + 1))
        threads = [threading.Thread(target=record, args=(each, start)) for each in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not failures
    assert [each.server_id for each in journal.servers.list_all()] == list(range(WORKERS * ROUNDS))
