"""How much may happen before a person is asked: the caps, the desired-read guard, the hot loop.

Asked by the pass before every mutating step. What counts is what the journal holds, so a restart
forgets nothing.
"""

from __future__ import annotations

import enum
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from reconciler.config_sections import GuardsSection
from reconciler.journal import Journal, ServerRecord, ServiceRecord
from reconciler.journal.tables import intent
from states import Step, StepKind

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Cap:
    """At most so many steps of one kind on one server within a window."""

    guard: Guard
    condition: sa.ColumnElement[bool]
    window: timedelta
    minimum: int
    percent: float

    def get_limit(self, services: int) -> int:
        """max(minimum, percent of the server's services)."""
        return max(self.minimum, int(services * self.percent / 100))

    @property
    def hours(self) -> int:
        """The window."""
        return int(self.window.total_seconds() // 3600)


@dataclass(frozen=True, slots=True)
class CapUse:
    """How far a cap of one server is used up: so many of so many, in the last hours."""

    guard: str
    server_id: int
    used: int
    limit: int
    hours: int


class Guard(enum.StrEnum):
    """Everything that keeps steps from being taken; the value is a metric label and what `approve` takes."""

    DELETIONS = "deletions"
    DISABLES = "disables"
    RECREATIONS = "recreations"
    QUOTA_DECREASES = "quota_decreases"
    DESIRED_READ = "desired_read"
    IDENTITY = "identity"
    HOT_LOOP = "hot_loop"
    EDIT_LIMIT = "edit_limit"


CAPS: Final = (Guard.DELETIONS, Guard.DISABLES, Guard.RECREATIONS, Guard.QUOTA_DECREASES)
"""Guards that count, and that `approve` lets single services pass."""


_IS_REPAIR: Final = intent.c.kind != StepKind.SET_PASSWORD.value
"""A step that no person has asked for."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a step is not taken now: which guard, and one line for the operator."""

    guard: Guard
    message: str


@dataclass(frozen=True, slots=True)
class ReadVerdict:
    """What the desired-read guard says of the latest full read.

    Attributes:
        seen: services it had.
        good: services the latest good one had.
        is_suspicious: it is empty or shrank too much: nothing destructive is done anywhere.
    """

    seen: int
    good: int
    is_suspicious: bool

    @property
    def command(self) -> str:
        """How an operator accepts this read, and none that is worse."""
        return f"reconciler approve desired-read --services {self.seen}"


class Guards:
    """All guards of the design's table but the breaker and the identity, which `CloudServer` keeps."""

    def __init__(self, journal: Journal, limits: GuardsSection) -> None:
        self._journal: Final = journal
        self._limits: Final = limits
        self._caps: Final = _make_caps(limits)
        self._locks: Final[defaultdict[int, threading.Lock]] = defaultdict(threading.Lock)

    def get_lock(self, server_id: int) -> threading.Lock:
        """Held from the question to the recorded intent: two workers must not both take the last place.

        One for each server, since all caps are: a slow disk must not have servers wait for each other.
        """
        return self._locks[server_id]

    def check_step(self, step: Step, server_id: int, now: datetime) -> Refusal | None:
        """Why a step must not be taken now, None when it may be."""
        if _is_destructive(step):
            read = self.get_read_verdict()
            if read.is_suspicious:
                return Refusal(
                    Guard.DESIRED_READ,
                    f"guard desired_read: billing shows {read.seen} services, {read.good} before: "
                    "nothing is disabled, reduced or deleted until you have looked and run "
                    f"`{read.command}`",
                )
        cap = self._get_cap(step)
        if cap is None:
            return None
        used = self._journal.intents.count_since(now - cap.window, cap.condition, server_id=server_id)
        limit = cap.get_limit(self._journal.services.count_on_server(server_id))
        if used < limit:
            return None
        return Refusal(
            cap.guard,
            f"guard {cap.guard}: {used} of {limit} in {cap.hours} h are used on server {server_id}: "
            f"it waits; if it is right, `{name_command(cap.guard, server_id)}`",
        )

    def check_hot_loop(self, record: ServiceRecord, now: datetime) -> Refusal | None:
        """Why a service must be left to a person: it was changed again and again to no end."""
        since = now - _HOUR
        if record.stable_at is not None:
            since = max(since, record.stable_at)
        changes = self._journal.intents.count_since(since, _IS_REPAIR, item_id=record.item_id)
        if changes < self._limits.hot_loop_mutations:
            return None
        return Refusal(
            Guard.HOT_LOOP,
            f"guard hot_loop: changed {changes} times within an hour without becoming stable: something "
            f"else may be changing the account; find it, then `reconciler release {record.item_id}`",
        )

    def record_read(self, counts: dict[int, int], *, is_measure: bool = True) -> ReadVerdict:
        """Record how many services a complete read has, by server id.

        Args:
            counts: services by server id.
            is_measure: a good read becomes what the next ones are measured by. Reads that follow each
                other within seconds only raise it: services that vanish bit by bit must not go unnoticed.
        """
        servers = self._journal.servers
        known = {record.server_id: record for record in servers.list_all()}
        for server_id in known.keys() | counts.keys():
            seen = counts.get(server_id, 0)
            if server_id not in known or known[server_id].seen_services != seen:
                servers.update(server_id, seen_services=seen)
        verdict = self.get_read_verdict()
        if not verdict.is_suspicious and (is_measure or verdict.seen > verdict.good):
            self.accept_read()
        return verdict

    def accept_read(self, at_least: int = 0) -> ReadVerdict:
        """Take the latest full read as good, unless it has fewer services than that.

        Returns:
            What was said of the read; it was accepted when it has ``at_least`` so many.
        """
        records = self._journal.servers.list_all()
        verdict = self._judge_read(records)
        if verdict.seen >= at_least:
            # What was judged, not what another process may have read meanwhile.
            for record in records:
                if record.good_services != record.seen_services:
                    self._journal.servers.update(record.server_id, good_services=record.seen_services)
        return verdict

    def get_read_verdict(self) -> ReadVerdict:
        """What the latest full read was like, compared with the latest good one."""
        return self._judge_read(self._journal.servers.list_all())

    def _judge_read(self, records: list[ServerRecord]) -> ReadVerdict:
        seen = sum(record.seen_services or 0 for record in records)
        good = sum(record.good_services or 0 for record in records)
        is_shrunk = (good - seen) * 100 > good * self._limits.max_desired_shrink_percent
        return ReadVerdict(seen, good, good > 0 and (seen == 0 or is_shrunk))

    def list_uses(self, services: Mapping[int, int], now: datetime) -> list[CapUse]:
        """How far each cap is used up, by server.

        Args:
            services: how many services each server has.
            now: the time.
        """
        uses = []
        for cap in self._caps:
            used = self._journal.intents.count_by_server(now - cap.window, cap.condition)
            uses += [
                CapUse(cap.guard.value, server_id, used.get(server_id, 0), cap.get_limit(count), cap.hours)
                for server_id, count in services.items()
            ]
        return uses

    def _get_cap(self, step: Step) -> Cap | None:
        guard = None
        if step.kind is StepKind.DELETE:
            guard = Guard.DELETIONS
        elif step.kind is StepKind.DISABLE:
            guard = Guard.DISABLES
        elif step.is_recreation:
            guard = Guard.RECREATIONS
        elif step.is_decrease:
            guard = Guard.QUOTA_DECREASES
        return next((cap for cap in self._caps if cap.guard is guard), None)


def name_command(guard: Guard, server_id: int | None) -> str:
    """How an operator lets pass what waits for a guard now."""
    where = "" if server_id is None else f" --server {server_id}"
    return f"reconciler approve {guard.replace('_', '-')}{where}"


def _make_caps(limits: GuardsSection) -> tuple[Cap, ...]:
    is_deletion = intent.c.kind == StepKind.DELETE.value
    is_disable = intent.c.kind == StepKind.DISABLE.value
    return (
        Cap(Guard.DELETIONS, is_deletion, _DAY, limits.min_deletions, limits.max_deletions_percent),
        Cap(Guard.DISABLES, is_disable, _HOUR, limits.min_disables, limits.max_disables_percent),
        Cap(
            Guard.RECREATIONS,
            intent.c.is_recreation,
            _HOUR,
            limits.min_recreations,
            limits.max_recreations_percent,
        ),
        Cap(
            Guard.QUOTA_DECREASES,
            intent.c.is_decrease,
            _HOUR,
            limits.min_quota_decreases,
            limits.max_quota_decreases_percent,
        ),
    )


def _is_destructive(step: Step) -> bool:
    return step.kind in {StepKind.DELETE, StepKind.DISABLE} or step.is_decrease
