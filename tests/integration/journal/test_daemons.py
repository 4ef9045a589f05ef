"""Which daemons run on a journal, on any host, and what they report."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest

from reconciler.journal import DaemonRecord, Journal, describe_this_process
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import NOW

ELSEWHERE = "other-host/boot.namespace/42/4711"
SECOND = timedelta(seconds=1)
REPORT = {"queue": {"command": 0, "change": 3}, "last_turn_seconds": 0.25, "config_error": "ключ неизвестен"}


def list_holders(journal: Journal, seconds: float = 0) -> list[str]:
    return [each.holder for each in journal.daemons.list_running(NOW + seconds * SECOND)]


def test_none_runs_at_first(journal: Journal) -> None:
    assert journal.daemons.list_running(NOW) == []


def test_a_daemon_is_seen_with_its_report_from_every_host(place: JournalPlace) -> None:
    name = describe_this_process()
    place.open().daemons.beat(name, NOW, NOW + SECOND, REPORT)
    (record,) = place.open().daemons.list_running(NOW + SECOND)
    assert record == DaemonRecord(name, NOW, NOW + SECOND, REPORT)
    assert record.host == name.split("/")[0]


def test_each_beat_replaces_the_report_and_keeps_the_start(journal: Journal) -> None:
    journal.daemons.beat(ELSEWHERE, NOW, NOW, {"running": 1})
    journal.daemons.beat(ELSEWHERE, NOW, NOW + 5 * SECOND, {"running": 2})
    assert journal.daemons.list_running(NOW) == [
        DaemonRecord(ELSEWHERE, NOW, NOW + 5 * SECOND, {"running": 2})
    ]


def test_the_same_beat_again_is_no_fault(journal: Journal) -> None:
    for _ in range(2):  # MariaDB counts an unchanged row as not changed
        journal.daemons.beat(ELSEWHERE, NOW, NOW, REPORT)
    assert list_holders(journal) == [ELSEWHERE]


def test_one_that_leaves_runs_no_more(journal: Journal) -> None:
    for name in (ELSEWHERE, describe_this_process()):
        journal.daemons.beat(name, NOW, NOW, {})
    journal.daemons.leave(ELSEWHERE)
    assert list_holders(journal) == [describe_this_process()]


def test_one_that_is_silent_for_a_minute_does_not_run(journal: Journal) -> None:
    journal.daemons.beat(ELSEWHERE, NOW, NOW, {})
    assert list_holders(journal, 59) == [ELSEWHERE]
    assert list_holders(journal, 60) == []
    assert list_holders(journal, -59) == [ELSEWHERE], "another host's clock may be ahead"
    assert list_holders(journal, -60) == []


@pytest.mark.parametrize("is_killed", [False, True])
def test_one_of_this_machine_that_was_killed_is_seen_to_be_gone_at_once(
    journal: Journal, is_killed: bool
) -> None:
    code = "from reconciler.journal import describe_this_process as n; print(n(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        journal.daemons.beat(name, NOW, NOW, {})
        assert list_holders(journal) == [name]
        if is_killed:
            process.kill()
        else:
            process.stdin.write("\n")
    assert list_holders(journal) == []


def test_the_oldest_comes_first_and_killed_ones_are_forgotten_after_a_time(journal: Journal) -> None:
    journal.daemons.beat("b/x/1/1", NOW + SECOND, NOW + 10 * SECOND, {})
    journal.daemons.beat("a/x/1/1", NOW, NOW + 20 * SECOND, {})
    assert list_holders(journal) == ["a/x/1/1", "b/x/1/1"]
    journal.daemons.forget(NOW + 15 * SECOND)
    assert list_holders(journal) == ["a/x/1/1"]
