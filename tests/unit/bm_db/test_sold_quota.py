"""The add-on rule against the facts said again, naively: one line, any number of bought rows."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bm_db.sold_quota import BoughtAddon, compute_sold_quota, parse_quota_sources
from bm_db.tariffs import AddonLine, Measures, Plan
from bm_db.values import UnreadableValue
from states.model import UNLIMITED, SoldQuota

# Ids in no order, as in a grown installation.
MEASURES = Measures(
    {7: ("gib", 3, 1024), 3: ("mib", 9, "1024"), 9: ("kib", 1, 1024), 1: ("byte", None, None)}
)
UNIT_BYTES = {7: 1024**3, 3: 1024**2, 9: 1024, 1: 1}
SOURCES = parse_quota_sources(["addon:disk", "pricelistparam:quota_gb"])

amounts = st.one_of(st.none(), st.integers(0, 5000))
lines = st.builds(
    AddonLine,
    id=st.just(50),
    name=st.sampled_from(["disk", "disk", "disk", "disc", ""]),
    addontype=st.sampled_from([2, 2, 2, "2", 1, 3, None]),
    billtype=st.sampled_from([None, 0, 1, 2, 3, "3", 4, 10]),
    measure=st.sampled_from(sorted(UNIT_BYTES)),
    addonlimit=amounts,
    addonmax=amounts,
    addonmaxtrial=amounts,
    is_compound_part=st.booleans(),
)
rows = st.lists(
    st.builds(
        BoughtAddon,
        id=st.integers(1000, 2000),
        pricelist=st.sampled_from([50, 50, 50, 51, None]),
        status=st.sampled_from([1, 2, 2, 3, 4, 5, None, "x"]),
        intvalue=amounts,
        addonlimit=amounts,
        addonmax=amounts,
        addonmaxtrial=amounts,
    ),
    max_size=4,
)


def restate(line: AddonLine, bought: list[BoughtAddon], period: int | None) -> int | None:
    """The rule as the facts say it; None for "no quota"."""
    mine = [row for row in bought if row.pricelist == line.id and row.status not in (1, 4)]
    if line.name != "disk" or line.addontype not in (2, "2") or line.billtype in (4, 10):
        return None
    if line.is_compound_part and len(mine) == 0:
        return None

    def bought_or_lines(column: str) -> int | None:
        found = [getattr(row, column) for row in mine if getattr(row, column) is not None]
        value: int | None = max(found) if found else getattr(line, column)
        return value

    units: int | None
    if line.billtype in (3, "3"):
        units = bought_or_lines("addonmax")
        if units is None:
            return None
    else:
        units = bought_or_lines("addonlimit") or 0
        for row in mine:
            units += int(str(row.intvalue or 0))
    cap = bought_or_lines("addonmaxtrial")
    if period == -100 and cap is not None and cap < units:
        units = cap
    return units * UNIT_BYTES[int(str(line.measure))]


@given(lines, rows, st.sampled_from([None, 1, 12, -100, -50]))
def test_one_line_is_sold_as_the_facts_say(
    line: AddonLine, bought: list[BoughtAddon], period: int | None
) -> None:
    plan = Plan(5, "Basic", {}, (line,))
    expected = restate(line, bought, period)
    if expected is None:
        with pytest.raises(UnreadableValue):
            compute_sold_quota(plan, bought, {}, period, MEASURES, SOURCES)
    else:
        assert compute_sold_quota(plan, bought, {}, period, MEASURES, SOURCES) == expected


@given(st.decimals(0, 10**9, allow_nan=False, places=6))
def test_gigabytes_are_never_rounded_down(gigabytes: Decimal) -> None:
    plan = Plan(5, "Basic", {"quota_gb": [format(gigabytes, "f")]}, ())
    exact_millionths = int(gigabytes.scaleb(6)) * 1024**3
    assert compute_sold_quota(plan, (), {}, None, MEASURES, SOURCES) == math.ceil(
        exact_millionths / Decimal(10**6)
    )


@given(st.text(max_size=12))
def test_any_text_is_a_quota_or_a_reason(text: str) -> None:
    plan = Plan(5, "Basic", {"quota_gb": [text]}, ())
    reason = ""
    quota: SoldQuota | None = None
    try:
        quota = compute_sold_quota(plan, (), {}, None, MEASURES, SOURCES)
    except UnreadableValue as exc:
        reason = str(exc)
    assert (quota is None) == bool(reason)
    assert "\n" not in reason
    assert (quota is UNLIMITED) == (text.strip().lower() in {"-1", "none", "unlimited"})


def test_unreadable_period_or_status_is_told_or_counts() -> None:
    line = AddonLine(50, "disk", 2, None, 7, 1, None, None, False)
    row = BoughtAddon(1, 50, "?", 2, None, None, None)
    plan = Plan(5, "Basic", {}, (line,))
    assert compute_sold_quota(plan, [row], {}, None, MEASURES, SOURCES) == 3 * 1024**3
    with pytest.raises(UnreadableValue, match=r"add-on line 50 \(disk\) of tariff 5 \('Basic'\)"):
        compute_sold_quota(plan, [row], {}, "?", MEASURES, SOURCES)
