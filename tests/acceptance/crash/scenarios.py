"""What a service goes through while its process is killed: each a world just before one change is driven.

`SCENARIOS` prepare a world of one Nextcloud and one ownCloud (number 0 and 1 say on which the service is),
and return the service. Everything is as sold before, except for the one thing that the scenario is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.sandbox.emulator import Fault
from states import ServiceState
from tests.acceptance.conftest import World

Prepare = Callable[[World, int], int]


@dataclass(frozen=True)
class Scenario:
    """One change.

    Attributes:
        prepare: makes the world; returns the service.
        ends: the state in which it must end.
        command: what the process does (see `victim.COMMANDS`).
        settings: of the configuration.
        has_account: whether the service has an account at the end.
        fault: what a cloud server does wrong the first time, whatever else happens.
    """

    prepare: Prepare
    ends: ServiceState = ServiceState.ACTIVE
    command: str = "pass"
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    has_account: bool = True
    fault: Callable[[], Fault] | None = None


def sell(world: World, number: int, *, group: str = "basic", status: int = 2, **params: str) -> int:
    return world.sell(world.billing.add_plan("Basic", 5, group=group), number, status, **params)


def serve(world: World, number: int) -> int:
    """A service that is as sold, with its credentials on its card."""
    item = sell(world, number)
    assert world.once().is_converged
    return item


def order(world: World, number: int) -> int:
    item = sell(world, number, status=1)
    world.billing.start_operation(item, "open")
    return item


def order_with_a_new_group(world: World, number: int) -> int:
    item = sell(world, number, group="not there yet", status=1)
    world.billing.start_operation(item, "open")
    return item


def order_on_a_panel_without_mgrctl(world: World, number: int) -> int:
    return sell(world, number)


def change_plan(quota: int, group: str) -> Prepare:
    def prepare(world: World, number: int) -> int:
        item = serve(world, number)
        world.billing.change_plan(item, world.billing.add_plan("Other", quota, group=group))
        world.billing.start_operation(item, "setparam")
        return item

    return prepare


def suspend(world: World, number: int) -> int:
    item = serve(world, number)
    world.billing.start_operation(item, "suspend")
    return item


def resume(world: World, number: int) -> int:
    item = serve(world, number)
    world.billing.set_status(item, 3)
    assert world.once().is_converged
    world.billing.start_operation(item, "resume")
    return item


def close(world: World, number: int) -> int:
    item = serve(world, number)
    world.billing.start_operation(item, "close")
    return item


def close_long_ago(world: World, number: int) -> int:
    item = serve(world, number)
    world.billing.set_status(item, 4)
    world.once()
    world.wait(hours=73)
    return item


def change_email(world: World, number: int) -> int:
    item = serve(world, number)
    for user in range(1, 10):
        world.billing.change("user", user, email="moved@example.net")
    return item


def have_an_account_of_an_earlier_module(world: World, number: int) -> int:
    """Known to billing only: the journal is empty, and the account is not as sold."""
    cloud = world.land.clouds[number]
    cloud.add_account("Elena", password="her-own-long-password", quota="1 GB", email="elena@example.net")
    return sell(world, number, username="Elena", userpassword="her-own-long-password", url=cloud.base_url)


def have_a_stranger_to_adopt(world: World, number: int) -> int:
    """A service whose account an operator has made by hand under another name."""
    world.land.clouds[number].add_account("Elena", password="her-own-long-password", quota="1 GB")
    item = sell(world, number, status=3)
    world.read_everything()
    return item


def move_to_the_other_server(world: World, number: int) -> int:
    """The old server lost the account; billing names the other one now."""
    item = serve(world, 1 - number)
    world.land.clouds[1 - number].remove_account(f"user_{item}")
    world.billing.change("item", item, processingmodule=world.land.server_ids[number])
    world.billing.set_param(item, "url", None)
    return item


def change_two_things(world: World, number: int) -> int:
    """A smaller tariff with another group, and a suspension, before either was applied."""
    item = change_plan(2, "pro")(world, number)
    world.billing.finish_operation(item)
    world.billing.start_operation(item, "suspend")
    return item


def lose_the_account(world: World, number: int) -> int:
    """Deleted by hand: it is made again with the password that the client knows."""
    item = serve(world, number)
    world.land.clouds[number].remove_account(f"user_{item}")
    return item


def make_fault() -> Fault:
    return Fault("create", status=500, partial=True, times=1)


_NO_GRACE = {"guards": {"deletion_grace": "0s"}}

SCENARIOS: dict[str, Scenario] = {
    "create": Scenario(order),
    "create with a group that is missing": Scenario(
        order_with_a_new_group, settings={"policy": {"create_missing_groups": True}}
    ),
    "create that fails half-way": Scenario(order, fault=make_fault),
    "create, credentials by sql": Scenario(
        order_on_a_panel_without_mgrctl, settings={"billmanager": {"writer": "sql"}}
    ),
    "create again": Scenario(lose_the_account),
    "tariff up": Scenario(change_plan(20, "basic")),
    "tariff down": Scenario(change_plan(2, "basic")),
    "group change": Scenario(change_plan(5, "pro")),
    "suspend": Scenario(suspend, ServiceState.SUSPENDED),
    "resume": Scenario(resume),
    "close with a grace": Scenario(close, ServiceState.RETIRING),
    "close without a grace": Scenario(close, ServiceState.DELETED, settings=_NO_GRACE, has_account=False),
    "delete after the grace": Scenario(close_long_ago, ServiceState.DELETED, has_account=False),
    "e-mail change": Scenario(change_email),
    "password reset": Scenario(serve, command="reset-password"),
    "adoption by what billing names": Scenario(have_an_account_of_an_earlier_module),
    "adoption by an operator": Scenario(have_a_stranger_to_adopt, ServiceState.SUSPENDED, "adopt"),
    "server change": Scenario(move_to_the_other_server),
    "two pending changes": Scenario(change_two_things, ServiceState.SUSPENDED),
    "BILLmanager's module: open": Scenario(order, command="module open"),
    "BILLmanager's module: setparam": Scenario(change_plan(20, "pro"), command="module setparam"),
    "BILLmanager's module: suspend": Scenario(suspend, ServiceState.SUSPENDED, command="module suspend"),
    "BILLmanager's module: resume": Scenario(resume, command="module resume"),
    "BILLmanager's module: close": Scenario(close, ServiceState.RETIRING, command="module close"),
}
