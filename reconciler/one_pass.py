"""One pass under way: what it knows, how it can end, and how its end is recorded.

Shared by `reconciler.passes` (the loop), `reconciler.changes` (one step) and `reconciler.delivery`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from reconciler.clock import Clock
from reconciler.fleet import CloudServer
from reconciler.guards import Guard
from reconciler.journal import CONVERGING, HistoryEntry, Journal, Lease, ServiceRecord
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
        is_busy: another worker has the service: nothing was looked at, or the pass was given up.
        is_stopped: the program is about to end: a planned step was not begun.
        guard: which guard blocked or quarantined it; None otherwise.
        differences: names of the fields that were not as sold at the last look.
        converged: what there was to do at first and how many seconds it took, when that ended now.
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
    is_stopped: bool = False
    guard: Guard | None = None
    differences: tuple[str, ...] = ()
    converged: tuple[str, float] | None = None


class ServiceUnknown(LookupError):
    """The journal does not know the service, and billing has none of that id on a server of ours."""


class PassStopped(Exception):
    """The program is about to end: no further step is begun."""


class PassBackedOff(Exception):
    """The pass cannot go on now; it is tried again later."""


class PassQuarantined(Exception):
    """The pass cannot go on, and trying again would not help."""

    def __init__(self, message: str, guard: Guard | None = None) -> None:
        super().__init__(message)
        self.guard: Final = guard


class PassBlocked(Exception):
    """A planned step may not be taken now.

    Attributes:
        guard: which guard does not allow it; None for a stopped server or mode "observe".
        retry_at: when to try again; None when that is told otherwise (by a scan, by the server's breaker).
        step: the very step (`reconciler.steps.identify_step`); None when none was planned yet.
    """

    def __init__(
        self,
        message: str,
        guard: Guard | None = None,
        retry_at: datetime | None = None,
        step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.guard: Final = guard
        self.retry_at: Final = retry_at
        self.step: Final = step


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
    unconverged_since: datetime | None = None
    unconverged_kind: str | None = None
    unrecorded: dict[str, Any] = field(default_factory=dict)
    is_lease_given_back: bool = False

    def take_unrecorded(self) -> dict[str, Any]:
        """The columns of the service's row that go into the pass's next write to the journal."""
        values, self.unrecorded = self.unrecorded, {}
        return values


class PassRecorder:
    """Writes into the journal how a service stands, and how its pass ended.

    Every method but `remember` may raise `LeaseLost`: another worker has the service by now, and what this
    one knows of it is no longer so.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal: Final = journal
        self._clock: Final = clock

    def settle(self, one: OnePass, *, gives_lease_back: bool) -> None:
        """Record that the pass ended well, and give its lease back with the same write if it is the last."""
        values: dict[str, Any] = {
            "attempts": 0,
            "next_attempt_at": None,
            "last_error": "; ".join(one.result.notes) or None,
            "blocked_by": None,
            "blocked_guard": None,
            "blocked_step": None,
            **self._follow(one, one.memory.state),
        }
        if one.memory.quarantine_reason is not None:
            del values["blocked_guard"]  # which guard has quarantined it is told until a person lifts that
        if one.memory.state.is_stable:
            values["stable_at"] = self._clock()
            if one.memory.state in {ServiceState.ACTIVE, ServiceState.SUSPENDED}:
                values["is_provisioned"] = True
                agreed = get_agreed_email(one.desired, one.observed)
                values["applied_email"] = agreed or one.memory.applied_email
        elif one.memory.state is ServiceState.QUARANTINED:
            values["last_error"] = one.result.error = one.result.reason
        self._write(one, gives_lease_back=gives_lease_back, **values)
        one.is_lease_given_back = gives_lease_back
        one.result.state = one.memory.state

    def back_off(self, one: OnePass, error: str) -> None:
        """Record that a call failed, and when the next try is due."""
        advance(one.memory.state, ServiceState.BACKOFF)
        attempts = one.record.attempts + 1
        ceiling = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2 ** min(attempts, 20))
        delay = ceiling * random.random()  # noqa: S311 - full jitter, not a secret
        self._write(
            one,
            state=ServiceState.BACKOFF.value,
            reason=error,
            since=self._clock() if one.memory.state is not ServiceState.BACKOFF else one.record.since,
            attempts=attempts,
            next_attempt_at=self._clock() + delay,
            last_error=error,
            **self._follow(one, ServiceState.BACKOFF),
        )
        one.result.state, one.result.error, one.result.reason = ServiceState.BACKOFF, error, error

    def quarantine(self, one: OnePass, reason: str, guard: Guard | None = None) -> None:
        """Record that a person must decide, until billing wants something else."""
        advance(one.memory.state, ServiceState.QUARANTINED)
        self._write(
            one,
            state=ServiceState.QUARANTINED.value,
            reason=reason,
            since=self._clock(),
            last_error=reason,
            quarantine_reason=reason,
            quarantine_mark=make_mark(one.desired),
            next_attempt_at=None,
            blocked_by=None,
            blocked_guard=None if guard is None else guard.value,
            blocked_step=None,
            **self._follow(one, ServiceState.QUARANTINED),
        )
        one.result.guard = guard
        one.result.state, one.result.error, one.result.reason = ServiceState.QUARANTINED, reason, reason

    def block(self, one: OnePass, blocked: PassBlocked) -> None:
        """Record what the planned step waits for; nothing else changes."""
        reason, guard = str(blocked), blocked.guard
        values: dict[str, Any] = {
            "blocked_by": reason,
            "blocked_guard": None if guard is None else guard.value,
            "next_attempt_at": blocked.retry_at,
        }
        if blocked.step is not None:  # without one it is not known whether it waits for another step now
            values["blocked_step"] = blocked.step
        self._write(one, **values)
        one.result.blocked_by, one.result.guard = reason, guard

    def remember(self, one: OnePass, memory: Memory) -> None:
        """Have a new memory of the service recorded, with the next write: alone it is worth none.

        It says what a look has shown, and the next look would show it again.
        """
        values = to_values(memory)
        if memory.state is not one.memory.state:
            values |= {"since": self._clock(), "reason": one.result.reason}
            values |= self._follow(one, memory.state)
        one.unrecorded |= values
        one.memory = memory
        one.result.state = memory.state

    def flush(self, one: OnePass) -> None:
        """Record what was remembered and no other write has taken with it."""
        if one.unrecorded:
            self._write(one)

    def note_adoption(self, one: OnePass, entry: HistoryEntry) -> None:
        """Record what was remembered, and in the history that an account was taken for ours."""
        self._journal.services.record(one.lease, self._clock(), one.take_unrecorded(), entry=entry)

    def _write(self, one: OnePass, *, gives_lease_back: bool = False, **values: Any) -> None:
        changed = one.take_unrecorded() | values
        self._journal.services.record(one.lease, self._clock(), changed, gives_lease_back=gives_lease_back)

    def _follow(self, one: OnePass, state: ServiceState) -> dict[str, Any]:
        """How long the service has not been as it should be, now that it comes to a state."""
        since, kind = one.unconverged_since, one.unconverged_kind
        if state in CONVERGING:
            since = since or self._clock()
            if state not in {ServiceState.UNKNOWN, ServiceState.BACKOFF}:
                kind = kind or state.value
        else:
            if state.is_stable and since is not None and kind is not None:
                one.result.converged = kind, max(0.0, (self._clock() - since).total_seconds())
            since = kind = None
        one.unconverged_since, one.unconverged_kind = since, kind
        return {"unconverged_since": since, "unconverged_kind": kind}
