"""Around the daemon: sick servers, kills, a second daemon, a restarted database, a clock that jumps."""

from __future__ import annotations

import signal
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from reconciler.sandbox.emulator import CloudEmulator, Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import RunningDaemon, make_settings, running
from tests.databases import restartable_server

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), Path("libfaketimeMT.so.1"))
"""Debian's package libfaketime; scripts/setup installs it."""


def sell_many(world: World, count: int, *, servers: int = 2, status: int = 2) -> list[int]:
    plan = world.billing.add_plan("Basic", 5, group="basic")
    return [world.sell(plan, number % servers, status=status) for number in range(count)]


def count_creates(world: World) -> Counter[str | None]:
    return Counter(
        call.userid for cloud in world.land.clouds for call in cloud.calls if call.operation == "create"
    )


def are_delivered(world: World, items: list[int]) -> bool:
    return all(world.is_delivered(item) for item in items)


@pytest.mark.usefixtures("fault_row")
def test_a_hung_server_delays_no_other_servers_services(make_world: MakeWorld) -> None:
    clouds = [CloudEmulator("nextcloud") for _ in range(3)]
    world = make_world(clouds=clouds, settings=make_settings(reconciler={"workers": 4}))
    plan = world.billing.add_plan("Basic", 5)
    hung = [world.sell(plan, number % 2, status=1) for number in range(40)]
    healthy = [world.sell(plan, 2, status=1) for _ in range(10)]
    with running(world) as daemon:
        daemon.wait_for(
            lambda: daemon.get_metrics()['reconciler_workqueue_depth{priority="change"}'] == 0, "all is quiet"
        )
        for cloud in clouds[:2]:
            cloud.faults.append(Fault("*", kind="hang", times=None))
        for item in [*hung, *healthy]:
            world.billing.set_status(item, 2)
        daemon.wait_for(lambda: are_delivered(world, healthy), "the healthy server's services are made")
        assert all(world.get_account(item) is None for item in hung)
        for cloud in clouds[:2]:
            cloud.faults.clear()
            cloud.stop()
            cloud.start()
        daemon.wait_for(lambda: are_delivered(world, hung), "the others as soon as their servers answer")


@pytest.mark.usefixtures("fault_row")
def test_services_of_a_server_in_maintenance_wait_visibly_and_go_on_after_it(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    items = sell_many(world, 6, servers=1, status=1)
    server = world.land.server_ids[0]
    name = f'reconciler_server_breaker_open{{cause="maintenance",server="{server}"}}'
    with running(world) as daemon:
        assert daemon.get_metrics()[name] == 0
        world.nextcloud.maintenance = True
        for item in items:
            world.billing.set_status(item, 2)
        daemon.wait_for(lambda: daemon.get_metrics()[name] == 1, "the breaker is open")
        daemon.wait_for(
            lambda: [row["item_id"] for row in daemon.get_json("/api/v1/status")["blocked"]] == items,
            "each service says what it waits for",
        )
        blocked = daemon.get_json("/api/v1/status")["blocked"][0]
        assert "maintenance" in blocked["blocked_by"]
        world.nextcloud.maintenance = False
        daemon.wait_for(lambda: are_delivered(world, items), "they go on")
        daemon.wait_for(lambda: daemon.get_metrics()[name] == 0, "the breaker is closed")
    assert not [
        line for item in items for line in world.run_json("history", str(item)) if line["result"] != "done"
    ]


@pytest.mark.usefixtures("fault_row")
def test_a_refused_password_is_tried_once_and_a_new_one_at_once(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings(), kind="mariadb")
    items = sell_many(world, 4, servers=1, status=1)
    cloud, server = world.nextcloud, world.land.server_ids[0]
    with running(world) as daemon:
        refused = cloud.logins.refused_count
        old, cloud.accounts["admin"].password = cloud.admin_password, "changed by hand"
        cloud.logins.forget_sessions()
        for item in items:
            world.billing.set_status(item, 2)
        name = f'reconciler_server_breaker_open{{cause="credentials",server="{server}"}}'
        daemon.wait_for(lambda: daemon.get_metrics()[name] == 1, "left alone")
        daemon.wait_for(
            lambda: len(daemon.get_json("/api/v1/status")["blocked"]) == len(items), "all services wait"
        )
        # Those that were under way at that moment may have met it too, one for each place of the server.
        assert cloud.logins.refused_count - refused <= 4
        cloud.accounts["admin"].password = cloud.admin_password = "new and right"
        table = world.billing.table("processingcryptedparam")
        with world.billing.engine.begin() as connection:
            connection.execute(
                table.update()
                .where(table.c.processingmodule == server, table.c.intname == "nc_password")
                .values(value=world.billing.cipher.encrypt("new and right"))
            )
        daemon.wait_for(lambda: are_delivered(world, items), "the new password is tried at once")
        assert old not in daemon.log


def test_another_installation_behind_the_url_stops_the_server_at_once(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    items = sell_many(world, 2, servers=1)
    server = world.land.server_ids[0]
    with running(world) as daemon:
        daemon.wait_for(lambda: are_delivered(world, items), "made")
        world.nextcloud.wipe(instance_id="oc0000000000")
        world.nextcloud.clear_calls()
        world.billing.set_status(items[0], 3)
        name = f'reconciler_guard_active{{guard="identity",server="{server}"}}'
        daemon.wait_for(lambda: daemon.get_metrics()[name] == 1, "the guard is active")
        assert world.nextcloud.mutating_calls() == []
        assert world.run("approve", "identity", "--server", str(server)).returncode == 0
        daemon.wait_for(lambda: world.is_delivered(items[1]), "made again, once approved")
        daemon.wait_for(lambda: (a := world.get_account(items[0])) and not a.is_enabled, "and suspended")


def test_killed_with_a_full_queue_it_goes_on_where_it_was(make_world: MakeWorld) -> None:
    clouds = [
        CloudEmulator("nextcloud", latency_seconds=0.02),
        CloudEmulator("owncloud", latency_seconds=0.02),
    ]
    world = make_world(clouds=clouds, settings=make_settings(), kind="mariadb")
    items = sell_many(world, 60, status=1)
    with running(world) as daemon:
        for item in items:
            world.billing.set_status(item, 2)
        wait_for_accounts(daemon, world, 10)
        daemon.kill()
    with running(world) as daemon:
        wait_for_accounts(daemon, world, 25)
        daemon.kill()
    with running(world) as daemon:
        daemon.wait_for(lambda: are_delivered(world, items), "all are made")
    assert max(count_creates(world).values()) == 1, "none twice"


def wait_for_accounts(daemon: RunningDaemon, world: World, count: int) -> None:
    daemon.wait_for(
        lambda: sum(len(cloud.accounts) for cloud in world.land.clouds) > count, f"{count} accounts are made"
    )


@pytest.mark.usefixtures("fault_row")
def test_two_daemons_on_one_journal_never_work_on_a_service_at_once(make_world: MakeWorld) -> None:
    clouds = [
        CloudEmulator("nextcloud", latency_seconds=0.02),
        CloudEmulator("owncloud", latency_seconds=0.02),
    ]
    world = make_world(clouds=clouds, settings=make_settings(), kind="mariadb")
    items = sell_many(world, 40, status=1)
    second = world.land.folder / "second.toml"
    text = world.land.config_path.read_text()
    other = make_settings()["http"]["listen"]
    mine = next(line for line in text.splitlines() if line.startswith("listen"))
    second.write_text(text.replace(mine, f'listen = "{other}"'))
    with running(world) as one, running(world, name="second", config=second) as two:
        for item in items:
            world.billing.set_status(item, 2)
        one.wait_for(lambda: are_delivered(world, items), "all are made")
        for item in items:
            world.billing.set_status(item, 3)
        one.wait_for(
            lambda: not any(a.is_enabled for a in map(world.get_account, items) if a), "all are suspended"
        )
        assert len(one.get_json("/api/v1/status")["daemons"]) == 2
        assert (one.terminate(), two.terminate()) == (0, 0)
    counts = Counter(
        (call.userid, call.operation)
        for cloud in clouds
        for call in cloud.mutating_calls()
        if call.operation in {"create", "disable"}
    )
    assert set(counts.values()) == {1}


def test_sigterm_in_the_middle_of_a_create_lets_it_finish(make_world: MakeWorld) -> None:
    world = make_world(clouds=[CloudEmulator("nextcloud")], settings=make_settings())
    items = sell_many(world, 12, servers=1, status=1)
    world.nextcloud.faults.append(Fault("create", kind="delay", seconds=3, times=4))
    with running(world) as daemon:
        for item in items:
            world.billing.set_status(item, 2)
        daemon.wait_for(lambda: "create" in world.nextcloud.call_counts, "a create is under way")
        assert daemon.terminate() == 0
        assert "STOPPING=1" in daemon.messages
        assert "still_working" not in daemon.log
    begun = [call for call in world.nextcloud.calls if call.operation == "create"]
    assert all(call.status == 200 for call in begun), "every begun call was finished"
    assert len(begun) < len(items), "and nothing new was begun"
    with running(world) as daemon:
        daemon.wait_for(lambda: are_delivered(world, items), "the next run does the rest")
    assert max(count_creates(world).values()) == 1


def test_sigterm_ends_it_although_a_server_never_answers(make_world: MakeWorld) -> None:
    settings = make_settings(nextcloud={"timeout": "5m", "total_timeout": "5m"})
    world = make_world(clouds=[CloudEmulator("nextcloud")], settings=settings)
    items = sell_many(world, 2, servers=1, status=1)
    with running(world) as daemon:
        world.nextcloud.faults.append(Fault("create", kind="hang", times=None))
        for item in items:
            world.billing.set_status(item, 2)
        daemon.wait_for(lambda: "create" in world.nextcloud.call_counts, "a create hangs")
        assert daemon.terminate() == 0
        assert "still_working=" in daemon.log
    world.nextcloud.faults.clear()
    world.nextcloud.stop()
    world.nextcloud.start()
    with running(world) as daemon:
        daemon.wait_for(lambda: are_delivered(world, items), "the next start settles it")


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
@pytest.mark.usefixtures("fault_row")
def test_a_restarted_database_server_is_survived(make_world: MakeWorld, kind: str) -> None:
    with restartable_server("mariadb" if kind == "mariadb" else "postgres") as server:
        url = server.server.get_url(server.server.create_database())
        world = make_world(database_url=url, settings=make_settings())
        items = sell_many(world, 4, status=1)
        with running(world) as daemon:
            world.billing.set_status(items[0], 2)
            daemon.wait_for(lambda: world.is_delivered(items[0]), "it works")
            server.stop()
            daemon.wait_for(lambda: daemon.get("/readyz")[0] == 503, "it is not ready without billing")
            assert daemon.get("/healthz")[0] == 200, "but healthy: it goes on trying"
            server.start()
            daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200, "ready again")
            world.billing.engine.dispose()
            for item in items:
                world.billing.set_status(item, 2)
            daemon.wait_for(lambda: are_delivered(world, items), "all are made")
            assert "Traceback" not in daemon.log
        world.billing.engine.dispose()


@pytest.mark.parametrize("jump", ["-3600", "+3600"])
@pytest.mark.usefixtures("fault_row")
def test_a_clock_that_jumps_stops_nothing(make_world: MakeWorld, tmp_path: Path, jump: str) -> None:
    world = make_world(settings=make_settings())
    items = sell_many(world, 4, status=1)
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    with running(world, environment=environment) as daemon:
        world.billing.set_status(items[0], 2)
        daemon.wait_for(lambda: world.is_delivered(items[0]), "it works")
        world.nextcloud.faults.append(Fault("create", status=500, times=1))
        world.billing.set_status(items[2], 2)
        daemon.wait_for(lambda: f"pass service={items[2]} server=1 state=backoff" in daemon.log, "one failed")
        offset.write_text(jump)
        daemon.wait_for(lambda: "clock was set" in daemon.log, "the jump is noticed")
        for item in items:
            world.billing.set_status(item, 2)
        daemon.wait_for(lambda: are_delivered(world, items), "everything goes on")
        assert daemon.get("/healthz")[0] == 200
        assert daemon.terminate() == 0


@pytest.mark.usefixtures("fault_row")
def test_a_journal_that_cannot_be_written_changes_nothing_and_is_told(make_world: MakeWorld) -> None:
    world = make_world(kind="mariadb", settings=make_settings())
    items = sell_many(world, 3, status=1)
    with running(world) as daemon:
        locked = world.land.folder / "journal.db"
        holder = sqlite3.connect(locked, isolation_level=None)
        try:
            holder.execute("BEGIN IMMEDIATE")
            for item in items:
                world.billing.set_status(item, 2)
            daemon.wait_for(lambda: daemon.get("/readyz")[0] == 503, "not ready without a journal")
            assert sum(len(cloud.accounts) for cloud in world.land.clouds) == 2, "only the administrators"
        finally:
            holder.close()
        daemon.wait_for(lambda: are_delivered(world, items), "all are made once it can be written")


def test_it_ends_with_two_when_its_configuration_is_bad(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings(reconciler={"workers": 0}))
    with RunningDaemon(world, world.land.folder / "daemon") as daemon:
        assert daemon.process.wait(60) == 2
        assert "reconciler.workers" in daemon.log
        assert "Traceback" not in daemon.log


def test_it_says_which_address_is_taken(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    with running(world), RunningDaemon(world, world.land.folder / "second") as second:
        assert second.process.wait(60) == 2
        assert "http.listen" in second.log
        assert "Traceback" not in second.log


def test_sigint_ends_it_too(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    with running(world) as daemon:
        daemon.signal(signal.SIGINT)
        assert daemon.process.wait(60) == 0
