"""Whatever somebody changes by hand is seen by `plan`, and put right by the next cycle."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.sandbox.emulator import MISSING, CloudEmulator, EmulatedAccount, Fault, Page
from states import ServiceState
from tests.acceptance.conftest import MakeWorld, World

NUMBERS = (0, 1)


def sell(world: World, number: int, status: int = 2) -> int:
    return world.sell(world.billing.add_plan("Basic", 5, group="basic"), number, status)


def take(world: World, item: int) -> EmulatedAccount:
    account = world.get_account(item)
    assert account is not None
    return account


def describe(account: EmulatedAccount) -> tuple[object, ...]:
    return account.quota_definition, account.is_enabled, frozenset(account.groups)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    ("field", "status", "tamper"),
    [
        ("quota", 2, lambda account: setattr(account, "quota_definition", "none")),
        ("quota", 2, lambda account: setattr(account, "quota_definition", "1 GB")),
        ("quota", 3, lambda account: setattr(account, "quota_definition", "1 GB")),
        ("enabled", 2, lambda account: setattr(account, "is_enabled", False)),
        ("enabled", 3, lambda account: setattr(account, "is_enabled", True)),
        ("group", 2, lambda account: account.groups.clear()),
        ("group", 2, lambda account: account.groups.add("pro")),
    ],
    ids=[
        "quota lifted",
        "quota cut",
        "suspended, cut",
        "paid, disabled",
        "unpaid, enabled",
        "group gone",
        "group added",
    ],
)
def test_a_change_by_hand_is_planned_and_put_right(
    world: World, number: int, field: str, status: int, tamper: Callable[[EmulatedAccount], None]
) -> None:
    world.billing.add_plan("Pro", 50, group="pro")
    item = sell(world, number, status)
    world.once()
    account = take(world, item)
    before = describe(account)
    tamper(account)
    tampered = describe(account)
    assert tampered != before
    plan = world.plan()
    assert [planned.item_id for planned in plan.planned] == [item]
    assert [difference.field for difference in plan.planned[0].differences] == [field]
    assert describe(account) == tampered, "a plan changes nothing"
    assert world.once().is_converged
    assert describe(account) == before
    assert not world.plan().planned


@pytest.mark.parametrize("number", NUMBERS)
def test_an_email_follows_billing_until_the_client_changes_it(world: World, number: int) -> None:
    item = sell(world, number)
    world.once()
    account = take(world, item)
    set_billing_email(world, item, "second@example.net")
    world.once()
    assert account.email == "second@example.net"
    account.email = "mine@home.example"
    set_billing_email(world, item, "third@example.net")
    world.once_quietly()
    assert account.email == "mine@home.example"


def set_billing_email(world: World, item: int, email: str) -> None:
    with world.billing.engine.begin() as connection:
        items, users = world.billing.table("item"), world.billing.table("user")
        row = connection.execute(items.select().where(items.c.id == item)).mappings().one()
        connection.execute(
            users.update()
            .where(users.c.account == row["account"], users.c.email.is_not(None))
            .values(email=email)
        )


@pytest.mark.parametrize("quota", [[], MISSING, {"free": -2, "used": 0, "total": -2}])
def test_a_quota_that_the_server_does_not_tell_is_not_repaired(world: World, quota: object) -> None:
    item = sell(world, 0)
    world.once()
    take(world, item).field_overrides = {"quota": quota}
    world.once_quietly()


def test_a_field_that_is_only_reported_is_shown_and_not_changed(make_world: MakeWorld) -> None:
    world = make_world(settings={"policy": {"quota": "report"}})
    item = sell(world, 0)
    world.once()
    account = take(world, item)
    account.quota_definition = "1 GB"
    plan = world.plan()
    assert [difference.is_enforced for planned in plan.planned for difference in planned.differences] == [
        False
    ]
    assert not plan.has_changes
    world.once()
    assert account.quota_definition == "1 GB"


@pytest.mark.usefixtures("fault_row")
def test_accounts_missing_from_a_shifted_page_are_not_made_again(world: World) -> None:
    items = [sell(world, 0) for _ in range(5)]
    world.once()
    seen = [f"user_{item}" for item in (items[0], items[2], items[4])]

    def skip_some(page: Page) -> None:
        page.ids = seen if page.offset == 0 else []

    world.nextcloud.settings.before_page = skip_some
    world.once_quietly()


def test_an_unreadable_bulk_listing_leaves_one_server_out_and_serves_the_other(world: World) -> None:
    first, second = sell(world, 0), sell(world, 1)
    world.nextcloud.faults.append(Fault("details", kind="html"))
    report = world.once()
    assert list(report.servers) == [f"server {world.land.server_ids[0]} (nextcloud-1)"]
    assert world.get_account(first) is None
    assert world.is_delivered(second)


@pytest.mark.usefixtures("fault_row")
def test_edits_beyond_the_rate_limit_wait_and_go_on_when_it_allows(make_world: MakeWorld) -> None:
    seconds = [0.0]
    cloud = CloudEmulator("nextcloud", edit_limit=3, clock=lambda: seconds[0])
    world = make_world(clouds=[cloud])
    items = [sell(world, 0) for _ in range(5)]
    suspended = sell(world, 0)
    world.once()
    for item in items:
        take(world, item).quota_definition = "1 GB"
    world.billing.set_status(suspended, 3)
    report = world.once()
    right = [item for item in items if take(world, item).quota_definition == "5 GB"]
    assert len(right) == 3
    assert not take(world, suspended).is_enabled, "suspension is not limited"
    assert {record.item_id for record in report.blocked} == set(items) - set(right)
    seconds[0] += 601
    world.wait(minutes=11)
    assert world.once().is_converged
    assert [take(world, item).quota_definition for item in items] == ["5 GB"] * 5


def test_another_program_that_keeps_changing_an_account_back_is_told_instead_of_fought(world: World) -> None:
    item = sell(world, 1)
    world.once()
    account = take(world, item)
    world.owncloud.faults.append(Fault("edit:quota", status=200, body="{}", times=None))
    account.quota_definition = "1 GB"
    for _ in range(9):
        world.wait(minutes=5)
        report = world.once()
    assert [record.memory.state for record in report.attention] == [ServiceState.QUARANTINED]
    assert "hot_loop" in report.attention[0].reason
    world.owncloud.faults.clear()
    world.wait(hours=2)
    world.once()
    assert account.quota_definition == "1 GB", "it waits for a person"
    with world.open() as app:
        app.journal.services.release(item)
    world.once()
    assert account.quota_definition == "5 GB"


def test_a_server_that_is_switched_off_in_billing_is_left_alone_and_told(world: World) -> None:
    first, second = sell(world, 0), sell(world, 1)
    world.billing.change("processingmodule", world.land.server_ids[0], active="off")
    report = world.once()
    assert report.inactive == [f"server {world.land.server_ids[0]} (nextcloud-1)"]
    assert report.is_converged, "that is what its operator wants"
    assert world.nextcloud.calls == []
    assert world.get_account(first) is None
    assert world.is_delivered(second)
