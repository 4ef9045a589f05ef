"""Why a server cannot be used and what helps, over real sockets; looking changes nothing."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from nc import CloudClient, ServerConnection
from nc import errors as nc_errors
from reconciler.diagnosis import Diagnosis, check_connection, diagnose, explain, tell
from reconciler.fleet import ServerStopped
from reconciler.sandbox.emulator import CloudEmulator, Fault
from tests.unit.reconciler.world import Maker

SECRET = "s3cret-Admin-password"


def make_cloud(product: Any = "nextcloud", **options: Any) -> CloudEmulator:
    return CloudEmulator(product, admin_password=SECRET, **options)


def examine(url: str, password: str = SECRET, **options: Any) -> Diagnosis:
    """The diagnosis of a server, which is always two clear lines without a secret."""
    values: dict[str, Any] = {"requests_per_second": 0, "connect_timeout_seconds": 5.0}
    client = CloudClient(ServerConnection(url, "admin", password, **(values | options)))
    try:
        found = diagnose(client)
    finally:
        client.close()
    assert found.message
    assert "\n" not in found.message + found.cure
    assert password not in found.message + found.cure
    assert bool(found.cure) is not found.is_usable
    return found


@contextlib.contextmanager
def unchanged(cloud: CloudEmulator) -> Iterator[None]:
    """Nothing on the server is changed meanwhile, whatever was asked."""

    def look() -> object:
        accounts = sorted(
            (each.userid, each.password, each.quota_definition, each.email, each.is_enabled, *each.groups)
            for each in cloud.accounts.values()
        )
        return accounts, sorted(cloud.groups), sorted(cloud.accounts["admin"].app_passwords)

    before = look()
    yield
    assert look() == before
    assert not any(call.had_effect for call in cloud.calls)


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_usable_server_is_said_to_be_one(product: str) -> None:
    with make_cloud(product) as cloud, unchanged(cloud):
        found = examine(cloud.base_url)
    assert (found.cause, found.cure, found.is_usable) == ("ok", "", True)
    assert f"{product} {cloud.settings.version}" in found.message
    assert "as admin" in found.message
    assert f"instance {cloud.instance_id}" in found.message
    assert "writing" in found.message


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_wrong_password(product: str) -> None:
    with make_cloud(product) as cloud, unchanged(cloud):
        found = examine(cloud.base_url, "wrong")
        assert cloud.logins.login_count == 1
    assert found.cause == "wrong password"
    assert "check user name and password" in found.cure


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_two_factor_login_that_refuses_the_real_password_is_named_in_the_cure(product: str) -> None:
    with make_cloud(product, token_auth_enforced=True) as cloud, unchanged(cloud):
        found = examine(cloud.base_url)
    assert found.cause == "wrong password"
    assert "two-factor login" in found.cure
    assert "token_auth_enforced" in found.cure


def test_app_password_that_the_newest_nextcloud_refuses_for_changes() -> None:
    with make_cloud(version="34.0.0") as cloud:
        app_password = cloud.add_app_password("admin")
        with unchanged(cloud):
            found = examine(cloud.base_url, app_password)
            assert examine(cloud.base_url).is_usable
    assert found.cause == "app password refused"
    assert "real password" in found.cure


def test_app_password_that_an_older_nextcloud_takes_is_fine() -> None:
    with make_cloud(version="27.1.0") as cloud:
        assert examine(cloud.base_url, cloud.add_app_password("admin")).is_usable


def test_app_password_refused_by_a_configured_server() -> None:
    with make_cloud(require_password_confirmation=True) as cloud:
        app_password = cloud.add_app_password("admin")
        with unchanged(cloud):
            assert examine(cloud.base_url, app_password).cause == "app password refused"


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_user_that_is_no_administrator(product: str) -> None:
    with make_cloud(product) as cloud:
        cloud.accounts["admin"].groups = set()
        with unchanged(cloud):
            found = examine(cloud.base_url)
    assert found.cause == "not an admin"
    assert "group admin" in found.cure


def test_writing_that_is_refused() -> None:
    with make_cloud() as cloud, unchanged(cloud):
        cloud.faults.append(Fault(lambda call: call.is_mutating, "status", status=403))
        found = examine(cloud.base_url)
    assert found.cause == "write refused"


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_maintenance(product: str) -> None:
    with make_cloud(product) as cloud, unchanged(cloud):
        cloud.maintenance = True
        found = examine(cloud.base_url)
    assert found.cause == "maintenance"
    assert "occ maintenance:mode --off" in found.cure


def test_brute_force_protection() -> None:
    with make_cloud(brute_force_limit=1) as cloud, unchanged(cloud):
        assert examine(cloud.base_url, "wrong").cause == "wrong password"
        found = examine(cloud.base_url)
    assert found.cause == "rate-limited"
    assert "brute-force protection" in found.cure


def test_used_up_edits_are_no_reason_not_to_use_a_server() -> None:
    with make_cloud(edit_limit=0) as cloud, unchanged(cloud):
        assert examine(cloud.base_url).is_usable


# -- addresses


@pytest.mark.parametrize("path", ["/wrong", "/cloud/ocs"])
def test_wrong_path_that_answers_a_page(path: str) -> None:
    with make_cloud(path="/cloud") as cloud, unchanged(cloud):
        root = cloud.base_url.removesuffix("/cloud")
        found = examine(root + path)
        assert examine(f"{root}/cloud/").is_usable
    assert found.cause == "wrong path"
    assert "path" in found.cure


def test_page_of_something_else() -> None:
    with make_cloud() as cloud, unchanged(cloud):
        cloud.faults.append(Fault("*", "html", times=None))
        assert examine(cloud.base_url).cause == "wrong path"


def test_product_that_is_neither() -> None:
    with make_cloud() as cloud, unchanged(cloud):
        cloud.product_name = "Infinite Scale"
        found = examine(cloud.base_url)
    assert found.cause == "wrong path"
    assert "Nextcloud or ownCloud" in found.cure


def test_redirect_to_another_host() -> None:
    headers = (("Location", "https://elsewhere.invalid/"),)
    with make_cloud() as cloud, unchanged(cloud):
        cloud.faults.append(Fault("*", "status", status=302, headers=headers))
        found = examine(cloud.base_url)
    assert found.cause == "wrong address"
    assert "redirects" in found.cure


@pytest.mark.parametrize("url", ["ftp://cloud.example", "https://", "cloud.example"])
def test_text_that_is_no_address(url: str) -> None:
    found = examine(url)
    assert found.cause == "wrong address"
    assert "https://cloud.example" in found.cure


def test_port_where_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found = examine(f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert found.cause == "unreachable"
    assert "port" in found.cure


def test_name_that_nobody_knows() -> None:
    found = examine("https://no-such-cloud.invalid")
    assert found.cause == "unreachable"
    assert "cannot be resolved" in found.message
    assert "name resolution" in found.cure


def test_server_that_says_nothing() -> None:
    with make_cloud() as cloud:
        cloud.faults.append(Fault("status", "hang", times=None))
        found = examine(cloud.base_url, read_timeout_seconds=0.2)
    assert found.cause == "no answer"
    assert "overloaded" in found.cure


def test_server_that_fails() -> None:
    with make_cloud() as cloud, unchanged(cloud):
        cloud.faults.append(Fault("*", "status", status=500, times=None))
        found = examine(cloud.base_url)
    assert found.cause == "error"
    assert "server's log" in found.cure


# -- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def make_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_certificate_of_an_unknown_authority(authority: trustme.CA, tmp_path: Path) -> None:
    with make_cloud(tls_context=make_tls(authority, "127.0.0.1")) as cloud:
        found = examine(cloud.base_url)
        assert cloud.calls == []
        file = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(file))
        assert examine(cloud.base_url, ca_file=str(file)).is_usable
    assert found.cause == "TLS"
    assert "ca_file" in found.cure


def test_certificate_of_another_host(authority: trustme.CA, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    with make_cloud(tls_context=make_tls(authority, "elsewhere.example")) as cloud:
        found = examine(cloud.base_url, ca_file=str(file))
    assert found.cause == "TLS"
    assert "host name" in found.cure


def test_server_that_speaks_no_tls() -> None:
    with make_cloud() as cloud:
        found = examine(cloud.base_url.replace("http://", "https://"))
    assert found.cause in {"TLS", "unreachable"}


# -- a server of the fleet


def test_check_of_a_fleets_server_ignores_its_breaker_and_closes_it(make_world: Maker) -> None:
    world = make_world()
    world.cloud.maintenance = True
    with pytest.raises(ServerStopped):
        world.server.ensure_ready()
    assert check_connection(world.server).cause == "maintenance"
    assert world.record.breaker_cause == "maintenance"
    world.cloud.maintenance = False
    assert check_connection(world.server).is_usable
    assert world.record.breaker_cause is None
    assert world.record.instance_id == world.cloud.instance_id


def test_check_of_a_server_that_is_set_up_wrongly_makes_no_call(make_world: Maker) -> None:
    world = make_world()
    world.set_param("processingparam", "base_url", "nonsense")
    world.fleet.refresh()
    found = check_connection(world.server)
    assert found.cause == "configuration"
    assert "is not an http(s) URL" in found.message
    assert "BILLmanager" in found.cure
    assert world.cloud.calls == []


def test_check_of_another_installation_names_it_and_the_cure(make_world: Maker) -> None:
    world = make_world()
    world.server.ensure_ready()
    world.cloud.set_instance_id("ocabcdefghij")
    world.start()
    found = check_connection(world.server)
    assert found.cause == "another installation"
    assert "ocabcdefghij" in found.message
    assert f"reconciler approve identity --server {world.server.id}" in found.cure
    assert world.record.instance_id != "ocabcdefghij"


@pytest.mark.parametrize(("status", "cause"), [(429, "rate-limited"), (500, "error")])
def test_check_of_a_server_that_fails_meanwhile_says_so(make_world: Maker, status: int, cause: str) -> None:
    world = make_world()
    seen = itertools.count(1)
    world.cloud.faults.append(
        Fault(lambda call: call.operation == "status" and next(seen) > 1, "status", status=status)
    )
    found = check_connection(world.server)
    assert found.cause == cause
    assert found.cure


def test_server_that_is_switched_off_in_billmanager_is_checked_all_the_same(make_world: Maker) -> None:
    world = make_world()
    world.landscape.billing.change("processingmodule", world.server.id, active="off")
    world.fleet.refresh()
    assert check_connection(world.server).is_usable


# -- one line for a report


def test_report_names_server_failure_and_cure(make_world: Maker) -> None:
    world = make_world()
    server = world.server
    assert tell(server, nc_errors.ServerTimeout("h stopped answering")) == (
        f"{server}: h stopped answering; check that the server is up and not overloaded"
    )
    assert tell(server, nc_errors.ServerUnreachable("wrong; check it in BILLmanager")) == (
        f"{server}: wrong; check it in BILLmanager"
    )
    assert tell(server, nc_errors.CredentialsRefused("refused; check it")) == f"{server}: refused; check it"


def test_report_of_a_stopped_server_names_it_once(make_world: Maker) -> None:
    world = make_world()
    world.cloud.maintenance = True
    with pytest.raises(ServerStopped) as caught:
        world.server.ensure_ready()
    line = tell(world.server, caught.value)
    assert line.count(str(world.server)) == 1
    assert line.endswith("wait, or end it on the server: occ maintenance:mode --off")
    assert tell(world.server, ServerStopped("inactive", "server 1 is off")) == "server 1 is off"


def list_errors(
    kind: type[nc_errors.CloudError] = nc_errors.CloudError,
) -> Iterator[type[nc_errors.CloudError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from list_errors(child)


@pytest.mark.parametrize("kind", list(list_errors()), ids=lambda kind: str(kind.__name__))
def test_every_error_has_a_cause_and_a_cure(kind: type[nc_errors.CloudError]) -> None:
    found = explain(kind("what happened"))
    assert found.message == "what happened"
    assert found.cause not in {"", "ok"}
    assert found.cure
    assert not found.is_usable
