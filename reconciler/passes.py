"""One pass over one service: read, look, decide, take one step, look again.

`Reconciler.reconcile_service` is the only way to change an account, whoever asks for it: the full
cycle, an operator's resync, BILLmanager's command. The steps are numbered as in docs/architecture.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from bm_db import Billing, BillingWriter, Order, apply_order
from bm_db.errors import BillingError
from nc import errors as nc_errors
from reconciler.changes import Changes
from reconciler.clock import Clock
from reconciler.config import Config
from reconciler.delivery import Delivery
from reconciler.fleet import CloudServer, Fleet, ServerStopped
from reconciler.guards import Guard, Guards
from reconciler.journal import Journal, Lease, LeaseLost, describe_this_process
from reconciler.logs import get_logger
from reconciler.one_pass import (
    OnePass,
    PassBackedOff,
    PassBlocked,
    PassQuarantined,
    PassRecorder,
    PassResult,
    PassStopped,
    ServiceUnknown,
)
from reconciler.remembering import enter, forget_account, recall
from reconciler.steps import explain_refused_name
from states import (
    Circumstances,
    DesiredService,
    FaultField,
    Memory,
    Ownership,
    ServiceState,
    Step,
    Verdict,
    Wish,
    advance,
    classify,
    is_same_place,
    plan,
)

MAX_STEPS: Final = 12
"""More turns than the longest life-cycle change needs; a pass that needs more goes on next time."""

_log = get_logger("pass")


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
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take the parts.

        Args:
            billing, writer, journal, fleet, config: what passes work with.
            clock: gives the time.
            is_stopping: whether the program is about to end: then no further step is begun.
        """
        self._is_stopping: Final = is_stopping
        self._billing: Final = billing
        self._journal: Final = journal
        self._fleet: Final = fleet
        self._config: Final = config
        self._clock: Final = clock
        self._policy: Final = config.policy.as_policy()
        self.guards: Final = Guards(journal, config.guards)
        is_observing = config.reconciler.mode == "observe"
        self._recorder: Final = PassRecorder(journal, clock)
        self.changes: Final = Changes(journal, self.guards, self._recorder, clock, is_observing=is_observing)
        self.delivery: Final = Delivery(
            writer,
            journal,
            clock,
            is_observing=is_observing,
            card_language=config.billmanager.card_language,
        )
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

    def reconcile_service(self, item_id: int, *, actor: str, order: Order | None = None) -> PassResult:
        """Bring one service to what was sold, as far as possible now.

        Every failure of the service or its server ends in the result and in the journal, not in an
        exception.

        Args:
            item_id: the service.
            actor: who wants it, for the history.
            order: the operation of BILLmanager's for which it is done.

        Raises:
            BillingError: the billing database cannot be read: nothing is known, nothing is done.
            JournalError: the journal cannot be written: nothing is done.
        """
        lease = self._journal.leases.acquire(item_id, self._holder, self._clock())  # step 1
        if lease is None:
            return PassResult(item_id, is_busy=True, error="another worker has the service")
        one: OnePass | None = None
        started = time.monotonic()
        try:
            one = self._begin(lease, actor, order)
            self._work(one)
        except ServiceUnknown as unknown:
            return PassResult(item_id, reason=str(unknown), error=str(unknown))
        except LeaseLost as error:
            # It slept for long: whatever it knows of the service may not be so any more.
            _log.log("warning", "pass given up", service=item_id, error=str(error))
            return PassResult(item_id, is_busy=True, error=str(error))
        finally:
            if one is None or not one.is_lease_given_back:
                self._journal.leases.release(lease, self._clock())
        _tell(one.result, time.monotonic() - started)
        return one.result

    def _work(self, one: OnePass) -> None:
        """Steps 3 to 8; whatever comes of it stands in the result and in the journal."""
        result = one.result
        try:
            self._settle_place(one)
            try:
                self._converge(one)
            except PassBlocked:
                # What the client is to know does not wait for a guard.
                self.changes.settle_resets(one)
                self.delivery.deliver(one)
                raise
            self.changes.settle_resets(one)
            self.delivery.tell(one)
        except PassStopped:
            self._recorder.flush(one)
            result.is_stopped = True
            return
        except PassBlocked as blocked:
            self._recorder.block(one, blocked)
        except ServerStopped as stopped:
            guard = Guard.IDENTITY if stopped.cause == "identity" else None
            self._recorder.block(one, PassBlocked(str(stopped), guard))
            # Where the account was before may be another server, which says nothing of this one.
            result.error, result.is_server_stopped = result.blocked_by, one.server is not None
        except PassQuarantined as error:
            self._recorder.quarantine(one, str(error), error.guard)
        except nc_errors.AccountIdRefused as error:
            self._recorder.quarantine(one, explain_refused_name(error))
        except (PassBackedOff, nc_errors.CloudError) as error:
            self._recorder.back_off(one, str(error))
        except BillingError as error:
            self._recorder.back_off(one, str(error))
            return  # billing takes nothing now
        else:
            is_last = self.delivery.find_news(one, one.memory.state) is None
            self._recorder.settle(one, gives_lease_back=is_last)
        self.delivery.show_state(one)

    def examine(self, lease: Lease, actor: str) -> tuple[OnePass, Verdict]:
        """What an operator's own act on an account begins with: fresh looks, and what they say.

        Nothing is recorded but what billing wants. ``observed`` is None, too, when the account need not be
        seen to know that nothing may be done.

        Raises:
            ServiceUnknown: there is nothing to look at.
            ServerStopped, CloudError, BillingError, JournalError: it could not be looked at.
        """
        one = self._begin(lease, actor)
        if one.desired is not None and self._needs_look(one, one.desired):
            one.server = self._fleet.get(one.desired.server_id)
            if one.server is not None:
                one.server.ensure_ready()
                self._look(one)
        self._recorder.flush(one)
        return one, self._judge(one)

    def _begin(self, lease: Lease, actor: str, order: Order | None = None) -> OnePass:
        """Step 2: read what is wanted, and what is remembered.

        Raises:
            ServiceUnknown: nobody knows the service, or it is none of ours.
        """
        now = self._clock()
        desired = self._billing.get_service(lease.item_id)
        if desired is not None and order is not None:
            desired = apply_order(desired, order)
        record = self._journal.services.get(lease.item_id)
        if record is None and desired is not None and self._fleet.get(desired.server_id) is None:
            module = self._config.billmanager.module
            raise ServiceUnknown(f"service {lease.item_id} is not on a server of module {module}")
        if desired is not None:
            noted = self._journal.services.note_desired([desired], now)
            if noted.new or noted.changed:
                record = self._journal.services.get(lease.item_id)
        if record is None:
            raise ServiceUnknown(f"billing has no service {lease.item_id}")
        result = PassResult(
            lease.item_id,
            desired.server_id if desired else record.server_id,
            record.memory.state,
            record.reason,
        )
        one = OnePass(lease, actor, record, desired, record.memory, result)
        one.unconverged_since, one.unconverged_kind = record.unconverged_since, record.unconverged_kind
        memory = recall(desired, record)
        if memory != record.memory:
            self._recorder.remember(one, memory)
        return one

    def _settle_place(self, one: OnePass) -> None:
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
            self._recorder.remember(one, forget_account(memory))

    def _converge(self, one: OnePass) -> None:
        """Steps 3 to 7, until the plan is empty or must wait."""
        desired = one.desired
        if desired is not None and self._needs_look(one, desired):
            one.server = self._fleet.get(desired.server_id)
            if one.server is None:
                raise PassQuarantined(
                    f"billing names no {self._config.billmanager.module} server for the service "
                    f"(processing module {desired.server_id}): choose one"
                )
            one.server.ensure_ready()
        for _ in range(MAX_STEPS):
            self._look(one)
            step = self._decide(one)
            if step is None:
                return
            if self._is_stopping():
                raise PassStopped
            self.changes.take(one, step)
        raise PassBackedOff(f"not done after {MAX_STEPS} steps: goes on at the next try")

    def _needs_look(self, one: OnePass, desired: DesiredService) -> bool:
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

    def _look(self, one: OnePass) -> None:
        """Step 3: one fresh read of the account."""
        if one.server is None or one.desired is None:
            return
        with one.server.calling():
            one.observed = one.server.client.get_account(one.desired.username)

    def _decide(self, one: OnePass) -> Step | None:
        """Steps 4 and 5: name the gap, record the state, plan the next step."""
        namesake = self._find_namesake(one)
        while True:
            circumstances = self.get_circumstances(one.server, namesake=namesake)
            verdict = classify(one.desired, one.observed, one.memory, circumstances)
            if verdict.state is ServiceState.UNKNOWN:
                raise PassBackedOff(verdict.reason)
            one.result.reason, one.result.notes = verdict.reason, verdict.notes
            one.result.differences = tuple(difference.field for difference in verdict.differences)
            memory = enter(one.memory, verdict.state, circumstances.now)
            if memory == one.memory:
                return plan(verdict, one.desired, one.observed, one.memory, circumstances)
            if verdict.state is not one.memory.state:
                advance(one.memory.state, verdict.state)
            self._recorder.remember(one, memory)

    def _judge(self, one: OnePass) -> Verdict:
        circumstances = self.get_circumstances(one.server, namesake=self._find_namesake(one))
        return classify(one.desired, one.observed, one.memory, circumstances)

    def _find_namesake(self, one: OnePass) -> int | None:
        return self._journal.services.find_namesake(one.desired) if one.desired else None


def _tell(result: PassResult, seconds: float) -> None:
    """A line of the log for a pass."""
    _log.log(
        "warning" if result.error or result.blocked_by else "info",
        "pass",
        service=result.item_id,
        server=result.server_id,
        state=result.state,
        steps=",".join(result.steps) or None,
        error=result.error,
        blocked_by=result.blocked_by,
        stopped=result.is_stopped or None,
        reason=result.reason,
        duration=seconds,
    )
