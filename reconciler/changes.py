"""Takes one planned step: the guards, the intent, the one call, its result. Called by `reconciler.passes`."""

from __future__ import annotations

import dataclasses
import time
from datetime import datetime, timedelta
from typing import Final

from nc import errors as nc_errors
from reconciler.clock import Clock
from reconciler.credentials import generate_password
from reconciler.fleet import EDIT_KINDS, CloudServer, ServerStopped
from reconciler.guards import CAPS, Guard, Guards, Refusal
from reconciler.journal import Approval, Begun, HistoryEntry, Journal, Outcome
from reconciler.logs import get_logger
from reconciler.one_pass import (
    OnePass,
    PassBackedOff,
    PassBlocked,
    PassQuarantined,
    PassRecorder,
)
from reconciler.remembering import forget_account, remember_creation, remember_effect, to_values
from reconciler.steps import (
    call,
    describe_account,
    describe_step,
    identify_step,
    judge_failure,
    rank_edit,
)
from states import Ownership, Step, StepKind

_GUARD_PAUSE: Final = timedelta(minutes=5)
"""When a service that a guard keeps waiting is looked at again."""

_LATE_EFFECT: Final = timedelta(minutes=10)
"""How long a server may still carry out a request whose caller is gone."""

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
        entry = self._make_entry(one, server, Step(StepKind.ADOPT, observed.userid), "done", None)
        one.result.steps.append(StepKind.ADOPT)
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
        self._recorder.note_adoption(one, entry)

    def _note(
        self, one: OnePass, server: CloudServer, step: Step, result: str, why: str | None = None
    ) -> None:
        """Write what changed nothing on the server into the history."""
        self._journal.history.add(self._make_entry(one, server, step, result, why))

    def _make_entry(
        self, one: OnePass, server: CloudServer, step: Step, result: str, why: str | None
    ) -> HistoryEntry:
        return HistoryEntry(
            item_id=one.lease.item_id,
            server_id=server.id,
            at=self._clock(),
            actor=one.actor,
            action=step.kind.value,
            wanted=describe_step(step),
            observed=describe_account(one.observed),
            result=result,
            why=why or one.result.reason,
        )

    def _prove(self, one: OnePass, server: CloudServer, step: Step) -> None:
        """Log in with the password of the create that was never answered: is the account ours?"""
        is_disabled = one.observed is not None and one.observed.is_enabled is False
        if is_disabled and one.desired is not None and not one.desired.is_username_recorded:
            # Its login would be refused whosever it is: that proves nothing.
            raise PassBackedOff(
                f"a create of {step.userid} was never answered, and the account is disabled: whether it is "
                "ours shows only once it is enabled: enable it on the server"
            )
        known = self._journal.intents.get_open_create(one.lease.item_id, server.id, step.userid)
        is_proved = False
        if known is not None:
            with server.calling():
                is_proved = server.client.prove_password(step.userid, known[1])
        self._note(one, server, step, "done" if is_proved else "refused")
        one.result.steps.append(step.kind)
        if is_proved:
            memory = remember_creation(one.memory, server.id, step.userid)
        else:
            # Ours was gone before the create: whoever is there now is ours only if billing names him.
            memory = dataclasses.replace(forget_account(one.memory), has_open_create=False)
        self._journal.intents.settle(
            StepKind.CREATE,
            one.lease,
            step.userid,
            self._clock(),
            proved_id=known[0] if known and is_proved else None,
            service_values=one.take_unrecorded() | to_values(memory),
        )
        one.memory = memory

    def _change(self, one: OnePass, server: CloudServer, step: Step) -> None:
        """One mutating call, between its intent and its result."""
        password = self._get_password(one, server, step) if step.kind is StepKind.CREATE else None
        with self._guards.get_lock(server.id):
            now = self._clock()
            hot = self._guards.check_hot_loop(one.record, now)
            if hot is not None:
                raise PassQuarantined(hot.message, hot.guard)
            refusal = self._guards.check_step(step, server.id, now)
            approval = None if refusal is None else self._find_approval(one, server, step, refusal, now)
            if step.kind in EDIT_KINDS:
                self._ask_for_edit(one, server, step, now)
            if refusal is not None and approval is not None:
                self._use_approval(one, server, step, refusal, approval)
            begun = self._begin(one, server, step, password, now)
        error = self._carry_out(one, server, begun, password)
        self._react(one, server, step, error)

    def set_password(self, one: OnePass, password: str) -> None:
        """Give the account another password; only an operator asks for it, it is never planned.

        The journal keeps it until billing has it, and after an unclear answer until it is known whether it is
        in force (`settle_resets`).

        Raises:
            PassBlocked: the server allows no edit now.
            ServerStopped, CloudError, JournalError: as they say.
        """
        server, observed = one.server, one.observed
        if server is None or observed is None:
            raise AssertionError("there is no account whose password could be set")
        step = Step(StepKind.SET_PASSWORD, observed.userid)
        with self._guards.get_lock(server.id):
            now = self._clock()
            self._ask_for_edit(one, server, step, now)
            begun = self._begin(one, server, step, password, now)
        error = self._carry_out(one, server, begun, password)
        if error is not None:
            raise error
        # It replaces whatever an earlier reset did.
        self._journal.intents.settle(step.kind, one.lease, step.userid, self._clock())

    def settle_resets(self, one: OnePass) -> bool:
        """Find out by logging in whether a new password is in force that the server never acknowledged.

        A disabled account cannot log in: then it stays open, as it does while the server may yet carry out
        the request.

        Returns:
            Whether one is, which now waits for its delivery.

        Raises:
            ServerStopped, CloudError, JournalError: as they say.
        """
        server, observed = one.server, one.observed
        if server is None or observed is None or not observed.is_enabled or self._is_observing:
            return False
        intents, item_id = self._journal.intents, one.lease.item_id
        kind, now = StepKind.SET_PASSWORD, self._clock()
        known = intents.list_open(kind, item_id, server.id, observed.userid)
        for reset in known:
            with server.calling():
                is_in_force = server.client.prove_password(observed.userid, reset.password)
            if is_in_force:
                intents.settle(kind, one.lease, observed.userid, self._clock(), proved_id=reset.id)
                why = "the password of a reset that was never answered is in force"
                self._note(one, server, Step(kind, observed.userid), "done", why)
                return True
        late = now - _LATE_EFFECT
        if any(reset.begun_at < late for reset in known):
            intents.settle(kind, one.lease, observed.userid, self._clock(), begun_before=late)
            why = "the password of a reset that was never answered is not in force: it is forgotten"
            self._note(one, server, Step(kind, observed.userid), "refused", why)
        return False

    def _begin(
        self, one: OnePass, server: CloudServer, step: Step, password: str | None, now: datetime
    ) -> Begun:
        before, after = describe_account(one.observed), describe_step(step)
        return self._journal.intents.begin(
            one.lease,
            server.id,
            step,
            before=before,
            after=after,
            password=password,
            now=now,
            service_values=one.take_unrecorded(),
        )

    def _carry_out(
        self, one: OnePass, server: CloudServer, begun: Begun, password: str | None
    ) -> nc_errors.CloudError | ServerStopped | None:
        """Make the call whose intent stands in the journal, and record its result; its error."""
        step, started = begun.step, time.monotonic()
        outcome, error = Outcome.DONE, None
        memory = one.memory
        try:
            with server.calling(is_edit=step.kind in EDIT_KINDS):
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
            wanted=describe_step(step),
            observed=describe_account(one.observed),
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
        return error

    def _ask_for_edit(self, one: OnePass, server: CloudServer, step: Step, now: datetime) -> None:
        """Have one of the edits that the server allows in a time, or wait for it in line.

        Raises:
            PassBlocked: it is not this service's turn yet.
        """
        retry_at = server.edits.admit(one.lease.item_id, rank_edit(step, one.memory.state), now)
        if retry_at is not None:
            raise PassBlocked(
                f"{server} limits edits of accounts ({server.edits}): {step.kind} waits until "
                f"{retry_at:%H:%M:%S} UTC; an administrator of the server can raise the limit or switch it "
                "off (ratelimit.protection.enabled)",
                Guard.EDIT_LIMIT,
                retry_at,
                identify_step(step, server.id),
            )

    def _find_approval(
        self, one: OnePass, server: CloudServer, step: Step, refusal: Refusal, now: datetime
    ) -> Approval:
        """What an operator has allowed: this very step of this service past this guard.

        Raises:
            PassBlocked: nothing (any more).
        """
        mark = identify_step(step, server.id)
        found = None
        if refusal.guard in CAPS:
            found = self._journal.approvals.find(refusal.guard.value, one.lease.item_id, mark, now)
        if found is None:
            raise _make_block(refusal, now, mark)
        return found

    def _use_approval(
        self, one: OnePass, server: CloudServer, step: Step, refusal: Refusal, approval: Approval
    ) -> None:
        """Use it up before the step is taken: it lets pass once, whatever becomes of the step."""
        why = f"may pass guard {refusal.guard} once: {approval.actor}"
        entry = self._make_entry(one, server, step, "approved", why)
        if not self._journal.approvals.use(approval, entry):
            raise _make_block(refusal, entry.at, identify_step(step, server.id))

    def _close_create(self, one: OnePass, step: Step, outcome: Outcome) -> None:
        """A create that succeeded settles the earlier ones that were never answered."""
        if outcome is Outcome.DONE:
            self._journal.intents.settle(step.kind, one.lease, step.userid, self._clock())

    def _react(self, one: OnePass, server: CloudServer, step: Step, error: Exception | None) -> None:
        """What the result of a call means for the rest of the pass; by default: look again."""
        if isinstance(error, nc_errors.RateLimited):
            self._ask_for_edit(one, server, step, self._clock())
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


def _make_block(refusal: Refusal, now: datetime, step: str) -> PassBlocked:
    return PassBlocked(refusal.message, refusal.guard, now + _GUARD_PAUSE, step)
