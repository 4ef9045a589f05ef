"""Any rows of tariffs and add-ons, of any type: a quota or a reason why there is none, and nothing else.

`make fuzz` runs the same properties for longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from bm_db.sold_quota import (
    LARGEST_QUOTA_BYTES,
    BoughtAddon,
    QuotaSource,
    compute_sold_quota,
    parse_quota_sources,
)
from bm_db.tariffs import AddonLine, Measures, Plan, read_group
from bm_db.values import UnreadableValue, gather_parameters, is_on, read_filled_text, read_flag, show
from states.model import UNLIMITED, SoldQuota

IDS: Final = st.integers(1, 5)
LONGEST_REASON: Final = 700


def as_view(content: bytes) -> object:
    return memoryview(content)


texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["-1", "none", "Unlimited", " 5 ", "1e9", "0x10", "٣", "9" * 40, "9" * 41, "0." + "1" * 41]
    ),
    st.sampled_from(["=1+1", "<b>", "\x1b[31m", "a\nb", "\u202e", "on", "OFF", "5.0", "-0", "+7"]),
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5000),
    st.integers(-(2**64), 2**64),
    st.floats(),
    st.decimals(),
    texts,
    texts.map(lambda text: text.encode("utf-8", "replace")),
    st.binary(max_size=8),
    st.binary(max_size=8).map(as_view),
    st.dates(date(1970, 1, 1), date(2100, 1, 1)),
)
kinds = st.sampled_from([2, 2, 2, "2", b"2", Decimal(2), 1, 3, None, 0, 4, 10, "10", -100]) | values
lines = st.builds(
    AddonLine,
    id=IDS,
    name=st.sampled_from(["disk", "disk", "disc", ""]),
    addontype=kinds,
    billtype=kinds,
    measure=IDS | values,
    addonlimit=values,
    addonmax=values,
    addonmaxtrial=values,
    is_compound_part=st.booleans(),
)
bought = st.lists(
    st.builds(
        BoughtAddon,
        id=IDS,
        pricelist=IDS | st.none(),
        status=st.integers(0, 6) | values,
        intvalue=values,
        addonlimit=values,
        addonmax=values,
        addonmaxtrial=values,
    ),
    max_size=4,
)
# Chains, circles, dead ends and nonsense.
measures = st.dictionaries(
    IDS,
    st.tuples(st.sampled_from(["byte", "kib", "gib", "", "BYTE"]), IDS | values, st.just(1024) | values),
    max_size=5,
)
parameters = st.lists(
    st.tuples(st.sampled_from(["quota_gb", "QUOTA_GB", "usergroup", "other"]) | values, values), max_size=4
).map(gather_parameters)
sources = st.lists(
    st.sampled_from(["addon:disk", "addon:disc", "itemparam:quota_gb", "pricelistparam:quota_gb"]), min_size=1
).map(parse_quota_sources)


def check_reason(reason: UnreadableValue) -> None:
    assert str(reason)
    assert str(reason).isprintable()
    assert len(str(reason)) < LONGEST_REASON


@given(
    st.lists(lines, max_size=4),
    st.text(max_size=40),
    bought,
    parameters,
    parameters,
    kinds,
    measures,
    sources,
)
def test_any_rows_are_a_quota_or_a_reason(
    plan_lines: list[AddonLine],
    plan_name: str,
    rows: list[BoughtAddon],
    of_plan: Mapping[str, list[str]],
    of_item: Mapping[str, list[str]],
    period: object,
    units: dict[int, tuple[str, object, object]],
    asked: tuple[QuotaSource, ...],
) -> None:
    plan = Plan(5, plan_name, of_plan, tuple(plan_lines))
    quota: SoldQuota
    try:
        quota = compute_sold_quota(plan, rows, of_item, period, Measures(units), asked)
    except UnreadableValue as reason:
        check_reason(reason)
        return
    if quota is UNLIMITED:  # never by mistake: somebody must have said so
        said: list[Any] = [
            one for line in plan_lines for one in (line.addonlimit, line.addonmax, line.addonmaxtrial)
        ]
        said += [one for row in rows for one in (row.addonlimit, row.addonmax, row.addonmaxtrial)]
        said += [text for held in (of_plan, of_item) for text in held.get("quota_gb", ())]
        assert any(is_unlimited(one) for one in said)
    else:
        assert isinstance(quota, int)
        assert 0 <= quota <= LARGEST_QUOTA_BYTES


def is_unlimited(value: object) -> bool:
    text = read_filled_text(value)
    return text is not None and (
        text.lower() in {"none", "unlimited"} or text.lstrip("-0").rstrip("0") in {"1", "1."}
    )


@given(parameters)
def test_any_parameters_are_a_group_or_a_reason(of_plan: Mapping[str, list[str]]) -> None:
    try:
        group = read_group(of_plan)
    except UnreadableValue as reason:
        check_reason(reason)
    else:
        assert group is None or (group.isprintable() and group.casefold() != "admin")


@given(values)
def test_any_value_is_shown_on_one_line(value: object) -> None:
    shown = show(value)
    assert shown.isprintable()
    assert len(shown) < 500
    is_on(value, default=True)
    try:
        read_flag(value)
    except UnreadableValue as reason:
        check_reason(reason)


@given(st.lists(st.tuples(IDS, values), min_size=1, max_size=400))
def test_a_long_or_circular_chain_of_measures_ends(chain: list[tuple[int, object]]) -> None:
    units = {index: ("unit", index + step % 2, "9" * 40) for index, (step, _) in enumerate(chain)}
    try:
        Measures(units).get_bytes(0)
    except UnreadableValue as reason:
        check_reason(reason)
