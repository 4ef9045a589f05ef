"""Tariff plans with everything a service takes from its plan: add-on lines, measures, group, quota_gb.

Read once for a whole listing, in a handful of set-based queries, by `bm_db.services`; `bm_db.sold_quota`
computes with what is here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Select, bindparam, select

from bm_db.schema import Schema
from bm_db.values import (
    ParameterValues,
    UnreadableValue,
    first_characters,
    gather_parameters,
    get_single,
    is_on,
    read_filled_text,
    read_integer,
    read_number,
    show,
)
from states.model import SoldQuota

GROUP_PARAMETER: Final = "usergroup"
ADMIN_GROUP: Final = "admin"
_BASE_MEASURE: Final = "byte"
_PLANS: Final[BindParameter[Any]] = bindparam("plans", expanding=True)


@dataclass(frozen=True, slots=True)
class AddonLine:
    """One active add-on line of a plan, columns as read.

    Attributes:
        id: pricelist.id of the line.
        name: its own intname, else its itemtype's, in lower case; "" without either.
        addontype: NULL-able number (1 boolean, 2 integer, 3 enumeration); 2 where the column is not there.
        is_compound_part: counts only when bought.
    """

    id: int
    name: str
    addontype: object
    billtype: object
    measure: object
    addonlimit: object
    addonmax: object
    addonmaxtrial: object
    is_compound_part: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A tariff plan: pricelist.id, its name, the parameters that are filled in, its active add-on lines."""

    id: int
    name: str
    parameters: ParameterValues
    lines: tuple[AddonLine, ...]

    def __str__(self) -> str:
        return f"tariff {self.id} ({show(self.name)})"


class Measures:
    """Units of this installation; ids differ from one to the next, so they are walked down to ``byte``."""

    def __init__(self, rows: Mapping[int, tuple[str, object, object]]) -> None:
        """``rows``: measure.id → (intname, lessmeasure, relation)."""
        self._rows = rows
        self._known: dict[int, Fraction] = {}

    def get_bytes(self, measure: object) -> Fraction:
        """How many bytes one unit of a measure (its id) is.

        Raises:
            UnreadableValue: no measure, one that is not there, or one that does not lead to ``byte``.
        """
        measure_id = read_integer(measure)
        if measure_id is None:
            raise UnreadableValue("has no measure: choose one, for example GiB")
        if measure_id not in self._known:
            self._known[measure_id] = self._walk(measure_id)
        return self._known[measure_id]

    def _walk(self, measure_id: int) -> Fraction:
        factor = Fraction(1)
        passed: set[int] = set()
        current: int | None = measure_id
        while current is not None and current in self._rows and current not in passed:
            passed.add(current)
            intname, lessmeasure, relation = self._rows[current]
            if intname == _BASE_MEASURE:
                return factor
            step = read_number(relation)
            if lessmeasure is not None and (step is None or step <= 0):
                raise UnreadableValue(
                    f"has measure {measure_id}, whose relation {show(relation)} is not a positive number"
                )
            factor *= step or 1
            current = read_integer(lessmeasure)
        raise UnreadableValue(
            f"has measure {measure_id}, which does not lead to byte: choose a measure of storage"
        )


class Tariffs:
    """The plans of one listing.

    Attributes:
        measures: the installation's units.
        usual_quotas: by plan and period, what a service that bought nothing more gets, or why that
            cannot be told; filled by `bm_db.services`.
    """

    def __init__(self, plans: Mapping[int, Plan], measures: Measures) -> None:
        self._plans = plans
        self.measures = measures
        self.usual_quotas: dict[tuple[int, object], SoldQuota | UnreadableValue] = {}

    def get(self, plan_id: int) -> Plan | None:
        """The plan, None when there is no such row."""
        return self._plans.get(plan_id)


def read_tariffs(
    connection: Connection,
    schema: Schema,
    plan_ids: Iterable[int],
    parameter_names: Collection[str],
) -> Tariffs:
    """Read the plans with these ids in at most four queries."""

    def make() -> Select[Any]:
        pricelist = schema.table("pricelist")
        return select(*schema.pick(pricelist, "pricelist", "id", "name")).where(pricelist.c.id.in_(_PLANS))

    chosen = {"plans": list(plan_ids)}
    names = {
        row.id: read_filled_text(row.name) or ""
        for row in connection.execute(schema.prepare("plans", make), chosen)
    }
    parameters = _read_parameters(connection, schema, chosen, parameter_names)
    lines: dict[int, list[AddonLine]] = {}
    measures = Measures({})
    if schema.has_addon_quota:
        for plan_id, line in _read_lines(connection, schema, chosen):
            lines.setdefault(plan_id, []).append(line)
        measures = _read_measures(connection, schema)
    return Tariffs(
        {
            plan_id: Plan(
                plan_id, name, gather_parameters(parameters.get(plan_id, ())), tuple(lines.get(plan_id, ()))
            )
            for plan_id, name in names.items()
        },
        measures,
    )


def read_group(parameters: ParameterValues) -> str | None:
    """The group a tariff names; None when it names none.

    Raises:
        UnreadableValue: the group may not or cannot be given.
    """
    text = get_single(parameters, GROUP_PARAMETER)
    group = text.strip() if text else None
    if group is None:
        return None
    if group.casefold() == ADMIN_GROUP:
        raise UnreadableValue(
            "usergroup is the administrators' group, which is never given: choose another group"
        )
    if not group.isprintable() or len(group) > 255:
        raise UnreadableValue(f"usergroup {show(group)} is not a group id: choose the group again")
    return group


def list_tariff_groups(connection: Connection, schema: Schema) -> frozenset[str]:
    """Every group that any plan names and that may be given."""
    table = schema.table("pricelistparam")
    rows = connection.execute(
        select(first_characters(table.c.value).label("value"))
        .where(table.c.intname == GROUP_PARAMETER)
        .distinct()
    )
    groups = set()
    for row in rows:
        try:
            group = read_group(gather_parameters([(GROUP_PARAMETER, row.value)]))
        except UnreadableValue:
            continue
        if group is not None:
            groups.add(group)
    return frozenset(groups)


def _read_parameters(
    connection: Connection, schema: Schema, chosen: Mapping[str, list[int]], names: Collection[str]
) -> dict[int, list[tuple[object, object]]]:
    def make() -> Select[Any]:
        table = schema.table("pricelistparam")
        value = first_characters(table.c.value).label("value")
        return select(table.c.pricelist, table.c.intname, value).where(
            table.c.pricelist.in_(_PLANS), table.c.intname.in_(sorted(names))
        )

    found: dict[int, list[tuple[object, object]]] = {}
    key = "plan parameters", frozenset(names)
    for plan_id, intname, value in connection.execute(schema.prepare(key, make), chosen):
        found.setdefault(plan_id, []).append((intname, value))
    return found


def _read_lines(
    connection: Connection, schema: Schema, chosen: Mapping[str, list[int]]
) -> list[tuple[int, AddonLine]]:
    def make() -> Select[Any]:
        line, itemtype = schema.table("pricelist").alias("line"), schema.table("itemtype")
        source: Any = line
        type_name: Sequence[Any] = ()
        if schema.has("pricelist", "itemtype"):
            source = line.outerjoin(itemtype, itemtype.c.id == line.c.itemtype)
            type_name = (itemtype.c.intname.label("type_name"),)
        columns = ("id", "parent", "intname", "active", "addontype", "billtype", "measure")
        limits = ("addonlimit", "addonmax", "addonmaxtrial", "compound")
        return (
            select(*schema.pick(line, "pricelist", *columns, *limits), *type_name)
            .select_from(source)
            .where(line.c.parent.in_(_PLANS))
            .order_by(line.c.id)
        )

    rows = connection.execute(schema.prepare("plan lines", make), chosen)
    is_typed = schema.has("pricelist", "addontype")
    is_switched = schema.has("pricelist", "active")
    return [
        (
            row.parent,
            AddonLine(
                id=row.id,
                name=(
                    read_filled_text(row.intname) or read_filled_text(getattr(row, "type_name", None)) or ""
                ).lower(),
                addontype=row.addontype if is_typed else 2,
                billtype=row.billtype,
                measure=row.measure,
                addonlimit=row.addonlimit,
                addonmax=row.addonmax,
                addonmaxtrial=row.addonmaxtrial,
                # A compound is named by its id here and by on/off there; 0 and off are "none".
                is_compound_part=is_on(row.compound, default=read_filled_text(row.compound) is not None),
            ),
        )
        for row in rows
        if is_on(row.active, default=not is_switched)
    ]


def _read_measures(connection: Connection, schema: Schema) -> Measures:
    def make() -> Select[Any]:
        table = schema.table("measure")
        return select(table.c.id, table.c.intname, table.c.lessmeasure, table.c.relation)

    rows = connection.execute(schema.prepare("measures", make))
    return Measures(
        {
            measure_id: ((read_filled_text(intname) or "").lower(), lessmeasure, relation)
            for measure_id, intname, lessmeasure, relation in rows
        }
    )
