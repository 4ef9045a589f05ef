"""How many services a core compares: `classify` and `plan_steps`, as a scan calls them.

``python -m benchmarks.compare``; pure computing, nothing is read or written.
"""

from __future__ import annotations

import functools
import sys
from datetime import UTC, datetime, timedelta

from benchmarks.measuring import Report, read_options, take_turns
from states import (
    Circumstances,
    DesiredService,
    Memory,
    ObservedAccount,
    Ownership,
    Policy,
    ServiceState,
    Wish,
    classify,
    plan_steps,
)

GIB = 1024**3
AROUND = Circumstances(
    now=datetime(2026, 1, 1, tzinfo=UTC),
    policy=Policy(),
    deletion_grace=timedelta(hours=72),
    confirm_interval=timedelta(minutes=5),
    managed_groups=frozenset({"basic", "pro"}),
    server_groups=frozenset({"admin", "basic", "pro"}),
    api_user="admin",
)


def main() -> int:
    """Measure and print."""
    options = read_options(__doc__, services=(20_000, 200_000))
    report = Report(f"compare: {options.services} services")
    for name, quota, least in (("in order", 5, 100_000), ("that differ in quota", 7, 30_000)):
        pairs = [make_pair(item, quota * GIB) for item in range(options.services)]
        (times,) = take_turns(options.rounds, functools.partial(judge, pairs))
        rates = [options.services / seconds for seconds in times]
        report.add(f"services {name}, classified and planned", rates, "a second", least=least)
    report.save(options.json)
    return 0


def make_pair(item: int, observed_quota: int) -> tuple[DesiredService, ObservedAccount, Memory]:
    """A service sold 5 GB, its account, and what is remembered of it."""
    userid, email = f"user_{item}", f"client{item}@example.net"
    return (
        DesiredService(item, 1, Wish.ENABLED, userid, 5 * GIB, "basic", email, 2, None, True, True, True),
        ObservedAccount(userid, True, observed_quota, 1000, email, frozenset({"basic"}), False),
        Memory(ServiceState.ACTIVE, Ownership.CREATED, 1, userid, True, email),
    )


def judge(pairs: list[tuple[DesiredService, ObservedAccount, Memory]]) -> None:
    """What a scan does with each service."""
    for desired, observed, memory in pairs:
        verdict = classify(desired, observed, memory, AROUND)
        plan_steps(verdict, desired, observed, memory, AROUND)


if __name__ == "__main__":
    sys.exit(main())
