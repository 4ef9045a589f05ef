"""What things cost, in calls: the guard against growing slow that no clock is needed for.

The limits are what was counted when they were written down. Whoever needs more knows why, and says so here;
who needs less lowers them.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from nc import ApiCall
from reconciler.application import Application
from reconciler.config import load_config
from reconciler.cycle import run_cycle
from tests.acceptance.conftest import World

PAGE_SIZE = 200
COUNT = 10


class Costs:
    """What was called while it was counted.

    Attributes:
        http: requests to servers, by operation.
        billing: statements sent to billing's database.
        journal: statements sent to the journal.
        writes: the journal's transactions that write, each of which waits for the disk.
    """

    def __init__(self) -> None:
        self.http: Counter[str] = Counter()
        self.billing = self.journal = self.writes = 0

    def note_call(self, _server_id: int, call: ApiCall) -> None:
        self.http[call.operation] += 1

    def listen(self, engine: sa.Engine, name: str) -> None:
        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("PRAGMA"):
                return
            if name == "journal" and statement == "BEGIN IMMEDIATE":
                self.writes += 1
            if not statement.startswith("BEGIN"):
                setattr(self, name, getattr(self, name) + 1)

        sa.event.listen(engine, "before_cursor_execute", note)


@contextlib.contextmanager
def counting(world: World) -> Iterator[tuple[Application, Costs]]:
    """The program, opened and having looked at its servers; what it does from then on is counted."""
    costs = Costs()
    config = load_config(world.land.config_path)
    with Application(config, clock=lambda: world.now, on_call=costs.note_call) as app:
        for server in app.fleet.refresh():
            server.ensure_ready()
        app.reconciler.refresh_tariffs()
        costs.listen(app.billing.database._engine, "billing")
        costs.listen(app.journal.services._store.engine, "journal")
        costs.http.clear()
        yield app, costs


def sell_many(world: World, count: int, server_number: int = 0) -> list[int]:
    """Services that are in order, each with its account."""
    plan = world.billing.add_plan("Basic", 5)
    server_id = world.land.server_ids[server_number]
    items = world.billing.add_many_services(count, plan_ids=[plan], server_ids=[server_id], is_recorded=True)
    for item in items:
        world.land.clouds[server_number].add_account(
            f"user_{item}", quota="5 GB", email=f"client{item}@example.net"
        )
    return list(items)


@pytest.mark.parametrize("count", [400, 1200])
def test_a_scan_of_what_is_in_order_costs_a_request_a_page_and_a_few_statements_a_thousand(
    world: World, count: int
) -> None:
    sell_many(world, count)
    assert world.once().is_converged
    world.once_quietly()  # a server without services may be known of only since the first cycle
    with counting(world) as (app, costs):
        assert run_cycle(app).is_converged
    pages = count // PAGE_SIZE
    assert costs.http["list_accounts"] <= pages + 3, (
        "an empty page ends a listing; two are the other server's"
    )
    assert sum(costs.http.values()) <= pages + 4
    assert costs.billing <= 12 + 3 * count // 400
    assert costs.journal <= 20 + 3 * count // 400
    assert costs.writes <= 3


def test_a_scan_of_owncloud_costs_a_request_an_account(world: World) -> None:
    sell_many(world, 60, 1)
    assert world.once().is_converged
    with counting(world) as (app, costs):
        assert run_cycle(app).is_converged
    assert sum(costs.http.values()) <= 60 + 4


def test_a_create_costs_so_many_calls(world: World) -> None:
    item = world.sell(world.billing.add_plan("Basic", 5, group="basic"))
    with counting(world) as (app, costs):
        assert app.reconciler.reconcile_service(item, actor="test").error is None
    assert world.is_delivered(item)
    assert costs.http == {"get_account": 2, "create_account": 1}
    assert costs.billing <= 23
    assert costs.journal <= 37
    assert costs.writes <= 12


def test_a_pass_that_finds_nothing_to_do_costs_one_look(world: World) -> None:
    item = world.sell(world.billing.add_plan("Basic", 5, group="basic"))
    world.once()
    with counting(world) as (app, costs):
        assert app.reconciler.reconcile_service(item, actor="test").steps == []
    assert costs.http == {"get_account": 1}
    assert costs.billing <= 10
    assert costs.journal <= 11
    assert costs.writes <= 2


def test_a_drain_costs_so_many_calls_a_service(world: World) -> None:
    items = sell_many(world, COUNT)
    assert world.once().is_converged
    assert drain(world, items, "3 GB").writes <= 6 * COUNT, "its card says so for the first time"
    costs = drain(world, items, "4 GB")
    assert costs.http == {"get_account": 2 * COUNT, "set_quota": COUNT}
    assert costs.billing <= 12 * COUNT
    assert costs.journal <= 20 * COUNT
    assert costs.writes <= 4 * COUNT, "the lease taken, the intent, its result, the end"


def drain(world: World, items: list[int], quota: str) -> Costs:
    """Repair the quota of services, one pass each."""
    for item in items:
        world.nextcloud.accounts[f"user_{item}"].quota_definition = quota
    with counting(world) as (app, costs):
        for item in items:
            assert len(app.reconciler.reconcile_service(item, actor="test").steps) == 1
        return costs
