"""Every scene that a service can come into, by whatever order of events, looked at one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from states import STABLE_STATES, Ownership, ServiceState, StepKind, Wish
from states.table import TRANSITIONS
from tests.acceptance.model.abstract import (
    EMAIL,
    GIB,
    LONG_AGO,
    OWN_EMAIL,
    Scene,
    Topic,
    decide,
    go_wrong,
    happen,
    is_pointless,
    settle,
    take,
)

S = ServiceState
WAITING = {S.RETIRING, S.HELD, S.QUARANTINED, S.ORPHANED}
MOST_STEPS = 8
"""More than any single life needs: of a pass's twelve."""
Record = Callable[[str, object], None]


def explore(topic: Topic) -> tuple[dict[Scene, Scene | None], set[tuple[S, S]]]:
    """All reachable scenes, each with the one that the program makes of it (None: it rests); all moves.

    Every step is judged on the way.
    """
    after: dict[Scene, Scene | None] = {}
    moves: set[tuple[S, S]] = set()
    waiting, seen = deque([Scene()]), {Scene()}
    while waiting:
        scene = waiting.popleft()
        turn = decide(scene)
        moves.update(turn.moves)
        found = [*happen(scene, topic)]
        if turn.step is None:
            rest = settle(turn.scene)
            after[scene] = None if rest == scene else rest
            found.append(rest)
        elif is_pointless(turn.scene, turn.step):
            after[scene] = None  # told as a failure until somebody enables the account
        else:
            judge(turn.scene, turn.step.kind)
            after[scene] = take(turn.scene, turn.step)
            found += [take(turn.scene, turn.step), *go_wrong(turn.scene, turn.step)]
        for one in found:
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return after, moves


def judge(scene: Scene, kind: StepKind) -> None:
    """Whether there is evidence enough for a step."""
    account, memory = scene.account, scene.memory
    assert scene.wish in {Wish.ENABLED, Wish.DISABLED, Wish.ABSENT}, (kind, scene)
    assert memory.hold_reason is None, (kind, scene)
    assert memory.quarantine_reason is None, (kind, scene)
    if account is not None:
        assert "admin" not in (account.groups or ()), (kind, scene)
    if not kind.is_mutating:
        return
    assert not scene.is_strange, (kind, scene)
    if kind is StepKind.CREATE:
        assert account is None, scene
        assert scene.wish is not Wish.ABSENT, scene
    else:
        assert memory.ownership is not Ownership.NONE, (kind, scene)
        assert not memory.has_open_create, (kind, scene)
    if kind is StepKind.DELETE:
        assert scene.wish is Wish.ABSENT, scene
        assert memory.state is S.DELETING, scene
        assert memory.retired_since == LONG_AGO, scene
    if kind is StepKind.DISABLE:
        assert scene.wish in {Wish.DISABLED, Wish.ABSENT}, scene
    if kind is StepKind.ENABLE:
        assert scene.wish is Wish.ENABLED, scene


def find_rests(after: dict[Scene, Scene | None]) -> dict[Scene, tuple[Scene, int]]:
    """Where each scene comes to rest when nobody else changes anything, and after how many steps.

    Raises:
        AssertionError: it never does.
    """
    rests: dict[Scene, tuple[Scene, int]] = {}
    for start in after:
        path: list[Scene] = []
        one = start
        while one not in rests:
            assert one not in path, f"it goes round: {path}"
            path.append(one)
            following = after[one]
            if following is None:
                rests[one] = one, 0
                path.pop()
            else:
                one = following
        rest, count = rests[one]
        for earlier in reversed(path):
            count += 1
            rests[earlier] = rest, count
    return rests


def check_rest(scene: Scene) -> None:
    """Whether a service that rests is as it should be, or stopped by something that a person can see."""
    state, account = scene.memory.state, scene.account
    if (step := decide(scene).step) is not None:
        assert is_pointless(scene, step), scene
        return
    assert state in STABLE_STATES | WAITING, scene
    if state is S.QUARANTINED:
        is_protected = account is not None and "admin" in (account.groups or ())
        assert scene.memory.quarantine_reason or scene.is_strange or is_protected, scene
    elif state is S.HELD:
        is_left_alone = scene.wish is Wish.AS_IS or (scene.wish is Wish.NONE and account is not None)
        assert scene.memory.hold_reason or is_left_alone, scene
    elif state is S.ORPHANED:
        assert scene.wish is None, scene
    elif scene.wish in {Wish.ENABLED, Wish.DISABLED}:
        assert account is not None, scene
        assert account.is_enabled is (scene.wish is Wish.ENABLED), scene
        assert (account.quota, account.groups) == (5 * GIB, frozenset({"basic"})), scene
        assert account.email in {EMAIL, OWN_EMAIL}, scene
        assert scene.is_named, scene
    elif scene.wish is Wish.ABSENT:
        is_gone = account is None or scene.is_strange
        assert is_gone or (state is S.RETIRING and not account.is_enabled), scene  # type: ignore[union-attr]


@pytest.mark.parametrize("topic", ["ownership", "fields"])
def test_every_scene_comes_to_rest_as_it_should_and_no_step_lacks_its_evidence(
    topic: Topic, record_property: Record
) -> None:
    after, moves = explore(topic)
    rests = find_rests(after)
    longest = max(count for _, count in rests.values())
    assert longest <= MOST_STEPS
    for rest in {rest for rest, _ in rests.values()}:
        check_rest(rest)
    record_property("model states", len(after))
    usual = {(source, row.target) for row in TRANSITIONS if row.is_usual for source in row.sources}
    assert len(moves & usual) > len(usual) * 0.6, sorted(usual - moves)
