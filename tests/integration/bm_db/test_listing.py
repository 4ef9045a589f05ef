"""Listing all services: order, snapshot, number of statements, memory, and what a broken-off read does."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from bm_db import errors, service_rows
from reconciler.sandbox.billing_data import SandboxBilling, open_sandbox_engine
from reconciler.sandbox.billing_sample import fill_sample
from reconciler.sandbox.billing_schema import Variant
from states.model import Wish
from tests.databases import Kind, running_server
from tests.integration.bm_db.conftest import BillingUnderTest, Maker
from tests.unit.reconciler.samples import counted_statements

MEBIBYTE = 1024**2


def fill(world: BillingUnderTest, count: int) -> range:
    plans = [world.sandbox.add_plan(f"Plan {number}", number + 1) for number in range(3)]
    return world.sandbox.add_many_services(
        count, plan_ids=plans, server_ids=[world.server_id], is_recorded=True, password="Secret-Password-1"
    )


@pytest.mark.parametrize("ids_at_once", [1, 3, 10, 100])
def test_every_service_is_listed_once_and_in_order(
    world: BillingUnderTest, ids_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_rows, "_IDS_AT_ONCE", ids_at_once)
    item_ids = fill(world, 10)
    for chunk_size in (1, 7, 10, 100):
        services = list(world.billing.list_services(chunk_size=chunk_size))
        assert [service.item_id for service in services] == list(item_ids)
        assert {service.quota for service in services} == {number * 1024**3 for number in (1, 2, 3)}
        assert {service.password for service in services} == {"Secret-Password-1"}
        assert {service.email for service in services} == {
            f"client{number}@example.net" for number in range(2, 12)
        }


@pytest.mark.parametrize("variant", ["live", "spec"])
def test_mariadb_reads_services_by_their_ids(make_billing: Maker, variant: Variant) -> None:
    world = make_billing(variant, "mariadb")
    fill(world, 3000)
    pages: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "item.id BETWEEN" in statement:
            pages.append((statement, parameters))

    event.listen(world.billing.database._engine, "before_cursor_execute", note)
    assert sum(1 for _ in world.billing.list_services()) == 3000
    assert len(pages) == 3
    with world.engine.connect() as connection:
        plans = [connection.exec_driver_sql(f"EXPLAIN {page}", parameters) for page, parameters in pages]
        assert {plan.one().key for plan in plans} == {"PRIMARY"}


def test_chunk_size_below_one_is_refused_at_once(live: BillingUnderTest) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        live.billing.list_services(chunk_size=0)


def test_number_of_statements_depends_on_chunks_only(world: BillingUnderTest) -> None:
    fill(world, 40)
    assert world.billing.variant
    counts = []
    for chunk_size in (40, 20, 10):
        with counted_statements(world.billing.database._engine) as statements:
            assert len(list(world.billing.list_services(chunk_size=chunk_size))) == 40
        counts.append(len(statements))
    # There are 1, 2 and 4 pages, after the query for all ids; at most seven queries fill one.
    assert counts[0] <= 16
    assert counts[1] - counts[0] <= 7
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])


def test_one_service_is_read_in_a_handful_of_statements(world: BillingUnderTest) -> None:
    item_id = world.sell()
    assert world.billing.variant
    with counted_statements(world.billing.database._engine) as statements:
        world.billing.get_service(item_id)
    assert len(statements) <= 13


def test_listing_shows_one_moment(world: BillingUnderTest) -> None:
    item_ids = [world.sell() for _ in range(3)]
    listing = world.billing.list_services(chunk_size=1)
    next(listing)
    world.sandbox.set_status(item_ids[1], 4)
    world.sandbox.delete_service(item_ids[2])
    world.sell()
    assert [(service.item_id, service.wish) for service in listing] == [
        (item_ids[1], Wish.ENABLED),
        (item_ids[2], Wish.ENABLED),
    ]


def test_reading_cannot_write(world: BillingUnderTest) -> None:
    with pytest.raises(errors.BillingAccessDenied), world.billing.database.reading() as connection:
        connection.exec_driver_sql("DELETE FROM itemparam")


def test_listing_that_is_given_up_frees_its_connection(world: BillingUnderTest) -> None:
    fill(world, 5)
    for _ in range(30):  # more than the pool holds
        listing = world.billing.list_services(chunk_size=1)
        next(listing)
        listing.close()  # type: ignore[attr-defined]


def test_memory_is_bounded_by_the_chunk(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    fill(world, 12_000)
    seen = 0
    for _ in world.billing.list_services(chunk_size=200, with_passwords=False):  # warm caches
        break
    tracemalloc.start()
    try:
        for _ in world.billing.list_services(chunk_size=200, with_passwords=False):
            seen += 1
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == 12_000
    assert peak_bytes < 6 * MEBIBYTE  # all of them would be some 12 MiB


def test_absurd_values_do_not_fill_the_memory(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    for item_id in fill(world, 50):
        world.sandbox.set_param(item_id, "username", "x" * MEBIBYTE)
    tracemalloc.start()
    try:
        assert sum(1 for _ in world.billing.list_services()) == 50
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * MEBIBYTE


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_server_that_dies_in_the_middle_is_an_error_never_a_short_list(
    kind: Kind, private_key_pem: bytes
) -> None:
    with running_server(kind) as server:
        world = BillingUnderTest(server.get_url(server.create_database()), "live", private_key_pem)
        fill(world, 10)
        listing = world.billing.list_services(chunk_size=3)
        read = [next(listing).item_id for _ in range(2)]
        server.kill()
        with pytest.raises(errors.BillingUnreachable, match=r"127\.0\.0\.1") as caught:
            read.extend(service.item_id for service in listing)
        assert len(read) <= 3
        assert caught.value.is_transient
        assert caught.value.__cause__ is not None
        with pytest.raises(errors.BillingUnreachable):
            world.billing.list_servers()
        world.close()


def test_sqlite_file_that_breaks_in_the_middle_is_an_error(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    fill(world, 3000)
    world.engine.dispose()
    path = Path(world.url.removeprefix("sqlite:///"))
    listing = world.billing.list_services(chunk_size=10)
    next(listing)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xee" * (len(content) - 4096))
    with pytest.raises(errors.BillingUnreachable):
        list(listing)
    path.write_bytes(content)


@pytest.mark.parametrize("variant", ["live", "spec"])
def test_sample_holds_every_status_on_several_servers(make_billing: Maker, variant: str) -> None:
    world = make_billing("live" if variant == "live" else "spec", "sqlite")
    server_ids = [
        world.sandbox.add_server(f"S{number}", f"https://s{number}.example.net", "admin", "pw")
        for number in (1, 2)
    ]
    sample = fill_sample(world.sandbox, server_ids)
    services = {service.item_id: service for service in world.billing.list_services()}
    assert sorted(services) == sample.item_ids
    assert all(service.faults == () for service in services.values())
    assert {service.status for service in services.values()} == {1, 2, 3, 4, 5}
    assert {service.server_id for service in services.values()} == set(server_ids)
    one_tb = next(each for each in services.values() if each.group == "pro")
    assert one_tb.quota in ({1024**4, 11 * 1024**4} if variant == "live" else {1000 * 1024**3})


def test_existing_sandbox_is_opened_again(world: BillingUnderTest) -> None:
    item_id = world.sell(10, userpassword="Secret-Password-1")
    engine = open_sandbox_engine(world.url)
    again = SandboxBilling(engine, world.sandbox.variant, world.private_key_pem, create=False)
    again.change_plan(item_id, again.add_plan("Other", 3))
    engine.dispose()
    assert world.read(item_id).quota == 3 * 1024**3
