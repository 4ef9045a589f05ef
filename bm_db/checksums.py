"""Checksums over billing's rows, computed by the database itself.

Called by `bm_db.changes`, which remembers and compares them. Services are taken together in buckets of 256
item ids; what concerns a service (its own row, its add-ons, parameters, client) counts in its bucket.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    LargeBinary,
    TableClause,
    Text,
    and_,
    cast,
    func,
    literal_column,
    or_,
    select,
    true,
)

from bm_db.schema import Schema
from bm_db.service_rows import ADDON_COLUMNS, ITEM_COLUMNS, USERNAME, is_one_of, is_service
from bm_db.sold_quota import QuotaSource
from bm_db.tariffs import GROUP_PARAMETER
from bm_db.values import first_characters

BUCKET_BITS: Final = 8
END_BUCKET: Final = 1 << 50
"""After the last one."""

_PLAN_COLUMNS: Final = (
    "id",
    "parent",
    "itemtype",
    "intname",
    "active",
    "addontype",
    "billtype",
    "measure",
    "addonlimit",
    "addonmax",
    "addonmaxtrial",
    "compound",
)


class ServiceSum(NamedTuple):
    """A service, and the checksum of all that there is of it."""

    item_id: int
    server_id: int
    plan_id: int | None
    checksum: int


class _Source(NamedTuple):
    """Rows that concern services: whose service each is, what counts of it, and which rows do."""

    key: ColumnElement[int]
    columns: Sequence[ColumnElement[Any]]
    tables: FromClause
    condition: ColumnElement[bool]


class ChecksumReader:
    """Reads checksums in one transaction.

    Attributes:
        server_ids: the module's servers.
    """

    def __init__(
        self, connection: Connection, schema: Schema, module: str, quota_sources: Sequence[QuotaSource]
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._module = module
        self._quota_sources = quota_sources
        self._item = schema.table("item")
        if connection.dialect.name == "sqlite":
            driver: Any = connection.connection.driver_connection
            driver.create_function("row_checksum", -1, _sum_row, deterministic=True)
        server = schema.table("processingmodule")
        found = connection.execute(select(server.c.id).where(server.c.module == module))
        self.server_ids: list[int] = list(found.scalars())
        self._is_ours = is_one_of(self._item.c.processingmodule, self.server_ids)
        self._is_service = and_(self._is_ours, is_service(self._item))
        self._frequent = self._list_frequent()
        self._addons = self._list_addons()
        self._rare = self._list_rare()

    def sum_tariffs(self) -> tuple[int, ...]:
        """One checksum for each table of which plans are made."""
        parameters = {each.name for each in self._quota_sources if each.kind == "pricelistparam"}
        pricelistparam = self._schema.table("pricelistparam")
        is_read = pricelistparam.c.intname.in_(sorted({GROUP_PARAMETER, *parameters}))
        sums = [
            self._sum_table("pricelist", _PLAN_COLUMNS),
            self._sum_table("pricelistparam", ("pricelist", "intname", "value"), is_read),
        ]
        if self._schema.has_addon_quota:
            sums.append(self._sum_table("itemtype", ("id", "intname")))
            sums.append(self._sum_table("measure", ("id", "intname", "lessmeasure", "relation")))
        return tuple(sums)

    def sum_servers(self) -> tuple[int, ...]:
        """One checksum for each table with the module's servers; of nothing that changes by itself."""
        schema, columns = self._schema, ("processingmodule", "intname", "value")
        is_ours = schema.table("processingmodule").c.module == self._module
        return (
            self._sum_table("processingmodule", ("id", "name", "active"), is_ours),
            *(
                self._sum_table(
                    name, columns, is_one_of(schema.table(name).c.processingmodule, self.server_ids)
                )
                for name in schema.present(
                    "processingparam", "processingcryptedparam", "processingcryptparam"
                )
            ),
        )

    def list_plans(self) -> set[int]:
        """The plans that services have now."""
        plan = self._item.c.pricelist
        found = self._connection.execute(select(plan).where(self._is_service, plan.is_not(None)).distinct())
        return set(found.scalars())

    def sum_frequent(self, plans: Collection[int]) -> dict[int, int]:
        """Bucket → checksum of all that is looked at in each poll; of add-ons, only those of these plans."""
        line = self._schema.table("pricelist")
        lines = self._connection.execute(select(line.c.id).where(is_one_of(line.c.parent, plans))).scalars()
        # Trying every service for add-ons would take three times as long.
        is_sold = is_one_of(self._item.c.pricelist, lines)
        addons = [each._replace(condition=and_(each.condition, is_sold)) for each in self._addons]
        return self._sum_by([*self._frequent, *addons], [(0, END_BUCKET)], is_by_bucket=True)

    def sum_rare(self, first: int, end: int) -> dict[int, int]:
        """Bucket → checksum of all that is looked at rarely, from the first bucket to before the second."""
        return self._sum_by(self._rare, [(first, end)], is_by_bucket=True)

    def list_services(self, buckets: Collection[int]) -> Iterator[ServiceSum]:
        """The services of these buckets (in order), by id."""
        item, ranges = self._item, list(_join_ranges(buckets))
        sums = self._sum_by([*self._frequent, *self._addons, *self._rare], ranges, is_by_bucket=False)
        query = select(item.c.id, item.c.processingmodule, item.c.pricelist).where(
            self._is_service, _is_in(item.c.id, ranges)
        )
        for item_id, server_id, plan_id in self._connection.execute(query.order_by(item.c.id)):
            yield ServiceSum(item_id, server_id, plan_id, sums[item_id])

    def _list_frequent(self) -> list[_Source]:
        schema, item = self._schema, self._item
        sources = [_Source(item.c.id, self._pick("item", ITEM_COLUMNS), item, self._is_service)]
        if schema.has_table("runningoperation"):
            operation = schema.table("runningoperation")
            columns = self._pick("runningoperation", ("id", "intname"))
            sources.append(self._join(operation, operation.c.item == item.c.id, columns))
        names = self._list_quota_parameters()
        if names and not schema.has_addon_quota:
            sources.append(self._join_parameters(names))
        return sources

    def _list_addons(self) -> list[_Source]:
        if not self._schema.has_addon_quota:
            return []
        parent = self._item.c.parent
        return [_Source(parent, self._pick("item", ADDON_COLUMNS), self._item, parent.is_not(None))]

    def _list_rare(self) -> list[_Source]:
        user = self._schema.table("user")
        columns = [*self._pick("user", ("id", "enabled")), first_characters(user.c.email)]
        names = self._list_quota_parameters() if self._schema.has_addon_quota else set()
        return [
            self._join_parameters({USERNAME, *names}),
            self._join(user, user.c.account == self._item.c.account, columns),
        ]

    def _list_quota_parameters(self) -> set[str]:
        return {each.name for each in self._quota_sources if each.kind == "itemparam"}

    def _join_parameters(self, names: Collection[str]) -> _Source:
        table = self._schema.table("itemparam")
        columns = [table.c.intname, first_characters(table.c.value)]
        source = self._join(table, table.c.item == self._item.c.id, columns)
        return source._replace(condition=and_(self._is_ours, table.c.intname.in_(sorted(names))))

    def _join(
        self, table: TableClause, on: ColumnElement[bool], columns: Sequence[ColumnElement[Any]]
    ) -> _Source:
        # The service's id belongs to the row: two services might exchange theirs.
        item_id = self._item.c.id
        return _Source(item_id, [item_id, *columns], self._item.join(table, on), self._is_ours)

    def _pick(self, table_name: str, names: Sequence[str]) -> list[ColumnElement[Any]]:
        table = self._schema.table(table_name)
        return [table.c[name] for name in names if self._schema.has(table_name, name)]

    def _sum_by(
        self, sources: Sequence[_Source], buckets: Sequence[tuple[int, int]], *, is_by_bucket: bool
    ) -> dict[int, int]:
        """Bucket or service → checksum of all that these sources have in these ranges of buckets."""
        sums: dict[int, int] = {}
        for source in sources:
            # Not a bound value: PostgreSQL must see the same expression in both places.
            shift: ColumnElement[int] = literal_column(str(BUCKET_BITS))
            key = source.key.bitwise_rshift(shift) if is_by_bucket else source.key
            rows = self._connection.execute(
                select(key, self._sum_rows(source.columns))
                .select_from(source.tables)
                .where(source.condition, _is_in(source.key, buckets))
                .group_by(key)
            )
            for each, checksum in rows:
                sums[each] = sums.get(each, 0) + int(checksum)
        return sums

    def _sum_table(self, name: str, columns: Sequence[str], *conditions: ColumnElement[bool]) -> int:
        table = self._schema.table(name)
        picked = [
            first_characters(column) if column.name == "value" else column
            for column in self._pick(name, columns)
        ]
        query = select(self._sum_rows(picked)).select_from(table).where(*conditions)
        return int(self._connection.execute(query).scalar() or 0)

    def _sum_rows(self, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
        """The sum of 32-bit checksums of rows; rows of different content differ (NULL, '' and shifts too)."""
        dialect = self._connection.dialect.name
        if dialect == "sqlite":
            return func.sum(func.row_checksum(*(cast(column, LargeBinary) for column in columns)))
        if dialect == "postgresql":
            return func.sum(func.hashtext(cast(func.row(*columns), Text)))
        text = func.concat_ws(literal_column("','"), *(func.quote(column) for column in columns))
        # Twice: CRC32 alone is linear, so that the same change in several rows (services suspended together)
        # may leave the sum as it was. Between the two the number is written out in decimal: not linear.
        return func.sum(func.crc32(func.crc32(text)))


def _is_in(key: ColumnElement[int], buckets: Sequence[tuple[int, int]]) -> ColumnElement[bool]:
    """Whether a service's id is in one of these ranges of buckets."""
    if list(buckets) == [(0, END_BUCKET)]:
        return true()
    return or_(*(and_(key >= first << BUCKET_BITS, key < end << BUCKET_BITS) for first, end in buckets))


def _join_ranges(buckets: Collection[int]) -> Iterator[tuple[int, int]]:
    """Sorted buckets as ranges: from the first to before the second."""
    low = high = -1
    for bucket in buckets:
        if bucket != high:
            if high >= 0:
                yield low, high
            low = bucket
        high = bucket + 1
    yield low, high


def _sum_row(*values: object) -> int:
    """SQLite has no checksums of its own."""
    return int.from_bytes(hashlib.blake2b(repr(values).encode(), digest_size=4).digest())
