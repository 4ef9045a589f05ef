"""Looking at what is there: both variants, mixtures, and what is missing."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from bm_db import SqlWriter, errors
from states.model import Wish
from tests.integration.bm_db.conftest import BillingUnderTest, Maker


def run(world: BillingUnderTest, *statements: str) -> None:
    with world.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_variant_is_seen(world: BillingUnderTest) -> None:
    assert world.billing.variant == world.sandbox.variant


def test_missing_table_is_named(live: BillingUnderTest) -> None:
    quote = "`" if live.engine.dialect.name == "mysql" else '"'
    for table in ("itemparam", "pricelistparam", "processingparam", "user", "measure"):
        run(live, f"ALTER TABLE {quote}{table}{quote} RENAME TO gone")
        billing = live.open()
        for read in (billing.list_servers, lambda billing=billing: list(billing.list_services())):
            with pytest.raises(errors.SchemaMismatch, match=f"no table {table}: check") as caught:
                read()
            assert not caught.value.is_transient
        run(live, f"ALTER TABLE gone RENAME TO {quote}{table}{quote}")


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("item", "status"),
        ("itemparam", "value"),
        ("pricelist", "measure"),
        ("itemcryptedparam", "value"),
        ("item", "intvalue"),
    ],
)
def test_missing_column_is_named(live: BillingUnderTest, table: str, column: str) -> None:
    run(live, f"ALTER TABLE {table} RENAME COLUMN {column} TO gone")
    with pytest.raises(errors.SchemaMismatch, match=f"no column {table}.{column}: check"):
        live.billing.get_service(1)


def test_empty_database_is_not_billmanagers(make_billing: Maker, live: BillingUnderTest) -> None:
    for name in ("itemparam", "itemcryptedparam", "itemstat", "runningoperation", "item"):
        run(live, f"DROP TABLE {name}")
    with pytest.raises(errors.SchemaMismatch, match="no table item:"):
        live.billing.list_tariff_groups()


def test_table_that_vanishes_meanwhile_is_a_mismatch_and_is_looked_for_again(live: BillingUnderTest) -> None:
    item_id = live.sell(status=5)
    assert live.read(item_id).wish is Wish.AS_IS
    run(live, "ALTER TABLE runningoperation RENAME TO gone")
    with pytest.raises(errors.SchemaMismatch):
        live.billing.get_service(item_id)
    # Now it is known to be absent, which is allowed.
    assert live.read(item_id).wish is Wish.AS_IS


def test_live_database_without_the_optional_parts_is_read(live: BillingUnderTest) -> None:
    item_id = live.sell(10, userpassword="Secret-Password-1")
    live.sandbox.buy_addon(item_id, 5)
    optional = [
        *(
            f"ALTER TABLE pricelist DROP COLUMN {name}"
            for name in ("addontype", "billtype", "addonmax", "compound")
        ),
        *(
            f"ALTER TABLE pricelist DROP COLUMN {name}"
            for name in ("addonmaxtrial", "name", "active", "intname")
        ),
        *(f"ALTER TABLE item DROP COLUMN {name}" for name in ("period", "addonmax", "addonmaxtrial")),
        "ALTER TABLE processingmodule DROP COLUMN active",
        'ALTER TABLE "user" DROP COLUMN enabled'.replace(
            '"', "`" if live.engine.dialect.name == "mysql" else '"'
        ),
        "DROP TABLE runningoperation",
        "DROP TABLE itemcryptedparam",
        "DROP TABLE processingcryptedparam",
    ]
    run(live, *optional)
    service = live.read(item_id)
    assert service.quota == 15 * 1024**3
    assert service.email == "client@example.net"
    assert (service.is_password_recorded, service.faults) == (False, ())
    SqlWriter(live.billing).write_credentials(item_id, password="Secret-Password-2")
    assert live.read(item_id).password == "Secret-Password-2"
    [server] = live.billing.list_servers()
    assert server.is_active is True
    assert len(server.faults) == 2


def test_line_without_a_type_column_is_recognised_by_its_own_name(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    plan_id = world.sandbox.add_plan("Basic")
    world.sandbox.add_line(plan_id, addonlimit=3, itemtype=None, intname="disk")
    item_id = world.sandbox.add_service(plan_id, world.account_id, world.server_id)
    run(world, "DROP INDEX ix_pricelist_itemtype", "ALTER TABLE pricelist RENAME COLUMN itemtype TO gone")
    assert world.read(item_id).quota == 3 * 1024**3


def test_spec_database_with_a_live_table_for_encrypted_values_uses_it(spec: BillingUnderTest) -> None:
    item_id = spec.sell(10, userpassword="old password 1")
    kind = "TEXT" if spec.engine.dialect.name != "mysql" else "MEDIUMTEXT"
    run(spec, f"CREATE TABLE itemcryptedparam (item INTEGER, intname VARCHAR(64), value {kind})")
    assert spec.read(item_id).password == "old password 1"
    SqlWriter(spec.billing).write_credentials(item_id, password="new password 1")
    assert spec.read(item_id).password == "new password 1"
    assert spec.sandbox.get_password(item_id) == "old password 1"


def test_numbers_and_booleans_may_be_strings(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    live.sandbox.buy_addon(item_id, 5)
    tables = (
        ("item", ("status", "intvalue", "period")),
        ("pricelist", ("addonlimit", "addontype", "billtype")),
    )
    for table, columns in tables:
        for column in columns:
            run(
                live,
                f"ALTER TABLE {table} ADD COLUMN other VARCHAR(20)",
                f"UPDATE {table} SET other = {column}",
                f"ALTER TABLE {table} DROP COLUMN {column}",
                f"ALTER TABLE {table} RENAME COLUMN other TO {column}",
            )
    service = live.read(item_id)
    assert (service.status, service.quota) == (2, 15 * 1024**3)
    run(live, "UPDATE pricelist SET addonlimit = '1.5' WHERE parent IS NOT NULL")
    assert live.read(item_id).quota == 6979321856  # 6.5 GiB
    run(
        live,
        "UPDATE pricelist SET addonlimit = 'ten' WHERE parent IS NOT NULL",
        "UPDATE item SET status = 'x'",
    )
    service = live.read(item_id)
    assert (service.status, service.wish, service.quota, len(service.faults)) == (None, Wish.AS_IS, None, 2)


def test_bytes_are_read_as_text(live: BillingUnderTest) -> None:
    item_id = live.sell(10, username="anna")
    kind = {"mysql": "VARBINARY(200)", "postgresql": "BYTEA", "sqlite": "BLOB"}[live.engine.dialect.name]
    cast = {"mysql": "value", "postgresql": "convert_to(value, 'UTF8')", "sqlite": "CAST(value AS BLOB)"}
    run(
        live,
        f"ALTER TABLE itemparam ADD COLUMN other {kind}",
        f"UPDATE itemparam SET other = {cast[live.engine.dialect.name]}",
        "ALTER TABLE itemparam DROP COLUMN value",
        "ALTER TABLE itemparam RENAME COLUMN other TO value",
    )
    assert live.read(item_id).username == "anna"


def test_text_that_is_not_utf8_is_a_fault_of_one_service(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    ill, healthy = world.sell(username="x"), world.sell(username="anna")
    run(world, f"UPDATE itemparam SET value = CAST(x'ff41' AS TEXT) WHERE item = {ill}")
    assert world.read(ill).username == ""
    assert world.read(healthy).username == "anna"
