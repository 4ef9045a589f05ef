"""One pass under way: what it knows, how it can end, and how its end is recorded.

Shared by `reconciler.passes` (the loop), `reconciler.changes` (one step) and `reconciler.delivery`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from reconciler.clock import Clock
from reconciler.fleet import CloudServer
from reconciler.journal import Journal, Lease, ServiceRecord
from reconciler.remembering import get_agreed_email, make_mark, to_values
from states import (
    DesiredService,
    Memory,
    ObservedAccount,
    ServiceState,
    Step,
    StepKind,
    advance,
)

_FIRST_BACKOFF: Final = timedelta(seconds=1)
_LONGEST_BACKOFF: Final = timedelta(minutes=15)


@dataclass(slots=True)
class PassResult:
    """What a pass did and where the service stands after it.

    Attributes:
        item_id: the service.
        server_id: its server, None without one.
        state: the state recorded at the end.
        reason: one line, why it is in that state.
        steps: what was done, in order.
        error: why the pass could not reach its aim; None when nothing failed.
        blocked_by: what keeps a planned step from being taken (guard, stopped server); None otherwise.
        notes: what the operator should know.
        is_server_stopped: the server stopped answering us, before or during the pass.
        is_busy: another worker has the service; nothing was looked at.
    """

    item_id: int
    server_id: int | None = None
    state: ServiceState = ServiceState.UNKNOWN
    reason: str = ""
    steps: list[StepKind] = field(default_factory=list)
    error: str | None = None
    blocked_by: str | None = None
    notes: tuple[str, ...] = ()
    is_server_stopped: bool = False
    is_busy: bool = False


class PassBackedOff(Exception):
    """The pass cannot go on now; it is tried again later."""


class PassQuarantined(Exception):
    """The pass cannot go on, and trying again would not help."""


class PassBlocked(Exception):
    """A planned step may not be taken now."""


@dataclass(slots=True)
class OnePass:
    """One pass under way."""

    lease: Lease
    actor: str
    record: ServiceRecord
    desired: DesiredService | None
    memory: Memory
    result: PassResult
    server: CloudServer | None = None
    observed: ObservedAccount | None = None
    tried: dict[Step, Exception | None] = field(default_factory=dict)


class PassRecorder:
    """Writes into the journal how a service stands, and how its pass ended."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal: Final = journal
        self._clock: Final = clock

    def settle(self, one: OnePass) -> None:
        """Record that the pass ended well."""
        values: dict[str, Any] = {
            "attempts": 0,
            "next_attempt_at": None,
            "last_error": "; ".join(one.result.notes) or None,
            "blocked_by": None,
        }
        if one.memory.state.is_stable:
            values["stable_at"] = self._clock()
            if one.memory.state in {ServiceState.ACTIVE, ServiceState.SUSPENDED}:
                values["is_provisioned"] = True
                agreed = get_agreed_email(one.desired, one.observed)
                values["applied_email"] = agreed or one.memory.applied_email
        elif one.memory.state is ServiceState.QUARANTINED:
            values["last_error"] = one.result.error = one.result.reason
        self._journal.services.update(one.lease.item_id, **values)
        one.result.state = one.memory.state

    def back_off(self, one: OnePass, error: str) -> None:
        """Record that a call failed, and when the next try is due."""
        advance(one.memory.state, ServiceState.BACKOFF)
        attempts = one.record.attempts + 1
        ceiling = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2 ** min(attempts, 20))
        delay = ceiling * random.random()  # noqa: S311 - full jitter, not a secret
        self._journal.services.update(
            one.lease.item_id,
            state=ServiceState.BACKOFF.value,
            reason=error,
            since=self._clock() if one.memory.state is not ServiceState.BACKOFF else one.record.since,
            attempts=attempts,
            next_attempt_at=self._clock() + delay,
            last_error=error,
        )
        one.result.state, one.result.error, one.result.reason = ServiceState.BACKOFF, error, error

    def quarantine(self, one: OnePass, reason: str) -> None:
        """Record that a person must decide, until billing wants something else."""
        advance(one.memory.state, ServiceState.QUARANTINED)
        self._journal.services.update(
            one.lease.item_id,
            state=ServiceState.QUARANTINED.value,
            reason=reason,
            since=self._clock(),
            last_error=reason,
            quarantine_reason=reason,
            quarantine_mark=make_mark(one.desired),
        )
        one.result.state, one.result.error, one.result.reason = ServiceState.QUARANTINED, reason, reason

    def block(self, one: OnePass, reason: str) -> None:
        """Record what the planned step waits for; nothing else changes."""
        self._journal.services.update(one.lease.item_id, blocked_by=reason)
        one.result.blocked_by = reason

    def remember(self, one: OnePass, memory: Memory) -> None:
        """Record a new memory of the service."""
        values = to_values(memory)
        if memory.state is not one.memory.state:
            values |= {"since": self._clock(), "reason": one.result.reason}
        self._journal.services.update(one.lease.item_id, **values)
        one.memory = memory
        one.result.state = memory.state
