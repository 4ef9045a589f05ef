"""Daily usage in BILLmanager's statistics: what stands there, replaced and never added up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest
from sqlalchemy import event, text

from bm_db import BillingWriter, MgrctlWriter, SqlWriter, Usage, errors
from tests.integration.bm_db.conftest import BillingUnderTest, Maker

DAY = date(2026, 3, 9)
NEXT_DAY = date(2026, 3, 10)
GIB = 1024**3
Rows = dict[tuple[int, str], tuple[int, str | None]]


def read(world: BillingUnderTest, day: date = DAY) -> Rows:
    """What stands in the table: (service, parameter) → (value, name of the measure)."""
    stat = world.sandbox.table("itemstat")
    names = {world.sandbox.get_measure(name): name for name in ("byte", "kib", "mib", "gib", "tib")}
    with world.engine.connect() as connection:
        rows = connection.execute(stat.select().where(stat.c.statdate == day)).all()
    found = {
        (row.item, row.param): (row.value, None if row.measure is None else names[row.measure])
        for row in rows
    }
    assert len(found) == len(rows)
    return found


def write(world: BillingUnderTest, *usage: Usage, day: date = DAY) -> int:
    return SqlWriter(world.billing).write_usage(world.server_id, day, usage)


@contextmanager
def hooked(world: BillingUnderTest, act: Callable[[str], None]) -> Iterator[None]:
    """Have something happen before each statement."""

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        act(statement)

    engine = world.billing.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", note)


def sell(world: BillingUnderTest) -> int:
    """A service whose plan has no add-on line."""
    return world.sell(None)


def test_used_and_quota_are_written_in_bytes(world: BillingUnderTest) -> None:
    item_id, unlimited = sell(world), sell(world)
    assert write(world, Usage(item_id, 3 * GIB + 1, 10 * GIB), Usage(unlimited, 0, None)) == 3
    assert read(world) == {
        (item_id, "used_bytes"): (3 * GIB + 1, "byte"),
        (item_id, "quota_bytes"): (10 * GIB, "byte"),
        (unlimited, "used_bytes"): (0, "byte"),
    }


def test_second_run_of_a_day_replaces_and_never_adds(world: BillingUnderTest) -> None:
    first, second = world.sell(), world.sell()
    write(world, Usage(first, 1000, 2000), Usage(second, 5, 6))
    before = read(world)
    assert write(world, Usage(first, 1500, 2000), Usage(second, 5, 6)) == 1
    assert read(world) == {**before, (first, "used_bytes"): (1500, "byte")}


def test_what_stands_there_already_is_not_written_again(world: BillingUnderTest) -> None:
    usage = Usage(world.sell(), 1000, 2000)
    statements: list[str] = []
    assert write(world, usage) > 0
    with hooked(world, statements.append):
        assert write(world, usage) == 0
    assert statements
    assert not any("INSERT" in statement.upper() for statement in statements)


def test_each_day_has_rows_of_its_own(world: BillingUnderTest) -> None:
    item_id = sell(world)
    write(world, Usage(item_id, 1, 4))
    assert write(world, Usage(item_id, 3, 4), day=NEXT_DAY) == 2
    assert read(world) == {(item_id, "used_bytes"): (1, "byte"), (item_id, "quota_bytes"): (4, "byte")}
    assert read(world, NEXT_DAY) == {
        (item_id, "used_bytes"): (3, "byte"),
        (item_id, "quota_bytes"): (4, "byte"),
    }


def test_what_another_module_wrote_is_replaced_too(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    live.sandbox.insert(
        "itemstat", item=item_id, statdate=DAY, param="disk", value=7, measure=live.sandbox.get_measure("mib")
    )
    live.sandbox.insert("itemstat", item=item_id, statdate=DAY, param="traffic", value=7)
    write(live, Usage(item_id, 2 * GIB, 10 * GIB))
    rows = read(live)
    assert rows[item_id, "disk"] == (2, "gib")
    assert rows[item_id, "traffic"] == (7, None)


def test_nothing_to_write_is_nothing_done(world: BillingUnderTest) -> None:
    statements: list[str] = []
    with hooked(world, statements.append):
        assert write(world) == 0
    assert statements == []


def test_several_looks_at_one_service_leave_the_last(world: BillingUnderTest) -> None:
    item_id = sell(world)
    write(world, Usage(item_id, 1, None), Usage(item_id, 2, None))
    assert read(world) == {(item_id, "used_bytes"): (2, "byte")}


# -- in the add-on's measure


def get_line_row(live: BillingUnderTest, item_id: int, used_bytes: int) -> dict[str, tuple[int, str | None]]:
    write(live, Usage(item_id, used_bytes, 10 * GIB))
    rows = read(live)
    assert rows[item_id, "used_bytes"] == (used_bytes, "byte")
    return {name: row for (item, name), row in rows.items() if item == item_id and "bytes" not in name}


def sell_line(live: BillingUnderTest, **line: Any) -> int:
    plan_id = live.sandbox.add_plan("Basic")
    live.sandbox.add_line(plan_id, **line)
    return live.sandbox.add_service(plan_id, live.account_id, live.server_id)


@pytest.mark.parametrize(
    ("measure", "used_bytes", "value"),
    [
        ("gib", 0, 0),
        ("gib", 1, 1),
        ("gib", 3 * GIB, 3),
        ("gib", 3 * GIB + 1, 4),
        ("mib", 3 * GIB, 3072),
        ("kib", 1025, 2),
        ("byte", 1025, 1025),
        ("tib", 5 * GIB, 1),
    ],
)
def test_used_space_is_rounded_up_in_the_lines_measure(
    live: BillingUnderTest, measure: str, used_bytes: int, value: int
) -> None:
    item_id = sell_line(live, addonlimit=10, measure=measure)
    assert get_line_row(live, item_id, used_bytes) == {"disk": (value, measure)}


def test_row_has_the_lines_name(live: BillingUnderTest) -> None:
    assert get_line_row(live, sell_line(live, addonlimit=10, itemtype="disc"), GIB) == {"disc": (1, "gib")}
    own = sell_line(live, addonlimit=10, itemtype="traffic", intname=" Disk ")
    assert get_line_row(live, own, GIB) == {"disk": (1, "gib")}


def test_disk_goes_before_disc_and_the_first_line_of_a_name_counts(live: BillingUnderTest) -> None:
    plan_id = live.sandbox.add_plan("Basic")
    for itemtype, measure in (("disc", "kib"), ("disk", "mib"), ("disk", "gib")):
        live.sandbox.add_line(plan_id, itemtype=itemtype, measure=measure, addonlimit=1)
    item_id = live.sandbox.add_service(plan_id, live.account_id, live.server_id)
    assert get_line_row(live, item_id, GIB) == {"disk": (1024, "mib")}


def test_line_that_is_charged_by_usage_counts(live: BillingUnderTest) -> None:
    assert get_line_row(live, sell_line(live, billtype=3), GIB) == {"disk": (1, "gib")}


def test_line_that_is_no_quota_is_left_out(live: BillingUnderTest) -> None:
    lines: tuple[dict[str, Any], ...] = (
        {"active": "off"},
        {"billtype": 10},
        {"addontype": 3},
        {"itemtype": "traffic"},
        {"measure": None},
        {"measure": live.sandbox.insert("measure", intname="piece")},
    )
    for line in lines:
        assert get_line_row(live, sell_line(live, **{"addonlimit": 10, **line}), GIB) == {}, line


def test_line_of_a_compound_counts_only_when_bought(live: BillingUnderTest) -> None:
    plan_id = live.sandbox.add_plan("Basic")
    part = live.sandbox.add_line(plan_id, addonlimit=100, compound=plan_id)
    without, bought, unpaid = (
        live.sandbox.add_service(plan_id, live.account_id, live.server_id) for _ in range(3)
    )
    live.sandbox.buy_addon(bought, 1, line_id=part)
    live.sandbox.buy_addon(unpaid, 1, line_id=part, status=1)
    assert [get_line_row(live, each, GIB) for each in (without, bought, unpaid)] == [
        {},
        {"disk": (1, "gib")},
        {},
    ]


def test_service_without_a_plan_has_its_bytes(world: BillingUnderTest) -> None:
    item_id = world.sandbox.add_service(None, world.account_id, world.server_id)
    write(world, Usage(item_id, 1, None))
    assert read(world) == {(item_id, "used_bytes"): (1, "byte")}


def test_specs_schema_has_bytes_only(spec: BillingUnderTest) -> None:
    item_id = spec.sell(10)
    write(spec, Usage(item_id, 1, 2))
    assert read(spec) == {(item_id, "used_bytes"): (1, "byte"), (item_id, "quota_bytes"): (2, "byte")}


def test_installation_without_the_measure_byte_has_none(spec: BillingUnderTest) -> None:
    item_id = spec.sell(10)
    spec.sandbox.change("measure", spec.sandbox.get_measure("byte"), intname="octet")
    write(spec, Usage(item_id, 1, None))
    assert read(spec) == {(item_id, "used_bytes"): (1, None)}
    spec.sandbox.change("measure", spec.sandbox.get_measure("byte"), intname=" Byte")
    assert write(spec, Usage(item_id, 1, None)) == 1
    assert read(spec) == {(item_id, "used_bytes"): (1, "byte")}


# -- services that are not there, and many of them


def test_services_that_vanished_or_moved_are_left_out(world: BillingUnderTest) -> None:
    second = world.sandbox.add_server("Two", "https://two.example.net", "admin", "pw")
    gone, moved, stays = world.sell(None), world.sell(None), world.sell(None)
    addon = world.sandbox.insert("item", parent=stays, processingmodule=world.server_id, status=2)
    world.sandbox.delete_service(gone)
    world.sandbox.change("item", moved, processingmodule=second)
    ids = (gone, moved, addon, 4711, stays)
    assert write(world, *(Usage(item_id, 1, None) for item_id in ids)) == 1
    assert read(world) == {(stays, "used_bytes"): (1, "byte")}


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_service_that_vanishes_just_now_fails_nobody_else(make_billing: Maker, kind: str) -> None:
    world = make_billing("live", kind)
    gone, stays = world.sell(), world.sell()
    attempts: list[str] = []

    def delete(statement: str) -> None:
        if "INTO itemstat" in statement:
            if not attempts:
                world.sandbox.delete_service(gone)
            attempts.append(statement)

    with hooked(world, delete):
        assert write(world, Usage(gone, 1, 2), Usage(stays, 1, 2)) == 3
    assert len(attempts) == 2
    assert {item for item, _ in read(world)} == {stays}


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_reference_that_stays_broken_is_an_error(make_billing: Maker, kind: str) -> None:
    world = make_billing("live", kind)
    item_id = world.sell()
    run(world, "DROP TABLE itemstat")
    run(
        world,
        "CREATE TABLE itemstat (item INTEGER NOT NULL, statdate DATE NOT NULL, param VARCHAR(64) NOT NULL,"
        " value BIGINT, measure INTEGER, UNIQUE (item, statdate, param),"
        " FOREIGN KEY (item) REFERENCES account (id))",
    )
    item_id = world.sandbox.insert(
        "item", id=5000, account=world.account_id, processingmodule=world.server_id, status=2
    )
    with pytest.raises(errors.BillingStatementFailed):
        write(world, Usage(item_id, 1, 2))


def test_many_services_are_written_in_few_statements(world: BillingUnderTest) -> None:
    plan_id = world.sandbox.add_plan("Basic", 10)
    items = world.sandbox.add_many_services(2500, plan_ids=[plan_id], server_ids=[world.server_id])
    assert world.billing.variant
    statements: list[str] = []
    with hooked(world, statements.append):
        rows = write(world, *(Usage(item_id, item_id, 2 * item_id) for item_id in items))
    assert len([statement for statement in statements if "INTO itemstat" in statement]) == 3
    assert len(statements) < 30
    found = read(world)
    assert rows == len(found) == 2500 * (3 if world.sandbox.variant == "live" else 2)
    assert all(found[item_id, "used_bytes"] == (item_id, "byte") for item_id in items)


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_chunk_that_fails_leaves_the_ones_before_it(make_billing: Maker, kind: str) -> None:
    world = make_billing("live", kind)
    plan_id = world.sandbox.add_plan("Basic")
    items = world.sandbox.add_many_services(1500, plan_ids=[plan_id], server_ids=[world.server_id])
    too_much = 2**63
    usage = [Usage(item_id, too_much if item_id == items[-1] else 1, None) for item_id in items]
    with pytest.raises(errors.BillingStatementFailed):
        write(world, *usage)
    assert {item for item, _ in read(world)} == set(items[:1000])


def test_writers_at_the_same_time_leave_one_row(world: BillingUnderTest) -> None:
    items = [world.sell() for _ in range(20)]
    start = threading.Barrier(3)
    failures: list[errors.BillingError] = []

    def work(number: int) -> None:
        start.wait()
        try:
            write(world, *(Usage(item_id, number, None) for item_id in items))
        except errors.BillingError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A deadlock is the database's way of ordering them; the next time is as good.
    assert all(isinstance(failure, errors.BillingBusy) for failure in failures)
    values = {row for (_, name), row in read(world).items() if name == "used_bytes"}
    assert len(values) == 1
    assert values <= {(number, "byte") for number in (1, 2, 3)}


# -- databases that cannot take it, and the other writers


def run(world: BillingUnderTest, *statements: str) -> None:
    with world.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_database_without_the_table_is_told_and_looked_at_again(world: BillingUnderTest) -> None:
    item_id = sell(world)
    run(world, "ALTER TABLE itemstat RENAME TO gone")
    with pytest.raises(errors.SchemaMismatch, match="GRANT SELECT, INSERT, UPDATE ON itemstat") as caught:
        write(world, Usage(item_id, 1, 2))
    assert "no table itemstat" in str(caught.value)
    assert "\n" not in str(caught.value)
    # Everything else goes on.
    assert world.read(item_id).item_id == item_id
    run(world, "ALTER TABLE gone RENAME TO itemstat")
    assert write(world, Usage(item_id, 1, 2)) == 2


def test_database_with_another_table_of_that_name_is_told(world: BillingUnderTest) -> None:
    item_id = sell(world)
    run(world, "ALTER TABLE itemstat RENAME COLUMN value TO gone")
    with pytest.raises(errors.SchemaMismatch, match=r"no column itemstat\.value"):
        write(world, Usage(item_id, 1, 2))


def test_with_mgrctl_usage_is_written_by_sql_all_the_same(world: BillingUnderTest) -> None:
    writer: BillingWriter = MgrctlWriter(world.billing, "/nowhere/mgrctl")
    item_id = sell(world)
    assert writer.write_usage(world.server_id, DAY, [Usage(item_id, 1, None)]) == 1
    assert read(world) == {(item_id, "used_bytes"): (1, "byte")}


def test_end_of_a_day_cannot_be_told_by_sql(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    assert SqlWriter(world.billing).write_usage_complete(world.server_id, DAY) is False
