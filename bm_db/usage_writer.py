"""Writing daily usage into BILLmanager's statistics, table itemstat.

mgrctl has no function for it, so both writers (`bm_db.sql_writer`, `bm_db.mgrctl_writer`) call `write_usage`.
A service has one row a day and parameter, which every later look at that day replaces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from itertools import islice
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Date, Integer, String, TableClause, column, select, table
from sqlalchemy.exc import IntegrityError

from bm_db.billing import Billing
from bm_db.errors import BillingAccessDenied, BillingStatementFailed, SchemaMismatch
from bm_db.schema import USAGE_TABLE, Schema, inspect_schema
from bm_db.service_rows import is_one_of, read_addons, select_services
from bm_db.sold_quota import BoughtAddon, is_quota_line
from bm_db.tariffs import Plan, Tariffs, read_tariffs
from bm_db.values import UnreadableValue, read_filled_text, read_integer

USED, QUOTA = "used_bytes", "quota_bytes"
_SERVICES_A_CHUNK: Final = 1000
_RETRIES: Final = 2
_KEY: Final = ("item", "statdate", "param")
_BYTE: Final = "byte"

Value = tuple[int, int | None]
"""A number and the id of the measure it is in."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one service uses.

    Attributes:
        item_id: the service.
        used_bytes: of its storage.
        quota_bytes: its limit on the server; None when it has none.
    """

    item_id: int
    used_bytes: int
    quota_bytes: int | None


def write_usage(billing: Billing, server_id: int, day: date, usage: Iterable[Usage]) -> int:
    """Record the day's usage of a server's services; those that are not there any more are left out.

    Each thousand services are a transaction of their own: after an error earlier ones are written. A quota
    that was recorded for the day stays when it is None later.

    Returns:
        How many rows were new or differed; the others were left as they were.

    Raises:
        SchemaMismatch: there is no table itemstat, or the user may not see it.
        BillingAccessDenied: the user may not write it; the message names the GRANT.
        BillingError: whatever else failed.
    """
    rest, rows = iter(usage), 0
    chunk = list(islice(rest, _SERVICES_A_CHUNK))
    if not chunk:
        return 0
    try:
        writing = _prepare(billing, server_id, day)
        while chunk:
            rows += writing.write(chunk)
            chunk = list(islice(rest, _SERVICES_A_CHUNK))
    except BillingAccessDenied as exc:
        raise BillingAccessDenied(
            f"usage cannot be written into {billing.database.address}: {_get_cure(billing)}"
        ) from exc
    return rows


def _prepare(billing: Billing, server_id: int, day: date) -> _Writing:
    """Read what the plans of the server's services measure by."""
    with billing.reading() as (connection, known):
        # The right to see the table may have been given since.
        schema = known if known.has_table(USAGE_TABLE) else inspect_schema(connection)
        try:
            schema.require_usage_table()
        except SchemaMismatch as exc:
            raise SchemaMismatch(f"usage cannot be written: {exc}; {_get_cure(billing)}") from exc
        services = select_services(schema).where(schema.table("item").c.processingmodule == server_id)
        plan_ids = connection.execute(
            services.with_only_columns(schema.table("item").c.pricelist).distinct()
        ).scalars()
        tariffs = read_tariffs(
            connection, schema, [plan_id for plan_id in plan_ids if plan_id is not None], ()
        )
        return _Writing(billing, schema, server_id, day, tariffs, _read_base_measure(connection, schema))


def _get_cure(billing: Billing) -> str:
    sequence = " and USAGE on its sequence" if billing.database.dialect_name == "postgresql" else ""
    return f"GRANT SELECT, INSERT, UPDATE ON {USAGE_TABLE}{sequence} to the user of database_url"


def _read_base_measure(connection: Connection, schema: Schema) -> int | None:
    """The id of the measure ``byte``; None in an installation without one."""
    if not schema.has("measure", "intname"):
        return None
    measure = schema.table("measure")
    for measure_id, intname in connection.execute(
        select(measure.c.id, measure.c.intname).order_by(measure.c.id)
    ):
        if (read_filled_text(intname) or "").lower() == _BYTE:
            return int(measure_id)
    return None


@dataclass(frozen=True, slots=True)
class _Line:
    """An add-on line that usage is written for: its name, its measure's id, and how many bytes that is."""

    name: str
    measure: int
    unit_bytes: Fraction


class _Writing:
    """One server's usage of one day on its way into the table."""

    def __init__(
        self,
        billing: Billing,
        schema: Schema,
        server_id: int,
        day: date,
        tariffs: Tariffs,
        base_measure: int | None,
    ) -> None:
        self._database = billing.database
        self._schema = schema
        self._server_id = server_id
        self._day = day
        self._tariffs = tariffs
        self._base_measure = base_measure
        self._line_names = [each.name for each in billing.quota_sources if each.kind == "addon"]
        self._table: TableClause = table(
            USAGE_TABLE,
            column("item", Integer),
            column("statdate", Date),
            column("param", String),
            column("value", BigInteger),
            column("measure", Integer),
        )

    def write(self, chunk: Sequence[Usage]) -> int:
        """Write what differs, in one transaction; how many rows."""
        usage = {each.item_id: each for each in chunk}
        for _ in range(_RETRIES):
            try:
                return self._write(usage)
            except BillingStatementFailed as exc:
                # A service was deleted between our look and our insert: the next look does without it.
                if not isinstance(exc.__cause__, IntegrityError):
                    raise
        return self._write(usage)

    def _write(self, usage: Mapping[int, Usage]) -> int:
        with self._database.writing() as connection:
            wanted = dict(self._list_values(connection, usage))
            recorded = self._read_recorded(connection, usage)
            rows = [
                {"item": item_id, "statdate": self._day, "param": param, "value": value, "measure": measure}
                for (item_id, param), (value, measure) in sorted(wanted.items())
                if recorded.get((item_id, param)) != (value, measure)
            ]
            if rows:
                self._upsert(connection, rows)
            return len(rows)

    def _list_values(
        self, connection: Connection, usage: Mapping[int, Usage]
    ) -> Iterator[tuple[tuple[int, str], Value]]:
        """What is to stand in the table, by service and parameter."""
        item = self._schema.table("item")
        bought: dict[int, list[BoughtAddon]] = {}
        if self._schema.has_addon_quota:
            for item_id, addon in read_addons(connection, self._schema, usage):
                bought.setdefault(item_id, []).append(addon)
        services = select_services(self._schema).where(
            item.c.processingmodule == self._server_id, is_one_of(item.c.id, usage)
        )
        for service in connection.execute(services):
            one = usage[service.id]
            yield (one.item_id, USED), (one.used_bytes, self._base_measure)
            if one.quota_bytes is not None:
                yield (one.item_id, QUOTA), (one.quota_bytes, self._base_measure)
            plan = None if service.pricelist is None else self._tariffs.get(service.pricelist)
            line = None if plan is None else self._find_line(plan, bought.get(service.id, []))
            if line is not None:
                yield (one.item_id, line.name), (math.ceil(one.used_bytes / line.unit_bytes), line.measure)

    def _find_line(self, plan: Plan, bought: Sequence[BoughtAddon]) -> _Line | None:
        """By which add-on line of its plan a service is measured: the first that sells it storage."""
        for name in self._line_names:
            for line in plan.lines:
                rows = [row for row in bought if row.pricelist == line.id and row.counts]
                try:
                    measure = read_integer(line.measure)
                    if line.name == name and measure is not None and is_quota_line(line, rows):
                        return _Line(name, measure, self._tariffs.measures.get_bytes(measure))
                except UnreadableValue:
                    continue
        return None

    def _read_recorded(self, connection: Connection, item_ids: Iterable[int]) -> dict[tuple[int, str], Value]:
        stat = self._table
        rows = connection.execute(
            select(stat.c.item, stat.c.param, stat.c.value, stat.c.measure).where(
                is_one_of(stat.c.item, item_ids), stat.c.statdate == self._day
            )
        )
        return {(row.item, row.param): (row.value, row.measure) for row in rows}

    def _upsert(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        # A dialect brings dozens of modules with it; two of three are never used.
        if self._database.dialect_name in {"mysql", "mariadb"}:
            from sqlalchemy.dialects import mysql

            statement = mysql.insert(self._table)
            new = statement.inserted
            connection.execute(statement.on_duplicate_key_update(value=new.value, measure=new.measure), rows)
            return
        if self._database.dialect_name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
        standard = insert(self._table)
        new = standard.excluded
        connection.execute(
            standard.on_conflict_do_update(
                index_elements=_KEY, set_={"value": new.value, "measure": new.measure}
            ),
            rows,
        )
