"""How much may happen before a person is asked: the caps, the desired-read guard, the hot loop.

Asked by the pass before every mutating step. What counts is what the journal holds, so a restart
forgets nothing.
"""

from __future__ import annotations

import enum
import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from reconciler.config_sections import GuardsSection
from reconciler.journal import Journal, ServiceRecord
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


class Guards:
    """All guards of the design's table but the breaker and the identity, which `CloudServer` keeps."""

    def __init__(self, journal: Journal, limits: GuardsSection) -> None:
        self._journal: Final = journal
        self._limits: Final = limits
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
                    "`reconciler approve desired-read`",
                )
        cap = self._get_cap(step)
        if cap is None:
            return None
        used = self._journal.intents.count_since(now - cap.window, cap.condition, server_id=server_id)
        limit = cap.get_limit(self._journal.services.count_on_server(server_id))
        if used < limit:
            return None
        hours = int(cap.window.total_seconds() // 3600)
        return Refusal(
            cap.guard,
            f"guard {cap.guard}: {used} of {limit} in {hours} h are used on server {server_id}: it waits; "
            f"if it is right, `reconciler approve {cap.guard.replace('_', '-')} --server {server_id}`",
        )

    def check_hot_loop(self, record: ServiceRecord, now: datetime) -> Refusal | None:
        """Why a service must be left to a person: it was changed again and again to no end."""
        since = now - _HOUR
        if record.stable_at is not None:
            since = max(since, record.stable_at)
        is_repair = intent.c.kind != StepKind.SET_PASSWORD.value  # that one a person asked for
        changes = self._journal.intents.count_since(since, intent.c.item_id == record.item_id, is_repair)
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

    def accept_read(self) -> None:
        """Take the latest full read as good."""
        for record in self._journal.servers.list_all():
            if record.good_services != record.seen_services:
                self._journal.servers.update(record.server_id, good_services=record.seen_services)

    def get_read_verdict(self) -> ReadVerdict:
        """What the latest full read was like, compared with the latest good one."""
        records = self._journal.servers.list_all()
        seen = sum(record.seen_services or 0 for record in records)
        good = sum(record.good_services or 0 for record in records)
        is_shrunk = (good - seen) * 100 > good * self._limits.max_desired_shrink_percent
        return ReadVerdict(seen, good, good > 0 and (seen == 0 or is_shrunk))

    def _get_cap(self, step: Step) -> Cap | None:
        limits, kind = self._limits, intent.c.kind
        if step.kind is StepKind.DELETE:
            is_it = kind == StepKind.DELETE.value
            return Cap(Guard.DELETIONS, is_it, _DAY, limits.min_deletions, limits.max_deletions_percent)
        if step.kind is StepKind.DISABLE:
            is_it = kind == StepKind.DISABLE.value
            return Cap(Guard.DISABLES, is_it, _HOUR, limits.min_disables, limits.max_disables_percent)
        if step.is_recreation:
            is_it = intent.c.is_recreation
            return Cap(
                Guard.RECREATIONS, is_it, _HOUR, limits.min_recreations, limits.max_recreations_percent
            )
        if step.is_decrease:
            is_it = intent.c.is_decrease
            return Cap(
                Guard.QUOTA_DECREASES,
                is_it,
                _HOUR,
                limits.min_quota_decreases,
                limits.max_quota_decreases_percent,
            )
        return None


def _is_destructive(step: Step) -> bool:
    return step.kind in {StepKind.DELETE, StepKind.DISABLE} or step.is_decrease
