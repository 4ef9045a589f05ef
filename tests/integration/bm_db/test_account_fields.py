"""User name, e-mail, group, password and URL of a service."""

from __future__ import annotations

from reconciler.sandbox.billing_data import generate_private_key_pem
from states.model import DesiredService, FaultField
from tests.integration.bm_db.conftest import BillingUnderTest


def get_fault(service: DesiredService, field: FaultField) -> str:
    fault = service.get_fault(field)
    assert fault is not None
    assert "\n" not in fault.message
    assert f"service {service.item_id}" in fault.message
    return fault.message


def test_user_name_is_made_of_the_item_id(world: BillingUnderTest) -> None:
    item_id = world.sell()
    service = world.read(item_id)
    assert (service.username, service.is_username_recorded) == (f"user_{item_id}", False)
    assert service.server_id == world.server_id


def test_recorded_user_name_counts(world: BillingUnderTest) -> None:
    for username in ("anna", "A b_c.d@e-f'g+h", "x" * 64, "0"):
        service = world.read(world.sell(username=username))
        assert (service.username, service.is_username_recorded, service.faults) == (username, True, ())


def test_empty_user_name_is_not_recorded(world: BillingUnderTest) -> None:
    for username in ("", "  "):
        item_id = world.sell(username=username)
        service = world.read(item_id)
        assert (service.username, service.is_username_recorded) == (f"user_{item_id}", False)


BAD_USERNAMES = (
    " anna",
    "anna ",
    "an\nna",
    "an\x07na",
    "x" * 65,
    "änne",
    "a/b",
    "../x",
    ".",
    "..",
    "a\u202eb",
)


def test_user_name_that_no_server_accepts_is_a_fault(world: BillingUnderTest) -> None:
    for username in BAD_USERNAMES:
        service = world.read(world.sell(username=username))
        assert (service.username, service.is_username_recorded) == ("", True), username
        assert "correct" in get_fault(service, FaultField.USERNAME)


def test_million_character_user_name_is_a_fault_in_one_short_line(world: BillingUnderTest) -> None:
    service = world.read(world.sell(username="x" * 1_000_000))
    assert len(get_fault(service, FaultField.USERNAME)) < 200


def test_two_different_user_names_are_a_fault(world: BillingUnderTest) -> None:
    item_id = world.sell(username="anna")
    world.sandbox.insert("itemparam", item=item_id, intname="username", value="berta")
    service = world.read(item_id)
    assert service.username == ""
    assert "different values" in get_fault(service, FaultField.USERNAME)


def test_email_is_that_of_the_first_user(world: BillingUnderTest) -> None:
    world.sandbox.add_user(world.account_id, "second@example.net")
    assert world.read(world.sell()).email == "client@example.net"


def test_enabled_users_go_before_disabled_ones(world: BillingUnderTest) -> None:
    account_id = world.sandbox.add_client("off@example.net", is_enabled=False)
    item_id = world.sandbox.add_service(world.sandbox.add_plan("Basic", 1), account_id, world.server_id)
    assert world.read(item_id).email == "off@example.net"
    world.sandbox.add_user(account_id, "on@example.net")
    world.sandbox.add_user(account_id, "on2@example.net")
    assert world.read(item_id).email == "on@example.net"


def test_user_without_an_email_gives_way_to_the_next(world: BillingUnderTest) -> None:
    for empty in (None, "", "  "):
        account_id = world.sandbox.add_client(empty)
        item_id = world.sandbox.add_service(world.sandbox.add_plan("Basic", 1), account_id, world.server_id)
        service = world.read(item_id)
        assert service.email is None
        assert "no user with an e-mail" in get_fault(service, FaultField.EMAIL)
        world.sandbox.add_user(account_id, " next@example.net ")
        assert world.read(item_id).email == "next@example.net"


def test_service_without_a_client_has_an_email_fault(world: BillingUnderTest) -> None:
    item_id = world.sandbox.add_service(world.sandbox.add_plan("Basic", 1), None, world.server_id)
    get_fault(world.read(item_id), FaultField.EMAIL)


BAD_EMAILS = (
    "nobody",
    "a@b@c",
    "a b@c.de",
    "a@",
    "@c.de",
    "a\n@c.de",
    "a@c.de\x07x",
    "x" * 250 + "@c.de",
    "y" * 900,
)


def test_what_is_no_email_address_is_a_fault(world: BillingUnderTest) -> None:
    plan_id = world.sandbox.add_plan("Basic", 1)
    for email in BAD_EMAILS:
        item_id = world.sandbox.add_service(plan_id, world.sandbox.add_client(email), world.server_id)
        service = world.read(item_id)
        assert service.email is None, email
        assert len(get_fault(service, FaultField.EMAIL)) < 200


def test_longest_email_address_is_read(world: BillingUnderTest) -> None:
    email = "x" * 249 + "@c.de"
    account_id = world.sandbox.add_client(email)
    item_id = world.sandbox.add_service(world.sandbox.add_plan("Basic", 1), account_id, world.server_id)
    assert world.read(item_id).email == email


def test_group_is_the_tariffs(world: BillingUnderTest) -> None:
    grouped = world.sandbox.add_plan("Grouped", 1, group=" Gold users ")
    blank = world.sandbox.add_plan("Blank", 1, group="  ")
    services = [
        world.read(world.sandbox.add_service(each, world.account_id, world.server_id))
        for each in (grouped, blank)
    ]
    assert [(service.group, service.faults) for service in services] == [("Gold users", ()), (None, ())]


def test_group_that_may_not_be_given_is_a_fault(world: BillingUnderTest) -> None:
    for group in ("admin", "ADMIN", "a\nb", "x" * 256):
        plan_id = world.sandbox.add_plan("Grouped", 1, group=group)
        service = world.read(world.sandbox.add_service(plan_id, world.account_id, world.server_id))
        assert service.group is None
        assert f"tariff {plan_id}" in get_fault(service, FaultField.GROUP)
    assert world.billing.list_tariff_groups() == frozenset()


def test_tariff_groups_are_those_of_all_plans(world: BillingUnderTest) -> None:
    for number, group in enumerate(("gold", "silver", "gold", "", "admin")):
        world.sandbox.add_plan(f"Plan {number}", 1, group=group)
    assert world.billing.list_tariff_groups() == {"gold", "silver"}


def test_password_and_url_on_record_are_read(world: BillingUnderTest) -> None:
    item_id = world.sell(userpassword="Pa'ss wörd", url="https://one.example.net/cloud/")
    service = world.read(item_id)
    assert (service.password, service.is_password_recorded, service.is_url_recorded) == (
        "Pa'ss wörd",
        True,
        True,
    )
    assert service.faults == ()
    assert "Pa'ss" not in repr(service)


def test_nothing_on_record_is_no_fault(world: BillingUnderTest) -> None:
    service = world.read(world.sell())
    assert (service.password, service.is_password_recorded, service.is_url_recorded) == (None, False, False)
    assert service.faults == ()


def test_password_that_cannot_be_decrypted_is_a_fault(world: BillingUnderTest) -> None:
    for value in ("plain text", "AAAA", "ü", "x" * 344):
        item_id = world.sell()
        world.sandbox.insert(world.sandbox.crypted_table, item=item_id, intname="userpassword", value=value)
        service = world.read(item_id)
        assert (service.password, service.is_password_recorded) == (None, True)
        assert "cannot be decrypted" in get_fault(service, FaultField.PASSWORD)


def test_another_key_or_none_is_a_fault_of_the_password_only(world: BillingUnderTest) -> None:
    item_id = world.sell(userpassword="Secret-Password-1")
    for key in (generate_private_key_pem(), None):
        service = world.open(private_key_pem=key).get_service(item_id)
        assert service is not None
        assert (service.password, service.is_password_recorded) == (None, True)
        assert [fault.field for fault in service.faults] == [FaultField.PASSWORD]


def test_listing_without_passwords_decrypts_nothing(world: BillingUnderTest) -> None:
    item_id = world.sell(userpassword="Secret-Password-1")
    world.sandbox.insert(world.sandbox.crypted_table, item=item_id, intname="userpassword", value="broken")
    [service] = world.billing.list_services(with_passwords=False)
    assert (service.password, service.is_password_recorded, service.faults) == (None, True, ())


def test_live_password_in_the_open_table_serves_only_without_a_crypted_one(live: BillingUnderTest) -> None:
    item_id = live.sell()
    live.sandbox.insert(
        "itemparam", item=item_id, intname="userpassword", value=live.sandbox.cipher.encrypt("older password")
    )
    assert live.read(item_id).password == "older password"
    live.sandbox.set_param(item_id, "userpassword", "newer password")
    assert live.read(item_id).password == "newer password"


def test_rows_full_of_nulls_never_stop_the_others(world: BillingUnderTest) -> None:
    healthy = world.sell()
    ill = world.sandbox.insert("item", processingmodule=world.server_id)
    if world.sandbox.variant == "live":
        plan_id = world.sandbox.insert("pricelist")
        world.sandbox.insert("pricelist", parent=plan_id, intname="disk", active="on")
        world.sandbox.change("item", ill, pricelist=plan_id)
        world.sandbox.insert("item", parent=ill)
        world.sandbox.insert("measure")
        world.sandbox.insert("itemtype")
    services = {service.item_id: service for service in world.billing.list_services()}
    assert services[healthy].faults == ()
    assert {fault.field for fault in services[ill].faults} == {
        FaultField.STATUS,
        FaultField.QUOTA,
        FaultField.EMAIL,
    }
