"""The daemon as systemd sees it: ready, alive, reloading, stopping; and as an administrator commands it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from reconciler.sandbox.emulator import Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import RunningDaemon, make_settings, running


def count_watchdogs(daemon: RunningDaemon) -> int:
    return daemon.messages.count("WATCHDOG=1")


def get_blocked(daemon: RunningDaemon, item: int) -> str:
    """What a service waits for; "" for nothing, and for a service that was never looked at."""
    status, text = daemon.get(f"/api/v1/services/{item}")
    return "" if status == 404 else json.loads(text)["service"]["blocked_by"] or ""


def test_systemd_is_told_when_it_is_ready_alive_and_stopping(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    with running(world) as daemon:
        daemon.wait_for(lambda: count_watchdogs(daemon) >= 3, "the loop turns")
        assert daemon.terminate() == 0
        messages = daemon.messages
    assert messages.index("READY=1") < messages.index("WATCHDOG=1") < messages.index("STOPPING=1")
    assert "WATCHDOG=1" not in messages[messages.index("STOPPING=1") :]


def test_it_is_not_ready_before_billing_was_read(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    database = world.land.folder.parent / world.land.database_url.rpartition("/")[2]
    hidden = database.with_suffix(".away")
    world.billing.engine.dispose()
    database.rename(hidden)
    with RunningDaemon(world, world.land.folder / "daemon") as daemon:
        daemon.wait_for(lambda: "not ready" in daemon.log, "it says what it waits for")
        assert daemon.get("/readyz")[0] == 503
        assert "READY=1" not in daemon.messages
        assert any(message.startswith("EXTEND_TIMEOUT_USEC=") for message in daemon.messages)
        hidden.rename(database)
        daemon.wait_ready()
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200, "and its checks say so")


def test_a_stopped_loop_feeds_the_watchdog_no_more(make_world: MakeWorld) -> None:
    """SIGSTOP stands for whatever keeps the loop from turning; systemd would restart it."""
    world = make_world(settings=make_settings())
    with running(world) as daemon:
        daemon.wait_for(lambda: count_watchdogs(daemon) >= 1, "alive")
        daemon.signal(signal.SIGSTOP)
        time.sleep(0.2)  # what it sent before it stopped arrives
        before = count_watchdogs(daemon)
        time.sleep(2.5)  # longer than systemd would wait
        assert count_watchdogs(daemon) == before
        daemon.signal(signal.SIGCONT)
        daemon.wait_for(lambda: count_watchdogs(daemon) > before, "alive again")


def test_sighup_takes_a_good_configuration_and_keeps_the_old_one_for_a_bad_one(make_world: MakeWorld) -> None:
    settings = make_settings()
    world = make_world(settings=settings)
    plan = world.billing.add_plan("Basic", 5)
    item = world.sell(plan, status=1)
    with running(world) as daemon:
        good = world.land.config_path.read_text()
        world.land.config_path.write_text(good.replace("poll_interval", "pole_interval"))
        daemon.signal(signal.SIGHUP)
        daemon.wait_for(lambda: "configuration not loaded, the old one stays" in daemon.log, "it says so")
        assert "reconciler.pole_interval" in daemon.log
        assert any(message.startswith("RELOADING=1") for message in daemon.messages)
        daemon.wait_for(lambda: daemon.messages.count("READY=1") == 2, "and works on")
        assert re.search("pole_interval", "".join(m for m in daemon.messages if m.startswith("STATUS=")))
        world.billing.set_status(item, 2)
        daemon.wait_for(lambda: world.is_delivered(item), "with the old one")

        world.land.configure({**settings, "reconciler": {**settings["reconciler"], "mode": "observe"}})
        daemon.signal(signal.SIGHUP)
        daemon.wait_for(lambda: daemon.messages.count("READY=1") == 3, "the good one is taken")
        other = world.sell(plan)
        daemon.wait_for(lambda: "mode observe" in get_blocked(daemon, other), "it only observes now")
        assert world.get_account(other) is None

        world.land.configure(settings)
        daemon.signal(signal.SIGHUP)
        daemon.wait_for(lambda: daemon.messages.count("READY=1") == 4, "back again")
        assert world.run("resync", str(other), "--wait").returncode == 0
        assert world.is_delivered(other)
        assert daemon.terminate() == 0


def test_a_reload_while_a_call_is_under_way_lets_it_finish(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    item = world.sell(world.billing.add_plan("Basic", 5), status=1)
    world.nextcloud.faults.append(Fault("create", kind="delay", seconds=2, times=1))
    with running(world) as daemon:
        world.billing.set_status(item, 2)
        daemon.wait_for(lambda: "create" in world.nextcloud.call_counts, "a create is under way")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for(lambda: daemon.messages.count("READY=1") == 2, "reloaded")
        daemon.wait_for(lambda: world.is_delivered(item), "made and delivered")
    assert world.nextcloud.call_counts["create"] == 1


def test_signals_at_any_moment_stop_nothing(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    with running(world) as daemon:
        for _ in range(300_000):  # some meet the loop while it is being woken by the one before
            daemon.signal(signal.SIGHUP)
        reloads = daemon.messages.count("READY=1")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for(lambda: daemon.messages.count("READY=1") > reloads, "it still reloads")
        assert daemon.terminate() == 0


def test_its_threads_stay_on_one_core(make_world: MakeWorld) -> None:
    with running(make_world(settings=make_settings())) as daemon:
        allowed = []
        for thread in Path(f"/proc/{daemon.process.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                allowed.append(os.sched_getaffinity(int(thread.name)))
    assert len(allowed) > 5
    assert len(set.union(*allowed)) == 1


def test_the_first_scrape_has_every_label_and_promtool_accepts_it(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    with running(world) as daemon:
        metrics = daemon.get_metrics()
        _, text = daemon.get("/metrics")
    for server in world.land.server_ids:
        for result in ("ok", "blocked", "backoff", "quarantined", "busy", "error"):
            assert f'reconciler_reconcile_total{{result="{result}",server="{server}"}}' in metrics
        for state in ("unknown", "active", "quarantined", "orphaned"):
            assert metrics[f'reconciler_services{{server="{server}",state="{state}"}}'] == 0
        for cause in ("transport", "credentials", "maintenance", "identity"):
            assert metrics[f'reconciler_server_breaker_open{{cause="{cause}",server="{server}"}}'] == 0
    assert metrics["reconciler_held_services"] == 0
    assert metrics['reconciler_guard_active{guard="desired_read",server="all"}'] == 0
    assert metrics["reconciler_desired_snapshot_timestamp_seconds"] > 1.7e9
    promtool = shutil.which("promtool")
    assert promtool, "scripts/setup installs it (Debian's package prometheus)"
    answer = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_resync_is_done_by_the_daemon_within_a_second_or_so_and_answered(world: World) -> None:
    world.land.configure(make_settings())
    item = world.sell(world.billing.add_plan("Basic", 5))
    with running(world) as daemon:
        daemon.wait_for(lambda: world.is_delivered(item), "made")
        account = world.get_account(item)
        assert account is not None
        account.quota_definition = "none"
        passes = daemon.log.count(f"pass service={item} ")
        answer = world.run_json("resync", str(item), "--wait")
        assert answer[0]["state"] == "active"
        assert account.quota_definition == "5 GB"
        assert daemon.log.count(f"pass service={item} ") > passes, "by the daemon"


def test_resync_from_another_host_goes_through_the_shared_journal(
    make_world: MakeWorld, postgres: object
) -> None:
    del postgres
    world = make_world(kind="postgres", settings=make_settings())
    journal = {"journal_url": make_journal(world)}
    settings = make_settings(reconciler={"poll_interval": "1s", "resync_interval": "1h", **journal})
    world.land.configure(settings)
    item = world.sell(world.billing.add_plan("Basic", 5))
    with running(world) as daemon:
        daemon.wait_for(lambda: world.is_delivered(item), "made")
        world.nextcloud.clear_calls()
        assert world.run("resync", str(item), "--wait").returncode == 0
        assert daemon.log.count(f"pass service={item} ") + daemon.log.count(f"service={item} server") >= 2


def make_journal(world: World) -> str:
    """A database for the journal on the server that billing is on."""
    import sqlalchemy as sa

    url = sa.make_url(world.land.database_url)
    name = f"{url.database}_journal"
    with world.billing.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return url.set(database=name).render_as_string(hide_password=False)


def test_resync_without_a_daemon_is_done_inline(world: World) -> None:
    item = world.sell(world.billing.add_plan("Basic", 5))
    assert world.run("resync", str(item), "--wait").returncode == 0
    assert world.is_delivered(item)


def test_a_held_service_is_left_alone_and_looked_at_once_released(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    item = world.sell(world.billing.add_plan("Basic", 5))
    with running(world) as daemon:
        daemon.wait_for(lambda: world.is_delivered(item), "made")
        assert world.run("hold", str(item), "--reason", "moving house").returncode == 0
        world.billing.set_status(item, 3)
        daemon.wait_for(
            lambda: daemon.get_json(f"/api/v1/services/{item}")["service"]["memory"]["state"] == "held",
            "held",
        )
        account = world.get_account(item)
        assert account is not None
        assert account.is_enabled
        assert world.run("release", str(item)).returncode == 0
        daemon.wait_for(lambda: not account.is_enabled, "suspended at once when released")
