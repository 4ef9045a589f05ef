"""The rows that make up services, read a chunk at a time with a constant number of set-based queries.

Called by `bm_db.services`, which understands them, and by the modules of ``bm_db`` that ask about services
in their own way. Parameters and addresses are cut to what can be
meaningful already by the database, so that no row can fill the memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    TableClause,
    and_,
    bindparam,
    func,
    literal_column,
    select,
)

from bm_db.schema import Schema
from bm_db.servers import select_server_ids
from bm_db.sold_quota import BoughtAddon
from bm_db.values import first_characters, is_on, read_filled_text, read_parameter

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
_IDS_AT_ONCE: Final = 100_000
_SPARSE: Final = 4
"""Of so many ids in a range one at least must be wanted for the range to be read."""
USERNAME, URL, PASSWORD = "username", "url", "userpassword"
CARD_STATE: Final = "nextcloud_status"


@dataclass(slots=True)
class ServiceRow:
    """One service with what belongs to it, as read; first its own columns, in the order of `ITEM_COLUMNS`.

    Attributes:
        parameters: lower-case name → values on record.
        passwords: the values on record, the one that counts first.
        emails: of those of the client's users that have one, enabled users first, then by id.
    """

    id: int
    pricelist: int | None
    account: int | None
    processingmodule: int | None
    status: object
    period: object
    parameters: dict[str, list[str]] = field(default_factory=dict)
    passwords: list[str] = field(default_factory=list)
    addons: list[BoughtAddon] = field(default_factory=list)
    operations: list[object] = field(default_factory=list)
    emails: Sequence[str] = ()


def is_service(item: TableClause) -> ColumnElement[bool]:
    """Whether a row of ``item`` is nobody's add-on.

    Not ``parent IS NULL``: for it MariaDB takes the index on ``parent``, where nearly all rows say the same,
    although a range of ids was asked for; that takes six times as long.
    """
    return func.coalesce(item.c.parent, -1) == -1


def select_services(schema: Schema) -> Select[Any]:
    """All services."""
    item = schema.table("item")
    return select(*schema.pick(item, "item", *ITEM_COLUMNS)).where(is_service(item))


def select_services_of(schema: Schema, module: str, server_id: int | None = None) -> Select[Any]:
    """The services of the module's servers, or of that one of them."""
    server = schema.table("item").c.processingmodule
    services = select_services(schema).where(server.in_(select_server_ids(schema, module)))
    return services if server_id is None else services.where(server == server_id)


def count_services(connection: Connection, schema: Schema, module: str) -> dict[int, int]:
    """How many services each server of the module has, by server id; 0 for those without any."""
    server, item = schema.table("processingmodule"), schema.table("item")
    is_on_it = and_(item.c.processingmodule == server.c.id, is_service(item))
    rows = connection.execute(
        select(server.c.id, func.count(item.c.id))
        .select_from(server.outerjoin(item, is_on_it))
        .where(server.c.module == module)
        .group_by(server.c.id)
    )
    return {server_id: count for server_id, count in rows}  # noqa: C416 - rows are no pairs to mypy


@dataclass(frozen=True, slots=True)
class ServiceIds:
    """Which services there are, and by which plans they are sold.

    Attributes:
        ids: in order; eight bytes each, so that all of them may stay in memory.
        plan_ids: of all of them.
    """

    ids: Sequence[int]
    plan_ids: Collection[int]


def read_ids(connection: Connection, schema: Schema, services: Select[Any]) -> ServiceIds:
    """The ids of the selected services.

    A page of services is then read by its ids. Databases do not always see that a condition on the server
    with an order by id and a limit asks for few rows, and would sort all of them for each page.
    """
    item_id = schema.table("item").c.id
    query = services.with_only_columns(item_id, services.selected_columns.pricelist).order_by(item_id)
    page = query.limit(_IDS_AT_ONCE)
    ids, plan_ids = array("q"), set[int | None]()
    rows = connection.execute(page).all()
    while rows:
        ids.extend(each for each, _ in rows)
        plan_ids.update(plan_id for _, plan_id in rows)
        rows = connection.execute(page.where(item_id > ids[-1])).all() if len(rows) == _IDS_AT_ONCE else []
    return ServiceIds(ids, {plan_id for plan_id in plan_ids if plan_id is not None})


def list_chunks(
    connection: Connection,
    schema: Schema,
    ids: Sequence[int],
    parameter_names: Collection[str],
    chunk_size: int,
) -> Iterator[list[ServiceRow]]:
    """The services of these ids, which are in order, ``chunk_size`` at a time."""
    for start in range(0, len(ids), chunk_size):
        chosen = frozenset(ids[start : start + chunk_size])
        items = [row for row in read_items(connection, schema, chosen) if row[0] in chosen]
        yield complete_rows(connection, schema, items, parameter_names)


def read_items(connection: Connection, schema: Schema, ids: Collection[int]) -> Sequence[Row[Any]]:
    """The services of these ids that are there, in order, and maybe services between them."""

    def make() -> tuple[Select[Any], ColumnElement[Any]]:
        item = schema.table("item")
        return select_services(schema).order_by(item.c.id), item.c.id

    return _fetch(connection, schema, "items", make, ids)


def complete_rows(
    connection: Connection, schema: Schema, items: Sequence[Row[Any]], parameter_names: Collection[str]
) -> list[ServiceRow]:
    """Everything that belongs to these services, in at most six queries."""
    rows = {row.id: row for row in (ServiceRow(*tuple(item)) for item in items)}
    for item_id, name, text in read_parameters(
        connection, schema, "itemparam", rows, {*parameter_names, PASSWORD}
    ):
        if name == PASSWORD:
            rows[item_id].passwords.append(text)
        else:
            rows[item_id].parameters.setdefault(name, []).append(text)
    for table_name in schema.present("itemcryptparam", "itemcryptedparam"):
        for item_id, _, text in read_parameters(connection, schema, table_name, rows, {PASSWORD}):
            # The table for encrypted values goes before the open one, where they stand only for want of it.
            rows[item_id].passwords.insert(0, text)
    if schema.has_addon_quota:
        for item_id, addon in read_addons(connection, schema, rows):
            rows[item_id].addons.append(addon)
    if schema.has_table("runningoperation"):
        for item_id, intname in _read_operations(connection, schema, rows):
            rows[item_id].operations.append(intname)
    emails = _read_emails(
        connection, schema, {row.account for row in rows.values() if row.account is not None}
    )
    for row in rows.values():
        row.emails = emails.get(row.account, ())
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


def _fetch(
    connection: Connection,
    schema: Schema,
    key: Hashable,
    make: Callable[[], tuple[Select[Any], ColumnElement[Any]]],
    ids: Collection[int],
) -> Sequence[Any]:
    """The rows of a query in which a column has one of these ids, and maybe rows between them.

    Databases look each number of a list up in the index, and it takes as long as all the rest; a range is one
    look, and its statement is made and compiled once. So where a good part of a range is wanted, all of it is
    read, and rows of others are to be left out by the caller.

    Args:
        connection, schema: where to read.
        key: of the query among those that are prepared.
        make: gives the query and the column.
        ids: what is wanted.
    """
    numbers = [int(each) for each in ids]
    if not numbers:
        return ()
    first, last = min(numbers), max(numbers)
    if last - first >= _SPARSE * len(numbers):
        query, column = make()
        return connection.execute(query.where(is_one_of(column, numbers))).all()

    def make_range() -> Select[Any]:
        query, column = make()
        return query.where(column.between(bindparam("first"), bindparam("last")))

    return connection.execute(schema.prepare(key, make_range), {"first": first, "last": last}).all()


def read_parameters(
    connection: Connection, schema: Schema, table_name: str, ids: Collection[int], names: Collection[str]
) -> Iterator[tuple[int, str, str]]:
    """Item id, lower-case name and value of these parameters, one table's; blank ones are none."""

    def make() -> tuple[Select[Any], ColumnElement[Any]]:
        table = schema.table(table_name)
        value = first_characters(table.c.value).label("value")
        return select(table.c.item, table.c.intname, value).where(
            table.c.intname.in_(sorted(names))
        ), table.c.item

    chosen = frozenset(ids)
    key = "parameters", table_name, frozenset(names)
    for item_id, intname, value in _fetch(connection, schema, key, make, chosen):
        if item_id in chosen and (parameter := read_parameter(intname, value)) is not None:
            yield item_id, *parameter


def read_addons(
    connection: Connection, schema: Schema, ids: Collection[int]
) -> Iterator[tuple[int, BoughtAddon]]:
    """What was bought for these services, each with its service's id, by their own ids."""

    def make() -> tuple[Select[Any], ColumnElement[Any]]:
        item = schema.table("item")
        return select(*schema.pick(item, "item", *ADDON_COLUMNS)).order_by(item.c.id), item.c.parent

    chosen = frozenset(ids)
    for row in _fetch(connection, schema, "addons", make, chosen):
        if row.parent in chosen:
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
    def make() -> tuple[Select[Any], ColumnElement[Any]]:
        table = schema.table("runningoperation")
        order = table.c.id if schema.has("runningoperation", "id") else table.c.intname
        return select(table.c.item, table.c.intname).order_by(order), table.c.item

    chosen = frozenset(ids)
    for item_id, intname in _fetch(connection, schema, "operations", make, chosen):
        if item_id in chosen:
            yield item_id, intname


def _read_emails(
    connection: Connection, schema: Schema, account_ids: Collection[int]
) -> dict[int | None, list[str]]:
    def make() -> tuple[Select[Any], ColumnElement[Any]]:
        table = schema.table("user")
        email = first_characters(table.c.email, _EMAIL_CHARACTERS).label("email")
        query = select(table.c.account, email, *schema.pick(table, "user", "enabled"))
        return query.order_by(table.c.id), table.c.account

    is_switched = schema.has("user", "enabled")
    enabled: dict[int | None, list[str]] = {}
    disabled: dict[int | None, list[str]] = {}
    for account, address, switch in _fetch(connection, schema, "people", make, account_ids):
        email = read_filled_text(address)
        if email is not None:
            side = enabled if is_on(switch, default=not is_switched) else disabled
            side.setdefault(account, []).append(email)
    for account, addresses in disabled.items():
        enabled.setdefault(account, []).extend(addresses)
    return enabled
