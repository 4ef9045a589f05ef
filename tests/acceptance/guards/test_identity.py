"""Another installation behind the same URL: the server stops until the one that was seen is approved."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.application import Application
from reconciler.cycle import run_cycle
from reconciler.fleet import CloudServer
from reconciler.guards import Guard
from reconciler.operations import NO_SERVICE, OperationRefused, approve_identity
from reconciler.sandbox.emulator import CloudEmulator
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import dump_accounts
from tests.acceptance.guards.mishaps import make_both, read_history, resize, sell

GRACE = timedelta(hours=72)
SECOND, THIRD = "ocsecondone0", "octhirdone00"


class Shop:
    """Some services on each server, one of which is to be deleted at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.items = [[sell(world, number) for _ in range(5)] for number in range(len(world.land.clouds))]
        world.once()
        for items in self.items:
            world.billing.set_status(items[0], 4)
        world.once()
        world.now += GRACE

    def befall(self) -> None:
        """Everything that can be becomes due."""
        for items in self.items:
            self.world.billing.set_status(items[1], 4)
            self.world.billing.set_status(items[2], 3)
            resize(self.world, items[3], 50)
            self.world.get_cloud(items[4]).remove_account(f"user_{items[4]}")
        for number, items in enumerate(self.items):
            items.append(sell(self.world, number))

    def is_served(self, number: int) -> bool:
        """Whether everything that is due on a server was done."""
        retired, closed, unpaid, larger, lost, new = map(self.world.get_account, self.items[number])
        assert closed is not None
        assert unpaid is not None
        assert larger is not None
        facts = (retired, closed.is_enabled, unpaid.is_enabled, larger.quota_definition)
        return facts == (None, False, False, "50 GB") and None not in {lost and 1, new and 1}


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


def approve(world: World, instance_id: str | None = None) -> str:
    with world.open() as app:
        app.fleet.refresh()
        server = app.fleet.get(world.land.server_ids[0])
        assert server is not None
        return approve_identity(app, server, "operator:ann", instance_id)


def test_nothing_is_done_there_until_it_is_approved_and_other_servers_are_served(
    make_world: MakeWorld,
) -> None:
    shop = Shop(world := make_world(clouds=make_both()))
    world.nextcloud.set_instance_id(SECOND)
    shop.befall()
    before = dump_accounts(world.nextcloud)
    world.nextcloud.clear_calls()
    for _ in range(2):  # each by a program that was started anew
        report = world.once()
        (message,) = report.servers.values()
        assert "answers as another installation (nextcloud ocsecondone0, known is nextcloud oc" in message
        assert "`reconciler approve identity --server 1 --instance ocsecondone0`" in message
        world.wait(hours=30)
    assert world.nextcloud.mutating_calls() == []
    assert dump_accounts(world.nextcloud) == before
    assert shop.is_served(1)
    assert approve(world) == f"nextcloud {SECOND}"
    assert world.once().is_converged
    assert shop.is_served(0)
    (entry,) = read_history(world, NO_SERVICE)
    assert (entry.action, entry.actor, entry.server_id) == ("approve", "operator:ann", 1)
    assert entry.why == f"guard identity: nextcloud {SECOND} is the right installation"
    with pytest.raises(OperationRefused, match="there is nothing to approve"):
        approve(world)


def replace_behind_a_pass(app: Application, world: World) -> CloudServer:
    """Another installation takes the place of the Nextcloud right after it was connected to."""
    app.fleet.refresh()
    server = app.fleet.get(world.land.server_ids[0])
    assert server is not None
    server.ensure_ready()
    world.nextcloud.set_instance_id(SECOND)
    return server


def test_a_pass_under_way_stops_when_another_installation_answers(shop: Shop) -> None:
    world = shop.world
    shop.befall()
    world.nextcloud.clear_calls()
    with world.open() as app:
        replace_behind_a_pass(app, world)
        results = [app.reconciler.reconcile_service(item, actor="test") for item in shop.items[0]]
        assert {result.guard and result.guard.value for result in results} == {"identity"}
        assert world.nextcloud.mutating_calls() == []
        run_cycle(app)
        assert app.journal.overview.count_blocked()[1, "identity"] == len(shop.items[0])


def test_it_can_be_approved_as_soon_as_it_has_answered_anything(shop: Shop) -> None:
    world = shop.world
    with world.open() as app:
        server = replace_behind_a_pass(app, world)
        result = app.reconciler.reconcile_service(shop.items[0][1], actor="test")
        assert result.guard is Guard.IDENTITY
        assert (server.stop_cause, server.is_probe_due) == ("identity", True)
        assert approve(world, SECOND) == f"nextcloud {SECOND}"
        assert not app.reconciler.reconcile_service(shop.items[0][1], actor="test").blocked_by


def test_an_approval_is_for_the_installation_that_was_seen_not_for_whoever_answers_next(shop: Shop) -> None:
    world = shop.world
    world.nextcloud.set_instance_id(SECOND)
    world.once()
    world.nextcloud.set_instance_id(THIRD)
    shop.befall()
    world.nextcloud.clear_calls()
    approve(world, SECOND)
    report = world.once()
    (message,) = report.servers.values()
    assert f"(nextcloud {THIRD}, known is nextcloud {SECOND})" in message
    assert world.nextcloud.mutating_calls() == []
    with pytest.raises(OperationRefused, match=f"nextcloud {THIRD} was seen there last, not {SECOND}"):
        approve(world, SECOND)
    world.nextcloud.set_instance_id(SECOND)
    assert world.once().is_converged, "the approved one is back"
    assert shop.is_served(0)
    with pytest.raises(OperationRefused, match="there is nothing to approve"):
        approve(world)


def test_the_known_one_that_is_back_is_served_without_approval(shop: Shop) -> None:
    world = shop.world
    known = world.nextcloud.instance_id
    world.nextcloud.set_instance_id(SECOND)
    shop.befall()
    world.once()
    world.nextcloud.set_instance_id(known)
    assert world.once().is_converged
    assert shop.is_served(0)


def test_the_other_product_is_another_installation(world: World) -> None:
    """The same id, but an ownCloud where a Nextcloud was."""
    item = sell(world)
    world.once()
    port, known = int(world.nextcloud.base_url.rpartition(":")[2]), world.nextcloud.instance_id
    password = world.nextcloud.admin_password
    world.nextcloud.stop()
    other = CloudEmulator("owncloud", port=port, instance_id=known, admin_password=password)
    other.start()
    try:
        world.billing.set_status(item, 3)
        report = world.once()
        (message,) = report.servers.values()
        assert f"(owncloud {known}, known is nextcloud {known})" in message
        assert other.mutating_calls() == []
    finally:
        other.stop()


def test_a_wiped_server_under_another_id_is_not_filled_before_it_is_approved(shop: Shop) -> None:
    world = shop.world
    world.nextcloud.wipe(instance_id=SECOND)
    world.nextcloud.clear_calls()
    world.once()
    assert world.nextcloud.mutating_calls() == []
    approve(world, SECOND)
    world.once()
    kept = shop.items[0][1:]
    assert all(map(world.is_delivered, kept)), "with the passwords that the customers know"
