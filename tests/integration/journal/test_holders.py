"""Leases of workers that were killed: taken over at once where the end of their process can be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.journal import Journal, LeaseLost, describe_this_process, holders
from reconciler.journal.holders import is_gone
from tests.unit.reconciler.samples import NOW, begin, make_step

_NAME_AND_WAIT = """
import sys
from reconciler.journal import describe_this_process
print(describe_this_process(), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process and what it calls itself as a holder of leases."""
    with subprocess.Popen(
        [sys.executable, "-c", _NAME_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_process_names_itself_always_alike_and_unlike_any_other() -> None:
    assert describe_this_process() == describe_this_process()
    with another_process() as (_, name):
        assert name != describe_this_process()
    assert len(describe_this_process()) <= 255
    assert not is_gone(describe_this_process())


def test_lease_of_a_killed_process_is_taken_over_at_once(journal: Journal) -> None:
    with another_process() as (process, name):
        lost = journal.leases.acquire(7, name, NOW)
        assert lost is not None
        assert journal.leases.acquire(7, describe_this_process(), NOW) is None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet waited for
        taken = journal.leases.acquire(7, describe_this_process(), NOW)
        assert taken is not None
        assert taken.epoch == lost.epoch + 1
        process.wait()
        assert is_gone(name)
    with pytest.raises(LeaseLost):
        begin(journal, lost, make_step(), now=NOW + timedelta(seconds=1))


def test_other_process_under_the_same_number_is_not_the_holder() -> None:
    place, _, _ = describe_this_process().rpartition("/")
    assert is_gone(f"{place}/1")


@pytest.mark.parametrize(
    "change",
    [
        lambda host, scope, number, start: f"{host}/other-boot.{scope}/{number}/1",
        lambda host, scope, number, start: f"{host}/?/{number}/1",
        lambda host, scope, number, start: f"{host}/{scope}/number/1",
        lambda host, scope, number, start: f"{host}/{scope}/{number}/?",
        lambda host, scope, number, start: f"{host}:{number}",
        lambda host, scope, number, start: "",
    ],
    ids=["another system", "unknown system", "no number", "unknown start", "other form", "nothing"],
)
def test_holder_of_whom_nothing_can_be_seen_is_not_taken_for_gone(change: object) -> None:
    parts = describe_this_process().rsplit("/", 3)
    assert not is_gone(change(*parts))  # type: ignore[operator]


def test_without_proc_nobody_is_taken_for_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_process() as (_, name):
        pass
    assert is_gone(name)
    monkeypatch.setattr(holders, "_PROC", tmp_path)
    assert not is_gone(name)
    assert not is_gone(describe_this_process())
    assert describe_this_process().count("?") == 2


def test_process_that_cannot_be_looked_at_is_not_taken_for_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = tmp_path / "proc"
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "sys/kernel/random/boot_id").write_text("boot")
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").symlink_to("pid:[1]")
    (proc / "77/stat").mkdir(parents=True)  # reading a folder is an error other than "not there"
    monkeypatch.setattr(holders, "_PROC", proc)
    assert not is_gone("host/boot.pid:[1]/77/5")
    assert is_gone("host/boot.pid:[1]/78/5")
