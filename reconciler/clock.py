"""The one place that knows what time it is; tests hand in their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Gives the aware time of now."""


def system_clock() -> datetime:
    """The machine's time, in UTC."""
    return datetime.now(UTC)
