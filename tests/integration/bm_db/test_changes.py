"""What changed since the last look: every kind of change is seen, on the service it concerns, once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text

from bm_db import Billing, ChangeTracker, errors
from bm_db import changes as changes_module
from tests.databases import DatabaseServer
from tests.integration.bm_db.conftest import BillingUnderTest, Maker
from tests.unit.reconciler.samples import counted_statements

Change = Callable[[BillingUnderTest, int], object]


def start(world: BillingUnderTest, **options: int) -> ChangeTracker:
    """A tracker that knows everything that is there; without options it looks at everything in each poll."""
    tracker = world.billing.track_changes(**{"rare_every": 1, **options})
    assert tracker.poll().is_first
    return tracker


def quote(world: BillingUnderTest, name: str) -> str:
    return f"`{name}`" if world.engine.dialect.name == "mysql" else f'"{name}"'


def run(world: BillingUnderTest, *statements: str) -> None:
    with world.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def get_row_id(world: BillingUnderTest, table_name: str, **columns: object) -> int:
    table = world.sandbox.table(table_name)
    with world.engine.connect() as connection:
        rows = connection.execute(table.select().filter_by(**columns).order_by(table.c.id))
        return int(rows.mappings().all()[0]["id"])


@pytest.fixture
def few_are_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each poll learns the services of two buckets only, so that a small database has the rest to come."""
    monkeypatch.setattr(changes_module, "_BUCKETS_LEARNT_A_POLL", 2)


@contextmanager
def before_statement(billing: Billing, part: str, act: Callable[[Any], None]) -> Iterator[None]:
    """Have something happen once, just before the first statement that contains ``part``."""
    done: list[str] = []

    def note(_connection: object, cursor: Any, statement: str, *_: object) -> None:
        if part in statement and not done:
            done.append(statement)
            act(cursor)

    engine = billing.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert done


def test_first_poll_takes_the_measure_and_says_nothing_changed(world: BillingUnderTest) -> None:
    world.sell()
    empty = world.sandbox.add_server("Two", "https://two.example.net", "admin", "pw")
    changes = world.billing.track_changes().poll()
    assert changes.is_first is True
    assert (changes.items, changes.is_tariff_change, changes.is_server_change) == (frozenset(), False, False)
    assert changes.counts == {world.server_id: 1, empty: 0}


def test_without_any_service_or_server_nothing_is_found(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    tracker = world.open(module="pmother").track_changes()
    assert [tracker.poll().counts, tracker.poll().counts] == [{}, {}]


def test_when_nothing_changes_nothing_is_found(world: BillingUnderTest) -> None:
    for _ in range(3):
        world.sell(username="anna", quota_gb="3")
    tracker = start(world)
    for _ in range(3):
        changes = tracker.poll()
        assert (changes.items, changes.is_first) == (frozenset(), False)
        assert (changes.is_tariff_change, changes.is_server_change) == (False, False)
        assert changes.counts == {world.server_id: 3}


def test_rare_every_below_one_is_refused_at_once(make_billing: Maker) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make_billing("live", "sqlite").billing.track_changes(rare_every=0)


EVERYWHERE: dict[str, Change] = {
    "status": lambda world, item: world.sandbox.set_status(item, 3),
    "status that is gone": lambda world, item: world.sandbox.set_status(item, None),
    "tariff": lambda world, item: world.sandbox.change_plan(item, get_row_id(world, "pricelist", name="X")),
    "client": lambda world, item: world.sandbox.change(
        "item", item, account=get_row_id(world, "account", name="other")
    ),
    "no client": lambda world, item: world.sandbox.change("item", item, account=None),
    "user name": lambda world, item: world.sandbox.set_param(item, "username", "berta"),
    "no user name": lambda world, item: world.sandbox.set_param(item, "username", None),
    "quota_gb": lambda world, item: world.sandbox.set_param(item, "quota_gb", "4"),
    "no quota_gb": lambda world, item: world.sandbox.set_param(item, "quota_gb", None),
    "empty quota_gb": lambda world, item: world.sandbox.set_param(item, "quota_gb", ""),
    "second quota_gb": lambda world, item: world.sandbox.insert(
        "itemparam", item=item, intname="quota_gb", value="3"
    ),
    "e-mail": lambda world, item: world.sandbox.change(
        "user", get_row_id(world, "user", account=world.account_id), email="new@example.net"
    ),
    "second user": lambda world, item: world.sandbox.add_user(world.account_id, "second@example.net"),
    "user switched off": lambda world, item: run(
        world,
        f"UPDATE {quote(world, 'user')} SET enabled = "
        + ("'off'" if world.sandbox.variant == "live" else "false")
        + f" WHERE account = {world.account_id}",
    ),
    "row that vanished": lambda world, item: world.sandbox.delete_service(item),
}
LIVE: dict[str, Change] = {
    "trial": lambda world, item: world.sandbox.change("item", item, period=-100),
    "add-on": lambda world, item: world.sandbox.buy_addon(item, 5),
    "add-on paid": lambda world, item: world.sandbox.change("item", get_addon(world, item), status=2),
    "add-on enlarged": lambda world, item: world.sandbox.change("item", get_addon(world, item), intvalue=8),
    "add-on moved between columns": lambda world, item: world.sandbox.change(
        "item", get_addon(world, item), intvalue=None, addonlimit=7
    ),
    "add-on's cap": lambda world, item: world.sandbox.change("item", get_addon(world, item), addonmaxtrial=0),
    "add-on gone": lambda world, item: world.sandbox.delete_row("item", get_addon(world, item)),
    "operation": lambda world, item: world.sandbox.insert(
        "runningoperation", item=item, intname="open", trycount=0
    ),
    "operation and status": lambda world, item: world.sandbox.start_operation(item, "close"),
}


def get_addon(world: BillingUnderTest, item_id: int) -> int:
    return get_row_id(world, "item", parent=item_id)


def sell_three(world: BillingUnderTest) -> list[int]:
    """Three services of a kind; the one in the middle alone belongs to `world.account_id`."""
    other = world.sandbox.add_client("other@example.net", name="other")
    world.sandbox.add_plan("X", 1)
    items = []
    for account_id in (other, world.account_id, other):
        item_id = world.sell(10)
        world.sandbox.change("item", item_id, account=account_id)
        for name, value in (("username", f"anna{item_id}"), ("quota_gb", "3")):
            world.sandbox.set_param(item_id, name, value)
        if world.sandbox.variant == "live":
            world.sandbox.buy_addon(item_id, 7, status=1)
        items.append(item_id)
    return items


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_every_kind_of_change_is_seen_once_and_on_its_service_only(
    world: BillingUnderTest, kind: str
) -> None:
    _, item_id, _ = sell_three(world)
    tracker = start(world)
    EVERYWHERE[kind](world, item_id)
    changes = tracker.poll()
    assert changes.items == {item_id}
    assert (changes.is_tariff_change, changes.is_server_change, changes.is_first) == (False, False, False)
    assert tracker.poll().items == frozenset()


@pytest.mark.parametrize("kind", LIVE)
def test_every_kind_of_change_of_the_live_schema_is_seen(live: BillingUnderTest, kind: str) -> None:
    _, item_id, _ = sell_three(live)
    tracker = start(live)
    LIVE[kind](live, item_id)
    assert tracker.poll().items == {item_id}
    assert tracker.poll().items == frozenset()


def test_addons_of_a_tariff_that_nobody_had_are_seen(live: BillingUnderTest) -> None:
    first, second = live.sell(10), live.sell(10)
    new_plan = live.sandbox.add_plan("New", 20)
    tracker = start(live)
    live.sandbox.change_plan(first, new_plan)
    addon = live.sandbox.buy_addon(first, 1)
    assert tracker.poll().items == {first}
    assert tracker.poll().items == frozenset()
    live.sandbox.change("item", addon, intvalue=2)
    live.sandbox.buy_addon(second, 1)
    assert tracker.poll().items == {first, second}
    third = live.sandbox.add_service(live.sandbox.add_plan("Newer", 30), live.account_id, live.server_id)
    addon = live.sandbox.buy_addon(third, 1)
    assert tracker.poll().items == {third}
    live.sandbox.delete_row("item", addon)
    assert tracker.poll().items == {third}
    assert tracker.poll().items == frozenset()


def test_end_of_an_operation_is_seen(live: BillingUnderTest) -> None:
    item_id = live.sell(status=2)
    live.sandbox.start_operation(item_id, "setparam")
    tracker = start(live)
    live.sandbox.finish_operation(item_id)
    assert tracker.poll().items == {item_id}


def test_new_service_is_seen_and_counted(world: BillingUnderTest) -> None:
    world.sell()
    tracker = start(world)
    item_id = world.sell(username="anna")
    changes = tracker.poll()
    assert changes.items == {item_id}
    assert changes.counts == {world.server_id: 2}
    world.sandbox.delete_service(item_id)
    changes = tracker.poll()
    assert changes.items == {item_id}
    assert changes.counts == {world.server_id: 1}


def test_service_that_moves_is_seen_and_counted_where_it_is(world: BillingUnderTest) -> None:
    second = world.sandbox.add_server("Two", "https://two.example.net", "admin", "pw")
    foreign = world.sandbox.add_server("Three", "https://three.example.net", "a", "b", module="pmother")
    item_id, stays = world.sell(), world.sell()
    tracker = start(world)
    world.sandbox.change("item", item_id, processingmodule=second)
    changes = tracker.poll()
    assert (set(changes.items), changes.counts) == ({item_id}, {world.server_id: 1, second: 1})
    world.sandbox.change("item", item_id, processingmodule=foreign)
    changes = tracker.poll()
    assert (set(changes.items), changes.counts) == ({item_id}, {world.server_id: 1, second: 0})
    world.sandbox.change("item", item_id, processingmodule=second)
    assert tracker.poll().items == {item_id}
    world.sandbox.change("item", stays, processingmodule=None)
    assert tracker.poll().items == {stays}


def test_what_is_not_ours_is_not_seen(world: BillingUnderTest) -> None:
    foreign = world.sandbox.add_server("Two", "https://two.example.net", "a", "b", module="pmother")
    plan_id = world.sandbox.add_plan("Basic", 10)
    item_id = world.sandbox.add_service(plan_id, world.account_id, foreign)
    world.sell(username="anna")
    tracker = start(world)
    world.sandbox.set_status(item_id, 4)
    world.sandbox.set_param(item_id, "username", "berta")
    world.sandbox.add_service(plan_id, world.account_id, foreign)
    world.sandbox.add_client("nobody@example.net")
    run(world, f"UPDATE processingparam SET value = 'https://other' WHERE processingmodule = {foreign}")
    changes = tracker.poll()
    assert (changes.items, changes.is_server_change) == (frozenset(), False)


def test_what_says_nothing_about_the_wish_is_not_seen(world: BillingUnderTest) -> None:
    item_id = world.sell(username="anna", url="https://one")
    tracker = start(world)
    world.sandbox.set_param(item_id, "url", "https://two")
    world.sandbox.change("item", item_id, name="Renamed", note="x" * 100)
    run(world, "UPDATE processingmodule SET laststatdate = '2026-03-09'")
    run(world, "UPDATE pricelist SET name = 'Renamed'")
    changes = tracker.poll()
    assert (changes.items, changes.is_tariff_change, changes.is_server_change) == (frozenset(), False, False)


def test_services_that_exchange_what_they_have_are_both_seen(world: BillingUnderTest) -> None:
    first, second = world.sell(quota_gb="3", username="anna"), world.sell(quota_gb="4", username="berta")
    tracker = start(world)
    for item_id, quota in ((first, "4"), (second, "3")):
        world.sandbox.set_param(item_id, "quota_gb", quota)
    assert tracker.poll().items == {first, second}
    run(world, f"UPDATE itemparam SET item = {first + second} - item WHERE intname = 'username'")
    assert tracker.poll().items == {first, second}


def test_addon_that_is_given_to_another_service_is_seen_on_both(live: BillingUnderTest) -> None:
    first, second = live.sell(), live.sell()
    addons = [live.sandbox.buy_addon(each, 5, line_id=live.sandbox.get_line(1)) for each in (first, second)]
    tracker = start(live)
    for addon, parent in zip(addons, (second, first), strict=True):
        live.sandbox.change("item", addon, parent=parent)
    assert tracker.poll().items == {first, second}


def test_null_and_zero_and_empty_are_three_things(spec: BillingUnderTest) -> None:
    item_id = spec.sell(quota_gb="3")
    row_id = get_row_id(spec, "itemparam", item=item_id)
    tracker = start(spec)
    for value in (None, "", "0", "NULL", "null", " ", "'"):
        spec.sandbox.change("itemparam", row_id, value=value)
        assert tracker.poll().items == {item_id}, value
    for status in (0, None, 1):
        spec.sandbox.set_status(item_id, status)
        assert tracker.poll().items == {item_id}, status


def test_one_of_several_equal_rows_that_goes_is_seen(spec: BillingUnderTest) -> None:
    item_id = spec.sell(quota_gb="3")
    rows = [spec.sandbox.insert("itemparam", item=item_id, intname="quota_gb", value="3") for _ in range(3)]
    tracker = start(spec)
    for row_id in rows:
        spec.sandbox.delete_row("itemparam", row_id)
        assert tracker.poll().items == {item_id}


@pytest.mark.parametrize("count", [2, 8, 64, 512])
def test_same_change_of_many_neighbours_is_seen_on_all(live: BillingUnderTest, count: int) -> None:
    # Ids whose digits are 0 to 7 only: sums of CRC32 alone stay the same for 64 of them.
    plan_id = live.sandbox.add_plan("Basic", 10)
    items = [1230000 + int(f"{number:o}") for number in range(count)]
    live.sandbox.insert_many(
        "item",
        (
            {
                "id": item_id,
                "pricelist": plan_id,
                "account": live.account_id,
                "processingmodule": live.server_id,
                "status": 2,
            }
            for item_id in items
        ),
    )
    tracker = start(live)
    for status in (3, 2, 4):
        run(live, f"UPDATE item SET status = {status}")
        assert tracker.poll().items == set(items)


def test_changes_everywhere_at_once_are_all_seen(world: BillingUnderTest) -> None:
    plan_id = world.sandbox.add_plan("Basic", 10)
    server_ids = [
        world.server_id,
        world.sandbox.add_server("Two", "https://two.example.net", "admin", "pw"),
    ]
    items = world.sandbox.add_many_services(
        3_000, plan_ids=[plan_id], server_ids=server_ids, is_recorded=True
    )
    tracker = start(world)
    assert tracker.poll().items == frozenset()
    run(world, "UPDATE item SET status = 3 WHERE id % 3 = 0")
    assert tracker.poll().items == {item_id for item_id in items if item_id % 3 == 0}
    doomed = [item_id for item_id in items if 600 <= item_id < 2100]
    run(
        world,
        "DELETE FROM itemparam WHERE item >= 600 AND item < 2100",
        "DELETE FROM item WHERE id >= 600 AND id < 2100",
    )
    changes = tracker.poll()
    assert changes.items == set(doomed)
    left = [item_id for item_id in items if item_id not in set(doomed)]
    counts = {server_id: left[number::2] for number, server_id in enumerate(server_ids)}
    assert changes.counts == {server_id: len(ids) for server_id, ids in counts.items()}
    assert tracker.poll().items == frozenset()


def spread(world: BillingUnderTest, ids: list[int]) -> dict[int, int]:
    """Services with these item ids, each of a client of its own; item → user."""
    plan_id = world.sandbox.add_plan("Basic", 10)
    users = {}
    for item_id in ids:
        account_id = world.sandbox.add_client(f"a{item_id}@example.net")
        world.sandbox.insert(
            "item",
            id=item_id,
            pricelist=plan_id,
            account=account_id,
            processingmodule=world.server_id,
            status=2,
        )
        users[item_id] = get_row_id(world, "user", account=account_id)
    return users


@pytest.mark.parametrize("rare_every", [2, 3, 30])
def test_rare_changes_are_seen_within_so_many_polls_and_once(
    world: BillingUnderTest, rare_every: int
) -> None:
    # In seven ranges, with gaps.
    users = spread(world, [5, 6, 2000, 9000, 9001, 50_000, 60_000, 70_000, 1_000_000])
    tracker = start(world, rare_every=rare_every)
    tracker.poll()
    for round_number in range(2):
        for item_id, user_id in users.items():
            world.sandbox.change("user", user_id, email=f"b{item_id}-{round_number}@example.net")
        found = [tracker.poll().items for _ in range(min(rare_every, 7))]
        assert sorted(item_id for items in found for item_id in items) == sorted(users)
        assert not any(tracker.poll().items for _ in range(rare_every))


def test_frequent_change_takes_a_rare_one_along_and_neither_comes_again(world: BillingUnderTest) -> None:
    users = spread(world, [5, 6, 2000, 9000])
    tracker = start(world, rare_every=4)
    tracker.poll()
    for item_id in (6, 9000):
        world.sandbox.set_status(item_id, 3)
        world.sandbox.change("user", users[item_id], email="new@example.net")
    assert tracker.poll().items == {6, 9000}
    assert not any(tracker.poll().items for _ in range(8))


def test_services_that_come_and_go_between_rare_looks_are_seen_once(world: BillingUnderTest) -> None:
    spread(world, [5, 2000, 9000])
    tracker = start(world, rare_every=3)
    users = spread(world, [7, 4000, 20_000])
    assert tracker.poll().items == set(users)
    assert not any(tracker.poll().items for _ in range(6))
    for item_id in (7, 4000, 9000):
        world.sandbox.delete_service(item_id)
    assert tracker.poll().items == {7, 4000, 9000}
    assert not any(tracker.poll().items for _ in range(6))


def test_in_the_specs_schema_a_bought_quota_is_seen_in_the_next_poll(spec: BillingUnderTest) -> None:
    users = spread(spec, [5, 2000, 9000])
    tracker = start(spec, rare_every=1000)
    for item_id in users:
        spec.sandbox.set_param(item_id, "quota_gb", "3")
        assert tracker.poll().items == {item_id}


def test_quota_parameters_are_those_of_the_configuration(spec: BillingUnderTest) -> None:
    item_id = spec.sell()
    tracker = spec.open(quota_sources=["itemparam:size", "pricelistparam:quota_gb"]).track_changes()
    tracker.poll()
    spec.sandbox.set_param(item_id, "quota_gb", "3")
    assert tracker.poll().items == frozenset()
    spec.sandbox.set_param(item_id, "size", "3")
    assert tracker.poll().items == {item_id}
    without = spec.open(quota_sources=["pricelistparam:quota_gb"]).track_changes()
    without.poll()
    spec.sandbox.set_param(item_id, "size", "4")
    assert without.poll().items == frozenset()


TARIFFS: dict[str, Callable[[BillingUnderTest], object]] = {
    "group": lambda world: run(world, "UPDATE pricelistparam SET value = 'pro' WHERE intname = 'usergroup'"),
    "new plan": lambda world: world.sandbox.add_plan("New"),
    "parameter that goes": lambda world: run(world, "DELETE FROM pricelistparam WHERE intname = 'usergroup'"),
    "quota": lambda world: run(
        world,
        "UPDATE pricelist SET addonlimit = 11 WHERE addonlimit = 10"
        if world.sandbox.variant == "live"
        else "UPDATE pricelistparam SET value = '11' WHERE intname = 'quota_gb'",
    ),
}
LIVE_TARIFFS: dict[str, Callable[[BillingUnderTest], object]] = {
    "line": lambda world: world.sandbox.add_line(1, addonlimit=1),
    "line switched off": lambda world: run(
        world, "UPDATE pricelist SET active = 'off' WHERE addonlimit = 10"
    ),
    "kind": lambda world: run(world, "UPDATE pricelist SET billtype = 4 WHERE addonlimit = 10"),
    "measure": lambda world: run(world, "UPDATE measure SET relation = 1000 WHERE intname = 'gib'"),
    "item type": lambda world: run(world, "UPDATE itemtype SET intname = 'disco' WHERE intname = 'disk'"),
}


@pytest.mark.parametrize("kind", TARIFFS)
def test_change_of_a_tariff_is_told_once(world: BillingUnderTest, kind: str) -> None:
    check_tariff_change(world, TARIFFS[kind])


@pytest.mark.parametrize("kind", LIVE_TARIFFS)
def test_change_of_what_a_live_tariff_is_made_of_is_told(live: BillingUnderTest, kind: str) -> None:
    check_tariff_change(live, LIVE_TARIFFS[kind])


def check_tariff_change(world: BillingUnderTest, change: Callable[[BillingUnderTest], object]) -> None:
    plan_id = world.sandbox.add_plan("Basic", 10, group="basic")
    world.sandbox.add_service(plan_id, world.account_id, world.server_id)
    tracker = start(world)
    change(world)
    changes = tracker.poll()
    assert (changes.items, changes.is_tariff_change, changes.is_server_change) == (frozenset(), True, False)
    assert tracker.poll().is_tariff_change is False


SERVERS: dict[str, Callable[[BillingUnderTest], object]] = {
    "URL": lambda world: run(world, "UPDATE processingparam SET value = 'https://other.example.net'"),
    "password": lambda world: run(
        world,
        f"UPDATE {'processingcryptedparam' if world.sandbox.variant == 'live' else 'processingcryptparam'}"
        " SET value = 'x' WHERE intname LIKE '%password'",
    ),
    "certificate check": lambda world: world.sandbox.insert(
        "processingparam", processingmodule=world.server_id, intname="verify_ssl", value="off"
    ),
    "switched off": lambda world: world.sandbox.change(
        "processingmodule", world.server_id, active="off" if world.sandbox.variant == "live" else False
    ),
    "name": lambda world: world.sandbox.change("processingmodule", world.server_id, name="Renamed"),
    "new one": lambda world: world.sandbox.add_server("Two", "https://two.example.net", "admin", "pw"),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_change_of_a_server_is_told_once(world: BillingUnderTest, kind: str) -> None:
    world.sell()
    tracker = start(world)
    SERVERS[kind](world)
    changes = tracker.poll()
    assert (changes.items, changes.is_tariff_change, changes.is_server_change) == (frozenset(), False, True)
    assert tracker.poll().is_server_change is False


def test_server_that_leaves_the_module_takes_its_services_along(world: BillingUnderTest) -> None:
    second = world.sandbox.add_server("Two", "https://two.example.net", "admin", "pw")
    item_id, stays = world.sell(), world.sell()
    world.sandbox.change("item", item_id, processingmodule=second)
    tracker = start(world)
    world.sandbox.change("processingmodule", second, module="pmother")
    changes = tracker.poll()
    assert (set(changes.items), changes.is_server_change) == ({item_id}, True)
    assert changes.counts == {world.server_id: 1}
    assert world.billing.get_service(stays) is not None


def test_everything_is_seen_as_of_one_moment(world: BillingUnderTest) -> None:
    first, second = world.sell(), world.sell(username="anna")
    tracker = start(world)

    def change(_cursor: object) -> None:
        world.sandbox.set_status(first, 3)
        world.sandbox.set_param(second, "username", "berta")
        world.sandbox.add_server("Two", "https://two.example.net", "admin", "pw")

    with before_statement(world.billing, "measure" if world.sandbox.variant == "live" else "param", change):
        changes = tracker.poll()
    assert (changes.items, changes.is_server_change) == (frozenset(), False)
    changes = tracker.poll()
    assert (set(changes.items), changes.is_server_change) == ({first, second}, True)


def test_nobody_is_kept_waiting_and_nobody_is_waited_for(world: BillingUnderTest) -> None:
    item_id = world.sell(username="anna")
    tracker = start(world)
    with world.engine.connect() as connection, connection.begin():
        connection.execute(text(f"UPDATE item SET status = 3 WHERE id = {item_id}"))
        # Not committed yet.
        assert tracker.poll().items == frozenset()
    assert tracker.poll().items == {item_id}


@pytest.mark.parametrize("part", ["measure", "runningoperation", "user"])
def test_failed_poll_loses_nothing(live: BillingUnderTest, part: str) -> None:
    item_id = live.sell(10)
    tracker = start(live)
    live.sandbox.set_status(item_id, 3)
    live.sandbox.add_plan("New")
    live.sandbox.add_server("Two", "https://two.example.net", "admin", "pw")
    run(live, f"ALTER TABLE {quote(live, part)} RENAME TO gone")
    with pytest.raises(errors.SchemaMismatch):
        tracker.poll()
    run(live, f"ALTER TABLE gone RENAME TO {quote(live, part)}")
    changes = tracker.poll()
    assert set(changes.items) == {item_id}
    assert (changes.is_tariff_change, changes.is_server_change) == (True, True)


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_connection_that_is_lost_in_the_middle_loses_nothing(
    make_billing: Maker, request: pytest.FixtureRequest, kind: str
) -> None:
    world = make_billing("live", kind)
    server: DatabaseServer = request.getfixturevalue(kind)
    item_id = world.sell()

    def cut(cursor: Any) -> None:
        if kind == "mariadb":
            server.execute(f"KILL {cursor.connection.thread_id()}")
        else:
            server.execute(f"SELECT pg_terminate_backend({cursor.connection.info.backend_pid}, 5000)")

    tracker = world.billing.track_changes()
    with before_statement(world.billing, "itemparam", cut), pytest.raises(errors.BillingUnreachable):
        tracker.poll()
    assert tracker.poll().is_first is True
    world.sandbox.set_status(item_id, 3)
    # When the changed range is being read.
    with (
        before_statement(world.billing, "ORDER BY item.id", cut),
        pytest.raises(errors.BillingUnreachable),
    ):
        tracker.poll()
    assert tracker.poll().items == {item_id}


def test_lock_on_a_table_is_waited_for_no_longer_than_allowed(
    mariadb: DatabaseServer, make_billing: Maker
) -> None:
    world = make_billing("live", "mariadb")
    item_id = world.sell()
    tracker = world.open(statement_timeout_seconds=1).track_changes()
    tracker.poll()
    world.sandbox.set_status(item_id, 3)
    with closing(mariadb.connect(world.engine.url.database)) as holder:
        cursor = holder.cursor()
        cursor.execute("LOCK TABLES item WRITE")
        with pytest.raises(errors.BillingBusy):
            tracker.poll()
        cursor.execute("UNLOCK TABLES")
        cursor.close()
    assert tracker.poll().items == {item_id}


def test_database_without_the_optional_parts_is_watched(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    addon = live.sandbox.buy_addon(item_id, 5)
    run(
        live,
        *(f"ALTER TABLE pricelist DROP COLUMN {name}" for name in ("addontype", "billtype", "compound")),
        *(f"ALTER TABLE item DROP COLUMN {name}" for name in ("period", "addonmax", "addonmaxtrial")),
        "ALTER TABLE processingmodule DROP COLUMN active",
        f"ALTER TABLE {quote(live, 'user')} DROP COLUMN enabled",
        "DROP TABLE runningoperation",
        "DROP TABLE processingcryptedparam",
    )
    tracker = start(live)
    run(live, f"UPDATE item SET intvalue = 6 WHERE id = {addon}")
    assert tracker.poll().items == {item_id}
    run(live, f"UPDATE {quote(live, 'user')} SET email = 'new@example.net'")
    assert tracker.poll().items == {item_id}


def test_numbers_may_be_strings(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    tracker = start(live)
    run(
        live,
        "ALTER TABLE item ADD COLUMN other VARCHAR(20)",
        "UPDATE item SET other = status",
        "ALTER TABLE item DROP COLUMN status",
        "ALTER TABLE item RENAME COLUMN other TO status",
    )
    tracker.poll()
    for status in ("03", "3", "x", "", "y"):
        run(live, f"UPDATE item SET status = '{status}'")
        assert tracker.poll().items == {item_id}, status


def test_text_that_is_not_utf8_does_not_blind_it(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    ill, healthy = world.sell(username="x"), world.sell(username="anna")
    tracker = start(world)
    run(world, f"UPDATE itemparam SET value = CAST(x'ff41' AS TEXT) WHERE item = {ill}")
    assert tracker.poll().items == {ill}
    run(world, f"UPDATE itemparam SET value = CAST(x'fe41' AS TEXT) WHERE item = {ill}")
    world.sandbox.set_status(healthy, 3)
    assert tracker.poll().items == {ill, healthy}


def test_memory_is_small(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    plan_id = world.sandbox.add_plan("Basic", 10)
    world.sandbox.add_many_services(
        10_000, plan_ids=[plan_id], server_ids=[world.server_id], is_recorded=True
    )
    start(world)  # warm caches
    tracemalloc.start()
    try:
        tracker = start(world)
        tracker.poll()
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held_bytes < 10_000 * 50
    assert tracker.poll().counts == {world.server_id: 10_000}


PLACES = [1000 * number + extra for number in range(1, 6) for extra in (0, 1)]
"""Item ids in five buckets, two services in each."""


@pytest.mark.usefixtures("few_are_learnt")
def test_what_is_learnt_bit_by_bit_is_no_change(world: BillingUnderTest) -> None:
    spread(world, PLACES)
    tracker = start(world)
    for _ in range(4):
        changes = tracker.poll()
        assert (changes.items, changes.counts) == (frozenset(), {world.server_id: len(PLACES)})
    world.sandbox.set_status(PLACES[-1], 3)
    assert tracker.poll().items == {PLACES[-1]}


@pytest.mark.usefixtures("few_are_learnt")
@pytest.mark.parametrize("kind", ["status", "user name", "e-mail"])
def test_change_before_its_bucket_is_learnt_makes_all_its_services_suspects(
    world: BillingUnderTest, kind: str
) -> None:
    users = spread(world, PLACES)
    tracker = start(world)
    known, unknown = PLACES[0], PLACES[-1]
    for item_id in (known, unknown):
        if kind == "e-mail":
            world.sandbox.change("user", users[item_id], email="new@example.net")
        else:
            EVERYWHERE[kind](world, item_id)
    assert tracker.poll().items == {known, PLACES[-2], unknown}
    assert [tracker.poll().items for _ in range(3)] == [frozenset()] * 3
    world.sandbox.set_status(unknown, 1)
    assert tracker.poll().items == {unknown}, "by now it is known"


@pytest.mark.usefixtures("few_are_learnt")
def test_services_that_come_and_go_before_all_are_learnt_are_counted(world: BillingUnderTest) -> None:
    spread(world, PLACES)
    tracker = start(world)
    world.sandbox.delete_service(PLACES[-1])
    changes = tracker.poll()
    assert changes.items == {PLACES[-2]}, "whoever is gone was not known: the scans find that"
    assert changes.counts == {world.server_id: len(PLACES) - 1}
    item_id = world.sell()
    changes = tracker.poll()
    assert item_id in changes.items
    assert changes.counts == {world.server_id: len(PLACES)}
    assert tracker.poll().items == frozenset()


@pytest.mark.usefixtures("few_are_learnt")
def test_services_are_counted_while_they_are_learnt_only_when_something_changed(
    world: BillingUnderTest,
) -> None:
    places = [1000 * number for number in range(1, 9)]
    spread(world, places)
    tracker = start(world)
    with counted_statements(world.billing.database._engine) as statements:
        assert tracker.poll().counts == {world.server_id: len(places)}
        assert not any("count(" in statement for statement in statements)
        second = world.sandbox.add_server("Two", "https://two.example.net", "admin", "pw")
        assert tracker.poll().counts == {world.server_id: len(places), second: 0}
        assert sum("count(" in statement for statement in statements) == 1
        assert tracker.is_learning


@pytest.mark.usefixtures("few_are_learnt")
def test_changes_in_what_is_learnt_make_nobody_forget_what_is_not(world: BillingUnderTest) -> None:
    spread(world, PLACES)
    tracker = start(world)
    learnt = {PLACES[0], PLACES[2]}
    for item_id in learnt:
        world.sandbox.set_status(item_id, 3)
    changes = tracker.poll()
    assert changes.items == learnt
    assert changes.counts == {world.server_id: len(PLACES)}


@pytest.mark.usefixtures("few_are_learnt")
def test_failed_poll_learns_nothing_and_forgets_nothing(live: BillingUnderTest) -> None:
    spread(live, PLACES)
    tracker = start(live)
    live.sandbox.set_status(PLACES[-1], 3)

    def fail(_cursor: Any) -> None:
        raise errors.BillingUnreachable("gone")

    with pytest.raises(errors.BillingError), before_statement(live.billing, "email", fail):
        tracker.poll()
    assert tracker.poll().items == set(PLACES[-2:])
