"""The cloud servers over real sockets: identities, breakers, pauses, and how each is reached."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bm_db import Billing, BillingServer, open_billing
from nc import ApiCall, ServerIdentity
from nc import errors as nc_errors
from reconciler.config import load_config, parse_config
from reconciler.fleet import CloudServer, Fleet, ServerStopped, make_connection
from reconciler.journal import Journal, ServerRecord, open_journal
from reconciler.sandbox.billing_data import generate_private_key_pem
from reconciler.sandbox.emulator import CloudEmulator, Fault
from reconciler.sandbox.landscape import Landscape
from tests.unit.reconciler.samples import NOW, FakeClock

FAILURES = 5
PROBE = timedelta(seconds=60)
CREDENTIALS_PROBE = timedelta(minutes=10)
MOMENT = timedelta(seconds=1)
GIB = 1024**3


@pytest.fixture(scope="module")
def private_key_pem() -> bytes:
    return generate_private_key_pem()


class World:
    """A provider with some clouds, and as many runs of our program over it as a test wants."""

    def __init__(self, folder: Path, key: bytes, clouds: list[CloudEmulator]) -> None:
        self.landscape = Landscape(folder, clouds, private_key_pem=key)
        self.folder = folder
        self.key = key
        self.clock = FakeClock()
        self.calls: list[tuple[int, ApiCall]] = []
        self._closing = contextlib.ExitStack()
        self.fleet = self.start()
        self.journal: Journal

    @property
    def cloud(self) -> CloudEmulator:
        return self.landscape.clouds[0]

    @property
    def server(self) -> CloudServer:
        """The first server, as the latest read of billing has it."""
        found = self.fleet.get(self.landscape.server_ids[0])
        assert found is not None
        return found

    @property
    def record(self) -> ServerRecord:
        return self.journal.servers.get(self.server.id)

    def start(self) -> Fleet:
        """Start our program (again): everything is opened anew, the journal's file stays."""
        config = load_config(self.landscape.config_path)
        billing: Billing = open_billing(self.landscape.database_url, password=None, private_key_pem=self.key)
        self._closing.callback(billing.close)
        self.journal = open_journal(config.reconciler.journal_url, config.reconciler.journal_key_file)
        self._closing.callback(self.journal.close)
        self.fleet = Fleet(
            billing, self.journal, config, self.clock, lambda server, call: self.calls.append((server, call))
        )
        self._closing.callback(self.fleet.close)
        self.fleet.refresh()
        return self.fleet

    def set_param(self, table: str, name: str, value: str, server: int = 0) -> None:
        """Change a parameter of a server as a person does in BILLmanager."""
        billing = self.landscape.billing
        target = billing.table(table)
        with billing.engine.begin() as connection:
            connection.execute(
                target.update()
                .where(
                    target.c.processingmodule == self.landscape.server_ids[server], target.c.intname == name
                )
                .values(value=value)
            )

    def set_password(self, password: str) -> None:
        encrypted = self.landscape.billing.cipher.encrypt(password)
        self.set_param("processingcryptedparam", "nc_password", encrypted)

    def close(self) -> None:
        self._closing.close()
        self.landscape.close()


Maker = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path, private_key_pem: bytes) -> Iterator[Maker]:
    made: list[World] = []

    def make(*clouds: CloudEmulator) -> World:
        made.append(World(tmp_path, private_key_pem, list(clouds) or [CloudEmulator("nextcloud")]))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def world(make_world: Maker) -> World:
    return make_world()


def stop_of(server: CloudServer) -> ServerStopped:
    """Why the server may not be called."""
    with pytest.raises(ServerStopped) as caught:
        server.ensure_ready()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"server {server.id} ({server.name})")
    return caught.value


def read(server: CloudServer, userid: str = "admin") -> None:
    server.ensure_ready()
    with server.calling():
        server.client.get_account(userid)


def fail_to_read(world: World, fault: Fault | None = None) -> None:
    """One read that fails in transport."""
    if fault is not None:
        world.cloud.faults.append(fault)
    with pytest.raises(nc_errors.CloudError) as caught:
        read(world.server)
    assert caught.value.is_transient


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

    world.server.approve_identity()
    world.server.ensure_ready()
    assert (world.record.instance_id, world.record.strange_identity) == ("ocabcdefghij", None)
    world.start()
    world.server.ensure_ready()


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
    world.server.ensure_ready()
    assert world.record.strange_identity is None


def test_another_product_stops_the_server_until_approved(world: World) -> None:
    world.server.ensure_ready()
    world.journal.servers.update(world.server.id, product="owncloud")
    world.start()
    assert stop_of(world.server).cause == "identity"
    world.server.approve_identity()
    world.server.ensure_ready()
    assert world.record.product == "nextcloud"


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


# -- transport failures


@pytest.mark.parametrize(
    "fault",
    [
        Fault("get", "drop", times=None),
        Fault("get", "html", times=None),
        Fault("get", "status", times=None, status=500),
        Fault("get", "truncate", times=None),
    ],
    ids=lambda fault: fault.kind,
)
def test_breaker_opens_after_so_many_failures_in_a_row_and_not_earlier(world: World, fault: Fault) -> None:
    world.server.ensure_ready()
    world.cloud.faults.append(fault)
    for number in range(FAILURES):
        assert world.record.breaker_cause is None, number
        fail_to_read(world)
    record = world.record
    assert (record.breaker_cause, record.breaker_since) == ("transport", NOW)
    assert record.probe_at == NOW + PROBE
    assert stop_of(world.server).cause == "transport"


def test_server_that_cannot_be_reached_opens_the_breaker(world: World) -> None:
    world.cloud.stop()
    for _ in range(FAILURES):
        with pytest.raises(nc_errors.ServerUnreachable):
            world.server.ensure_ready()
    assert "tried again in 61 s at the earliest" in str(stop_of(world.server))


def test_success_in_between_starts_the_count_anew(world: World) -> None:
    world.server.ensure_ready()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            fail_to_read(world, Fault("get", "html"))
        read(world.server)
    assert world.record.breaker_cause is None


def test_answer_about_a_service_is_a_success_of_the_server(world: World) -> None:
    world.server.ensure_ready()
    for _ in range(FAILURES - 1):
        fail_to_read(world, Fault("get", "html"))
    with pytest.raises(nc_errors.AccountMissing), world.server.calling():
        world.server.client.disable("nobody")
    for _ in range(FAILURES - 1):
        fail_to_read(world, Fault("get", "html"))
    assert world.record.breaker_cause is None


def test_unanswered_change_counts_as_a_failure(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.add_account("user_7")
    world.cloud.faults.append(Fault("disable", "drop", times=FAILURES))
    for _ in range(FAILURES):
        with pytest.raises(nc_errors.OutcomeUnknown), world.server.calling():
            world.server.client.disable("user_7")
    assert world.record.breaker_cause == "transport"


def open_breaker(world: World) -> None:
    world.server.ensure_ready()
    for _ in range(FAILURES):
        fail_to_read(world, Fault("get", "html"))
    world.cloud.clear_calls()


def test_open_breaker_makes_no_call_until_the_probe_time(world: World) -> None:
    open_breaker(world)
    for after in (timedelta(0), PROBE - MOMENT):
        world.clock.now = NOW + after
        assert stop_of(world.server).cause == "transport"
    assert world.cloud.calls == []
    world.clock.now = NOW + PROBE
    world.server.ensure_ready()
    record = world.record
    assert (record.breaker_cause, record.breaker_message, record.probe_at) == (None, None, None)
    assert record.breaker_since is None


@pytest.mark.parametrize("is_restarted", [False, True])
def test_failed_probe_keeps_the_breaker_open_and_its_beginning(world: World, is_restarted: bool) -> None:
    open_breaker(world)
    if is_restarted:
        world.start()
    world.clock.now = NOW + PROBE
    world.cloud.faults.append(Fault("status", "html", times=None))
    with pytest.raises(nc_errors.CloudError):
        world.server.ensure_ready()
    calls = len(world.cloud.calls)
    assert calls == 1
    assert stop_of(world.server).cause == "transport"
    assert len(world.cloud.calls) == calls
    assert (world.record.breaker_since, world.record.probe_at) == (NOW, NOW + 2 * PROBE)


def test_open_breaker_is_remembered_over_a_restart(world: World) -> None:
    open_breaker(world)
    world.start()
    assert stop_of(world.server).cause == "transport"
    assert world.cloud.calls == []


def test_operator_may_close_the_breaker(world: World) -> None:
    open_breaker(world)
    world.server.close_breaker()
    world.server.ensure_ready()
    assert world.record.breaker_cause is None


def test_whoever_answers_after_an_outage_is_asked_who_he_is(world: World) -> None:
    open_breaker(world)
    world.cloud.set_instance_id("ocabcdefghij")
    world.clock.now = NOW + PROBE
    assert stop_of(world.server).cause == "identity"


# -- credentials


def count_logins(world: World) -> int:
    return world.cloud.logins.login_count


def test_refused_password_opens_the_breaker_at_once(world: World) -> None:
    world.cloud.accounts["admin"].password = "changed"
    stopped = stop_of(world.server)
    assert stopped.cause == "credentials"
    assert isinstance(stopped.__cause__, nc_errors.CredentialsRefused)
    assert (count_logins(world), world.record.probe_at) == (1, NOW + CREDENTIALS_PROBE)


def test_refused_password_is_not_tried_again_before_the_probe_even_after_restarts(world: World) -> None:
    world.cloud.accounts["admin"].password = "changed"
    stop_of(world.server)
    for after in (timedelta(0), PROBE, CREDENTIALS_PROBE - MOMENT):
        world.clock.now = NOW + after
        assert stop_of(world.server).cause == "credentials"
        world.start()
        assert stop_of(world.server).cause == "credentials"
    assert count_logins(world) == 1
    world.clock.now = NOW + CREDENTIALS_PROBE
    assert stop_of(world.server).cause == "credentials"
    assert count_logins(world) == 2
    assert world.record.breaker_since == NOW


def test_new_password_is_tried_at_once(world: World) -> None:
    world.cloud.accounts["admin"].password = "changed"
    stop_of(world.server)
    world.set_password("changed")
    world.fleet.refresh()
    world.server.ensure_ready()
    assert count_logins(world) == 2
    assert world.record.breaker_cause is None


def test_new_password_that_is_wrong_too_is_tried_once(world: World) -> None:
    world.cloud.accounts["admin"].password = "changed"
    stop_of(world.server)
    world.set_password("wrong again")
    for _ in range(3):
        world.start()
        assert stop_of(world.server).cause == "credentials"
    assert count_logins(world) == 2


def test_journal_holds_no_credentials_in_the_clear(world: World) -> None:
    world.cloud.accounts["admin"].password = "changed"
    stop_of(world.server)
    record = world.record
    assert record.credentials_mark is not None
    content = repr(record).encode() + b"".join(file.read_bytes() for file in world.folder.glob("journal.db*"))
    assert world.cloud.admin_password.encode() not in content


def test_user_that_is_no_administrator_opens_the_breaker_at_once(world: World) -> None:
    world.cloud.accounts["admin"].groups = set()
    stopped = stop_of(world.server)
    assert stopped.cause == "credentials"
    assert world.record.probe_at == NOW + CREDENTIALS_PROBE


def test_refused_permission_stops_the_server_though_a_service_met_it(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.faults.append(Fault("get", "status", status=403))
    with pytest.raises(ServerStopped) as caught:
        read(world.server)
    assert caught.value.cause == "credentials"
    assert world.server.identity is None


# -- pauses and addresses


def test_maintenance_pauses_the_server(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.maintenance = True
    with pytest.raises(ServerStopped, match="maintenance") as caught:
        read(world.server)
    assert caught.value.cause == "maintenance"
    world.cloud.clear_calls()
    world.cloud.maintenance = False
    world.clock.now = NOW + PROBE - MOMENT
    assert stop_of(world.server).cause == "maintenance"
    assert world.cloud.calls == []
    world.clock.now = NOW + PROBE
    world.server.ensure_ready()


def test_maintenance_does_not_count_as_a_failure(world: World) -> None:
    world.server.ensure_ready()
    for _ in range(FAILURES - 1):
        fail_to_read(world, Fault("get", "html"))
    world.cloud.maintenance = True
    with pytest.raises(ServerStopped):
        read(world.server)
    world.cloud.maintenance = False
    world.clock.advance(seconds=60)
    world.server.ensure_ready()
    assert world.record.breaker_cause is None


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ((), timedelta(seconds=60)),
        ((("Retry-After", "300"),), timedelta(seconds=300)),
        ((("Retry-After", "0"),), timedelta(seconds=1)),
    ],
)
def test_rate_limit_stops_the_server_for_as_long_as_it_asks(
    world: World, headers: tuple[tuple[str, str], ...], pause: timedelta
) -> None:
    world.server.ensure_ready()
    world.cloud.faults.append(Fault("get", "status", status=429, headers=headers))
    with pytest.raises(ServerStopped) as caught:
        read(world.server)
    assert caught.value.cause == "rate_limit"
    assert isinstance(caught.value.__cause__, nc_errors.RateLimited)
    assert world.record.probe_at == NOW + pause
    world.clock.now = NOW + pause - MOMENT / 2
    assert stop_of(world.server).cause == "rate_limit"
    world.clock.now = NOW + pause
    read(world.server)


def test_rate_limit_on_edits_pauses_edits_only(world: World) -> None:
    world.cloud.edits.limit = 0
    world.cloud.add_account("user_7")
    world.server.ensure_ready()
    assert not world.server.is_edit_paused()
    with pytest.raises(nc_errors.RateLimited), world.server.calling(is_edit=True):
        world.server.client.set_quota("user_7", GIB)
    assert world.server.is_edit_paused()
    assert world.record.breaker_cause is None
    world.server.ensure_ready()
    with world.server.calling():
        world.server.client.disable("user_7")
    assert not world.cloud.accounts["user_7"].is_enabled
    world.clock.now = NOW + timedelta(seconds=60) - MOMENT
    assert world.server.is_edit_paused()
    world.clock.now = NOW + timedelta(seconds=60)
    assert not world.server.is_edit_paused()


def test_rate_limit_on_edits_honours_retry_after(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.faults.append(Fault("edit", "status", status=429, headers=(("Retry-After", "120"),)))
    with pytest.raises(nc_errors.RateLimited), world.server.calling(is_edit=True):
        world.server.client.set_quota("admin", GIB)
    world.clock.now = NOW + timedelta(seconds=119)
    assert world.server.is_edit_paused()
    world.clock.now = NOW + timedelta(seconds=120)
    assert not world.server.is_edit_paused()


def test_product_that_nobody_knows_is_an_address_fault(world: World) -> None:
    world.cloud.product_name = "Infinite Scale"
    stopped = stop_of(world.server)
    assert stopped.cause == "address"
    assert world.record.probe_at == NOW + PROBE


def test_redirect_to_elsewhere_is_an_address_fault(world: World) -> None:
    headers = (("Location", "https://elsewhere.invalid/"),)
    world.cloud.faults.append(Fault("*", "status", status=302, headers=headers))
    assert stop_of(world.server).cause == "address"


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


# -- trouble noted for status


def test_trouble_is_noted_unless_the_breaker_has_said_so(world: World) -> None:
    world.server.note_trouble("server 1: no route")
    assert world.record.breaker_message == "server 1: no route"
    open_breaker(world)
    message = world.record.breaker_message
    world.server.note_trouble("something else")
    assert world.record.breaker_message == message


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


def test_limits_come_from_the_configuration(world: World) -> None:
    guards = {
        "breaker_failures": 2,
        "breaker_probe_interval": "90s",
        "credentials_probe_interval": "20m",
    }
    world.landscape.configure({"guards": guards})
    world.start()
    world.server.ensure_ready()
    for _ in range(2):
        fail_to_read(world, Fault("get", "html"))
    assert world.record.probe_at == NOW + timedelta(seconds=90)
    world.server.close_breaker()
    world.cloud.accounts["admin"].password = "changed"
    stop_of(world.server)
    assert world.record.probe_at == NOW + timedelta(minutes=20)


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
