"""One worker a service: whoever asks, however many ask at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from reconciler.journal import Journal, Lease, LeaseLost
from reconciler.journal.leases import LEASE_SECONDS, extend
from reconciler.journal.tables import lease as lease_table
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import NOW, begin, make_desired, make_step, take

LEASE = timedelta(seconds=LEASE_SECONDS)
MOMENT = timedelta(seconds=1)
ROUNDS = 8
WORKERS = 6


def extend_now(journal: Journal, held: Lease, now: object) -> None:
    with journal.leases._store.write() as connection:
        extend(connection, held, now)  # type: ignore[arg-type]


def test_free_service_is_taken_with_the_first_epoch(journal: Journal) -> None:
    assert journal.leases.acquire(7, "one", NOW) == Lease(7, "one", 1)


def test_taken_service_is_busy_until_the_lease_expires(journal: Journal) -> None:
    take(journal)
    assert journal.leases.acquire(7, "two", NOW) is None
    assert journal.leases.acquire(7, "two", NOW + LEASE - MOMENT) is None
    assert journal.leases.acquire(7, "two", NOW + LEASE) == Lease(7, "two", 2)


def test_holder_itself_cannot_take_its_service_twice(journal: Journal) -> None:
    take(journal)
    assert journal.leases.acquire(7, "test", NOW) is None


def test_another_service_is_not_concerned(journal: Journal) -> None:
    take(journal)
    assert journal.leases.acquire(8, "two", NOW) == Lease(8, "two", 1)


def test_released_service_is_free_at_once_and_its_epoch_rises(journal: Journal) -> None:
    for epoch in (1, 2, 3):
        held = take(journal)
        assert held.epoch == epoch
        journal.leases.release(held, NOW)


def test_released_service_is_free_also_when_the_clock_goes_back(journal: Journal) -> None:
    held = journal.leases.acquire(7, "a", NOW)
    assert held is not None
    journal.leases.release(held, NOW)
    assert journal.leases.acquire(7, "b", NOW - timedelta(days=30)) is not None


def test_release_of_a_lost_lease_leaves_the_new_holder_in_peace(journal: Journal) -> None:
    lost = take(journal)
    after = NOW + LEASE
    take(journal, now=after)
    journal.leases.release(lost, after)
    assert journal.leases.acquire(7, "three", after) is None


def test_extended_lease_lasts_longer(journal: Journal) -> None:
    held = take(journal)
    late = NOW + LEASE - MOMENT
    extend_now(journal, held, late)
    assert journal.leases.acquire(7, "two", late + LEASE - MOMENT) is None
    assert journal.leases.acquire(7, "two", late + LEASE) is not None


def test_every_begun_step_extends_the_lease(journal: Journal) -> None:
    held = take(journal)
    late = NOW + LEASE - MOMENT
    begin(journal, held, make_step(), now=late)
    assert journal.leases.acquire(7, "two", late + LEASE - MOMENT) is None


def test_expired_lease_is_not_extended_even_when_nobody_took_it(journal: Journal) -> None:
    held = take(journal)
    with pytest.raises(LeaseLost, match="service 7 was taken by another worker"):
        extend_now(journal, held, NOW + LEASE)


def test_lease_in_other_hands_is_not_extended(journal: Journal) -> None:
    held = take(journal)
    after = NOW + LEASE
    other = take(journal, now=after)
    with pytest.raises(LeaseLost):
        extend_now(journal, held, after)
    extend_now(journal, other, after)


def test_lease_that_was_given_back_is_not_extended(journal: Journal) -> None:
    held = take(journal)
    journal.leases.release(held, NOW)
    with pytest.raises(LeaseLost):
        extend_now(journal, held, NOW)


def test_row_of_a_service_is_changed_only_by_whoever_has_it(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    lost = take(journal)
    journal.services.record(lost, NOW, {"attempts": 1})
    after = NOW + LEASE
    other = take(journal, now=after)
    with pytest.raises(LeaseLost):
        journal.services.record(lost, after, {"attempts": 2})
    record = journal.services.get(7)
    assert record is not None
    assert (record.attempts, record.version) == (1, 1)
    journal.services.record(other, after, {"attempts": 3})


def test_every_record_of_a_pass_extends_its_lease(journal: Journal) -> None:
    held = take(journal)
    for number in range(1, 4):
        late = NOW + number * (LEASE - MOMENT)
        journal.services.record(held, late, {"attempts": number})
    assert journal.leases.acquire(7, "two", late + LEASE - MOMENT) is None
    journal.leases.extend(held, late + LEASE - MOMENT)
    with pytest.raises(LeaseLost):
        journal.leases.extend(held, late + 3 * LEASE)


def race(journal: Journal, item_ids: list[int], now: object = NOW) -> list[Lease]:
    """Let as many threads as there are ids try at the same moment; the leases that were had."""
    had: list[Lease] = []
    failures: list[BaseException] = []
    start = threading.Barrier(len(item_ids))

    def run(number: int, item_id: int) -> None:
        try:
            start.wait(20)
            held = journal.leases.acquire(item_id, f"worker {number}", now)  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - shown in the test's own thread
            failures.append(error)
        else:
            had.extend([held] if held else [])

    threads = [threading.Thread(target=run, args=each) for each in enumerate(item_ids)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    return had


def test_of_threads_that_race_for_a_new_service_exactly_one_wins(journal: Journal) -> None:
    for item_id in range(1, ROUNDS + 1):
        had = race(journal, [item_id] * WORKERS)
        assert [(held.item_id, held.epoch) for held in had] == [(item_id, 1)]


def test_of_threads_that_race_for_an_expired_lease_exactly_one_wins(journal: Journal) -> None:
    take(journal)
    for turn in range(1, ROUNDS + 1):
        had = race(journal, [7] * WORKERS, NOW + turn * LEASE)
        assert [held.epoch for held in had] == [turn + 1]


def test_threads_that_take_different_new_services_all_succeed(journal: Journal) -> None:
    for turn in range(ROUNDS):
        item_ids = [100 * turn + number for number in range(WORKERS)]
        assert sorted(held.item_id for held in race(journal, item_ids)) == item_ids


_RACER = """
import sys
from datetime import datetime
from pathlib import Path
from reconciler.journal import open_journal

url, key_file, holder, now = sys.argv[1:]
journal = open_journal(url, Path(key_file))
print("ready", flush=True)
for line in sys.stdin:
    held = journal.leases.acquire(int(line), holder, datetime.fromisoformat(now))
    print(held.epoch if held else "busy", flush=True)
journal.close()
"""


def test_of_processes_that_race_exactly_one_wins(place: JournalPlace) -> None:
    place.open()
    command = [sys.executable, "-c", _RACER, place.url, str(place.key_file)]
    racers = [
        subprocess.Popen(
            [*command, f"process {number}", NOW.isoformat()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for number in range(3)
    ]
    try:
        for racer in racers:
            assert racer.stdout
            assert racer.stdout.readline() == "ready\n"
        for item_id in range(1, ROUNDS + 1):
            for racer in racers:
                assert racer.stdin
                racer.stdin.write(f"{item_id}\n")
                racer.stdin.flush()
            answers = [racer.stdout.readline() for racer in racers if racer.stdout]
            assert sorted(answers) == ["1\n", "busy\n", "busy\n"]
    finally:
        for racer in racers:
            racer.communicate(timeout=30)
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    holders = place.query(sa.select(lease_table.c.item_id).order_by(lease_table.c.item_id))
    assert holders == [(item_id,) for item_id in range(1, ROUNDS + 1)]
