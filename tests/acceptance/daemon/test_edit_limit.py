"""A server that limits edits of accounts (Nextcloud from 27 on): the rest goes on, and the line is fair."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from reconciler.daemon import Daemon
from reconciler.sandbox.emulator import CloudEmulator
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import make_settings, running, wait_until


class Hours:
    """A clock that runs as fast as ever and can be put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def seconds(self) -> float:
        return time.monotonic() + self.ahead.total_seconds()


@contextlib.contextmanager
def in_process(world: World, clock: Hours) -> Iterator[Daemon]:
    """The daemon in a thread of this process, so that its clock can be put forward."""
    daemon = Daemon(str(world.land.config_path), clock=clock)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        wait_until(lambda: all(check.is_ok for check in daemon.list_readiness()), "it is ready")
        yield daemon
    finally:
        daemon.stop()
        thread.join(60)
        logging.getLogger("reconciler").handlers.clear()
    assert not thread.is_alive()


def get_quota(world: World, item: int) -> str | None:
    account = world.get_account(item)
    return account.quota_definition if account else None


def set_quotas(world: World, items: list[int], quota: str) -> None:
    for item in items:
        account = world.get_account(item)
        assert account is not None
        account.quota_definition = quota


def test_a_429_storm_keeps_no_account_from_being_made_or_suspended(make_world: MakeWorld) -> None:
    cloud = CloudEmulator("nextcloud", edit_limit=5)
    world = make_world(clouds=[cloud], settings=make_settings(reconciler={"resync_interval": "2s"}))
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan) for _ in range(20)]
    server = world.land.server_ids[0]
    name = f'reconciler_guard_active{{guard="edit_limit",server="{server}"}}'
    with running(world) as daemon:
        daemon.wait_for(lambda: all(map(world.is_delivered, items)), "all are made")
        set_quotas(world, items, "1 GB")
        daemon.wait_for(
            lambda: sum(get_quota(world, item) == "5 GB" for item in items) == 5, "as many as the server lets"
        )
        daemon.wait_for(lambda: daemon.get_metrics()[name] == 1, "the metrics say why no more")
        fresh = world.sell(plan)
        world.billing.set_status(items[0], 3)
        daemon.wait_for(lambda: world.is_delivered(fresh), "a new account is made")
        account = world.get_account(items[0])
        daemon.wait_for(lambda: account is not None and not account.is_enabled, "one is suspended")
        status = daemon.get_json("/api/v1/status")
        assert "ratelimit.protection.enabled" in status["blocked"][0]["blocked_by"]
    refused = [call for call in cloud.calls if call.status == 429]
    # One for each place of the server, and later single ones that try whether it is over.
    assert 1 <= len(refused) <= 6


def test_customers_who_have_less_than_they_bought_come_first(make_world: MakeWorld) -> None:
    clock = Hours()
    cloud = CloudEmulator("nextcloud", clock=clock.seconds)
    world = make_world(clouds=[cloud], settings=make_settings(guards={"min_quota_decreases": 1000}))
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan) for _ in range(120)]
    more, less = items[:60], items[60:]
    world.now = datetime.now(UTC)
    world.once()

    def list_done() -> list[str | None]:
        return [call.userid for call in cloud.calls if call.operation == "edit:quota" and call.status == 200]

    def is_waiting(count: int) -> bool:
        """So many stand in line, and none of them comes back within the next minute."""
        with world.open() as app:
            overview = app.journal.overview
            waiting = overview.list_blocked_by_guard("edit_limit", None)
            soon = overview.list_due(clock() + timedelta(minutes=1), timedelta(hours=1))
        return len(waiting) == count and not soon

    with in_process(world, clock):
        set_quotas(world, more, "7 GB")
        set_quotas(world, less, "1 GB")
        world.billing.add_plan("Another", 1)  # a changed tariff has all servers scanned
        wait_until(lambda: len(list_done()) == 50, "as many as the server lets in ten minutes")
        wait_until(lambda: is_waiting(70), "all others stand in line")
        clock.ahead += timedelta(seconds=605)
        wait_until(lambda: len(list_done()) == 100, "the next fifty")
        wait_until(lambda: is_waiting(20), "the others still stand there")
        second = set(list_done()[50:])
        clock.ahead += timedelta(seconds=605)
        wait_until(lambda: len(list_done()) == 120, "the last")
    lacking = {f"user_{item}" for item in less} - set(list_done()[:50])
    assert second <= lacking or lacking <= second, "nobody before those that lacked something"
    assert all(get_quota(world, item) == "5 GB" for item in items)
    # The first of those that were not let through told the limit; then nobody ran into it any more.
    assert sum(call.status == 429 for call in cloud.calls) <= 4
