"""A server in a few lines, and a pass over it as the reconciler makes it; used by test_lifecycle.py.

The server is independent of the code under test: it keeps quotas as texts (storage.py), ignores on a
create what ownCloud ignores, lower-cases e-mails as Nextcloud does, and may answer a create with an
error after the account's row was made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from states import (
    UNLIMITED,
    Circumstances,
    DesiredService,
    Memory,
    ObservedAccount,
    ObservedQuota,
    Ownership,
    ServiceState,
    SoldQuota,
    Step,
    StepKind,
    Verdict,
    Wish,
    advance,
    classify,
    plan,
)
from tests.unit.states.storage import store

MAX_STEPS = 12


@dataclass
class Account:
    password: str
    quota: ObservedQuota = UNLIMITED
    email: str = ""
    is_enabled: bool = True
    groups: set[str] = field(default_factory=set)


@dataclass
class Cloud:
    is_owncloud: bool = False
    groups: set[str] = field(default_factory=lambda: {"gold", "silver", "friends"})
    accounts: dict[str, Account] = field(default_factory=dict)
    fails_next_create: bool = False
    """The next create makes the row, then fails without an answer."""

    def look(self, userid: str) -> ObservedAccount | None:
        one = self.accounts.get(userid)
        if one is None:
            return None
        return ObservedAccount(userid, one.is_enabled, one.quota, 0, one.email, frozenset(one.groups), False)

    def create(self, step: Step, password: str) -> bool:
        """Make an account; False when nobody answered."""
        assert step.userid not in self.accounts
        assert set(step.groups) <= self.groups
        one = self.accounts[step.userid] = Account(password)
        if self.fails_next_create:
            self.fails_next_create = False
            return False
        one.groups |= set(step.groups)
        if not self.is_owncloud:
            self.set_quota(one, step.quota)
            self.set_email(one, step.email or "")
        return True

    def set_quota(self, one: Account, quota: SoldQuota | None) -> None:
        assert quota is not None
        one.quota = quota if quota is UNLIMITED else store(quota)[1]

    def set_email(self, one: Account, email: str) -> None:
        one.email = email if self.is_owncloud else email.lower()

    def change(self, step: Step) -> None:
        """Take any other step that changes something."""
        if step.kind is StepKind.CREATE_GROUP:
            self.groups |= set(step.groups)
            return
        one = self.accounts[step.userid]
        if step.kind in {StepKind.ENABLE, StepKind.DISABLE}:
            one.is_enabled = step.kind is StepKind.ENABLE
        elif step.kind is StepKind.SET_QUOTA:
            self.set_quota(one, step.quota)
        elif step.kind is StepKind.SET_EMAIL:
            self.set_email(one, step.email or "")
        elif step.kind is StepKind.ADD_GROUP:
            assert set(step.groups) <= self.groups
            one.groups |= set(step.groups)
        elif step.kind is StepKind.REMOVE_GROUP:
            one.groups -= set(step.groups)
        else:
            assert step.kind is StepKind.DELETE
            del self.accounts[step.userid]


@dataclass
class Reconciler:
    """Remembers one service, and takes its steps one by one, looking again after each."""

    cloud: Cloud
    password: str = "ours"
    memory: Memory = field(default_factory=Memory)
    verdict: Verdict | None = None
    done: list[StepKind] = field(default_factory=list)

    def run(self, desired: DesiredService, circumstances: Circumstances) -> list[StepKind]:
        """One pass. Returns its steps; fails when it needs more than a pass may have."""
        self._recall(desired, circumstances.now)
        self.done = []
        while (step := self._decide(desired, circumstances)) is not None:
            assert len(self.done) < MAX_STEPS
            self.done.append(step.kind)
            self._take(step)
        self._settle(desired)
        return self.done

    def _recall(self, desired: DesiredService, now: datetime) -> None:
        since = (self.memory.retired_since or now) if desired.wish is Wish.ABSENT else None
        self.memory = replace(self.memory, retired_since=since)

    def _decide(self, desired: DesiredService, circumstances: Circumstances) -> Step | None:
        circumstances = replace(circumstances, server_groups=frozenset(self.cloud.groups))
        for _ in range(3):
            observed = self.cloud.look(desired.username)
            self.verdict = classify(desired, observed, self.memory, circumstances)
            if self.verdict.state is self.memory.state:
                return plan(self.verdict, desired, observed, self.memory, circumstances)
            advance(self.memory.state, self.verdict.state)
            self.memory = replace(self.memory, state=self.verdict.state)
        raise AssertionError("the state does not come to rest")

    def _take(self, step: Step) -> None:
        if step.kind is StepKind.CREATE:
            if self.cloud.create(step, self.password):
                self._remember_creation(step.userid)
            else:
                self.memory = replace(self.memory, has_open_create=True)
        elif step.kind is StepKind.PROVE_OWNERSHIP:
            if self.cloud.accounts[step.userid].password == self.password:
                self._remember_creation(step.userid)
            else:
                self.memory = replace(self.memory, has_open_create=False)
        elif step.kind is StepKind.ADOPT:
            self.memory = replace(
                self.memory, ownership=Ownership.ADOPTED, server_id=3, userid=step.userid, is_provisioned=True
            )
        else:
            self.cloud.change(step)
            if step.kind is StepKind.SET_EMAIL:
                self.memory = replace(self.memory, applied_email=step.email)

    def _remember_creation(self, userid: str) -> None:
        """A new account, not yet known to be complete, whatever there was before."""
        state, since = self.memory.state, self.memory.retired_since
        self.memory = Memory(state, Ownership.CREATED, server_id=3, userid=userid, retired_since=since)

    def _settle(self, desired: DesiredService) -> None:
        if self.memory.state in {ServiceState.ACTIVE, ServiceState.SUSPENDED}:
            email = self.cloud.accounts[desired.username].email
            is_agreed = bool(desired.email) and email.lower() == (desired.email or "").lower()
            applied = desired.email if is_agreed else self.memory.applied_email
            self.memory = replace(self.memory, is_provisioned=True, applied_email=applied)


def later(circumstances: Circumstances, hours: float) -> Circumstances:
    return replace(circumstances, now=circumstances.now + timedelta(hours=hours))
