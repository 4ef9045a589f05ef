"""The connected servers: parameters under both names, encrypted or not, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping

from bm_db import BillingServer
from tests.integration.bm_db.conftest import BillingUnderTest


def add_bare_server(
    world: BillingUnderTest, opened: Mapping[str, str | None], crypted: Mapping[str, str]
) -> BillingServer:
    """A server with exactly these parameters; crypted ones are encrypted."""
    server_id = world.sandbox.insert("processingmodule", module="pmnextcloud", name=None)
    for name, value in opened.items():
        world.sandbox.insert("processingparam", processingmodule=server_id, intname=name, value=value)
    table = "processingcryptedparam" if world.sandbox.variant == "live" else "processingcryptparam"
    for name, value in crypted.items():
        world.sandbox.insert(
            table, processingmodule=server_id, intname=name, value=world.sandbox.cipher.encrypt(value)
        )
    server = world.billing.get_server(server_id)
    assert server is not None
    assert [each for each in world.billing.list_servers() if each.id == server_id] == [server]
    return server


GOOD = {"url": "https://two.example.net"}
CREDENTIALS = {"nc_username": "root", "nc_password": "pw"}


def test_server_is_read_with_everything_it_needs(world: BillingUnderTest) -> None:
    server_id = world.sandbox.add_server(
        "Two",
        " http://127.0.0.1:8080/x// ",
        "root",
        "Pä ss",
        verify_tls=False,
        timeout_seconds=15,
        is_active=False,
    )
    assert world.billing.list_servers() == [
        BillingServer(
            world.server_id, "One", True, "https://one.example.net/cloud/", "admin", "s3cret-admin"
        ),
        BillingServer(server_id, "Two", False, "http://127.0.0.1:8080/x//", "root", "Pä ss", False, 15.0),
    ]
    assert "Pä ss" not in repr(world.billing.get_server(server_id))


def test_server_of_another_module_is_not_ours(world: BillingUnderTest) -> None:
    other = world.sandbox.add_server("Mail", "https://mail.example.net", "a", "b", module="pmmail")
    assert world.billing.get_server(other) is None
    assert [server.id for server in world.billing.list_servers()] == [world.server_id]
    assert [server.id for server in world.open(module="pmmail").list_servers()] == [other]


def test_parameters_are_found_under_both_names(world: BillingUnderTest) -> None:
    for url_name, username_name, password_name in (
        ("base_url", "nc_username", "nc_password"),
        ("url", "admin_username", "admin_password"),
        ("base_url", "admin_username", "nc_password"),
    ):
        server = add_bare_server(
            world, {url_name: "https://two.example.net"}, {username_name: "root", password_name: "pw"}
        )
        assert (server.base_url, server.username, server.password) == (
            "https://two.example.net",
            "root",
            "pw",
        )
        assert server.faults == ()
        assert server.is_active is False
        assert server.name == f"server {server.id}"


def test_user_name_and_password_may_stand_in_the_open_table(world: BillingUnderTest) -> None:
    server = add_bare_server(world, {**GOOD, "nc_username": "root", "admin_password": "open"}, {})
    assert (server.username, server.password, server.faults) == ("root", "open", ())


def test_encrypted_value_goes_before_the_open_one(world: BillingUnderTest) -> None:
    server = add_bare_server(world, {**GOOD, "nc_username": "old", "nc_password": "old"}, CREDENTIALS)
    assert (server.username, server.password) == ("root", "pw")


def test_missing_parameters_are_named_one_by_one(world: BillingUnderTest) -> None:
    server = add_bare_server(world, {"base_url": None}, {})
    assert len(server.faults) == 3
    assert all(fault.startswith(f"server {server.id}: ") and "\n" not in fault for fault in server.faults)
    assert [
        word in fault for word, fault in zip(("URL", "user name", "password"), server.faults, strict=True)
    ] == [
        True,
        True,
        True,
    ]
    assert (server.base_url, server.username, server.password) == ("", "", "")


BAD_URLS = (
    "cloud.example.net",
    "ftp://cloud.example.net",
    "https://",
    "https://[bad",
    "https://cloud.example.net:99999",
    "https://cloud.example.net:0",
    "https://cloud example.net",
    "https://cloud.exa\nmple.net",
    "https://root:pw@cloud.example.net",
    "https://root@cloud.example.net",
    "https://cloud.example.net/?a=b",
    "https://cloud.example.net/#x",
)


def test_url_that_is_none_is_a_fault_of_that_server(live: BillingUnderTest) -> None:
    for url in BAD_URLS:
        server = add_bare_server(live, {"url": url}, CREDENTIALS)
        [fault] = server.faults
        assert "URL" in fault
        assert "\n" not in fault
        assert "pw@" not in fault
        assert server.base_url == "", url
    healthy = live.billing.get_server(live.server_id)
    assert healthy is not None
    assert healthy.faults == ()


OPTIONS: tuple[tuple[str, str, bool, float | None, int], ...] = (
    ("verify_ssl", "off", False, None, 0),
    ("verify_ssl", "false", False, None, 0),
    ("verify_ssl", "0", False, None, 0),
    ("verify_ssl", "on", True, None, 0),
    ("verify_ssl", "", True, None, 0),
    ("verify_ssl", "perhaps", True, None, 1),
    ("timeout", "2.5", True, 2.5, 0),
    ("timeout", "0", True, None, 0),
    ("timeout", "-1", True, None, 1),
    ("timeout", "100000", True, None, 1),
    ("timeout", "long", True, None, 1),
)


def test_options_of_a_server(spec: BillingUnderTest) -> None:
    for name, value, verify_tls, timeout_seconds, faults in OPTIONS:
        server = add_bare_server(spec, {**GOOD, name: value}, CREDENTIALS)
        read = (server.verify_tls, server.timeout_seconds, len(server.faults))
        assert read == (verify_tls, timeout_seconds, faults), value


def test_undecryptable_credentials_are_faults(world: BillingUnderTest) -> None:
    table = "processingcryptedparam" if world.sandbox.variant == "live" else "processingcryptparam"
    server = add_bare_server(world, GOOD, {})
    for name in CREDENTIALS:
        world.sandbox.insert(table, processingmodule=server.id, intname=name, value="broken")
    read = world.billing.get_server(server.id)
    assert read is not None
    assert [("cannot be decrypted" in fault) for fault in read.faults] == [True, True]
    without_key = world.open(private_key_pem=None).get_server(server.id)
    assert without_key is not None
    assert [("no private key" in fault) for fault in without_key.faults] == [True, True]


def test_parameter_with_two_values_is_a_fault(world: BillingUnderTest) -> None:
    server = add_bare_server(world, GOOD, CREDENTIALS)
    world.sandbox.insert(
        "processingparam", processingmodule=server.id, intname="url", value="https://three.example.net"
    )
    read = world.billing.get_server(server.id)
    assert read is not None
    assert "different values" in read.faults[0]
