"""What item.status and a running operation ask for."""

from __future__ import annotations

from states.model import FaultField, Wish
from tests.integration.bm_db.conftest import BillingUnderTest


def test_status_says_what_is_wanted(world: BillingUnderTest) -> None:
    for status, wish in ((1, Wish.NONE), (2, Wish.ENABLED), (3, Wish.DISABLED), (4, Wish.ABSENT)):
        service = world.read(world.sell(status=status))
        assert (service.status, service.wish, service.operation, service.faults) == (status, wish, None, ())


OPERATIONS = (
    ("open", Wish.ENABLED),
    ("suspend", Wish.DISABLED),
    ("resume", Wish.ENABLED),
    ("setparam", Wish.ENABLED),
    ("close", Wish.ABSENT),
    ("prolong", Wish.AS_IS),
)


def test_running_operation_says_what_is_wanted(live: BillingUnderTest) -> None:
    for operation, wish in OPERATIONS:
        item_id = live.sell()
        live.sandbox.start_operation(item_id, operation)
        service = live.read(item_id)
        assert (service.status, service.wish, service.operation) == (5, wish, operation)


def test_in_progress_without_an_operation_is_left_as_it_is(world: BillingUnderTest) -> None:
    service = world.read(world.sell(status=5))
    assert (service.status, service.wish, service.operation) == (5, Wish.AS_IS, None)
    assert service.faults == ()


def test_operations_that_disagree_leave_the_account_as_it_is(live: BillingUnderTest) -> None:
    item_id = live.sell()
    live.sandbox.start_operation(item_id, "open")
    live.sandbox.start_operation(item_id, "close")
    service = live.read(item_id)
    assert (service.wish, service.operation) == (Wish.AS_IS, None)


def test_operations_that_agree_are_one_and_the_oldest_is_named(live: BillingUnderTest) -> None:
    item_id = live.sell()
    live.sandbox.start_operation(item_id, "set_param")
    live.sandbox.start_operation(item_id, "open")
    service = live.read(item_id)
    assert (service.wish, service.operation) == (Wish.ENABLED, "setparam")


def test_operation_without_a_name_says_nothing(live: BillingUnderTest) -> None:
    item_id = live.sell(status=5)
    live.sandbox.insert("runningoperation", item=item_id, intname=None)
    assert live.read(item_id).wish is Wish.AS_IS


def test_operation_counts_only_while_the_status_is_in_progress(live: BillingUnderTest) -> None:
    item_id = live.sell()
    live.sandbox.start_operation(item_id, "close")
    live.sandbox.set_status(item_id, 2)
    service = live.read(item_id)
    assert (service.wish, service.operation) == (Wish.ENABLED, None)


def test_unknown_status_is_a_fault_and_leaves_the_account_as_it_is(world: BillingUnderTest) -> None:
    healthy = world.sell()
    for status in (None, 0, 6, 99):
        item_id = world.sell(status=status)
        service = world.read(item_id)
        assert (service.status, service.wish) == (None, Wish.AS_IS)
        [fault] = service.faults
        assert fault.field is FaultField.STATUS
        assert f"service {item_id}" in fault.message
    assert world.read(healthy).faults == ()


def test_finished_operation_of_the_sandbox_leads_to_its_status(world: BillingUnderTest) -> None:
    item_id = world.sell(status=1)
    for operation, status in (("open", 2), ("suspend", 3), ("resume", 2), ("setparam", 2), ("close", 4)):
        world.sandbox.start_operation(item_id, operation)
        assert world.sandbox.get_status(item_id) == 5
        world.sandbox.finish_operation(item_id, operation)
        assert world.read(item_id).status == status


def test_service_that_vanished_is_none(world: BillingUnderTest) -> None:
    item_id = world.sell(username="somebody", userpassword="pass word 12")
    world.sandbox.delete_service(item_id)
    assert world.billing.get_service(item_id) is None
    assert list(world.billing.list_services()) == []


def test_service_of_another_module_is_read_by_id_but_not_listed(world: BillingUnderTest) -> None:
    other = world.sandbox.add_server("Mail", "https://mail.example.net", "a", "b", module="pmmail")
    plan_id = world.sandbox.add_plan("Basic", 1)
    item_id = world.sandbox.add_service(plan_id, world.account_id, other)
    homeless = world.sandbox.add_service(plan_id, world.account_id, None)
    assert list(world.billing.list_services()) == []
    services = [world.billing.get_service(each) for each in (item_id, homeless)]
    assert [service and service.server_id for service in services] == [other, None]


def test_bought_addons_are_not_services(live: BillingUnderTest) -> None:
    item_id = live.sell()
    addon_id = live.sandbox.buy_addon(item_id, 5, processingmodule=live.server_id)
    assert [service.item_id for service in live.billing.list_services()] == [item_id]
    assert live.billing.get_service(addon_id) is None
