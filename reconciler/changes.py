"""Takes one planned step: the guards, the intent, the one call, its result. Called by `reconciler.passes`."""

from __future__ import annotations

import dataclasses
import time
from typing import Final

from nc import errors as nc_errors
from reconciler.clock import Clock
from reconciler.credentials import generate_password
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.guards import Guards
from reconciler.journal import HistoryEntry, Journal, Outcome
from reconciler.logs import get_logger
from reconciler.one_pass import (
    OnePass,
    PassBackedOff,
    PassBlocked,
    PassQuarantined,
    PassRecorder,
)
from reconciler.remembering import forget_account, remember_creation, remember_effect, to_values
from reconciler.steps import EDITS, call, describe_account, describe_step, judge_failure
from states import Ownership, Step, StepKind

_log = get_logger("pass")


class Changes:
    """The only place that makes calls which change an account."""

    def __init__(
        self, journal: Journal, guards: Guards, recorder: PassRecorder, clock: Clock, *, is_observing: bool
    ) -> None:
        """``is_observing``: mode "observe", in which no such call is made."""
        self._journal: Final = journal
        self._guards: Final = guards
        self._recorder: Final = recorder
        self._clock: Final = clock
        self._is_observing: Final = is_observing

    def take(self, one: OnePass, step: Step) -> None:
        """Steps 6 and 7: ask the guards, write the intent, make one call, record its result.

        Raises:
            PassBlocked: a guard, the server or the mode does not allow the step now.
            PassBackedOff, PassQuarantined: it was taken before and did not help.
            ServerStopped, CloudError, JournalError: as they say.
        """
        server = one.server
        if server is None or one.desired is None:
            raise AssertionError("a step was planned without a server")
        if step in one.tried:
            error = one.tried[step]
            if error is None:
                raise PassBackedOff(f"{server} accepted {step.kind}, but the account did not change")
            is_hopeless = isinstance(error, nc_errors.CloudError) and not error.is_transient
            raise (PassQuarantined if is_hopeless else PassBackedOff)(f"{server}, {step.kind}: {error}")
        one.tried[step] = None
        if step.kind is StepKind.ADOPT:
            self._adopt(one, server)
        elif self._is_observing:
            raise PassBlocked(f"mode observe: {step.kind} is not done")
        elif step.kind is StepKind.PROVE_OWNERSHIP:
            self._prove(one, server, step)
        else:
            self._change(one, server, step)

    def _adopt(self, one: OnePass, server: CloudServer) -> None:
        observed = one.observed
        if observed is None:
            raise AssertionError("an account that is not there cannot be adopted")
        self._note(one, server, Step(StepKind.ADOPT, observed.userid), "done")
        self._recorder.remember(
            one,
            dataclasses.replace(
                one.memory,
                ownership=Ownership.ADOPTED,
                server_id=server.id,
                userid=observed.userid,
                is_provisioned=True,
            ),
        )

    def _note(self, one: OnePass, server: CloudServer, step: Step, result: str) -> None:
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

    def _prove(self, one: OnePass, server: CloudServer, step: Step) -> None:
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
            self._recorder.remember(one, remember_creation(one.memory, server.id, step.userid))
        else:
            # Ours was gone before the create: whoever is there now is ours only if billing names him.
            self._recorder.remember(
                one, dataclasses.replace(forget_account(one.memory), has_open_create=False)
            )

    def _change(self, one: OnePass, server: CloudServer, step: Step) -> None:
        """One mutating call, between its intent and its result."""
        if step.kind in EDITS and server.is_edit_paused():
            raise PassBlocked(f"{server} limits edits of accounts at the moment: {step.kind} waits")
        password = self._get_password(one, server, step) if step.kind is StepKind.CREATE else None
        before, after = describe_account(one.observed), describe_step(step)
        with self._guards.lock:
            now = self._clock()
            hot = self._guards.check_hot_loop(one.record, now)
            if hot is not None:
                raise PassQuarantined(hot)
            refusal = self._guards.check_step(step, server.id, now)
            if refusal is not None:
                raise PassBlocked(refusal)
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

    def _close_create(self, one: OnePass, step: Step, outcome: Outcome) -> None:
        """A create that succeeded settles the earlier ones that were never answered."""
        if outcome is Outcome.DONE:
            self._journal.intents.settle_creates(one.lease.item_id, step.userid, outcome, self._clock())

    def _react(self, server: CloudServer, step: Step, error: Exception | None) -> None:
        """What the result of a call means for the rest of the pass; by default: look again."""
        if isinstance(error, nc_errors.RateLimited):
            raise PassBlocked(f"{server} limits edits of accounts at the moment: {step.kind} waits")
        if isinstance(error, ServerStopped):
            raise error
        if step.kind is StepKind.CREATE_GROUP or isinstance(error, nc_errors.GroupMissing):
            server.refresh_groups()

    def _get_password(self, one: OnePass, server: CloudServer, step: Step) -> str:
        """The password to create an account with: what the customer may know already comes first."""
        intents = self._journal.intents
        known = intents.get_open_create(one.lease.item_id, server.id, step.userid)
        known = known or intents.get_undelivered(one.lease.item_id)
        if known is not None:
            return known[1]
        recorded = one.desired.password if one.desired else None
        return recorded or generate_password()
