"""One pass over one service: read, look, decide, take one step, look again.

`Reconciler.reconcile_service` is the only thing that changes accounts, whoever asks for it: the full
cycle, an operator's resync, BILLmanager's command. The steps are numbered as in docs/architecture.md.
"""

from __future__ import annotations

import dataclasses
import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from bm_db import Billing, BillingWriter
from bm_db.errors import BillingError
from nc import errors as nc_errors
from reconciler.clock import Clock
from reconciler.config import Config
from reconciler.credentials import generate_password
from reconciler.fleet import CloudServer, Fleet, ServerStopped
from reconciler.guards import Guards
from reconciler.journal import (
    HistoryEntry,
    Journal,
    Lease,
    Outcome,
    ServiceRecord,
    describe_this_process,
)
from reconciler.logs import get_logger
from reconciler.remembering import (
    forget_account,
    get_agreed_email,
    make_mark,
    recall,
    remember_creation,
    remember_effect,
    to_values,
)
from reconciler.steps import (
    EDITS,
    call,
    describe_account,
    describe_step,
    explain_refused_name,
    judge_failure,
)
from states import (
    Circumstances,
    DesiredService,
    FaultField,
    Memory,
    ObservedAccount,
    Ownership,
    ServiceState,
    Step,
    StepKind,
    Wish,
    advance,
    classify,
    is_same_place,
    plan,
)

MAX_STEPS: Final = 12
"""More turns than the longest life-cycle change needs; a pass that needs more goes on next time."""

_FIRST_BACKOFF: Final = timedelta(seconds=1)
_LONGEST_BACKOFF: Final = timedelta(minutes=15)

_log = get_logger("pass")


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
    is_busy: bool = False


class _Backoff(Exception):
    """The pass cannot go on now; it is tried again later."""


class _Quarantine(Exception):
    """The pass cannot go on, and trying again would not help."""


class _Blocked(Exception):
    """A planned step may not be taken now."""


@dataclass(slots=True)
class _Pass:
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


class Reconciler:
    """Runs passes. Safe for several threads; one service is never worked on twice at once."""

    def __init__(
        self,
        billing: Billing,
        writer: BillingWriter,
        journal: Journal,
        fleet: Fleet,
        config: Config,
        clock: Clock,
    ) -> None:
        self._billing: Final = billing
        self._writer: Final = writer
        self._journal: Final = journal
        self._fleet: Final = fleet
        self._config: Final = config
        self._clock: Final = clock
        self._policy: Final = config.policy.as_policy()
        self.guards: Final = Guards(journal, config.guards)
        self._holder: Final = describe_this_process()
        self._managed_groups: frozenset[str] | None = None

    def refresh_tariffs(self) -> None:
        """Read anew which groups the tariffs name.

        Raises:
            BillingError: they cannot be read.
        """
        self._managed_groups = self._billing.list_tariff_groups()

    def get_circumstances(self, server: CloudServer | None, *, namesake: int | None = None) -> Circumstances:
        """What surrounds a decision about a service on a server."""
        if self._managed_groups is None:
            self.refresh_tariffs()
        guards = self._config.guards
        return Circumstances(
            now=self._clock(),
            policy=self._policy,
            deletion_grace=guards.deletion_grace,
            confirm_interval=guards.deletion_confirm_interval,
            managed_groups=self._managed_groups or frozenset(),
            server_groups=server.groups if server else None,
            api_user=server.api_user if server else "",
            namesake=namesake,
        )

    def reconcile_service(self, item_id: int, *, actor: str) -> PassResult:
        """Bring one service to what was sold, as far as possible now.

        Every failure of the service or its server ends in the result and in the journal, not in an
        exception.

        Raises:
            BillingError: the billing database cannot be read: nothing is known, nothing is done.
            JournalError: the journal cannot be written: nothing is done.
        """
        lease = self._journal.leases.acquire(item_id, self._holder, self._clock())  # step 1
        if lease is None:
            return PassResult(item_id, is_busy=True, error="another worker has the service")
        try:
            return self._run(lease, actor)
        finally:
            self._journal.leases.release(lease, self._clock())

    def _run(self, lease: Lease, actor: str) -> PassResult:
        started = time.monotonic()
        one = self._begin(lease, actor)
        if one is None:
            reason = f"billing has no service {lease.item_id}"
            return PassResult(lease.item_id, reason=reason, error=reason)
        result = one.result
        try:
            self._settle_place(one)
            self._converge(one)
            self._tell_billing(one)
        except _Blocked as blocked:
            result.blocked_by = str(blocked)
            self._journal.services.update(lease.item_id, blocked_by=result.blocked_by)
        except ServerStopped as stopped:
            result.error = result.blocked_by = str(stopped)
            self._journal.services.update(lease.item_id, blocked_by=result.blocked_by)
        except _Quarantine as error:
            self._quarantine(one, str(error))
        except nc_errors.AccountIdRefused as error:
            self._quarantine(one, explain_refused_name(error))
        except (_Backoff, nc_errors.CloudError, BillingError) as error:
            self._back_off(one, str(error))
        else:
            self._settle(one)
        _log.log(
            "warning" if result.error or result.blocked_by else "info",
            "pass",
            service=result.item_id,
            server=result.server_id,
            state=result.state,
            steps=",".join(result.steps) or None,
            error=result.error,
            blocked_by=result.blocked_by,
            reason=result.reason,
            duration=time.monotonic() - started,
        )
        return result

    def _begin(self, lease: Lease, actor: str) -> _Pass | None:
        """Step 2: read what is wanted, and what is remembered; None when nobody knows the service."""
        now = self._clock()
        desired = self._billing.get_service(lease.item_id)
        if desired is not None:
            self._journal.services.note_desired([desired], now)
        record = self._journal.services.get(lease.item_id)
        if record is None:
            return None
        result = PassResult(
            lease.item_id,
            desired.server_id if desired else record.server_id,
            record.memory.state,
            record.reason,
        )
        one = _Pass(lease, actor, record, desired, record.memory, result)
        memory = recall(desired, record, now)
        if memory != record.memory:
            self._remember(one, memory)
        return one

    def _settle_place(self, one: _Pass) -> None:
        """Forget an account whose old server no longer has it, so that it can be made elsewhere."""
        desired, memory = one.desired, one.memory
        if desired is None or is_same_place(desired, memory) or memory.userid is None:
            return
        server = self._fleet.get(memory.server_id)
        if server is None:
            return
        server.ensure_ready()
        with server.calling():
            is_gone = server.client.get_account(memory.userid) is None
        if is_gone:
            self._remember(one, forget_account(memory))

    def _converge(self, one: _Pass) -> None:
        """Steps 3 to 7, until the plan is empty or must wait."""
        desired = one.desired
        if desired is not None and self._needs_look(one, desired):
            one.server = self._fleet.get(desired.server_id)
            if one.server is None:
                raise _Quarantine(
                    f"billing names no {self._config.billmanager.module} server for the service "
                    f"(processing module {desired.server_id}): choose one"
                )
            one.server.ensure_ready()
        for _ in range(MAX_STEPS):
            self._look(one)
            step = self._decide(one)
            if step is None:
                return
            self._take(one, step)
        raise _Backoff(f"not done after {MAX_STEPS} steps: goes on at the next try")

    def _needs_look(self, one: _Pass, desired: DesiredService) -> bool:
        """Whether the account must be seen to decide; what stops a service anyway needs no call."""
        return not (
            one.memory.hold_reason is not None
            or desired.wish is Wish.AS_IS
            or desired.get_fault(FaultField.STATUS, FaultField.USERNAME) is not None
            or not is_same_place(desired, one.memory)
            or (desired.wish in {Wish.NONE, Wish.ABSENT} and self._is_nowhere(desired, one.memory))
        )

    def _is_nowhere(self, desired: DesiredService, memory: Memory) -> bool:
        """Whether no server can have an account of the service."""
        return memory.ownership is Ownership.NONE and self._fleet.get(desired.server_id) is None

    def _look(self, one: _Pass) -> None:
        """Step 3: one fresh read of the account."""
        if one.server is None or one.desired is None:
            return
        with one.server.calling():
            one.observed = one.server.client.get_account(one.desired.username)

    def _decide(self, one: _Pass) -> Step | None:
        """Steps 4 and 5: name the gap, record the state, plan the next step."""
        namesake = self._journal.services.find_namesake(one.desired) if one.desired else None
        while True:
            circumstances = self.get_circumstances(one.server, namesake=namesake)
            verdict = classify(one.desired, one.observed, one.memory, circumstances)
            if verdict.state is ServiceState.UNKNOWN:
                raise _Backoff(verdict.reason)
            one.result.reason, one.result.notes = verdict.reason, verdict.notes
            if verdict.state is one.memory.state:
                return plan(verdict, one.desired, one.observed, one.memory, circumstances)
            advance(one.memory.state, verdict.state)
            self._remember(one, dataclasses.replace(one.memory, state=verdict.state))

    def _take(self, one: _Pass, step: Step) -> None:
        """Steps 6 and 7: ask the guards, write the intent, make one call, record its result."""
        server = one.server
        if server is None or one.desired is None:
            raise AssertionError("a step was planned without a server")
        if step in one.tried:
            error = one.tried[step]
            if error is None:
                raise _Backoff(f"{server} accepted {step.kind}, but the account did not change")
            is_hopeless = isinstance(error, nc_errors.CloudError) and not error.is_transient
            raise (_Quarantine if is_hopeless else _Backoff)(f"{server}, {step.kind}: {error}")
        one.tried[step] = None
        if step.kind is StepKind.ADOPT:
            self._adopt(one, server)
        elif self._config.reconciler.mode == "observe":
            raise _Blocked(f"mode observe: {step.kind} is not done")
        elif step.kind is StepKind.PROVE_OWNERSHIP:
            self._prove(one, server, step)
        else:
            self._change(one, server, step)

    def _adopt(self, one: _Pass, server: CloudServer) -> None:
        observed = one.observed
        if observed is None:
            raise AssertionError("an account that is not there cannot be adopted")
        self._note(one, server, Step(StepKind.ADOPT, observed.userid), "done")
        self._remember(
            one,
            dataclasses.replace(
                one.memory,
                ownership=Ownership.ADOPTED,
                server_id=server.id,
                userid=observed.userid,
                is_provisioned=True,
            ),
        )

    def _note(self, one: _Pass, server: CloudServer, step: Step, result: str) -> None:
        """Write a step that changed nothing on the server into result and history."""
        one.result.steps.append(step.kind)
        entry = HistoryEntry(
            item_id=one.lease.item_id,
            server_id=server.id,
            at=self._clock(),
            actor=one.actor,
            action=step.kind.value,
            wanted=describe_step(step),
            observed=describe_account(one.observed),
            result=result,
            why=one.result.reason,
        )
        self._journal.history.add(entry)

    def _prove(self, one: _Pass, server: CloudServer, step: Step) -> None:
        """Log in with the password of the create that was never answered: is the account ours?"""
        now = self._clock()
        known = self._journal.intents.get_open_create(one.lease.item_id, server.id, step.userid)
        is_proved = False
        if known is not None:
            with server.calling():
                is_proved = server.client.prove_password(step.userid, known[1])
        self._note(one, server, step, "done" if is_proved else "refused")
        self._journal.intents.settle_creates(
            one.lease.item_id,
            step.userid,
            Outcome.DONE,
            now,
            proved_id=known[0] if known and is_proved else None,
        )
        if is_proved:
            self._remember(one, remember_creation(one.memory, server.id, step.userid))
        else:
            self._remember(one, dataclasses.replace(one.memory, has_open_create=False))

    def _change(self, one: _Pass, server: CloudServer, step: Step) -> None:
        """One mutating call, between its intent and its result."""
        if step.kind in EDITS and server.is_edit_paused():
            raise _Blocked(f"{server} limits edits of accounts at the moment: {step.kind} waits")
        password = self._get_password(one, server, step) if step.kind is StepKind.CREATE else None
        before, after = describe_account(one.observed), describe_step(step)
        with self.guards.lock:
            now = self._clock()
            hot = self.guards.check_hot_loop(one.record, now)
            if hot is not None:
                raise _Quarantine(hot)
            refusal = self.guards.check_step(step, server.id, now)
            if refusal is not None:
                raise _Blocked(refusal)
            begun = self._journal.intents.begin(
                one.lease, server.id, step, before=before, after=after, password=password, now=now
            )
        started = time.monotonic()
        outcome, error = Outcome.DONE, None
        memory = one.memory
        try:
            with server.calling(is_edit=step.kind in EDITS):
                call(server.client, step, password)
        except (nc_errors.CloudError, ServerStopped) as failure:
            error = failure
            cause = failure.__cause__ if isinstance(failure, ServerStopped) else None
            outcome = judge_failure(step, cause or failure)
        else:
            memory = remember_effect(memory, step, server.id)
        self._journal.intents.finish(
            begun,
            outcome,
            actor=one.actor,
            why=one.result.reason,
            wanted=after,
            observed=before,
            error=None if error is None else str(error),
            now=self._clock(),
            service_values=to_values(memory),
        )
        if step.kind is StepKind.CREATE:
            self._close_create(one, step, outcome)
            memory = dataclasses.replace(memory, has_open_create=outcome is Outcome.UNKNOWN)
        one.memory = memory
        one.tried[step] = error
        one.result.steps.append(step.kind)
        _log.log(
            "info" if error is None else "warning",
            "step",
            service=one.lease.item_id,
            server=server.id,
            step=step.kind,
            account=step.userid,
            result=outcome,
            error=None if error is None else str(error),
            duration=time.monotonic() - started,
        )
        self._react(server, step, error)

    def _close_create(self, one: _Pass, step: Step, outcome: Outcome) -> None:
        """A create that succeeded settles the earlier ones that were never answered."""
        if outcome is Outcome.DONE:
            self._journal.intents.settle_creates(one.lease.item_id, step.userid, outcome, self._clock())

    def _react(self, server: CloudServer, step: Step, error: Exception | None) -> None:
        """What the result of a call means for the rest of the pass; by default: look again."""
        if isinstance(error, nc_errors.RateLimited):
            raise _Blocked(f"{server} limits edits of accounts at the moment: {step.kind} waits")
        if isinstance(error, ServerStopped):
            raise error
        if step.kind is StepKind.CREATE_GROUP or isinstance(error, nc_errors.GroupMissing):
            server.refresh_groups()

    def _get_password(self, one: _Pass, server: CloudServer, step: Step) -> str:
        """The password to create an account with: what the customer may know already comes first."""
        intents = self._journal.intents
        known = intents.get_open_create(one.lease.item_id, server.id, step.userid)
        known = known or intents.get_undelivered(one.lease.item_id)
        if known is not None:
            return known[1]
        recorded = one.desired.password if one.desired else None
        return recorded or generate_password()

    def _tell_billing(self, one: _Pass) -> None:
        """Step 8: credentials that billing lacks, and the end of its operation."""
        desired, state = one.desired, one.memory.state
        if desired is None or not self._writer.can_write or self._config.reconciler.mode == "observe":
            return
        is_there = one.observed is not None and one.memory.ownership is not Ownership.NONE
        if is_there and desired.wish in {Wish.ENABLED, Wish.DISABLED} and one.server is not None:
            self._deliver(one, desired, one.server)
        is_reached = state in {
            Wish.ENABLED: {ServiceState.ACTIVE},
            Wish.DISABLED: {ServiceState.SUSPENDED},
            Wish.ABSENT: {ServiceState.RETIRING, ServiceState.DELETED, ServiceState.ABSENT},
        }.get(desired.wish, set())
        if is_reached and desired.status == 5 and desired.operation is not None:
            self._writer.write_operation_done(desired.item_id, desired.operation)

    def _deliver(self, one: _Pass, desired: DesiredService, server: CloudServer) -> None:
        undelivered = self._journal.intents.get_undelivered(desired.item_id)
        password = undelivered[1] if undelivered else None
        missing = {
            "username": None if desired.is_username_recorded else one.memory.userid,
            "password": None if password == desired.password else password,
            "url": None if desired.is_url_recorded else server.url,
        }
        if any(missing.values()):
            self._writer.write_credentials(desired.item_id, **missing)
        if undelivered is not None:
            self._journal.intents.mark_delivered(desired.item_id)

    def _settle(self, one: _Pass) -> None:
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

    def _back_off(self, one: _Pass, error: str) -> None:
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

    def _quarantine(self, one: _Pass, reason: str) -> None:
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

    def _remember(self, one: _Pass, memory: Memory) -> None:
        values = to_values(memory)
        if memory.state is not one.memory.state:
            values |= {"since": self._clock(), "reason": one.result.reason}
        self._journal.services.update(one.lease.item_id, **values)
        one.memory = memory
        one.result.state = memory.state
