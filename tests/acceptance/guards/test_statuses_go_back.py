"""A replica that lags behind: a service's status goes backwards for a while, or alternates."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from reconciler.cycle import run_cycle
from reconciler.operations import hold_service, release_service
from reconciler.sandbox.emulator import EmulatedAccount
from states import DesiredService, ServiceState, Wish
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import dump_accounts
from tests.acceptance.guards.mishaps import DISABLES, get_record, resize, sell

GRACE = timedelta(hours=72)
MOMENT = timedelta(seconds=1)


def take(world: World, item: int) -> EmulatedAccount:
    account = world.get_account(item)
    assert account is not None
    return account


def show_status(world: World, item: int, status: int) -> None:
    world.billing.set_status(item, status)
    world.once()


def test_every_read_that_wants_an_account_back_starts_its_grace_anew(world: World) -> None:
    item = sell(world)
    world.once()
    show_status(world, item, 4)
    assert not take(world, item).is_enabled
    world.now += GRACE - MOMENT
    show_status(world, item, 2)
    assert take(world, item).is_enabled
    world.now += MOMENT
    show_status(world, item, 4)
    assert not take(world, item).is_enabled
    check_whole_grace(world, item)


def check_whole_grace(world: World, item: int) -> None:
    """The account is deleted when its grace, which begins now, is over, and not a moment before."""
    world.now += GRACE - MOMENT
    world.once()
    assert world.get_account(item) is not None
    world.now += MOMENT
    world.once()
    assert world.get_account(item) is None


def test_a_status_that_alternates_for_days_never_deletes(world: World) -> None:
    item = sell(world)
    world.once()
    for _ in range(3):
        show_status(world, item, 4)
        world.wait(hours=40)
        show_status(world, item, 2)
        world.wait(hours=40)
        assert take(world, item).is_enabled
    assert world.once().is_converged


def test_the_grace_is_started_anew_also_when_only_the_bulk_read_wants_the_account_back(world: World) -> None:
    """Two replicas, one of which has stood still since the service was closed."""
    item = sell(world)
    world.once()
    show_status(world, item, 4)
    with world.open() as app:
        fresh = app.billing.get_service

        def get_old(item_id: int) -> DesiredService | None:
            read = fresh(item_id)
            return read and dataclasses.replace(read, wish=Wish.ABSENT, status=4)

        app.billing.get_service = get_old  # type: ignore[method-assign]
        world.billing.set_status(item, 2)
        for _ in range(3):
            world.wait(hours=40)
            run_cycle(app)
            assert world.get_account(item) is not None
        world.billing.set_status(item, 4)
        world.now += GRACE - MOMENT
        run_cycle(app)
        assert world.get_account(item) is not None
        world.now += MOMENT
        run_cycle(app)
        assert world.get_account(item) is None, "in the end both want it gone"


def test_a_program_that_ended_right_after_such_a_read_leaves_no_grace_that_never_ends(world: World) -> None:
    item = sell(world)
    world.once()
    show_status(world, item, 4)
    world.now += GRACE
    with world.open() as app:
        desired = app.billing.get_service(item)
        assert desired is not None
        app.journal.services.note_desired([dataclasses.replace(desired, wish=Wish.ENABLED)], world.now)
    world.once()
    check_whole_grace(world, item)


def test_two_reads_five_minutes_apart_must_want_a_deletion_however_short_the_grace(
    make_world: MakeWorld,
) -> None:
    world = make_world(settings={"guards": {"deletion_grace": "1s"}})
    item = sell(world)
    world.once()
    for status in (4, 2, 4):
        show_status(world, item, status)
        world.wait(minutes=4, seconds=59)
        world.once()
        assert world.get_account(item) is not None
    world.wait(seconds=1)
    world.once()
    assert world.get_account(item) is None


def test_without_a_grace_one_read_is_enough(make_world: MakeWorld) -> None:
    world = make_world(settings={"guards": {"deletion_grace": "0s"}})
    item = sell(world)
    world.once()
    show_status(world, item, 4)
    assert world.get_account(item) is None


def test_suspensions_of_the_past_are_capped_and_undone(make_world: MakeWorld) -> None:
    world = make_world(settings=DISABLES.limit(2))
    items = [sell(world) for _ in range(5)]
    world.once()
    DISABLES.strike(world, *items)
    world.once()
    assert len(DISABLES.list_done(world, items)) == 2
    for item in items:
        world.billing.set_status(item, 2)
    assert world.once().is_converged
    assert DISABLES.list_done(world, items) == []
    world.once_quietly()


def test_an_order_of_the_past_and_an_old_tariff_touch_no_account_for_long(world: World) -> None:
    item, other = sell(world), sell(world)
    world.once()
    resize(world, other, 50)
    world.once()
    before = dump_accounts(world.nextcloud)[f"user_{item}"]
    show_status(world, item, 1)
    world.wait(days=30)
    world.once()
    assert dump_accounts(world.nextcloud)[f"user_{item}"] == before, (
        "ordered, not paid: nothing is done to its account"
    )
    resize(world, other, 5)
    world.once()
    resize(world, other, 50)
    show_status(world, item, 2)
    assert dump_accounts(world.nextcloud)[f"user_{item}"] == before
    assert take(world, other).quota_definition == "50 GB"
    assert world.once().is_converged


@pytest.mark.parametrize("why", ["its server was away", "it was held"])
def test_a_service_that_was_closed_while_nothing_could_be_done_has_its_whole_grace(
    world: World, why: str
) -> None:
    item = sell(world)
    world.once()
    is_held = why == "it was held"
    world.nextcloud.maintenance = not is_held
    with world.open() as app:
        if is_held:
            hold_service(app, item, "moves house", "operator:ann")
    for _ in range(2):
        show_status(world, item, 4)
        world.wait(days=3)
    world.nextcloud.maintenance = False
    with world.open() as app:
        if is_held:
            release_service(app, item, "operator:ann")
    world.once()
    assert not take(world, item).is_enabled, "disabled at once, deleted after the grace"
    world.now += GRACE - MOMENT
    world.once()
    assert get_record(world, item).memory.state is ServiceState.RETIRING
    world.now += MOMENT
    world.once()
    assert world.get_account(item) is None
