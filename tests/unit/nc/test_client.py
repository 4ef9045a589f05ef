"""Connecting: which product, who we are, and whether the answers can be trusted."""

from __future__ import annotations

import json
import pickle
import threading
from typing import Any

import pytest

from nc import ApiCall, Product, ServerIdentity, errors
from nc.errors import (
    BadAnswer,
    CloudError,
    CredentialsRefused,
    Maintenance,
    NotAdministrator,
    RedirectRefused,
    ServerError,
    UnknownProduct,
)
from tests.contract.replay import Reply, Seen, ocs
from tests.unit.nc.raw_server import client_to, connection_to
from tests.unit.nc.scripted_cloud import ABSENT, ROOT, STATUS, Script, account_data, scripted, success

PRODUCTS = ["nextcloud", "owncloud"]


def status_reply(product: str = "nextcloud", /, **changes: Any) -> Reply:
    values = {key: value for key, value in (STATUS[product] | changes).items() if value is not ...}
    return Reply(200, json.dumps(values).encode())


def connect(product: str, script: Script) -> ServerIdentity:
    with scripted(product, script) as server, client_to(server.url) as client:
        return client.connect()


@pytest.mark.parametrize(
    ("product", "changes", "expected"),
    [
        ("nextcloud", {}, Product.NEXTCLOUD),
        ("owncloud", {}, Product.OWNCLOUD),
        ("owncloud", {"productname": "OWNCLOUD Enterprise"}, Product.OWNCLOUD),
        ("nextcloud", {"productname": "Our Cloud"}, Product.NEXTCLOUD),
        ("nextcloud", {"productname": "Our Cloud", "extendedSupport": ...}, Product.NEXTCLOUD),
        ("nextcloud", {"productname": "Our Cloud", "versionstring": "11.0.8"}, Product.NEXTCLOUD),
        ("owncloud", {"productname": "Our Cloud"}, Product.OWNCLOUD),
        ("owncloud", {"productname": ..., "versionstring": "11.0.0"}, Product.OWNCLOUD),
        ("owncloud", {"versionstring": ...}, Product.OWNCLOUD),
    ],
)
def test_product_is_told_by_status_php(product: str, changes: dict[str, Any], expected: Product) -> None:
    assert connect(product, {"GET /status.php": status_reply(product, **changes)}).product is expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (status_reply("owncloud", productname="Box", versionstring="9.1.0"), UnknownProduct),
        (status_reply("owncloud", productname="Box", versionstring="new"), UnknownProduct),
        (status_reply("owncloud", productname="Infinite Scale", versionstring="10.11.0"), UnknownProduct),
        (status_reply("owncloud", product="OpenCloud", productname="x", version="10.0"), UnknownProduct),
        (status_reply(maintenance=True), Maintenance),
        (status_reply(needsDbUpgrade=True), Maintenance),
        (status_reply(installed=False), Maintenance),
        (status_reply(maintenance="false"), BadAnswer),
        (status_reply(version=...), BadAnswer),
        (status_reply(installed=...), BadAnswer),
        (Reply(200, b"[]"), BadAnswer),
        (Reply(200, b"<html><title>Parked</title>"), BadAnswer),
        (Reply(404, b"<html><title>404</title>"), BadAnswer),
        (Reply(200, b""), BadAnswer),
        (Reply(500, b"oops"), ServerError),
        (Reply(503, b"oops"), ServerError),
        (Reply(429), errors.RateLimited),
        (Reply(401), CredentialsRefused),
        (Reply(403), errors.PermissionRefused),
        (Reply(301, headers={"Location": "https://cloud.example.com/status.php"}), RedirectRefused),
    ],
)
def test_what_is_no_usable_server_is_said_by_name(reply: Reply, expected: type[CloudError]) -> None:
    with pytest.raises(expected) as caught:
        connect("nextcloud", {"GET /status.php": reply})
    assert type(caught.value) is expected
    assert "127.0.0.1" in str(caught.value)


def test_pending_upgrade_is_said() -> None:
    with pytest.raises(Maintenance, match="upgrade"):
        connect("nextcloud", {"GET /status.php": status_reply(needsDbUpgrade=True)})


@pytest.mark.parametrize("product", PRODUCTS)
def test_identity_is_complete_and_status_php_gets_no_password(product: str) -> None:
    cookies = ("oc_sessionPassphrase=x; path=/", "nc_username=admin; path=/", "ocwk7gl88h12=abc; path=/")
    calls: list[ApiCall] = []
    script: Script = {
        "GET /user": Reply(200, success(product, {"id": "Admin"}).body, cookies=cookies),
        "GET /users/Admin": success(product, account_data(product, "Admin", groups=["admin", "x"])),
        "GET /users/Admin/groups": success(product, {"groups": ["admin", "x"]}),
    }
    with scripted(product, script) as server, client_to(server.url, on_call=calls.append) as client:
        assert client.identity is None
        identity = client.connect()
        assert client.identity == identity
    assert identity == ServerIdentity(
        Product(product), STATUS[product]["versionstring"], "ocwk7gl88h12", "Admin"
    )
    assert [("authorization" in seen.headers) for seen in server.requests] == [False] + [True] * (
        len(server.requests) - 1
    )
    assert {seen.query.get("format") for seen in server.requests[1:]} == {"json"}
    assert [call.operation for call in calls[:2]] == ["status", "login"]
    assert all(call.duration_seconds >= 0 and not call.is_ambiguous for call in calls)


def test_server_without_session_cookie_has_no_instance_id() -> None:
    assert connect("nextcloud", {}).instance_id is None


@pytest.mark.parametrize(
    ("product", "script", "expected"),
    [
        ("nextcloud", {"GET /user": Reply(401, b"<html>")}, CredentialsRefused),
        ("owncloud", {"GET /user": Reply(401, ocs(997, [], "Unauthorised"))}, CredentialsRefused),
        ("nextcloud", {"GET /user": Reply(404, ocs(404, [], "Invalid query, ..."))}, ServerError),
        ("nextcloud", {"GET /user": success("nextcloud", [])}, BadAnswer),
        ("nextcloud", {"GET /user": success("nextcloud", {"id": ".."})}, BadAnswer),
        ("nextcloud", {"GET /users/admin": ABSENT["nextcloud"]}, BadAnswer),
        ("nextcloud", {"GET /users/admin": Reply(404, ocs(404, [], "Invalid query, ..."))}, BadAnswer),
        ("nextcloud", {"GET /users/admin": Reply(404, ocs(998, [], ""))}, NotAdministrator),
        (
            "nextcloud",
            {"GET /users/admin": success("nextcloud", account_data("nextcloud", "admin", groups=["staff"]))},
            NotAdministrator,
        ),
        ("owncloud", {"GET /users/admin": ABSENT["owncloud"]}, BadAnswer),
        ("owncloud", {"GET /users/admin/groups": success("owncloud", {"groups": []})}, NotAdministrator),
        ("owncloud", {"GET /users/admin/groups": success("owncloud", {"groups": "x"})}, BadAnswer),
    ],
)
def test_server_whose_answers_cannot_be_trusted_is_not_connected(
    product: str, script: Script, expected: type[CloudError]
) -> None:
    with scripted(product, script) as server, client_to(server.url) as client:
        for _ in range(2):
            with pytest.raises(expected) as caught:
                client.get_account("user_1")
            assert type(caught.value) is expected
        assert client.identity is None
    assert not any("user_1" in path for path in server.paths)


def test_many_threads_connect_once() -> None:
    script: Script = {"GET /users/user_1": ABSENT["nextcloud"]}
    with scripted("nextcloud", script) as server, client_to(server.url) as client:
        threads = [threading.Thread(target=client.get_account, args=("user_1",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert server.paths.count("GET /status.php") == 1
    assert sum("user_1" in path for path in server.paths) == 6


def test_connecting_again_logs_in_anew_and_sees_another_installation() -> None:
    names = iter(["ocaaaaaaaaaa", "ocbbbbbbbbbb"])

    def whoami(seen: Seen) -> Reply:
        assert "cookie" not in seen.headers
        return Reply(200, success("nextcloud", {"id": "admin"}).body, cookies=(f"{next(names)}=x; path=/",))

    with scripted("nextcloud", {"GET /user": whoami}) as server, client_to(server.url) as client:
        assert client.connect().instance_id == "ocaaaaaaaaaa"
        assert client.connect().instance_id == "ocbbbbbbbbbb"


def test_owncloud_account_is_read_in_three_requests() -> None:
    script: Script = {
        "GET /users/user_1": success("owncloud", account_data("owncloud", "user_1", email="a@b.c")),
        "GET /users/user_1/groups": success("owncloud", {"groups": ["gold"]}),
        "GET /users/user_1/subadmins": success("owncloud", ["gold"]),
    }
    with scripted("owncloud", script) as server, client_to(server.url) as client:
        account = client.get_account("user_1")
    assert account is not None
    assert (account.userid, account.groups, account.is_subadmin) == ("user_1", frozenset({"gold"}), True)
    assert server.paths[-3:] == [f"GET {ROOT['owncloud']}{key[4:]}" for key in script]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, ocs(102, [], "Unknown error occurred")), False),
        (Reply(200, ocs(100, [])), False),
        (Reply(200, ocs(100, {"0": "gold"})), True),
        (Reply(200, ocs(101, [], "User not found")), ServerError),
        (Reply(200, ocs(100, "gold")), BadAnswer),
        (Reply(401, ocs(997, [], None)), CredentialsRefused),
    ],
)
def test_owncloud_says_whether_somebody_administers_a_group(reply: Reply, expected: Any) -> None:
    script: Script = {
        "GET /users/user_1": success("owncloud", account_data("owncloud", "user_1")),
        "GET /users/user_1/groups": success("owncloud", {"groups": []}),
        "GET /users/user_1/subadmins": reply,
    }
    with scripted("owncloud", script) as server, client_to(server.url) as client:
        if isinstance(expected, bool):
            account = client.get_account("user_1")
            assert account is not None
            assert account.is_subadmin is expected
        else:
            with pytest.raises(expected):
                client.get_account("user_1")


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("data", [[], {"groups": 5}, {"groups": [None]}, {}])
def test_group_list_that_is_none_is_a_bad_answer(product: str, data: object) -> None:
    with (
        scripted(product, {"GET /groups": success(product, data)}) as server,
        client_to(server.url) as client,
    ):
        client.connect()
        with pytest.raises(BadAnswer):
            client.list_groups()


def test_every_error_has_a_message_says_if_it_is_transient_and_survives_pickling() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CloudError)
    ]
    transient = {kind.__name__ for kind in kinds if kind.is_transient and not kind.__name__.startswith("_")}
    assert transient == {
        "ServerUnreachable",
        "ServerTimeout",
        "BadAnswer",
        "ServerError",
        "Maintenance",
        "RateLimited",
        "OutcomeUnknown",
    }
    for kind in kinds:
        error = kind(status=404, code=998)
        assert str(error) == (kind.__doc__ or "").splitlines()[0]
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.status, again.code) == (kind, str(error), 404, 998)
        assert kind.__name__.startswith("_") or kind.__name__ in (errors.__doc__ or "")


def test_password_is_in_no_representation() -> None:
    assert "s3cret-admin" not in repr(connection_to("http://127.0.0.1"))
