"""The daemon's jobs: they come again and again, whatever fails and whatever happens to the clock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from reconciler.jobs import Jobs
from reconciler.journal import JournalUnavailable

SOON = timedelta(milliseconds=20)
WAIT_SECONDS = 30


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    made = Jobs()
    yield made
    made.end()


class Counted:
    """A function that counts its calls, and can be waited for."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0
        self._condition = threading.Condition()

    def __call__(self) -> None:
        with self._condition:
            self.calls += 1
            self._condition.notify_all()
        if self.errors:
            raise self.errors.pop(0)

    def wait_for(self, calls: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self.calls >= calls, WAIT_SECONDS)


def test_a_job_comes_again_and_again(jobs: Jobs) -> None:
    function = Counted()
    jobs.every(SOON, "turn", function)
    jobs.start()
    function.wait_for(3)


def test_a_failure_is_told_once_and_ends_neither_the_job_nor_another(
    jobs: Jobs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("reconciler"), "propagate", True)
    caplog.set_level(logging.INFO)
    error = JournalUnavailable("the disk is full")
    failing, other = Counted(error, error, ZeroDivisionError("a defect")), Counted()
    jobs.every(SOON, "failing", failing)
    jobs.every(SOON, "other", other)
    jobs.start()
    failing.wait_for(5)
    other.wait_for(3)
    told = [
        (record.message, record.__dict__["fields"].get("error"))
        for record in caplog.records
        if record.__dict__.get("fields", {}).get("job") == "failing"
    ]
    assert told == [
        ("job failed", "the disk is full"),
        ("job failed", "ZeroDivisionError: a defect"),
        ("works again", None),
    ]


def test_how_a_job_ended_last_can_be_asked(jobs: Jobs) -> None:
    assert jobs.get_state("turn") is None
    function = Counted(*[JournalUnavailable("locked")] * 1000)
    jobs.every(SOON, "turn", function)
    jobs.start()
    function.wait_for(2)  # so the first has ended
    state = jobs.get_state("turn")
    assert state is not None
    assert state.error == "locked"


def test_a_job_that_takes_long_is_not_run_beside_itself(jobs: Jobs) -> None:
    inside, most, release = 0, 0, threading.Event()
    entered = threading.Event()

    def function() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        entered.set()
        release.wait(0.3)
        inside -= 1

    other = Counted()
    jobs.every(SOON, "slow", function)
    jobs.every(SOON, "other", other)
    jobs.start()
    assert entered.wait(WAIT_SECONDS)
    other.wait_for(10)
    release.set()
    assert most == 1


def test_a_job_of_the_same_name_is_replaced_and_a_dropped_one_comes_no_more(jobs: Jobs) -> None:
    old, new = Counted(), Counted()
    jobs.every(timedelta(hours=1), "turn", old)
    jobs.every(SOON, "turn", new)
    assert jobs.list() == {"turn": SOON}
    jobs.start()
    new.wait_for(2)
    jobs.drop("turn")
    assert jobs.list() == {}
    assert old.calls == 0


def test_restart_brings_what_the_clock_had_put_off(jobs: Jobs) -> None:
    function = Counted()
    jobs.every(SOON, "turn", function, first_in=timedelta(hours=1))  # as after a clock that went back
    jobs.start()
    assert function.calls == 0
    jobs.restart()
    function.wait_for(2)
