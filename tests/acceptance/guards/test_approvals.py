"""`approve`: for the step that waits, no other; once; for a time; and in the history how each one ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.guards import Guard
from reconciler.operations import approve_cap
from reconciler.sandbox.emulator import Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.guards.mishaps import (
    DELETIONS,
    DISABLES,
    HOUR,
    MOMENT,
    QUOTA_DECREASES,
    RECREATIONS,
    Mishap,
    get_record,
    list_approvals,
    read_history,
    resize,
    sell,
)


def open_shop(make_world: MakeWorld, mishap: Mishap, **more: object) -> tuple[World, int]:
    """A world with a service for which a mishap waits: nothing of the kind may happen without approval."""
    world = make_world(settings=mishap.limit(0, approval_ttl="10h", **more))
    item = sell(world)
    world.once()
    mishap.strike(world, item)
    assert not world.once().is_converged
    assert not mishap.is_done(world, item)
    return world, item


def approve(world: World, mishap: Mishap) -> list[int]:
    with world.open() as app:
        return [each.item_id for each in approve_cap(app, Guard(mishap.guard), None, "operator:ann")]


Change = Callable[[World, int], None]

CHANGES_OF_MIND: list[tuple[Mishap, Change, Change]] = [
    (QUOTA_DECREASES, lambda world, item: resize(world, item, 5), lambda world, item: resize(world, item, 1)),
    (
        DELETIONS,
        lambda world, item: world.billing.set_status(item, 2),
        lambda world, item: world.billing.set_status(item, 4),
    ),
    (
        DISABLES,
        lambda world, item: world.billing.set_status(item, 2),
        lambda world, item: world.billing.set_status(item, 3),
    ),
    (
        RECREATIONS,
        lambda world, item: world.billing.set_status(item, 1),
        lambda world, item: world.billing.set_status(item, 2),
    ),
]


@pytest.mark.parametrize(
    ("mishap", "undo", "repeat"), CHANGES_OF_MIND, ids=[change[0].guard for change in CHANGES_OF_MIND]
)
def test_when_billing_changed_its_mind_meanwhile_it_takes_another_approval(
    make_world: MakeWorld, mishap: Mishap, undo: Change, repeat: Change
) -> None:
    world, item = open_shop(make_world, mishap)
    assert approve(world, mishap) == [item]
    undo(world, item)
    assert world.once().is_converged
    repeat(world, item)
    world.once()
    assert not mishap.is_done(world, item), "it was given for the time before"
    assert list_approvals(world, item) == ["done", "withdrawn"]
    assert approve(world, mishap) == [item]
    assert world.once().is_converged
    assert mishap.is_done(world, item)
    assert list_approvals(world, item) == ["done", "withdrawn", "done", "approved"]


def test_it_lets_a_quota_become_what_was_shown_and_nothing_less(make_world: MakeWorld) -> None:
    world, item = open_shop(make_world, QUOTA_DECREASES)
    account = world.get_account(item)
    assert account is not None
    resize(world, item, 2)
    world.once()
    approve(world, QUOTA_DECREASES)
    resize(world, item, 1)
    world.once()
    assert account.quota_definition == "5 GB"
    assert get_record(world, item).blocked_step == f"set_quota user_{item} on server 1: quota 1 GB"
    withdrawn = read_history(world, item)[-1]
    assert withdrawn.wanted == f"set_quota user_{item} on server 1: quota 2 GB"
    assert withdrawn.why.endswith(f"what waits now is set_quota user_{item} on server 1: quota 1 GB")


def test_it_lets_pass_once_whatever_becomes_of_the_step(make_world: MakeWorld) -> None:
    world, item = open_shop(make_world, DISABLES)
    approve(world, DISABLES)
    world.nextcloud.faults.append(Fault("disable", status=500))
    world.once()
    world.wait(minutes=20)
    world.once()
    assert not DISABLES.is_done(world, item)
    assert world.nextcloud.call_counts["disable"] == 1
    assert list_approvals(world, item) == ["done", "approved"]


def test_one_that_was_not_needed_is_good_for_nothing_later(make_world: MakeWorld) -> None:
    """The window moved on before it was used."""
    world = make_world(settings=DISABLES.limit(1, approval_ttl="10h"))
    items = [sell(world) for _ in range(2)]
    world.once()
    DISABLES.strike(world, *items)
    world.once()
    (item,) = approve(world, DISABLES)
    world.now += HOUR
    (other,) = set(items) - {item}
    world.billing.set_status(other, 2)
    assert world.once().is_converged
    assert DISABLES.is_done(world, item)
    assert list_approvals(world, item) == ["done"], "there was room again"
    world.billing.set_status(item, 2)
    world.once()
    DISABLES.strike(world, item)
    world.once()
    assert not DISABLES.is_done(world, item), "the room is taken"
    assert list_approvals(world, item) == ["done", "withdrawn"]


def test_it_is_still_good_after_a_server_was_away_and_billing_looked_odd(make_world: MakeWorld) -> None:
    world = make_world(settings=DISABLES.limit(0, approval_ttl="10h", max_desired_shrink_percent=50))
    items = [sell(world) for _ in range(4)]
    world.once()
    DISABLES.strike(world, items[0])
    world.once()
    approve(world, DISABLES)
    world.nextcloud.maintenance = True
    with world.open() as app:
        app.fleet.refresh()
        assert app.reconciler.reconcile_service(items[0], actor="test").is_server_stopped
    record = get_record(world, items[0])
    assert (record.blocked_guard, record.blocked_step) == (None, DISABLES.name_step(items[0], 1))
    world.nextcloud.maintenance = False
    world.wait(minutes=2)
    for item in items[1:]:
        world.billing.change("item", item, parent=items[0])
    world.once()
    assert get_record(world, items[0]).blocked_guard == "desired_read"
    for item in items[1:]:
        world.billing.change("item", item, parent=None)
    assert world.once().is_converged
    assert DISABLES.is_done(world, items[0])
    assert list_approvals(world, items[0]) == ["done", "approved"]


@pytest.mark.parametrize("late", [False, True])
def test_its_time_ends_and_that_stands_in_the_history(make_world: MakeWorld, late: bool) -> None:
    world, item = open_shop(make_world, DELETIONS)
    approve(world, DELETIONS)
    world.now += 10 * HOUR - MOMENT
    if not late:
        assert world.once().is_converged
        assert list_approvals(world, item) == ["done", "approved"]
        return
    world.billing.set_status(item, 2)  # so that nobody asks for it
    world.once()
    assert list_approvals(world, item) == ["done"]
    world.now += MOMENT
    world.once()
    assert list_approvals(world, item) == ["done", "expired"]
    assert "the permission of operator:ann to pass guard deletions expired unused" in (
        read_history(world, item)[-1].why
    )
