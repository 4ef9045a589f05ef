"""Which tables and columns the connected billing database has.

Installations differ (the specification's schema, live BILLmanager, mixtures of both), so nothing is assumed:
`inspect_schema` looks once, and every query is built from what is there. What is needed and missing is
`SchemaMismatch`; what is optional is read as NULL. Called by every module of ``bm_db`` that builds a query.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Select, TableClause, column, inspect, null, table
from sqlalchemy.exc import NoSuchTableError

from bm_db.errors import SchemaMismatch

_NEEDED: Final[dict[str, frozenset[str]]] = {
    "item": frozenset({"id", "pricelist", "account", "processingmodule", "status", "parent"}),
    "itemparam": frozenset({"item", "intname", "value"}),
    "pricelist": frozenset({"id"}),
    "pricelistparam": frozenset({"pricelist", "intname", "value"}),
    "processingmodule": frozenset({"id", "module"}),
    "processingparam": frozenset({"processingmodule", "intname", "value"}),
    "user": frozenset({"id", "account", "email"}),
}
# Once a database knows add-on quotas at all, leaving one of these out would sell less than was bought.
_NEEDED_FOR_ADDONS: Final[dict[str, frozenset[str]]] = {
    "item": frozenset({"addonlimit", "intvalue"}),
    "itemtype": frozenset({"id", "intname"}),
    "measure": frozenset({"id", "intname", "lessmeasure", "relation"}),
    "pricelist": frozenset({"addonlimit", "measure", "parent"}),
}
_NEEDED_WHERE_PRESENT: Final[dict[str, frozenset[str]]] = {
    "itemcryptedparam": frozenset({"item", "intname", "value"}),
    "itemcryptparam": frozenset({"item", "intname", "value"}),
    "processingcryptedparam": frozenset({"processingmodule", "intname", "value"}),
    "processingcryptparam": frozenset({"processingmodule", "intname", "value"}),
    "runningoperation": frozenset({"item", "intname"}),
}
USAGE_TABLE: Final = "itemstat"
_NEEDED_FOR_USAGE: Final = frozenset({"item", "statdate", "param", "value", "measure"})
_ADDON_COLUMNS: Final = frozenset({"addontype", "addonlimit", "addonmax", "measure"})
_CURE: Final = "check that database_url names BILLmanager's database, its version, and the user's GRANTs"


class Schema:
    """The tables and columns that are there; builds table expressions from them."""

    def __init__(self, columns: Mapping[str, frozenset[str]]) -> None:
        """Check what is needed; ``columns``: table name → its columns' names in lower case.

        Raises:
            SchemaMismatch: something needed is missing; the message names it.
        """
        self._columns = columns
        self._tables = {name: table(name, *map(column, sorted(present))) for name, present in columns.items()}
        self._statements: dict[Hashable, Select[Any]] = {}
        self.has_addon_quota = bool(_ADDON_COLUMNS & columns.get("pricelist", frozenset()))
        for needed in (_NEEDED, _NEEDED_FOR_ADDONS if self.has_addon_quota else {}):
            for table_name, names in needed.items():
                self._require(table_name, names)
        for table_name, names in _NEEDED_WHERE_PRESENT.items():
            if self.has_table(table_name):
                self._require(table_name, names)

    @property
    def variant(self) -> Literal["live", "spec"]:
        """``live`` when tariffs have add-on lines with quotas, else ``spec``."""
        return "live" if self.has_addon_quota else "spec"

    def has_table(self, table_name: str) -> bool:
        """Whether the table is there."""
        return table_name in self._columns

    def has(self, table_name: str, column_name: str) -> bool:
        """Whether the table is there and has the column."""
        return column_name in self._columns.get(table_name, ())

    def table(self, table_name: str) -> TableClause:
        """The table, with the columns that are there; SQLAlchemy quotes names where a database needs it."""
        return self._tables[table_name]

    def pick(self, source: Any, table_name: str, *names: str) -> list[ColumnElement[Any]]:
        """The named columns of a table (or an alias of it), NULL in the place of those that are not there."""
        return [
            source.c[name].label(name) if self.has(table_name, name) else null().label(name) for name in names
        ]

    def present(self, *table_names: str) -> list[str]:
        """Those of the named tables that are there, in the given order."""
        return [name for name in table_names if self.has_table(name)]

    def prepare(self, key: Hashable, make: Callable[[], Select[Any]]) -> Select[Any]:
        """The statement of that key, made once for these tables: building one costs more than running it."""
        found = self._statements.get(key)
        if found is None:
            found = self._statements[key] = make()
        return found

    def require_usage_table(self) -> None:
        """Check the table for usage, which only writing it needs.

        Raises:
            SchemaMismatch: it or one of its columns is missing.
        """
        self._require(USAGE_TABLE, _NEEDED_FOR_USAGE)

    def _require(self, table_name: str, names: frozenset[str]) -> None:
        if not self.has_table(table_name):
            raise SchemaMismatch(f"the billing database has no table {table_name}: {_CURE}")
        missing = sorted(names - self._columns[table_name])
        if missing:
            listed = ", ".join(f"{table_name}.{name}" for name in missing)
            raise SchemaMismatch(f"the billing database has no column {listed}: {_CURE}")


def inspect_schema(connection: Connection) -> Schema:
    """Look at the tables this package reads or writes.

    Raises:
        SchemaMismatch: something needed is missing.
    """
    wanted = {*_NEEDED, *_NEEDED_FOR_ADDONS, *_NEEDED_WHERE_PRESENT, USAGE_TABLE}
    inspector = inspect(connection)
    found: dict[str, frozenset[str]] = {}
    for real_name in (*inspector.get_table_names(), *inspector.get_view_names()):
        if real_name in wanted:
            try:
                described = inspector.get_columns(real_name)
            except NoSuchTableError:  # dropped since it was listed
                continue
            found[real_name] = frozenset(str(each["name"]).lower() for each in described)
    return Schema(found)
