"""The daemon at work: what changes in billing or on a server is put right, seconds later, by itself."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from reconciler.sandbox.emulator import CloudEmulator, Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import make_settings, running

GIB = 1024**3


@pytest.fixture(params=[("mariadb", "live"), ("postgres", "spec")], ids=["mariadb-live", "postgres-spec"])
def world(request: pytest.FixtureRequest, make_world: MakeWorld) -> World:
    kind, variant = request.param
    return make_world(kind=kind, variant=variant, settings=make_settings())


def test_each_change_in_billing_is_applied_by_itself(world: World) -> None:
    billing = world.billing
    plans = {
        "basic": billing.add_plan("Basic", 5, group="basic"),
        "pro": billing.add_plan("Pro", 50, group="pro"),
    }
    items = [world.sell(plans["basic"], number, status=1) for number in (0, 1)]

    def accounts() -> list[tuple[str, set[str], bool] | None]:
        found = [world.get_account(item) for item in items]
        return [(a.quota_definition, set(a.groups), a.is_enabled) if a else None for a in found]

    with running(world) as daemon:
        assert accounts() == [None, None], "ordered, not paid"
        steps = [
            ("paid", 2, None, ("5 GB", {"basic"}, True)),
            ("upgraded", None, "pro", ("50 GB", {"pro"}, True)),
            ("overdue", 3, None, ("50 GB", {"pro"}, False)),
            ("paid again", 2, None, ("50 GB", {"pro"}, True)),
            ("downgraded", None, "basic", ("5 GB", {"basic"}, True)),
            ("closed", 4, None, ("5 GB", {"basic"}, False)),
        ]
        for what, status, plan, wanted in steps:
            for item in items:
                if status is not None:
                    billing.set_status(item, status)
                if plan is not None:
                    billing.change_plan(item, plans[plan])
            daemon.wait_for(lambda wanted=wanted: accounts() == [wanted, wanted], what)  # type: ignore[misc]
            if what == "paid":
                daemon.wait_for(lambda: all(map(world.is_delivered, items)), "credentials are on the card")
        fresh = world.sell(plans["pro"], 0)
        daemon.wait_for(lambda: world.get_account(fresh), "a service that is new altogether")
    assert world.run_json("history", str(items[0]))[0]["actor"] == "daemon"


def test_what_changed_while_no_daemon_ran_is_done_at_its_start(world: World) -> None:
    plan = world.billing.add_plan("Basic", 5)
    item = world.sell(plan, 0, status=1)
    with running(world) as daemon:
        assert daemon.terminate() == 0
    world.billing.set_status(item, 2)
    with running(world) as daemon:
        daemon.wait_for(lambda: world.is_delivered(item), "it is made and delivered")
        assert daemon.terminate() == 0
    world.billing.set_status(item, 3)
    with running(world) as daemon:
        account = world.get_account(item)
        daemon.wait_for(lambda: account is not None and not account.is_enabled, "and suspended likewise")


def test_a_changed_tariff_reaches_all_that_have_it(world: World) -> None:
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number) for number in (0, 1, 0)]
    with running(world) as daemon:
        daemon.wait_for(lambda: all(map(world.is_delivered, items)), "all are made")
        if world.billing.variant == "live":
            world.billing.change("pricelist", world.billing.get_line(plan), addonlimit=7)
        else:
            table = world.billing.table("pricelistparam")
            with world.billing.engine.begin() as connection:
                connection.execute(table.update().where(table.c.pricelist == plan).values(value="7"))

        def quotas() -> set[str]:
            return {account.quota_definition for account in map(world.get_account, items) if account}

        daemon.wait_for(lambda: quotas() == {"7 GB"}, "the new size")


def test_drift_is_healed_by_the_next_scan_and_told_in_metrics(make_world: MakeWorld) -> None:
    settings = make_settings(reconciler={"poll_interval": "1s", "resync_interval": "2s"})
    world = make_world(settings=settings)
    plan = world.billing.add_plan("Basic", 5, group="basic")
    items = [world.sell(plan, number) for number in (0, 1)]
    with running(world) as daemon:
        daemon.wait_for(lambda: all(map(world.is_delivered, items)), "all are made")
        for item in items:
            account = world.get_account(item)
            assert account is not None
            account.quota_definition, account.groups = "none", set()
        lost = world.sell(plan, 0)
        daemon.wait_for(lambda: world.is_delivered(lost), "one more is made")
        world.nextcloud.remove_account(f"user_{lost}")

        def is_healed() -> bool:
            found = [world.get_account(item) for item in [*items, lost]]
            return all(a is not None and (a.quota_definition, a.groups) == ("5 GB", {"basic"}) for a in found)

        daemon.wait_for(is_healed, "quota, group and existence are put right")
        nextcloud, owncloud = world.land.server_ids
        for name, count in (
            (f'reconciler_mutations_total{{action="set_quota",server="{owncloud}"}}', 2),
            (f'reconciler_mutations_total{{action="create",server="{nextcloud}"}}', 3),
        ):
            daemon.wait_for(lambda name=name, count=count: daemon.get_metrics()[name] == count, name)  # type: ignore[misc]
        daemon.wait_for(
            lambda: (
                daemon.get_metrics()[f'reconciler_services{{server="{nextcloud}",state="active"}}'] == 2
                and daemon.get_metrics()[f'reconciler_oldest_unconverged_seconds{{server="{nextcloud}"}}']
                == 0
            ),
            "the metrics say so",
        )


def test_a_server_is_observed_for_a_quarter_of_the_time_at_most(make_world: MakeWorld) -> None:
    settings = make_settings(reconciler={"resync_interval": "1s"})
    world = make_world(clouds=[CloudEmulator("nextcloud"), CloudEmulator("nextcloud")], settings=settings)
    slow, quick = world.land.server_ids
    for number in range(20):
        world.land.clouds[0].add_account(f"somebody{number}")
    world.land.clouds[0].settings.account_seconds = 0.05
    least_seconds = 20 * 0.05

    def list_starts(log: str, server_id: int) -> list[float]:
        lines = re.findall(rf"^(\S+) info scan server={server_id} .*duration=([\d.]+)", log, re.MULTILINE)
        return [datetime.fromisoformat(at).timestamp() - float(seconds) for at, seconds in lines]

    with running(world) as daemon:
        daemon.wait_for(lambda: len(list_starts(daemon.log, slow)) == 4, "some scans of the slow server")
        starts = list_starts(daemon.log, slow)
        assert len(list_starts(daemon.log, quick)) > len(starts)
        rest = daemon.get_metrics()[f'reconciler_scan_rest_seconds{{server="{slow}"}}']
        assert rest >= 3 * least_seconds, "the alert for old scans knows"
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert all(gap >= 4 * least_seconds - 0.1 for gap in gaps), gaps


def test_a_closed_service_is_deleted_when_its_grace_is_over(make_world: MakeWorld) -> None:
    guards = {"deletion_grace": "4s", "deletion_confirm_interval": "1s"}
    world = make_world(settings=make_settings(guards=guards))
    item = world.sell(world.billing.add_plan("Basic", 5))
    with running(world) as daemon:
        daemon.wait_for(lambda: world.is_delivered(item), "it is made")
        account = world.get_account(item)
        world.billing.set_status(item, 4)
        daemon.wait_for(lambda: account is not None and not account.is_enabled, "disabled at once")
        daemon.wait_for(lambda: world.get_account(item) is None, "deleted after the grace")
        daemon.wait_for(
            lambda: world.run_json("status", str(item))["memory"]["state"] == "deleted", "and known to be so"
        )


def test_a_failed_try_is_repeated_by_itself(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    item = world.sell(world.billing.add_plan("Basic", 5), status=1)
    with running(world) as daemon:
        world.nextcloud.faults.append(Fault("create", status=500, times=2))
        world.billing.set_status(item, 2)
        daemon.wait_for(lambda: world.is_delivered(item), "made at last")
    failed = [line for line in world.run_json("history", str(item)) if line["result"] != "done"]
    assert len(failed) == 2


def test_usage_comes_into_billing_and_into_status(make_world: MakeWorld) -> None:
    world = make_world(kind="mariadb", settings=make_settings(reconciler={"resync_interval": "3s"}))
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number) for number in (0, 1)]
    world.once()
    for item, share in zip(items, (0.85, 1.0), strict=True):
        account = world.get_account(item)
        assert account is not None
        account.used_bytes, account.has_logged_in = int(5 * GIB * share), True
    today = datetime.now(UTC).astimezone().date()
    with running(world) as daemon:

        def rows() -> dict[tuple[int, str], int]:
            table = world.billing.table("itemstat")
            with world.billing.engine.connect() as connection:
                found = connection.execute(table.select()).all()
            assert {row.statdate for row in found} <= {today, datetime.now(UTC).astimezone().date()}
            return {(row.item, row.param): row.value for row in found}

        wanted = {
            (items[0], "used_bytes"): int(5 * GIB * 0.85),
            (items[0], "quota_bytes"): 5 * GIB,
            (items[0], "disk"): 5,
            (items[1], "used_bytes"): 5 * GIB,
            (items[1], "quota_bytes"): 5 * GIB,
            (items[1], "disk"): 5,
        }
        daemon.wait_for(lambda: rows() == wanted, "the day's rows")
        near = daemon.get_json("/api/v1/status")["near_quota"]
        assert [row["item_id"] for row in near] == [items[1], items[0]], "the fullest first"
        first, second = world.land.server_ids
        names = [
            f'reconciler_services_near_quota{{server="{server}",threshold="{share}"}}'
            for server in (first, second)
            for share in (80, 100)
        ]
        daemon.wait_for(
            lambda: [daemon.get_metrics()[name] for name in names] == [1, 0, 1, 1], "and the metrics"
        )
