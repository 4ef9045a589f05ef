"""A service, its account and the journal's memory of it as one small value, and all that can happen next.

The decisions are the program's own (`states`, and the memory's rules in `reconciler.remembering`); the server
is a few lines here. Nothing is read or written, so that every reachable scene can be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from reconciler.remembering import enter, forget_account, remember_creation, remember_effect
from states import (
    UNLIMITED,
    Circumstances,
    DesiredService,
    Memory,
    ObservedAccount,
    Ownership,
    ServiceState,
    Step,
    StepKind,
    Wish,
    advance,
    classify,
    plan,
)

NOW: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
JUST_NOW: Final = NOW - timedelta(hours=1)
LONG_AGO: Final = NOW - timedelta(hours=100)
USER, GIB = "user_7", 1024**3
EMAIL, OWN_EMAIL = "client@example.org", "own@home.example"
AROUND: Final = Circumstances(
    now=NOW,
    managed_groups=frozenset({"basic", "pro"}),
    server_groups=frozenset({"basic", "pro", "admin"}),
    api_user="reconciler",
)
SOLD: Final = DesiredService(7, 3, Wish.ENABLED, USER, 5 * GIB, "basic", EMAIL)
AS_SOLD: Final = ObservedAccount(USER, True, 5 * GIB, 0, EMAIL, frozenset({"basic"}), False)
HALF_MADE: Final = replace(AS_SOLD, quota=UNLIMITED, email=None)
STRANGER: Final = replace(AS_SOLD, quota=3 * GIB, email=OWN_EMAIL, groups=frozenset())
_MOST_TURNS: Final = 3

alter = lru_cache(maxsize=None)(replace)
"""There are few memories and accounts, and they are made again and again."""

Topic = Literal["ownership", "fields"]


class Scene(NamedTuple):
    """Everything that one decision is made from.

    Attributes:
        wish: what billing wants; None: the service's row is gone.
        is_named: billing names the account.
        account: what the server has.
        is_strange: the account is somebody else's, whatever anybody believes.
        memory: the journal's; its times are `JUST_NOW` and `LONG_AGO` only.
    """

    wish: Wish | None = Wish.ENABLED
    is_named: bool = False
    account: ObservedAccount | None = None
    is_strange: bool = False
    memory: Memory = Memory()

    @property
    def desired(self) -> DesiredService | None:
        return None if self.wish is None else _want(self.wish, self.is_named)


class Turn(NamedTuple):
    """What one look leads to: the states that it records, and the step that follows (None: it rests)."""

    scene: Scene
    moves: tuple[tuple[ServiceState, ServiceState], ...]
    step: Step | None


@lru_cache
def _want(wish: Wish, is_named: bool) -> DesiredService:
    return replace(SOLD, wish=wish, is_username_recorded=is_named, is_password_recorded=is_named)


def decide(scene: Scene) -> Turn:
    """Look, name the gap, record it until it stays, and plan: as `Reconciler` does.

    Raises:
        TransitionRefused: the table does not know the move.
        AssertionError: the state does not come to rest.
    """
    memory, desired = scene.memory, scene.desired
    if desired is not None and desired.wish not in {Wish.ABSENT, Wish.AS_IS}:
        memory = alter(memory, retired_since=None)
    moves: list[tuple[ServiceState, ServiceState]] = []
    for _ in range(_MOST_TURNS + 1):
        verdict = classify(desired, scene.account, memory, AROUND)
        assert verdict.reason
        entered = enter(memory, verdict.state, NOW)
        if entered.retired_since == NOW:
            entered = alter(entered, retired_since=JUST_NOW)
        if entered == memory:
            step = plan(verdict, desired, scene.account, memory, AROUND)
            return Turn(scene._replace(memory=memory), tuple(moves), step)
        if verdict.state is not memory.state:
            advance(memory.state, verdict.state)
            moves.append((memory.state, verdict.state))
        memory = entered
    raise AssertionError(f"the state does not come to rest: {scene}")


def settle(scene: Scene) -> Scene:
    """What a pass leaves that has nothing more to do: what it has learned, and the name on the card."""
    memory = scene.memory
    if memory.state in {ServiceState.ACTIVE, ServiceState.SUSPENDED} and scene.account is not None:
        is_agreed = scene.account.email == EMAIL
        applied = EMAIL if is_agreed else memory.applied_email
        memory = alter(memory, is_provisioned=True, applied_email=applied)
    is_ours = scene.account is not None and memory.ownership is not Ownership.NONE
    is_told = is_ours and scene.wish in {Wish.ENABLED, Wish.DISABLED}
    return scene._replace(memory=memory, is_named=scene.is_named or is_told)


def is_pointless(scene: Scene, step: Step) -> bool:
    """Whether a proof can be had from nobody: the account is disabled, and billing does not name it."""
    is_disabled = scene.account is not None and not scene.account.is_enabled
    return step.kind is StepKind.PROVE_OWNERSHIP and is_disabled and not scene.is_named


def take(scene: Scene, step: Step) -> Scene:
    """A step that works and is answered."""
    memory = scene.memory
    if step.kind is StepKind.PROVE_OWNERSHIP:
        is_proved = not scene.is_strange and scene.account is not None and scene.account.is_enabled
        if is_proved:
            return scene._replace(memory=remember_creation(memory, 3, USER))
        return scene._replace(memory=alter(forget_account(memory), has_open_create=False))
    if step.kind is StepKind.ADOPT:
        adopted = alter(memory, ownership=Ownership.ADOPTED, server_id=3, userid=USER, is_provisioned=True)
        return scene._replace(memory=adopted)
    return change(scene, step)._replace(memory=remember_effect(memory, step, 3))


def change(scene: Scene, step: Step) -> Scene:
    """What a step does to the account."""
    account, kind = scene.account, step.kind
    if kind is StepKind.CREATE:
        assert account is None, "an account is made twice"
        return scene._replace(account=AS_SOLD, is_strange=False)
    assert account is not None, f"{kind} of nothing"
    if kind is StepKind.DELETE:
        return scene._replace(account=None, is_strange=False)
    groups = account.groups or frozenset()
    changed = {
        StepKind.ENABLE: {"is_enabled": True},
        StepKind.DISABLE: {"is_enabled": False},
        StepKind.SET_QUOTA: {"quota": step.quota},
        StepKind.SET_EMAIL: {"email": step.email},
        StepKind.ADD_GROUP: {"groups": groups | set(step.groups)},
        StepKind.REMOVE_GROUP: {"groups": groups - set(step.groups)},
    }[kind]
    return scene._replace(account=alter(account, **changed))  # type: ignore[arg-type]


def go_wrong(scene: Scene, step: Step) -> Iterator[Scene]:
    """Other things that can come of a step: half of it, no answer, no effect."""
    failed = scene._replace(memory=alter(scene.memory, state=ServiceState.BACKOFF))
    if step.kind is StepKind.CREATE:
        unanswered = alter(scene.memory, has_open_create=True)
        for made in (None, HALF_MADE, AS_SOLD):
            yield scene._replace(account=made, is_strange=False, memory=unanswered)
        half = scene._replace(account=HALF_MADE, is_strange=False)
        yield half._replace(memory=remember_effect(scene.memory, step, 3))  # what ownCloud does
    elif step.kind.is_mutating:
        yield failed
        yield change(scene, step)
    else:
        yield failed


def happen(scene: Scene, topic: Topic) -> Iterator[Scene]:
    """What anybody else can do: billing, operators, somebody on the server, time."""
    memory, account = scene.memory, scene.account
    wishes = {Wish.ENABLED, Wish.DISABLED, Wish.ABSENT} if topic == "fields" else set(Wish)
    for wish in (*sorted(wishes), None):
        yield scene._replace(wish=wish)
    if memory.retired_since == JUST_NOW:
        yield scene._replace(memory=alter(memory, retired_since=LONG_AGO))
    if account is not None:
        yield scene._replace(account=None, is_strange=False)
        yield scene._replace(account=alter(account, is_enabled=not account.is_enabled))
    if topic == "ownership":
        yield from _meddle(scene)
        return
    is_held = memory.hold_reason is not None
    yield scene._replace(memory=alter(memory, hold_reason=None if is_held else "a person said so"))
    if account is not None:
        yield scene._replace(account=alter(account, quota=UNLIMITED, groups=frozenset({"pro"})))
        yield scene._replace(account=alter(account, email=OWN_EMAIL))


def _meddle(scene: Scene) -> Iterator[Scene]:
    memory, account = scene.memory, scene.account
    is_known = memory.ownership is not Ownership.NONE or scene.is_named
    if account is None and not is_known:  # else nobody could tell him from ours
        yield scene._replace(account=STRANGER, is_strange=True)
    if account is not None:
        groups = (account.groups or frozenset()) ^ {"admin"}
        yield scene._replace(account=alter(account, groups=groups))
    if not scene.is_strange:
        # Without a journal, what billing does not name is somebody else's.
        yield scene._replace(is_strange=account is not None and not scene.is_named, memory=Memory())
    reason = None if memory.quarantine_reason else "a hot loop"
    yield scene._replace(memory=alter(memory, quarantine_reason=reason))
