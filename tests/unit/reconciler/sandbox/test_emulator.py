"""Creating, the wire, tampering by hand and the log of calls."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from reconciler.sandbox.emulator import CloudEmulator, ProductName
from tests.unit.reconciler.sandbox.cloud_caller import STRONG, Caller


@pytest.fixture
def cloud() -> Iterator[CloudEmulator]:
    with CloudEmulator("nextcloud", version="27.1.0") as emulator:
        yield emulator


@pytest.fixture
def own_cloud() -> Iterator[CloudEmulator]:
    with CloudEmulator("owncloud") as emulator:
        yield emulator


# Creating


def test_of_creates_at_the_same_time_one_wins() -> None:
    with CloudEmulator("nextcloud", create_seconds=0.2) as emulator:
        gate = threading.Barrier(4)

        def create(number: int) -> tuple[int, int]:
            with Caller(emulator) as caller:
                caller.ask("GET", "/user")
                gate.wait()
                heard = caller.ask("POST", "/users", {"userid": "Ann", "password": f"{STRONG}{number}"})
                return heard.status, heard.code

        with ThreadPoolExecutor(4) as pool:
            answers = sorted(pool.map(create, range(4)))
        assert answers[0] == (200, 200)
        assert {code for status, code in answers[1:] if status == 400} <= {101, 102}
        assert [status for status, _ in answers] == [200, 400, 400, 400]
        assert sum(call.had_effect for call in emulator.mutating_calls()) == 1


def test_failing_display_name_leaves_no_account(cloud: CloudEmulator) -> None:
    with Caller(cloud) as caller:
        form = {"userid": "ann", "password": STRONG, "displayName": "y" * 65}
        assert caller.ask("POST", "/users", form).code == 101
    assert "ann" not in cloud.accounts


def test_failing_quota_leaves_the_account_without_what_comes_later(cloud: CloudEmulator) -> None:
    cloud.add_group("g")
    form = {
        "userid": "ann",
        "password": STRONG,
        "displayName": "Ann",
        "quota": "lots",
        "email": "a@b.cc",
        "groups[]": ["g"],
    }
    with Caller(cloud) as caller:
        assert caller.ask("POST", "/users", form).code == 102
    account = cloud.accounts["ann"]
    assert (account.groups, account.display_name) == ({"g"}, "Ann")
    assert (account.quota_definition, account.email) == ("default", None)


@pytest.mark.parametrize(
    ("product", "userid"),
    [
        ("nextcloud", "."),
        ("nextcloud", ".."),
        ("nextcloud", "   "),
        ("nextcloud", "appdata_ocabcdefghij"),
        ("nextcloud", "kept"),
        ("owncloud", "."),
        ("owncloud", "ab"),
        ("owncloud", "Avatars"),
        ("owncloud", "appdata_ocabcdefghij"),
    ],
)
def test_names_that_cannot_be_used_are_refused(product: ProductName, userid: str) -> None:
    with CloudEmulator(product, instance_id="ocabcdefghij") as emulator, Caller(emulator) as caller:
        emulator.state.leftover_folders.add("Kept")
        assert caller.ask("POST", "/users", {"userid": userid, "password": STRONG}).code == 101
        assert len(emulator.accounts) == 1


def test_deleted_accounts_folder_blocks_its_name() -> None:
    with CloudEmulator("nextcloud", leftover_data=True) as emulator, Caller(emulator) as caller:
        emulator.add_account("ann")
        assert caller.ask("DELETE", "/users/ann").status == 200
        heard = caller.ask("POST", "/users", {"userid": "ann", "password": STRONG})
        assert (heard.code, "files already exist" in str(heard.message)) == (101, True)


def test_limits_on_quotas_are_kept(cloud: CloudEmulator) -> None:
    cloud.add_account("ann")
    cloud.settings.max_quota_bytes = 1024**3
    cloud.settings.allows_unlimited = False
    with Caller(cloud) as caller:
        assert caller.edit("ann", "quota", "2 GB").code == 102
        assert caller.edit("ann", "quota", "none").code == 102
        assert caller.edit("ann", "quota", "1 GB").code == 200


def test_newer_nextcloud_has_other_codes() -> None:
    with CloudEmulator("nextcloud", version="31.0.0", password_policy=True) as emulator:
        emulator.add_account("ann")
        with Caller(emulator) as caller:
            edits = [("quota", "lots"), ("email", "x"), ("password", "weak"), ("nonsense", "1")]
            assert [caller.edit("ann", *edit).code for edit in edits] == [101, 101, 107, 113]
            assert caller.edit("ann", "password", STRONG).code == 200
        assert emulator.accounts["ann"].password == STRONG


def test_owncloud_passwords(own_cloud: CloudEmulator) -> None:
    own_cloud.add_account("ann")
    own_cloud.settings.has_password_policy = True
    with Caller(own_cloud) as caller:
        assert [caller.edit("ann", "password", word).code for word in ("", "weak", STRONG)] == [403, 403, 100]
        assert caller.ask("POST", "/users", {"userid": "bob", "password": "weak"}).code == 101
    assert own_cloud.accounts["ann"].password == STRONG


# Wire


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_xml_is_the_default_format(product: ProductName) -> None:
    with CloudEmulator(product) as emulator, Caller(emulator) as caller:
        emulator.add_account("a&b c")
        body = caller.ask("GET", "/users", format="xml").body.decode()
        assert "<element>a&amp;b c</element>" in body
        assert body.startswith('<?xml version="1.0"?>\n<ocs>\n <meta>\n  <status>ok</status>')
        if product == "nextcloud":
            assert "<enabled>1</enabled>" in caller.ask("GET", "/users/details", format="").body.decode()


def test_server_under_a_path_answers_only_there() -> None:
    with CloudEmulator("nextcloud", path="/a/cloud/") as emulator, Caller(emulator) as caller:
        assert emulator.base_url.endswith("/a/cloud")
        assert caller.ask("GET", "/users").status == 200
        assert caller.ask("GET", "//a/cloud/status.php").status == 200
        assert caller.ask("GET", "//a/cloud/index.php").status == 404
        assert caller.ask("GET", "//status.php").status == 404
        assert caller.ask("GET", "//a/cloud/ocs/v2.php/apps/x").status == 404


def test_tls_is_spoken_with_the_given_certificate() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with CloudEmulator("nextcloud", tls_context=server) as emulator:
        with Caller(emulator, tls_context=trusting) as caller:
            heard = caller.ask("GET", "/users")
            assert "; secure" in heard.headers["Set-Cookie"]
        with (
            Caller(emulator, tls_context=ssl.create_default_context()) as caller,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            caller.ask("GET", "/users")


def test_database_upgrade_and_another_products_name_are_shown(cloud: CloudEmulator) -> None:
    cloud.needs_db_upgrade = True
    cloud.product_name = "Somethingcloud"
    with Caller(cloud) as caller:
        body = caller.ask("GET", "//status.php").body
        assert b'"needsDbUpgrade":true' in body
        assert b'"productname":"Somethingcloud"' in body
        assert caller.ask("GET", "/users").status == 503


def test_json_bodies_hold_lists_and_may_be_broken(cloud: CloudEmulator) -> None:
    cloud.add_group("g")
    with Caller(cloud) as caller:
        caller.ask("GET", "/user")
        path = f"{caller.api}/users?format=json"
        headers = {"OCS-APIRequest": "true", "Content-Type": "application/json"}
        headers["Cookie"] = f"{cloud.instance_id}={caller.cookies[cloud.instance_id]}"
        for body, status in (
            (json.dumps({"userid": "ann", "password": STRONG, "groups": ["g"], "email": None}), 200),
            ("[1]", 500),
            ("{", 500),
        ):
            caller.connection.request("POST", path, body, headers)
            response = caller.connection.getresponse()
            response.read()
            assert response.status == status
    assert cloud.accounts["ann"].groups == {"g"}


# By hand


def test_snapshot_brings_everything_back(cloud: CloudEmulator) -> None:
    cloud.add_account("ann", groups=["g"], quota="1 GB")
    before = cloud.snapshot()
    cloud.accounts["ann"].quota_definition = "2 GB"
    cloud.add_account("bob")
    cloud.remove_group("g")
    cloud.restore(before)
    assert set(cloud.accounts) == {"admin", "ann"}
    assert cloud.accounts["ann"].quota_definition == "1 GB"
    assert set(cloud.groups) == {"admin", "g"}


def test_wiped_server_has_its_administrators_only(cloud: CloudEmulator) -> None:
    cloud.add_account("ann", groups=["g"])
    cloud.wipe(instance_id="ocaaaaaaaaaa")
    assert (set(cloud.accounts), set(cloud.groups)) == ({"admin"}, {"admin"})
    assert cloud.instance_id == "ocaaaaaaaaaa"
    with Caller(cloud) as caller:
        assert caller.ask("GET", "/users").data == {"users": ["admin"]}


def test_quota_that_the_server_would_refuse_cannot_be_put_there(cloud: CloudEmulator) -> None:
    with pytest.raises(ValueError, match="lots"):
        cloud.add_account("ann", quota="lots")


def test_unstarted_emulator_has_no_address() -> None:
    with pytest.raises(RuntimeError, match="start it first"):
        _ = CloudEmulator("nextcloud").base_url


def test_address_stays_over_a_restart(cloud: CloudEmulator) -> None:
    before = cloud.base_url
    cloud.stop()
    cloud.stop()
    cloud.start()
    assert cloud.base_url == before
    with Caller(cloud) as caller:
        assert caller.ask("GET", "/users").status == 200


# The log


def test_calls_tell_what_was_asked_and_done() -> None:
    with CloudEmulator("nextcloud", keep_calls=3) as emulator, Caller(emulator) as caller:
        caller.ask("GET", "/users")
        caller.ask("POST", "/users", {"userid": "ann", "password": STRONG})
        caller.edit("ann", "quota", "1 GB")
        caller.edit("ann", "quota", "1 GB")
        shown = [(call.operation, call.userid, call.had_effect) for call in emulator.calls]
        assert shown == [("create", "ann", True), ("edit:quota", "ann", True), ("edit:quota", "ann", False)]
        assert emulator.calls[0].auth_user == "admin"
        assert (emulator.calls[0].status, emulator.calls[0].code) == (200, 200)
        assert (emulator.mutating_call_count, len(emulator.mutating_calls())) == (3, 3)
        assert emulator.call_counts == {"list": 1, "create": 1, "edit:quota": 2}
        emulator.clear_calls()
        assert (emulator.calls, emulator.mutating_call_count, emulator.call_counts) == ([], 0, {})
        assert STRONG not in repr(emulator.accounts["ann"])
