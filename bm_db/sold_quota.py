"""How much storage was sold to one service: BILLmanager's add-on rules and the specification's quota_gb.

Pure; called by `bm_db.services` with what it read. The sources are asked in the configured order and the
first one that says anything decides, even if what it says cannot be read. No quota is never "unlimited".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from bm_db.errors import QuotaSourceInvalid
from bm_db.tariffs import AddonLine, Measures, Plan
from bm_db.values import ParameterValues, UnreadableValue, get_single, read_integer, read_number, show
from states.model import UNLIMITED, SoldQuota, Special

DEFAULT_QUOTA_SOURCES: Final = ("addon:disk", "addon:disc", "itemparam:quota_gb", "pricelistparam:quota_gb")
GIGABYTE: Final = 1024**3
LARGEST_QUOTA_BYTES: Final = 2**63 - 1
"""More than a server's integers hold; such a number is a mistake in the tariff."""

_UNLIMITED_WORDS: Final = frozenset({"-1", "none", "unlimited"})
_STATUS_ORDERED: Final = 1
_STATUS_DELETED: Final = 4
_ADDONTYPE_INTEGER: Final = 2
_BILLTYPE_USAGE: Final = 3
_BILLTYPES_WITHOUT_QUOTA: Final = frozenset({4, 10})  # compound, manual
_TRIAL_PERIOD: Final = -100

Amount = Fraction | Literal[Special.UNLIMITED]


@dataclass(frozen=True, slots=True)
class QuotaSource:
    """Where a quota may stand: add-on lines of that name, or a parameter (in GB) of service or plan."""

    kind: Literal["addon", "itemparam", "pricelistparam"]
    name: str


@dataclass(frozen=True, slots=True)
class BoughtAddon:
    """One bought add-on of a service (item row with a parent), columns as read."""

    id: int
    pricelist: int | None
    status: object
    intvalue: object
    addonlimit: object
    addonmax: object
    addonmaxtrial: object

    @property
    def counts(self) -> bool:
        """Whether it is the client's: ordered (unpaid) and deleted ones are not."""
        try:
            return read_integer(self.status) not in {_STATUS_ORDERED, _STATUS_DELETED}
        except UnreadableValue:
            return True


def parse_quota_sources(sources: Iterable[str]) -> tuple[QuotaSource, ...]:
    """Read ``quota_sources`` of the configuration.

    Raises:
        QuotaSourceInvalid: no entry, or one that is not addon:NAME, itemparam:NAME or pricelistparam:NAME.
    """
    parsed = []
    for source in sources:
        kind, _, name = source.partition(":")
        name = name.strip().lower()
        if kind not in {"addon", "itemparam", "pricelistparam"} or not name:
            raise QuotaSourceInvalid(
                f"quota_sources: {show(source)} is no source: write addon:, itemparam: or pricelistparam:NAME"
            )
        parsed.append(QuotaSource(kind, name))  # type: ignore[arg-type]  # checked in the line above
    if not parsed:
        raise QuotaSourceInvalid(
            f"quota_sources is empty: leave it out, or write {', '.join(DEFAULT_QUOTA_SOURCES)}"
        )
    return tuple(parsed)


def compute_sold_quota(
    plan: Plan,
    bought: Sequence[BoughtAddon],
    item_parameters: ParameterValues,
    period: object,
    measures: Measures,
    sources: Sequence[QuotaSource],
) -> SoldQuota:
    """The quota in bytes (a fraction of a byte counts as a whole one), or UNLIMITED when that is said.

    Args:
        plan: the service's tariff plan.
        bought: all bought add-ons of the service.
        item_parameters: itemparam of the service.
        period: item.period of the service (-100 is a trial).
        measures: this installation's units.
        sources: where to look, in order.

    Raises:
        UnreadableValue: no source says anything, or the first that does cannot be read.
    """
    for source in sources:
        amount: Amount | None
        if source.kind == "addon":
            amount = _sum_lines(plan, bought, period, measures, source.name)
        else:
            holder = item_parameters if source.kind == "itemparam" else plan.parameters
            amount = _read_gigabytes(get_single(holder, source.name), f"{source.kind} {source.name}")
        if isinstance(amount, Fraction):
            quota_bytes = math.ceil(amount)
            if quota_bytes > LARGEST_QUOTA_BYTES:
                raise UnreadableValue(
                    f"the quota of {plan} is more than any server can hold: correct its number or unit"
                )
            return quota_bytes
        if amount is not None:
            return amount
    raise UnreadableValue(f"no quota found for {plan}: add a disk add-on or quota_gb")


def _sum_lines(
    plan: Plan, bought: Sequence[BoughtAddon], period: object, measures: Measures, name: str
) -> Amount | None:
    """What the plan's lines of that name sell together; None when there is no such line."""
    total: Amount | None = None
    for line in plan.lines:
        if line.name != name:
            continue
        rows = [row for row in bought if row.pricelist == line.id and row.counts]
        try:
            sold = _compute_line(line, rows, period, measures)
        except UnreadableValue as exc:
            raise UnreadableValue(f"add-on line {line.id} ({name}) of {plan}: {exc}") from exc
        if sold is None:
            continue
        if total is UNLIMITED or sold is UNLIMITED:
            total = UNLIMITED
        else:
            total = sold if total is None else total + sold
    return total


def is_quota_line(line: AddonLine, rows: Sequence[BoughtAddon]) -> bool:
    """Whether a line is a quota, and this client's: not a compound's that he did not buy.

    Args:
        line: an active add-on line of the service's plan.
        rows: what the client bought of it and what counts.

    Raises:
        UnreadableValue: its kind cannot be read.
    """
    if read_integer(line.billtype) in _BILLTYPES_WITHOUT_QUOTA:
        return False
    return read_integer(line.addontype) == _ADDONTYPE_INTEGER and bool(rows or not line.is_compound_part)


def _compute_line(
    line: AddonLine, rows: Sequence[BoughtAddon], period: object, measures: Measures
) -> Amount | None:
    """What one line sells, in bytes; None when it is no quota or not this client's."""
    if not is_quota_line(line, rows):
        return None
    sold: Amount | None
    if read_integer(line.billtype) == _BILLTYPE_USAGE:
        sold = _get_limit([row.addonmax for row in rows], line.addonmax, "addonmax")
        if sold is None:
            raise UnreadableValue("is charged by usage and has no addonmax: set its maximum")
    else:
        sold = _get_limit([row.addonlimit for row in rows], line.addonlimit, "addonlimit") or Fraction(0)
        extra = sum((_read_amount(row.intvalue, "intvalue") or Fraction(0) for row in rows), Fraction(0))
        if isinstance(sold, Fraction):
            sold += extra
    if read_integer(period) == _TRIAL_PERIOD:
        cap = _get_limit([row.addonmaxtrial for row in rows], line.addonmaxtrial, "addonmaxtrial")
        if isinstance(cap, Fraction):
            sold = min(sold, cap) if isinstance(sold, Fraction) else cap
    return sold * measures.get_bytes(line.measure) if isinstance(sold, Fraction) else sold


def _get_limit(bought: Iterable[object], of_line: object, column: str) -> Amount | None:
    """The bought limit (the largest of several: nobody gets less than was sold), or else the line's."""
    limits = [limit for value in bought if (limit := _read_limit(value, column)) is not None]
    if not limits:
        return _read_limit(of_line, column)
    return UNLIMITED if UNLIMITED in limits else max(limit for limit in limits if isinstance(limit, Fraction))


def _read_limit(value: object, column: str) -> Amount | None:
    """A limit: -1 is an explicit "unlimited"."""
    return UNLIMITED if read_number(value) == -1 else _read_amount(value, column)


def _read_amount(value: object, column: str) -> Fraction | None:
    amount = read_number(value)
    if amount is not None and amount < 0:
        raise UnreadableValue(f"{column} {show(value)} is negative: correct it")
    return amount


def _read_gigabytes(text: str | None, where: str) -> Amount | None:
    """A parameter in GB, as bytes."""
    if text is None:
        return None
    if text.strip().lower() in _UNLIMITED_WORDS:
        return UNLIMITED
    try:
        amount = _read_amount(text, where)
    except UnreadableValue as exc:
        raise UnreadableValue(f"{where}: {exc}: write a number of GB, or -1 for unlimited") from exc
    return None if amount is None else amount * GIGABYTE
