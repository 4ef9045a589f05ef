"""The cloud servers that billing names: who answers, and how each is reached."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bm_db import BillingServer
from bm_db.errors import BillingError
from nc import ServerIdentity
from reconciler.config import parse_config
from reconciler.fleet import CloudServer, make_connection
from reconciler.sandbox.emulator import CloudEmulator
from tests.unit.reconciler.world import Maker, World, stop_of

# -- identity


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_first_contact_records_who_answers(make_world: Maker, product: Any) -> None:
    world = make_world(CloudEmulator(product))
    world.cloud.add_group("gold")
    assert world.server.identity is None
    identity = world.server.ensure_ready()
    assert isinstance(identity, ServerIdentity)
    assert world.server.identity == identity
    assert world.server.groups == frozenset({"admin", "gold"})
    record = world.record
    assert (record.product, record.version) == (product, identity.version)
    assert record.instance_id == world.cloud.instance_id == identity.instance_id
    assert (record.strange_identity, record.breaker_cause) == (None, None)


def test_second_question_costs_no_call(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.clear_calls()
    world.server.ensure_ready()
    assert world.cloud.calls == []


def test_groups_are_read_anew_when_asked(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.add_group("gold")
    assert "gold" not in (world.server.groups or ())
    world.server.refresh_groups()
    assert world.server.groups == frozenset({"admin", "gold"})


def test_api_user_is_spelled_as_the_server_does_once_it_was_asked(world: World) -> None:
    world.set_param("processingcryptedparam", "nc_username", world.landscape.billing.cipher.encrypt("ADMIN"))
    world.fleet.refresh()
    assert world.server.api_user == "ADMIN"
    world.server.ensure_ready()
    assert world.server.api_user == "admin"


def test_another_installation_behind_the_url_stops_the_server_until_approved(world: World) -> None:
    world.server.ensure_ready()
    known = world.cloud.instance_id
    world.cloud.set_instance_id("ocabcdefghij")
    world.start()
    for _ in range(2):
        stopped = stop_of(world.server)
        assert stopped.cause == "identity"
        assert f"nextcloud ocabcdefghij, known is nextcloud {known}" in str(stopped)
        assert f"reconciler approve identity --server {world.server.id}" in str(stopped)
        assert world.record.strange_identity == "nextcloud ocabcdefghij"
        assert world.record.instance_id == known
    assert world.cloud.mutating_calls() == []

    assert world.server.strange_identity == "nextcloud ocabcdefghij"
    world.server.approve_identity("nextcloud ocabcdefghij")
    world.server.ensure_ready()
    assert (world.record.instance_id, world.record.strange_identity) == ("ocabcdefghij", None)
    world.start()
    world.server.ensure_ready()


def test_only_the_installation_that_was_approved_is_the_right_one(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.set_instance_id("ocabcdefghij")
    world.start()
    stop_of(world.server)
    world.cloud.set_instance_id("ocklmnopqrst")
    world.server.approve_identity("nextcloud ocabcdefghij")
    for _ in range(2):
        assert stop_of(world.server).cause == "identity"
        assert world.record.instance_id == "ocabcdefghij"
        assert world.record.strange_identity == "nextcloud ocklmnopqrst"
        world.start()
    assert world.cloud.mutating_calls() == []


def test_strange_installation_stays_strange_after_a_restart(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.set_instance_id("ocabcdefghij")
    for _ in range(2):
        world.start()
        assert stop_of(world.server).cause == "identity"


def test_installation_that_is_itself_again_goes_on_without_approval(world: World) -> None:
    world.server.ensure_ready()
    known = world.cloud.instance_id
    world.cloud.set_instance_id("ocabcdefghij")
    world.start()
    stop_of(world.server)
    world.cloud.set_instance_id(known)
    world.cloud.clear_calls()
    assert stop_of(world.server).cause == "identity"
    assert world.cloud.calls == [], "it is not asked again and again"
    world.clock.advance(seconds=60)
    world.server.ensure_ready()
    assert world.record.strange_identity is None


def test_another_product_stops_the_server_until_approved(world: World) -> None:
    world.server.ensure_ready()
    world.journal.servers.update(world.server.id, product="owncloud")
    world.start()
    assert stop_of(world.server).cause == "identity"
    world.server.approve_identity(str(world.server.strange_identity))
    world.server.ensure_ready()
    assert world.record.product == "nextcloud"


def test_an_installation_that_does_not_say_its_id_is_approved_by_its_product(world: World) -> None:
    world.server.ensure_ready()
    known = world.cloud.instance_id
    world.journal.servers.update(world.server.id, strange_identity="owncloud unknown")
    world.server.approve_identity("owncloud unknown")
    assert (world.record.product, world.record.instance_id) == ("owncloud", None)
    world.start()
    assert "known is owncloud None" in str(stop_of(world.server))
    assert world.record.strange_identity == f"nextcloud {known}"


def test_new_version_is_only_recorded(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.settings.version = "28.0.1"
    world.start()
    world.server.ensure_ready()
    assert world.record.version is not None
    assert world.record.version.startswith("28.0.1")


def test_known_server_is_not_written_again(world: World) -> None:
    world.server.ensure_ready()
    world.start()
    before = world.record
    world.server.ensure_ready()
    assert world.record == before


# -- rows that may not be called


def test_inactive_server_is_not_called(world: World) -> None:
    world.landscape.billing.change("processingmodule", world.server.id, active="off")
    world.fleet.refresh()
    stopped = stop_of(world.server)
    assert stopped.cause == "inactive"
    assert "switched off in BILLmanager" in str(stopped)
    assert world.cloud.calls == []


@pytest.mark.parametrize(
    ("table", "name", "value", "words"),
    [
        ("processingparam", "base_url", "not a url", "is not an http(s) URL"),
        ("processingcryptedparam", "nc_password", "no ciphertext", "cannot be decrypted"),
    ],
)
def test_server_with_a_faulty_row_is_not_called(
    world: World, table: str, name: str, value: str, words: str
) -> None:
    world.set_param(table, name, value)
    world.fleet.refresh()
    stopped = stop_of(world.server)
    assert stopped.cause == "unconfigured"
    assert words in str(stopped)
    assert str(stopped).count(f"server {world.server.id}") == 1
    assert world.server.faults
    assert world.cloud.calls == []


# -- the fleet


def test_unchanged_servers_are_kept_and_changed_ones_replaced(make_world: Maker) -> None:
    world = make_world(CloudEmulator("nextcloud"), CloudEmulator("owncloud"))
    one, two = world.fleet.refresh()
    assert world.fleet.refresh() == [one, two]
    world.landscape.billing.change("processingmodule", two.id, name="renamed")
    kept, replaced = world.fleet.refresh()
    assert kept is one
    assert replaced is not two
    assert (replaced.id, replaced.name) == (two.id, "renamed")
    assert world.fleet.get(one.id) is one
    assert world.fleet.get(two.id) is replaced


def count_connections(cloud: CloudEmulator) -> int:
    assert cloud._server is not None
    with cloud._server._connections_lock:
        return len(cloud._server._connections)


def wait_for_no_connection(cloud: CloudEmulator) -> bool:
    """Whether the cloud's callers hang up; an end of a connection takes a moment to be noticed."""
    assert cloud._server is not None
    for thread in list(cloud._server._connections):
        thread.join(5)
    return count_connections(cloud) == 0


@pytest.mark.parametrize("change", ["replaced", "removed", "closed"])
def test_sessions_of_a_server_that_is_no_longer_used_are_ended(world: World, change: str) -> None:
    used = world.server  # somebody still holds it
    used.ensure_ready()
    assert count_connections(world.cloud) == 1
    if change == "replaced":
        world.landscape.billing.change("processingmodule", world.server.id, name="renamed")
        world.fleet.refresh()
    elif change == "removed":
        world.landscape.billing.change("processingmodule", world.server.id, module="other")
        assert world.fleet.refresh() == []
    else:
        world.fleet.close()
    assert wait_for_no_connection(world.cloud)


def test_server_that_billing_does_not_have_is_none(world: World) -> None:
    assert world.fleet.get(999) is None
    assert world.fleet.get(None) is None
    server_id = world.server.id
    world.landscape.billing.change("processingmodule", server_id, module="other")
    world.fleet.refresh()
    assert world.fleet.get(server_id) is None


@pytest.mark.parametrize("table", ["processingmodule", "processingparam"])
def test_servers_stay_as_they_are_while_billing_cannot_be_read(world: World, table: str) -> None:
    server = world.server
    with world.landscape.billing.engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {table}")
    with pytest.raises(BillingError):
        world.fleet.refresh()
    assert world.fleet.get(server.id) is server


def test_workers_that_come_at_once_connect_once(world: World) -> None:
    start = threading.Barrier(6)

    def run() -> ServerIdentity:
        start.wait(20)
        return world.server.ensure_ready()

    with ThreadPoolExecutor(6) as pool:
        identities = [future.result(30) for future in [pool.submit(run) for _ in range(6)]]
    assert len(set(identities)) == 1
    assert world.cloud.call_counts["status"] == 1
    assert world.cloud.logins.login_count == 1


def test_every_request_is_told_with_its_server(make_world: Maker) -> None:
    world = make_world(CloudEmulator("nextcloud"), CloudEmulator("owncloud"))
    for server in world.fleet.refresh():
        server.ensure_ready()
    for server_id, cloud in zip(world.landscape.server_ids, world.landscape.clouds, strict=True):
        told = [call for server, call in world.calls if server == server_id]
        assert len(told) == len(cloud.calls)
        assert told[0].operation == "status"


def test_fleet_works_without_anybody_being_told(world: World) -> None:
    row = BillingServer(9, "nine", True, world.cloud.base_url, "admin", world.cloud.admin_password)
    fleet = world.fleet
    server = CloudServer(
        row, make_connection(row, parse({}).for_server(9)), world.journal, world.server._limits, world.clock
    )
    server.ensure_ready()
    server.client.close()
    assert fleet.get(9) is None


# -- how a server is reached


def parse(nextcloud: dict[str, Any]) -> Any:
    data = {"billmanager": {"database_url": "sqlite:////tmp/billmgr.db"}, "nextcloud": nextcloud}
    return parse_config(data)


def row_with(**changes: Any) -> BillingServer:
    values: dict[str, Any] = {
        "id": 3,
        "name": "three",
        "is_active": True,
        "base_url": "https://cloud.example/nc/",
        "username": "admin",
        "password": "secret",
    }
    return BillingServer(**(values | changes))


def connect(row: BillingServer, nextcloud: dict[str, Any]) -> Any:
    return make_connection(row, parse(nextcloud).for_server(row.id))


def test_defaults_apply_where_nobody_says_anything() -> None:
    connection = connect(row_with(), {})
    assert (connection.base_url, connection.username, connection.password) == (
        "https://cloud.example/nc/",
        "admin",
        "secret",
    )
    assert (connection.verify_tls, connection.read_timeout_seconds) == (True, 30.0)
    assert (connection.connect_timeout_seconds, connection.total_timeout_seconds) == (10.0, 60.0)
    assert (connection.delete_timeout_seconds, connection.page_size, connection.concurrency) == (600, 200, 4)
    assert (connection.requests_per_second, connection.max_response_bytes) == (20.0, 8 * 1024 * 1024)
    assert "secret" not in repr(connection)


def test_billmanager_goes_before_the_defaults() -> None:
    connection = connect(row_with(timeout_seconds=45.0, verify_tls=False), {})
    assert (connection.read_timeout_seconds, connection.verify_tls) == (45.0, False)


@pytest.mark.parametrize("place", ["all", "one"])
def test_file_goes_before_billmanager_even_with_the_default_value(place: str) -> None:
    written = {"timeout": "30s", "verify_tls": True}
    nextcloud = written if place == "all" else {"server": {"3": written}}
    connection = connect(row_with(timeout_seconds=45.0, verify_tls=False), nextcloud)
    assert (connection.read_timeout_seconds, connection.verify_tls) == (30.0, True)


def test_word_about_one_server_goes_before_the_word_about_all() -> None:
    nextcloud = {
        "timeout": "20s",
        "page_size": 100,
        "server": {"3": {"timeout": "25s", "ca_file": "/etc/ca.pem"}, "4": {"timeout": "5s"}},
    }
    connection = connect(row_with(), nextcloud)
    assert (connection.read_timeout_seconds, connection.page_size) == (25.0, 100)
    assert connection.ca_file == "/etc/ca.pem"


def test_whole_answer_may_take_as_long_as_a_silence_may() -> None:
    connection = connect(row_with(timeout_seconds=300.0), {})
    assert (connection.read_timeout_seconds, connection.total_timeout_seconds) == (300.0, 300.0)


def test_machines_authorities_are_used_when_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca-certificates.crt"
    monkeypatch.setattr("reconciler.fleet._SYSTEM_AUTHORITIES", bundle)
    assert connect(row_with(), {}).ca_file is None
    bundle.touch()
    assert connect(row_with(), {}).ca_file == str(bundle)
