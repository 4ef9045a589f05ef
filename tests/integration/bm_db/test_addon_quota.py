"""Quota by add-on lines: what the plan includes, what was bought, measures, trials, compounds."""

from __future__ import annotations

from typing import Any

from states.model import UNLIMITED, FaultField
from tests.integration.bm_db.conftest import BillingUnderTest

GIB = 1024**3
MIB = 1024**2


def sell_line(live: BillingUnderTest, **line: Any) -> int:
    """A service on a plan with one disk line of these columns."""
    plan_id = live.sandbox.add_plan("Basic")
    live.sandbox.add_line(plan_id, **line)
    return live.sandbox.add_service(plan_id, live.account_id, live.server_id)


def get_quota_fault(live: BillingUnderTest, item_id: int) -> str:
    service = live.read(item_id)
    assert service.quota is None
    fault = service.get_fault(FaultField.QUOTA)
    assert fault is not None
    assert "\n" not in fault.message
    assert f"service {item_id}" in fault.message
    return fault.message


INCLUDED = (
    (5, "gib", 5368709120),
    (1500, "mib", 1572864000),
    (1, "tib", 1099511627776),
    (7, "kib", 7168),
    (123, "byte", 123),
    (0, "gib", 0),
    (None, "gib", 0),
)


def test_line_of_the_plan_is_sold_in_its_measure(live: BillingUnderTest) -> None:
    for limit, measure, quota_bytes in INCLUDED:
        assert live.read(sell_line(live, addonlimit=limit, measure=measure)).quota == quota_bytes


def test_bought_units_are_added_to_what_the_plan_includes(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    live.sandbox.buy_addon(item_id, 5)
    assert live.read(item_id).quota == 15 * GIB


def test_bought_limit_replaces_the_plans(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    live.sandbox.buy_addon(item_id, 5, addonlimit=20)
    assert live.read(item_id).quota == 25 * GIB


def test_bought_limit_of_zero_is_a_limit(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    live.sandbox.buy_addon(item_id, 5, addonlimit=0)
    assert live.read(item_id).quota == 5 * GIB


def test_several_bought_rows_add_up_and_the_base_counts_once(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    for units in (5, 7, None):
        live.sandbox.buy_addon(item_id, units)
    assert live.read(item_id).quota == 22 * GIB


def test_of_several_bought_limits_the_largest_counts(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    live.sandbox.buy_addon(item_id, 1, addonlimit=12)
    live.sandbox.buy_addon(item_id, 1, addonlimit=11)
    assert live.read(item_id).quota == 14 * GIB


def test_unpaid_and_deleted_addons_do_not_count(live: BillingUnderTest) -> None:
    for status, gib in ((1, 10), (2, 15), (3, 15), (4, 10), (5, 15), (None, 15)):
        item_id = live.sell(10)
        live.sandbox.buy_addon(item_id, 5, status=status)
        assert live.read(item_id).quota == gib * GIB, status


def test_addon_of_another_service_does_not_count(live: BillingUnderTest) -> None:
    plan_id = live.sandbox.add_plan("Basic", 10)
    mine, other = (live.sandbox.add_service(plan_id, live.account_id, live.server_id) for _ in range(2))
    live.sandbox.buy_addon(other, 5)
    assert live.read(mine).quota == 10 * GIB
    assert live.read(other).quota == 15 * GIB


def test_addon_of_a_former_tariff_does_not_count(live: BillingUnderTest) -> None:
    item_id = live.sell(10)
    live.sandbox.buy_addon(item_id, 5)
    live.sandbox.change_plan(item_id, live.sandbox.add_plan("Large", 100))
    assert live.read(item_id).quota == 100 * GIB


def test_line_charged_by_usage_sells_its_maximum(live: BillingUnderTest) -> None:
    item_id = sell_line(live, billtype=3, addonlimit=1, addonmax=50)
    assert live.read(item_id).quota == 50 * GIB
    live.sandbox.buy_addon(item_id, 5, addonmax=70, addonlimit=2)
    assert live.read(item_id).quota == 70 * GIB


def test_line_charged_by_usage_without_a_maximum_is_a_fault(live: BillingUnderTest) -> None:
    assert "addonmax" in get_quota_fault(live, sell_line(live, billtype=3, addonlimit=1))


def test_trial_is_capped(live: BillingUnderTest) -> None:
    item_id = sell_line(live, addonlimit=10, addonmaxtrial=2)
    for period, gib in ((-100, 2), (1, 10), (None, 10)):
        live.sandbox.change("item", item_id, period=period)
        assert live.read(item_id).quota == gib * GIB


def test_bought_cap_of_a_trial_goes_before_the_lines(live: BillingUnderTest) -> None:
    item_id = sell_line(live, addonlimit=10, addonmaxtrial=2)
    live.sandbox.change("item", item_id, period=-100)
    live.sandbox.buy_addon(item_id, 1, addonmaxtrial=3)
    assert live.read(item_id).quota == 3 * GIB


def test_trial_below_its_cap_or_without_one_is_as_sold(live: BillingUnderTest) -> None:
    below, without = sell_line(live, addonlimit=1, addonmaxtrial=2), sell_line(live, addonlimit=4)
    for item_id in (below, without):
        live.sandbox.change("item", item_id, period=-100)
    assert [live.read(each).quota for each in (below, without)] == [1 * GIB, 4 * GIB]


def test_trial_caps_an_unlimited_line_and_one_charged_by_usage(live: BillingUnderTest) -> None:
    unlimited = sell_line(live, addonlimit=-1, addonmaxtrial=2)
    by_usage = sell_line(live, billtype=3, addonmax=50, addonmaxtrial=4)
    for item_id in (unlimited, by_usage):
        live.sandbox.change("item", item_id, period=-100)
    assert [live.read(each).quota for each in (unlimited, by_usage)] == [2 * GIB, 4 * GIB]


LEFT_OUT: tuple[dict[str, Any], ...] = (
    {"active": "off"},
    {"active": None},
    {"billtype": 4},
    {"billtype": 10},
    {"addontype": 1},
    {"addontype": 3},
)


def test_line_that_is_no_storage_quota_is_left_out(live: BillingUnderTest) -> None:
    for columns in LEFT_OUT:
        assert "no quota found for tariff" in get_quota_fault(live, sell_line(live, addonlimit=10, **columns))


def test_line_of_a_compound_counts_only_when_bought(live: BillingUnderTest) -> None:
    plan_id = live.sandbox.add_plan("Basic", 10)
    part = live.sandbox.add_line(plan_id, addonlimit=100, compound=plan_id)
    without, bought, unpaid = (
        live.sandbox.add_service(plan_id, live.account_id, live.server_id) for _ in range(3)
    )
    live.sandbox.buy_addon(bought, 1, line_id=part)
    live.sandbox.buy_addon(unpaid, 1, line_id=part, status=1)
    assert [live.read(each).quota for each in (without, bought, unpaid)] == [10 * GIB, 111 * GIB, 10 * GIB]


def test_lines_of_one_name_are_summed_each_in_its_measure(live: BillingUnderTest) -> None:
    plan_id = live.sandbox.add_plan("Basic", 10)
    live.sandbox.add_line(plan_id, addonlimit=512, measure="mib")
    item_id = live.sandbox.add_service(plan_id, live.account_id, live.server_id)
    assert live.read(item_id).quota == 10 * GIB + 512 * MIB


def test_own_name_of_a_line_goes_before_its_types(live: BillingUnderTest) -> None:
    named = sell_line(live, addonlimit=3, itemtype="traffic", intname=" Disk ")
    renamed = sell_line(live, addonlimit=3, itemtype="disk", intname="backups")
    untyped = sell_line(live, addonlimit=4, itemtype=None, intname="disc")
    assert live.read(named).quota == 3 * GIB
    assert "no quota found" in get_quota_fault(live, renamed)
    assert live.read(untyped).quota == 4 * GIB


def test_disk_goes_before_disc(live: BillingUnderTest) -> None:
    plan_id = live.sandbox.add_plan("Basic")
    live.sandbox.add_line(plan_id, itemtype="disc", addonlimit=7)
    item_id = live.sandbox.add_service(plan_id, live.account_id, live.server_id)
    assert live.read(item_id).quota == 7 * GIB
    live.sandbox.add_line(plan_id, itemtype="disk", addonlimit=3)
    assert live.read(item_id).quota == 3 * GIB


def test_order_of_sources_is_configured(live: BillingUnderTest) -> None:
    item_id = live.sell(10, quota_gb="3")
    billing = live.open(quota_sources=["itemparam:quota_gb", "addon:disk"])
    service = billing.get_service(item_id)
    assert service is not None
    assert service.quota == 3 * GIB
    assert live.read(item_id).quota == 10 * GIB


def test_quota_gb_serves_where_there_is_no_disk_line(live: BillingUnderTest) -> None:
    plan_id = live.sandbox.add_plan("Basic")
    live.sandbox.insert("pricelistparam", pricelist=plan_id, intname="quota_gb", value="2")
    item_id = live.sandbox.add_service(plan_id, live.account_id, live.server_id)
    assert live.read(item_id).quota == 2 * GIB


def test_explicit_minus_one_is_unlimited_also_among_other_lines(live: BillingUnderTest) -> None:
    plan_id = live.sandbox.add_plan("Basic", 10)
    live.sandbox.add_line(plan_id, addonlimit=-1)
    live.sandbox.add_line(plan_id, addonlimit=5)
    item_id = live.sandbox.add_service(plan_id, live.account_id, live.server_id)
    live.sandbox.buy_addon(item_id, 5)
    assert live.read(item_id).quota is UNLIMITED


def test_negative_number_is_a_fault(live: BillingUnderTest) -> None:
    bought: tuple[dict[str, int], ...] = ({"intvalue": -1}, {"intvalue": -5}, {"addonlimit": -2})
    for columns in bought:
        item_id = live.sell(10)
        live.sandbox.buy_addon(item_id, **columns)
        assert "is negative" in get_quota_fault(live, item_id)


def test_line_without_a_measure_is_a_fault(live: BillingUnderTest) -> None:
    assert "has no measure" in get_quota_fault(live, sell_line(live, addonlimit=10, measure=None))


def test_measures_are_walked_by_this_installations_ids(live: BillingUnderTest) -> None:
    # A second chain, largest first, in capitals, with steps of 1000.
    base = live.sandbox.insert("measure", intname="Byte")
    small = live.sandbox.insert("measure", intname="KB", lessmeasure=base, relation=1000)
    large = live.sandbox.insert("measure", intname="MB", lessmeasure=small, relation=1000)
    assert live.read(sell_line(live, addonlimit=3, measure=large)).quota == 3_000_000


def test_measures_that_do_not_lead_to_bytes_are_faults_of_their_services_only(live: BillingUnderTest) -> None:
    pieces = live.sandbox.insert("measure", intname="piece")
    first = live.sandbox.insert("measure", intname="one")
    second = live.sandbox.insert("measure", intname="two", lessmeasure=first, relation=2)
    live.sandbox.change("measure", first, lessmeasure=second, relation=2)
    unrelated = live.sandbox.insert("measure", intname="three", lessmeasure=live.sandbox.get_measure("byte"))
    ill = [sell_line(live, addonlimit=1, measure=each) for each in (pieces, first, unrelated)]
    healthy = live.sell(10)
    messages = [get_quota_fault(live, each) for each in ill]
    assert "does not lead to byte" in messages[0]
    assert "does not lead to byte" in messages[1]
    assert "relation" in messages[2]
    assert live.read(healthy).quota == 10 * GIB


def test_more_than_a_server_can_hold_is_a_fault(live: BillingUnderTest) -> None:
    largest = sell_line(live, addonlimit=8388607, measure="tib")
    too_large = sell_line(live, addonlimit=8388608, measure="tib")
    assert live.read(largest).quota == 8388607 * 1024**4
    assert "more than any server" in get_quota_fault(live, too_large)


def test_plan_without_any_quota_is_a_fault_and_never_unlimited(world: BillingUnderTest) -> None:
    item_id = world.sell(None)
    service = world.read(item_id)
    [fault] = service.faults
    assert service.quota is None
    assert fault.field is FaultField.QUOTA
    assert "no quota found for tariff" in fault.message
    assert "('Basic'): add a disk add-on or quota_gb" in fault.message


def test_service_without_a_tariff_is_a_fault(world: BillingUnderTest) -> None:
    item_id = world.sandbox.add_service(None, world.account_id, world.server_id)
    service = world.read(item_id)
    assert [fault.field for fault in service.faults] == [FaultField.QUOTA]
    assert service.group is None
