"""When a server is left alone, and when it is tried again: failures, refused passwords, pauses."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import pytest

from nc import errors as nc_errors
from reconciler.edits import EditRank
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.sandbox.emulator import CloudEmulator, Fault
from states import StepKind
from tests.unit.reconciler.samples import NOW, do, make_step
from tests.unit.reconciler.world import Maker, World, stop_of

FAILURES = 5
PROBE = timedelta(seconds=60)
CREDENTIALS_PROBE = timedelta(minutes=10)
MOMENT = timedelta(seconds=1)
GIB = 1024**3


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


def ask(world: World) -> datetime | None:
    """Ask for an edit: None when it may be made, else when to come again."""
    return world.server.edits.admit(7, EditRank.REST)


def test_rate_limit_on_edits_pauses_edits_only(world: World) -> None:
    world.cloud.edits.limit = 0
    world.cloud.add_account("user_7")
    world.server.ensure_ready()
    assert ask(world) is None
    with pytest.raises(nc_errors.RateLimited), world.server.calling(is_edit=True):
        world.server.client.set_quota("user_7", GIB)
    again = NOW + timedelta(seconds=60)
    assert ask(world) == again
    assert world.record.breaker_cause is None
    world.server.ensure_ready()
    with world.server.calling():
        world.server.client.disable("user_7")
    assert not world.cloud.accounts["user_7"].is_enabled
    world.clock.now = again - MOMENT
    assert ask(world) == again
    world.clock.now = again
    assert ask(world) is None


def test_rate_limit_on_edits_honours_retry_after(world: World) -> None:
    world.server.ensure_ready()
    world.cloud.faults.append(Fault("edit", "status", status=429, headers=(("Retry-After", "120"),)))
    with pytest.raises(nc_errors.RateLimited), world.server.calling(is_edit=True):
        world.server.client.set_quota("admin", GIB)
    assert ask(world) == NOW + timedelta(seconds=120)
    world.clock.now = NOW + timedelta(seconds=120)
    assert ask(world) is None


def test_edit_that_is_refused_for_another_reason_is_no_sign_of_the_limit(world: World) -> None:
    world.cloud.add_account("user_7")
    world.server.ensure_ready()
    world.server.edits.note_refused(timedelta(seconds=60))
    world.clock.advance(seconds=60)
    assert ask(world) is None, "one tries"
    with pytest.raises(nc_errors.EmailRefused), world.server.calling(is_edit=True):
        world.server.client.set_email("user_7", "no address")
    assert all(world.server.edits.admit(item, EditRank.REST) is None for item in range(10))


@pytest.mark.parametrize(
    ("product", "version", "limit"),
    [("nextcloud", "27.1.0", 50), ("nextcloud", "25.0.2", None), ("owncloud", "10.7.0", None)],
)
def test_limit_of_edits_is_known_by_product_and_version(
    make_world: Maker, product: Literal["nextcloud", "owncloud"], version: str, limit: int | None
) -> None:
    world = make_world(CloudEmulator(product, version=version))
    world.server.ensure_ready()
    assert world.server.edits.limit == limit


def test_edits_of_before_this_run_count(world: World) -> None:
    for number in range(50):
        do(world.journal, make_step(StepKind.SET_QUOTA, quota=GIB), now=NOW - timedelta(seconds=500 - number))
    do(world.journal, make_step(StepKind.DISABLE), now=NOW)
    world.server.ensure_ready()
    assert ask(world) is None, "one tries whether the limit is higher"
    assert world.server.edits.admit(8, EditRank.REST) == NOW + timedelta(seconds=2)


def test_product_that_nobody_knows_is_an_address_fault(world: World) -> None:
    world.cloud.product_name = "Infinite Scale"
    stopped = stop_of(world.server)
    assert stopped.cause == "address"
    assert world.record.probe_at == NOW + PROBE


def test_redirect_to_elsewhere_is_an_address_fault(world: World) -> None:
    headers = (("Location", "https://elsewhere.invalid/"),)
    world.cloud.faults.append(Fault("*", "status", status=302, headers=headers))
    assert stop_of(world.server).cause == "address"


# -- trouble noted for status


def test_trouble_is_noted_unless_the_breaker_has_said_so(world: World) -> None:
    world.server.note_trouble("server 1: no route")
    assert world.record.breaker_message == "server 1: no route"
    open_breaker(world)
    message = world.record.breaker_message
    world.server.note_trouble("something else")
    assert world.record.breaker_message == message


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
