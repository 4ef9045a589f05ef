"""The rows that make up services, read a chunk at a time with a constant number of set-based queries.

Called by `bm_db.services`, which understands them, and by the modules of ``bm_db`` that ask about services
in their own way. Parameters and addresses are cut to what can be
meaningful already by the database, so that no row can fill the memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, literal_column, select

from bm_db.schema import Schema
from bm_db.servers import select_server_ids
from bm_db.sold_quota import BoughtAddon
from bm_db.values import first_characters, is_on, read_filled_text

ITEM_COLUMNS: Final = ("id", "pricelist", "account", "processingmodule", "status", "period")
ADDON_COLUMNS: Final = (
    "id",
    "parent",
    "pricelist",
    "status",
    "intvalue",
    "addonlimit",
    "addonmax",
    "addonmaxtrial",
)
_EMAIL_CHARACTERS: Final = 512
USERNAME, URL, PASSWORD = "username", "url", "userpassword"
CARD_STATE: Final = "nextcloud_status"


@dataclass(slots=True)
class ServiceRow:
    """One service with what belongs to it, as read."""

    item: Row[Any]
    parameters: list[tuple[object, object]] = field(default_factory=list)
    passwords: list[tuple[object, object]] = field(default_factory=list)
    addons: list[BoughtAddon] = field(default_factory=list)
    operations: list[object] = field(default_factory=list)
    emails: list[str] = field(default_factory=list)
    """Those of the client's users that have one, enabled users first, then by id."""


def select_services(schema: Schema) -> Select[Any]:
    """All services (rows that are nobody's add-on)."""
    item = schema.table("item")
    return select(*schema.pick(item, "item", *ITEM_COLUMNS)).where(item.c.parent.is_(None))


def select_services_of(schema: Schema, module: str, server_id: int | None = None) -> Select[Any]:
    """The services of the module's servers, or of that one of them."""
    server = schema.table("item").c.processingmodule
    services = select_services(schema).where(server.in_(select_server_ids(schema, module)))
    return services if server_id is None else services.where(server == server_id)


def list_chunks(
    connection: Connection,
    schema: Schema,
    services: Select[Any],
    parameter_names: Collection[str],
    chunk_size: int,
) -> Iterator[list[ServiceRow]]:
    """The selected services by id, in keyset pages of ``chunk_size``."""
    item = schema.table("item")
    page = services.order_by(item.c.id).limit(chunk_size)
    items = connection.execute(page).all()
    while items:
        yield complete_rows(connection, schema, items, parameter_names)
        if len(items) < chunk_size:
            return
        items = connection.execute(page.where(item.c.id > items[-1].id)).all()


def complete_rows(
    connection: Connection, schema: Schema, items: Sequence[Row[Any]], parameter_names: Collection[str]
) -> list[ServiceRow]:
    """Everything that belongs to these services, in at most six queries."""
    rows = {item.id: ServiceRow(item) for item in items}
    ids = list(rows)
    for item_id, pair in read_parameters(connection, schema, "itemparam", ids, {*parameter_names, PASSWORD}):
        row = rows[item_id]
        (row.passwords if read_filled_text(pair[0]) == PASSWORD else row.parameters).append(pair)
    for table_name in schema.present("itemcryptparam", "itemcryptedparam"):
        for item_id, pair in read_parameters(connection, schema, table_name, ids, {PASSWORD}):
            # The table for encrypted values goes before the open one, where they stand only for want of it.
            rows[item_id].passwords.insert(0, pair)
    if schema.has_addon_quota:
        for item_id, addon in read_addons(connection, schema, ids):
            rows[item_id].addons.append(addon)
    if schema.has_table("runningoperation"):
        for item_id, intname in _read_operations(connection, schema, ids):
            rows[item_id].operations.append(intname)
    emails = _read_emails(connection, schema, {item.account for item in items if item.account is not None})
    for row in rows.values():
        row.emails = emails.get(row.item.account, [])
    return list(rows.values())


def is_one_of(column: ColumnElement[Any], values: Iterable[int]) -> ColumnElement[bool]:
    """``column IN (…)`` with numbers written into the statement: drivers limit how many can be bound.

    A single one is bound, so that the statement is the same for every service and compiled once.
    """
    chosen = [int(value) for value in values]
    if len(chosen) == 1:
        return column == chosen[0]
    numbers = ",".join(map(str, chosen))
    return column.bool_op("IN")(literal_column(f"({numbers or 'NULL'})"))


def read_parameters(
    connection: Connection, schema: Schema, table_name: str, ids: Collection[int], names: Collection[str]
) -> Iterator[tuple[int, tuple[object, object]]]:
    """Item id and (name, value) of the parameters of these names, one table's, as read."""
    table = schema.table(table_name)
    rows = connection.execute(
        select(table.c.item, table.c.intname, first_characters(table.c.value).label("value")).where(
            is_one_of(table.c.item, ids), table.c.intname.in_(sorted(names))
        )
    )
    for item_id, intname, value in rows:
        yield item_id, (intname, value)


def read_addons(
    connection: Connection, schema: Schema, ids: Collection[int]
) -> Iterator[tuple[int, BoughtAddon]]:
    """What was bought for these services, each with its service's id, by their own ids."""
    item = schema.table("item")
    rows = connection.execute(
        select(*schema.pick(item, "item", *ADDON_COLUMNS))
        .where(is_one_of(item.c.parent, ids))
        .order_by(item.c.id)
    )
    for row in rows:
        yield (
            row.parent,
            BoughtAddon(
                id=row.id,
                pricelist=row.pricelist,
                status=row.status,
                intvalue=row.intvalue,
                addonlimit=row.addonlimit,
                addonmax=row.addonmax,
                addonmaxtrial=row.addonmaxtrial,
            ),
        )


def _read_operations(
    connection: Connection, schema: Schema, ids: Collection[int]
) -> Iterator[tuple[int, object]]:
    table = schema.table("runningoperation")
    order = table.c.id if schema.has("runningoperation", "id") else table.c.intname
    for row in connection.execute(
        select(table.c.item, table.c.intname).where(is_one_of(table.c.item, ids)).order_by(order)
    ):
        yield row.item, row.intname


def _read_emails(
    connection: Connection, schema: Schema, account_ids: Collection[int]
) -> dict[int, list[str]]:
    table = schema.table("user")
    people = connection.execute(
        select(
            table.c.account,
            first_characters(table.c.email, _EMAIL_CHARACTERS).label("email"),
            *schema.pick(table, "user", "enabled"),
        )
        .where(is_one_of(table.c.account, account_ids))
        .order_by(table.c.id)
    )
    is_switched = schema.has("user", "enabled")
    enabled: dict[int, list[str]] = {}
    disabled: dict[int, list[str]] = {}
    for account, address, switch in people:
        email = read_filled_text(address)
        if email is not None:
            side = enabled if is_on(switch, default=not is_switched) else disabled
            side.setdefault(account, []).append(email)
    return {
        account: enabled.get(account, []) + disabled.get(account, []) for account in {*enabled, *disabled}
    }
