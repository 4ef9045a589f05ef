"""An old backup of billing or of a server is restored, or a server is wiped: little happens at once."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

from reconciler.guards import Guard
from reconciler.operations import approve_cap
from states import ServiceState
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.guards.mishaps import RECREATIONS, get_record, resize, sell

GRACE = timedelta(hours=72)
MOMENT = timedelta(seconds=1)


def get_database(world: World) -> Path:
    world.billing.engine.dispose()
    return Path(world.land.database_url.removeprefix("sqlite:///"))


def back_up(world: World) -> Path:
    folder = world.land.folder
    return Path(shutil.copy(get_database(world), folder / f"backup{len(list(folder.iterdir()))}.db"))


def restore(world: World, backup: Path) -> None:
    shutil.copy(backup, get_database(world))


def list_accounts(world: World) -> dict[str, bool]:
    return {account.userid: account.is_enabled for account in world.nextcloud.accounts.values()}


# -- billing


def test_an_old_billing_database_harms_nobody_and_is_healed_by_the_right_one(world: World) -> None:
    items = [sell(world) for _ in range(8)]
    world.billing.set_status(items[0], 3)
    world.billing.set_status(items[1], 4)
    world.once()
    old = back_up(world)
    world.billing.set_status(items[0], 2)
    world.billing.set_status(items[1], 2)
    resize(world, items[2], 50)
    new = [sell(world) for _ in range(3)]
    world.once()
    assert world.once().is_converged
    right = back_up(world)
    before = list_accounts(world)
    world.wait(days=30)

    restore(world, old)
    for _ in range(3):
        report = world.once()
        assert report.read is not None
        assert (report.read.seen, report.read.good, report.read.is_suspicious) == (8, 11, True)
        assert list_accounts(world) == before
        world.wait(days=2)
    assert {record.blocked_guard for record in report.blocked} == {"desired_read"}
    assert {record.item_id for record in report.attention} == set(new), "they are told as orphans"
    assert get_record(world, new[0]).memory.state is ServiceState.ORPHANED

    restore(world, right)
    assert world.once().is_converged
    assert list_accounts(world) == before
    assert all(map(world.is_delivered, [*items, *new]))


def test_an_old_billing_database_that_is_hardly_smaller_disables_but_deletes_nothing_for_days(
    world: World,
) -> None:
    items = [sell(world) for _ in range(8)]
    world.billing.set_status(items[0], 3)
    world.once()
    world.billing.set_status(items[1], 4)
    world.once()
    old = back_up(world)
    world.billing.set_status(items[0], 2)
    world.billing.set_status(items[1], 2)
    new = sell(world)
    world.once()
    assert world.once().is_converged
    right = back_up(world)
    before = list_accounts(world)
    world.wait(days=30)
    restore(world, old)
    world.once()
    disabled = {f"user_{item}" for item in items[:2]}
    assert list_accounts(world) == {name: name not in disabled for name in before}
    world.now += GRACE - MOMENT
    world.once()
    restore(world, right)
    assert world.once().is_converged
    assert list_accounts(world) == before
    assert world.is_delivered(new)


# -- a server


def test_an_old_backup_of_a_server_has_a_few_accounts_made_again_at_once(make_world: MakeWorld) -> None:
    world = make_world(settings=RECREATIONS.limit(2))
    old = [sell(world) for _ in range(2)]
    world.once()
    backup = world.nextcloud.snapshot()
    new = [sell(world) for _ in range(6)]
    world.once()
    world.wait(days=3)
    world.nextcloud.restore(backup)
    world.nextcloud.clear_calls()

    report = world.once()
    made = [item for item in new if world.get_account(item)]
    assert (len(made), world.nextcloud.call_counts["create"]) == (2, 2)
    assert {record.item_id for record in report.blocked} == set(new) - set(made)
    assert all(map(world.is_delivered, [*old, *made])), "with the passwords that the customers know"
    world.once()
    assert world.nextcloud.call_counts["create"] == 2
    first_order = sell(world)
    world.once()
    assert world.is_delivered(first_order), "first provisioning is not capped"

    world.wait(hours=1)
    world.once()
    assert world.nextcloud.call_counts["create"] == 5
    with world.open() as app:
        assert len(approve_cap(app, Guard.RECREATIONS, 1, "operator:ann")) == 2
    assert world.once().is_converged
    assert all(map(world.is_delivered, [*old, *new]))


def test_a_wiped_server_is_filled_again_slowly(make_world: MakeWorld) -> None:
    """Nobody has told it from the one before: it has the same instance id."""
    world = make_world(settings=RECREATIONS.limit(2))
    items = [sell(world) for _ in range(5)]
    world.once()
    world.nextcloud.wipe()
    for group in ("basic", "pro"):
        world.nextcloud.add_group(group)
    for made in (2, 4, 5):
        world.once()
        assert len([item for item in items if world.get_account(item)]) == made
        world.wait(hours=1)
    assert world.once().is_converged
    assert all(map(world.is_delivered, items))


def test_an_account_that_comes_back_after_its_deletion_is_kept_for_its_whole_grace_again(
    world: World,
) -> None:
    item = sell(world)
    world.once()
    backup = world.nextcloud.snapshot()
    world.billing.set_status(item, 4)
    world.once()
    world.now += GRACE
    world.once()
    assert world.get_account(item) is None
    assert get_record(world, item).memory.retired_since is None

    world.wait(days=30)
    world.nextcloud.restore(backup)
    world.once()
    account = world.get_account(item)
    assert account is not None
    assert not account.is_enabled, "disabled at once"
    assert get_record(world, item).memory.state is ServiceState.RETIRING
    world.now += GRACE - MOMENT
    world.once()
    assert world.get_account(item) is account, "its grace has started again"
    world.now += MOMENT
    assert world.once().is_converged
    assert world.get_account(item) is None


def test_accounts_that_come_back_are_counted_when_they_are_deleted_again(make_world: MakeWorld) -> None:
    world = make_world(settings={"guards": {"min_deletions": 2, "max_deletions_percent": 0}})
    items = [sell(world) for _ in range(4)]
    world.once()
    backup = world.nextcloud.snapshot()
    for item in items:
        world.nextcloud.remove_account(f"user_{item}")
        world.billing.set_status(item, 4)
    world.once()
    world.nextcloud.restore(backup)
    world.once()
    world.now += GRACE
    for left in (2, 0):
        world.once()
        assert len([item for item in items if world.get_account(item)]) == left
        world.wait(days=1)
