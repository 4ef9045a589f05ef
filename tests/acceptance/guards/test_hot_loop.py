"""A service that is changed again and again and never comes to rest is left to a person."""

from __future__ import annotations

import pytest

from reconciler.operations import lift_quarantine, release_service
from reconciler.sandbox.emulator import Call, Fault
from states import ServiceState
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.guards.mishaps import get_record, resize, sell

LIMIT = 6


def count_edits(world: World, item: int) -> int:
    return sum(is_edit(call, item) for call in world.nextcloud.calls)


def is_edit(call: Call, item: int) -> bool:
    return call.operation == "edit:quota" and call.userid == f"user_{item}"


def fight(world: World, item: int, times: int, *, minutes: float = 5) -> None:
    """Have cycles in which the server says that a quota is changed, and something keeps it as it was."""
    fault = Fault(lambda call: is_edit(call, item), status=200, body="{}", times=None)
    world.nextcloud.faults.append(fault)
    resize(world, item, 50)
    world.nextcloud.clear_calls()
    for _ in range(times):
        world.once()
        world.wait(minutes=minutes)


def mend(world: World) -> None:
    world.nextcloud.faults.clear()


@pytest.fixture
def item(world: World) -> int:
    made = sell(world)
    world.once()
    world.wait(hours=2)
    return made


def test_after_six_changes_in_an_hour_it_is_left_alone_and_shown(world: World, item: int) -> None:
    other = sell(world)
    world.once()
    fight(world, item, LIMIT)
    assert count_edits(world, item) == LIMIT
    assert get_record(world, item).memory.state is ServiceState.BACKOFF
    resize(world, other, 1)
    for _ in range(2):  # each by a program that was started anew
        world.once()
        world.wait(hours=2)
    with world.open() as app:
        app.fleet.refresh()
        result = app.reconciler.reconcile_service(item, actor="test")
        assert result.state is ServiceState.QUARANTINED
    report = world.once()
    assert count_edits(world, item) == LIMIT
    assert count_edits(world, other) == 1
    assert [record.item_id for record in report.attention] == [item]
    (record,) = report.attention
    assert (record.memory.state, record.blocked_guard) == (ServiceState.QUARANTINED, "hot_loop")
    assert record.reason.startswith("guard hot_loop: changed 6 times within an hour")


def test_one_change_less_than_that_is_no_loop(world: World, item: int) -> None:
    fight(world, item, LIMIT - 1)
    mend(world)
    assert world.once().is_converged
    account = world.get_account(item)
    assert account is not None
    assert account.quota_definition == "50 GB"


def test_as_many_changes_over_a_longer_time_are_no_loop(world: World, item: int) -> None:
    fight(world, item, LIMIT + 1, minutes=11)
    assert count_edits(world, item) == LIMIT + 1
    assert get_record(world, item).memory.state is ServiceState.BACKOFF


@pytest.mark.parametrize("is_resync", [False, True], ids=["release", "resync"])
def test_a_person_who_has_mended_it_need_not_wait_for_the_hour_to_pass(
    make_world: MakeWorld, is_resync: bool
) -> None:
    world = make_world(settings={"guards": {"hot_loop_mutations": 2}})
    item = sell(world)
    world.once()
    world.wait(hours=2)
    fight(world, item, 3, minutes=1)
    assert get_record(world, item).memory.state is ServiceState.QUARANTINED
    mend(world)
    world.once()
    assert count_edits(world, item) == 2, "it waits for a person"
    with world.open() as app:
        if is_resync:
            lift_quarantine(app, item)
        else:
            release_service(app, item, "operator:ann")
    assert world.once().is_converged
    account = world.get_account(item)
    assert account is not None
    assert account.quota_definition == "50 GB"
    assert get_record(world, item).blocked_guard is None
