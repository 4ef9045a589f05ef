"""The token bucket, on a clock of its own."""

from __future__ import annotations

import pytest

from nc.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_burst_of_a_second_passes_and_the_rest_waits_its_turn() -> None:
    clock = Clock()
    pace = Pace(10, clock=lambda: clock.now, sleep=clock.sleep)
    for _ in range(10):
        pace.wait()
    assert clock.slept == []
    for _ in range(5):
        pace.wait()
    assert clock.now == pytest.approx(0.5)
    clock.now += 100
    for _ in range(10):
        pace.wait()
    assert len(clock.slept) == 5


def test_callers_queue_up_while_others_wait() -> None:
    waits: list[float] = []
    pace = Pace(2, clock=lambda: 0.0, sleep=waits.append)
    for _ in range(5):
        pace.wait()
    assert waits == pytest.approx([0.5, 1.0, 1.5])


def test_slow_pace_lets_one_through_at_once() -> None:
    clock = Clock()
    pace = Pace(0.5, clock=lambda: clock.now, sleep=clock.sleep)
    pace.wait()
    assert clock.slept == []
    pace.wait()
    assert clock.now == pytest.approx(2.0)


def test_no_pace_never_waits() -> None:
    clock = Clock()
    pace = Pace(0, clock=lambda: clock.now, sleep=clock.sleep)
    for _ in range(1000):
        pace.wait()
    assert clock.slept == []
