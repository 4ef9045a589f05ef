"""A worker that sleeps past its lease: another one takes over, and the first writes nothing any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.journal.leases import LEASE_SECONDS
from reconciler.passwords import reset_password
from states import ServiceState
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import wait_until
from tests.acceptance.evidence import dump_accounts, dump_rows
from tests.acceptance.faults.sleeper import GatedCloud, Sleeper
from tests.acceptance.panel import install_mgrctl

NO_GRACE = {"guards": {"deletion_grace": "0s"}}


def describe(world: World) -> dict[str, object]:
    """All that a worker without its lease must leave as it is; the history may tell more."""
    journal = dump_rows(f"sqlite:///{world.land.folder / 'journal.db'}")
    return {
        "billing": dump_rows(world.land.database_url),
        "accounts": [dump_accounts(cloud) for cloud in world.land.clouds],
        "services": journal["service"],
        "intents": journal["intent"],
    }


@dataclass(frozen=True)
class Situation:
    """What the sleeper is about to do, and what billing wants by the time it wakes up.

    Attributes:
        status: item.status before the sleeper starts; None: the service is new.
        operation: the request in which it falls asleep.
        meanwhile: item.status by the time that it sleeps; None: unchanged.
    """

    status: int | None
    operation: str
    meanwhile: int | None


SITUATIONS = {
    "makes an account": Situation(None, "create", None),
    "suspends, then it is paid": Situation(3, "disable", 2),
    "deletes, then it is sold again": Situation(4, "delete", 2),
    "looks at a closed one, then it is sold again": Situation(4, "get", 2),
}


@pytest.mark.parametrize("number", [0, 1], ids=["nextcloud", "owncloud"])
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_a_worker_stopped_in_a_call_longer_than_its_lease_records_nothing_over_the_next_one(
    make_world: MakeWorld, situation: Situation, number: int
) -> None:
    clouds = [GatedCloud("nextcloud"), GatedCloud("owncloud")]
    world = make_world(clouds=clouds, settings=NO_GRACE)
    plan = world.billing.add_plan("Basic", 5, group="basic")
    cloud, other = clouds[number], world.sell(plan, 1 - number)
    item = world.sell(plan, number, status=1 if situation.status is None else 2)
    world.now = datetime.now(UTC)
    world.once()
    world.billing.set_status(item, situation.status or 2)
    cloud.hold(situation.operation, f"user_{item}")
    with Sleeper(world, item) as sleeper:
        sleeper.stop_when(cloud.is_holding.is_set, "it has asked")
        if situation.meanwhile is not None:
            world.billing.set_status(item, situation.meanwhile)
        take_over(world, item)
        check_served(world, item, other)
        for each in clouds:
            each.clear_calls()
        before = describe(world)
        cloud.let_go()
        said = sleeper.wake_up()
    assert describe(world) == before
    assert [each.mutating_calls() for each in clouds] == [[], []]
    assert "Traceback" not in said
    assert "another worker" in said
    check_served(world, item, other)
    world.once_quietly()


def take_over(world: World, item: int) -> None:
    """Another worker's pass, when the sleeper's lease has expired."""
    world.now = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS + 60)
    with world.open() as app:
        app.fleet.refresh()
        result = app.reconciler.reconcile_service(item, actor="successor")
    assert (result.is_busy, result.error, result.state) == (False, None, ServiceState.ACTIVE)


def check_served(world: World, *items: int) -> None:
    for item in items:
        account = world.get_account(item)
        assert account is not None
        assert (account.is_enabled, account.quota_definition, account.groups) == (True, "5 GB", {"basic"})
        assert world.is_delivered(item)
    with world.open() as app:
        records = app.journal.services.load(items)
    assert [records[item].memory.state for item in items] == [ServiceState.ACTIVE] * len(items)


def test_a_worker_stopped_while_it_tells_billing_does_not_overwrite_a_newer_password(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    world.land.configure(install_mgrctl(world))
    gate = hold_mgrctl(world)
    item = world.sell(world.billing.add_plan("Basic", 5, group="basic"))
    with Sleeper(world, item) as sleeper:
        sleeper.stop_when((world.land.folder / "mgrctl.begun").exists, "it tells the user's name")
        gate()
        wait_until(lambda: world.billing.get_params(item).get("username"), "the name is told")
        take_over(world, item)
        with world.open() as app:
            app.fleet.refresh()
            reset = reset_password(app, item, "operator:test")
        assert reset.is_delivered
        before = describe(world)
        said = sleeper.wake_up()
    assert describe(world) == before
    assert world.billing.get_password(item) == reset.password
    assert "Traceback" not in said
    assert "another worker" in said
    check_served(world, item)
    world.once_quietly()


def hold_mgrctl(world: World) -> Callable[[], None]:
    """Have mgrctl wait with its first answer; gives what ends the waiting."""
    folder = world.land.folder
    tool, gate = folder / "mgrctl", folder / "mgrctl.gate"
    tool.rename(folder / "mgrctl.real")
    gate.touch()
    tool.write_text(
        f"#!/bin/sh\n: >'{folder}/mgrctl.begun'\n"
        f"while [ -e '{gate}' ]; do sleep 0.05; done\nexec '{folder}/mgrctl.real' \"$@\"\n",
        "utf-8",
    )
    tool.chmod(0o755)
    return gate.unlink
