"""Services through their whole life, on real databases in both schemas and on both products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from reconciler.sandbox.billing_schema import Variant
from reconciler.sandbox.emulator import EmulatedAccount
from tests.acceptance.conftest import MakeWorld, World

GIB = 1024**3


@dataclass
class Stage:
    """A world with four services on each of two servers, all on the same tariff."""

    world: World
    plans: dict[str, int]
    items: list[int]

    def accounts(self) -> list[EmulatedAccount | None]:
        return [self.world.get_account(item) for item in self.items]

    def for_all(self, change: Callable[[int], object]) -> None:
        for item in self.items:
            change(item)
        self.world.once()
        self.world.once_quietly()


@pytest.fixture(params=[("mariadb", "live"), ("postgres", "spec")], ids=["mariadb-live", "postgres-spec"])
def stage(request: pytest.FixtureRequest, make_world: MakeWorld) -> Stage:
    kind, variant = request.param
    return set_stage(make_world, kind, variant)


def set_stage(make_world: MakeWorld, kind: str, variant: Variant) -> Stage:
    # Deletions are capped at 5 a day; this test closes eight services at once.
    world = make_world(kind=kind, variant=variant, settings={"guards": {"min_deletions": 8}})
    plans = {
        "basic": world.billing.add_plan("Basic", 5, group="basic"),
        "pro": world.billing.add_plan("Pro", 50, group="pro"),
    }
    items = [world.sell(plans["basic"], number % 2, status=1) for number in range(8)]
    return Stage(world, plans, items)


def test_eight_services_go_through_every_step_and_nothing_is_done_twice(stage: Stage) -> None:
    world, billing = stage.world, stage.world.billing

    world.once_quietly()
    assert stage.accounts() == [None] * 8, "ordered, not paid: no account"

    stage.for_all(lambda item: billing.set_status(item, 2))
    for item, account in zip(stage.items, stage.accounts(), strict=True):
        assert account is not None
        assert (account.quota_definition, account.groups, account.is_enabled) == ("5 GB", {"basic"}, True)
        assert (account.email or "").startswith("client")
        assert world.is_delivered(item), "the client can log in with what is on the card"
    passwords = [billing.get_password(item) for item in stage.items]

    stage.for_all(lambda item: billing.change_plan(item, stage.plans["pro"]))
    assert [(a.quota_definition, a.groups) for a in stage.accounts() if a] == [("50 GB", {"pro"})] * 8

    stage.for_all(lambda item: billing.change_plan(item, stage.plans["basic"]))
    assert [(a.quota_definition, a.groups) for a in stage.accounts() if a] == [("5 GB", {"basic"})] * 8

    stage.for_all(lambda item: billing.set_status(item, 3))
    assert [a.is_enabled for a in stage.accounts() if a] == [False] * 8

    stage.for_all(lambda item: billing.set_status(item, 2))
    assert [a.is_enabled for a in stage.accounts() if a] == [True] * 8

    stage.for_all(lambda item: change_email(world, item))
    assert all((a.email or "").startswith("new") for a in stage.accounts() if a)

    stage.for_all(lambda item: billing.set_status(item, 4))
    assert [a.is_enabled for a in stage.accounts() if a] == [False] * 8, "closed: disabled, not deleted"

    world.wait(hours=71)
    world.once_quietly()
    assert None not in stage.accounts(), "the grace is not over"

    world.wait(hours=2)
    world.once()
    assert stage.accounts() == [None] * 8
    world.once_quietly()
    assert [billing.get_password(item) for item in stage.items] == passwords, "nothing changed a password"


def change_email(world: World, item_id: int) -> None:
    with world.billing.engine.begin() as connection:
        item, user = world.billing.table("item"), world.billing.table("user")
        account = connection.execute(item.select().where(item.c.id == item_id)).mappings().one()["account"]
        connection.execute(
            user.update()
            .where(user.c.account == account, user.c.email.is_not(None))
            .values(email=f"new{item_id}@example.net")
        )


def test_a_service_paid_again_within_its_grace_keeps_its_files(world: World) -> None:
    item = world.sell(world.billing.add_plan("Basic", 5))
    world.once()
    account = world.get_account(item)
    world.billing.set_status(item, 4)
    world.once()
    world.wait(hours=71)
    world.billing.set_status(item, 2)
    world.once()
    world.wait(hours=100)
    world.once_quietly()
    assert world.get_account(item) is account, "never deleted, never made anew"
    assert account is not None
    assert account.is_enabled


def test_a_service_closed_without_grace_is_deleted_in_one_cycle(make_world: MakeWorld) -> None:
    world = make_world(settings={"guards": {"deletion_grace": "0s"}})
    items = [world.sell(world.billing.add_plan("Basic", 5), number) for number in (0, 1)]
    world.once()
    for item in items:
        world.billing.set_status(item, 4)
    world.once()
    assert [world.get_account(item) for item in items] == [None, None]
    world.once_quietly()


@pytest.mark.parametrize(
    ("operation", "is_enabled"),
    [("open", True), ("suspend", False), ("resume", True), ("setparam", True), ("close", False)],
)
def test_a_running_operation_says_what_is_wanted(world: World, operation: str, is_enabled: bool) -> None:
    item = world.sell(world.billing.add_plan("Basic", 5))
    world.once()
    account = world.get_account(item)
    assert account is not None
    account.is_enabled = not is_enabled
    world.billing.start_operation(item, operation)
    world.once()
    assert account.is_enabled is is_enabled


def test_an_operation_that_says_nothing_leaves_the_account_exactly_as_it_is(world: World) -> None:
    item = world.sell(world.billing.add_plan("Basic", 5))
    world.once()
    account = world.get_account(item)
    assert account is not None
    account.is_enabled, account.quota_definition = False, "none"
    world.billing.set_status(item, 5)
    world.once_quietly()
    assert (account.is_enabled, account.quota_definition) == (False, "none")


def test_bought_addons_add_to_the_quota(world: World) -> None:
    items = [world.sell(world.billing.add_plan("Basic", 5), number) for number in (0, 1)]
    world.once()
    for item in items:
        world.billing.buy_addon(item, 10)
    world.once()
    accounts = [world.get_account(item) for item in items]
    assert [account.quota_definition for account in accounts if account] == ["15 GB", "15 GB"]


@pytest.mark.parametrize(
    ("amount", "measure", "stored", "sold_bytes"),
    [
        (1500, "mib", "1.5 GB", 1500 * 1024**2),
        (1474, "mib", "1.5 GB", 1474 * 1024**2),
        (1, "tib", "1 TB", 1024 * GIB),
        (1000, "gib", "1000 GB", 1000 * GIB),
        (1025, "byte", "2 KB", 1025),
    ],
)
def test_awkward_quotas_converge_and_stay_quiet_and_nobody_gets_less(
    world: World, amount: int, measure: str, stored: str, sold_bytes: int
) -> None:
    plan = world.billing.add_plan("Awkward", amount, measure=measure)
    items = [world.sell(plan, number) for number in (0, 1)]
    world.once()
    world.once_quietly()
    for item in items:
        account = world.get_account(item)
        assert account is not None
        assert account.quota_definition == stored
        number, unit = stored.split()
        assert float(number) * 1024 ** ["B", "KB", "MB", "GB", "TB"].index(unit) >= sold_bytes


def test_an_unlimited_tariff_is_unlimited_on_both_products(make_world: MakeWorld) -> None:
    world = make_world(variant="spec")
    items = [world.sell(world.billing.add_plan("Endless", "-1"), number) for number in (0, 1)]
    world.once()
    world.once_quietly()
    assert [a.quota_definition for a in map(world.get_account, items) if a] == ["none", "none"]


def test_many_new_services_at_once_are_no_quota_cut(world: World) -> None:
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number % 2) for number in range(50)]
    assert world.once().is_converged
    assert {a.quota_definition for a in map(world.get_account, items) if a} == {"5 GB"}
