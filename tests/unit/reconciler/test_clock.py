"""The machine's time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.clock import system_clock


def test_time_is_that_of_the_machine_and_aware() -> None:
    now = system_clock()
    assert now.tzinfo is UTC
    assert timedelta(0) <= datetime.now(UTC) - now < timedelta(minutes=1)
