"""What the emulator does beyond the recordings: sessions, limits, rights, races, tampering."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from reconciler.sandbox.emulator import MISSING, CloudEmulator, Page, ProductName
from tests.unit.reconciler.sandbox.cloud_caller import STRONG, Caller


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cloud() -> Iterator[CloudEmulator]:
    with CloudEmulator("nextcloud", version="27.1.0") as emulator:
        yield emulator


@pytest.fixture
def own_cloud() -> Iterator[CloudEmulator]:
    with CloudEmulator("owncloud") as emulator:
        yield emulator


# Sessions


def test_kept_cookie_saves_the_password_check(cloud: CloudEmulator) -> None:
    with Caller(cloud) as caller:
        assert caller.ask("GET", "/users").cookies[cloud.instance_id]
        assert caller.ask("GET", "/users").cookies == {}
        assert cloud.login_count == 1
        assert [call.has_session for call in cloud.calls] == [False, True]
    with Caller(cloud, keeps_cookies=False) as caller:
        for _ in range(3):
            caller.ask("GET", "/users")
    assert cloud.login_count == 4


def test_password_check_costs_time_and_a_session_does_not() -> None:
    with CloudEmulator("nextcloud", login_seconds=0.3) as emulator, Caller(emulator) as caller:
        begun = time.monotonic()
        caller.ask("GET", "/users")
        checked = time.monotonic()
        caller.ask("GET", "/users")
        assert checked - begun >= 0.3 > time.monotonic() - checked


def test_nextcloud_session_wins_over_another_users_password(cloud: CloudEmulator) -> None:
    cloud.add_account("ann", password=STRONG)
    with Caller(cloud) as caller:
        caller.ask("GET", "/user")
        caller.credentials = Caller(cloud, "ann").credentials
        assert caller.ask("GET", "/user").data["id"] == "admin"


def test_owncloud_session_does_not_win_over_another_users_password(own_cloud: CloudEmulator) -> None:
    own_cloud.add_account("ann", password=STRONG)
    with Caller(own_cloud) as caller:
        caller.ask("GET", "/user")
        assert caller.ask("GET", "/user").data["id"] == "admin"
        assert own_cloud.login_count == 1
        caller.credentials = Caller(own_cloud, "ann").credentials
        assert caller.ask("GET", "/user").data["id"] == "ann"


@pytest.mark.parametrize("change", ["disable", "password", "delete", "instance", "restore"])
def test_session_ends_with_what_it_rests_on(cloud: CloudEmulator, change: str) -> None:
    account = cloud.add_account("ann", password=STRONG)
    with Caller(cloud, "ann") as caller:
        assert caller.ask("GET", "/user").status == 200
        caller.credentials = None
        assert caller.ask("GET", "/user").status == 200
        if change == "disable":
            account.is_enabled = False
        elif change == "password":
            account.password = "another"
        elif change == "delete":
            cloud.remove_account("ANN")
        elif change == "instance":
            cloud.set_instance_id("oc0123456789")
        else:
            cloud.restore(cloud.snapshot())
        assert caller.ask("GET", "/user").status == 401


def test_status_page_hands_out_the_instance_id(cloud: CloudEmulator) -> None:
    with Caller(cloud) as caller:
        caller.credentials = None
        heard = caller.ask("GET", "//status.php")
        assert cloud.instance_id in heard.cookies
        cloud.set_instance_id("ocabcdefghij")
        assert "ocabcdefghij" in caller.ask("GET", "//status.php").cookies


@pytest.mark.parametrize("header", ["Bearer x", "Basic !!", "Basic " + "eA==", "Basic /w=="])
def test_unreadable_credentials_are_refused(cloud: CloudEmulator, header: str) -> None:
    with Caller(cloud) as caller:
        caller.credentials = None
        assert caller.ask("GET", "/users", headers={"Authorization": header}).status == 401


def test_too_many_wrong_passwords_lock_the_address_out() -> None:
    with CloudEmulator("nextcloud", brute_force_limit=2) as emulator:
        with Caller(emulator, password="wrong") as caller:
            assert [caller.ask("GET", "/users").status for _ in range(3)] == [401, 401, 429]
        with Caller(emulator) as caller:
            heard = caller.ask("GET", "/users")
            assert (heard.status, heard.code) == (429, 429)
            emulator.logins.forgive()
            assert caller.ask("GET", "/users").status == 200
        assert emulator.logins.refused_count == 2


def test_real_password_is_refused_where_tokens_are_enforced() -> None:
    with CloudEmulator("nextcloud", token_auth_enforced=True) as emulator:
        with Caller(emulator) as caller:
            assert caller.ask("GET", "/users").status == 401
        with Caller(emulator, password=emulator.add_app_password("admin")) as caller:
            assert caller.ask("GET", "/users").status == 200
            assert caller.ask("POST", "/groups", {"groupid": "g"}).status == 200


@pytest.mark.parametrize(("version", "status"), [("33.0.0", 200), ("34.0.0", 403)])
def test_newest_nextcloud_refuses_writes_by_app_passwords(version: str, status: int) -> None:
    with CloudEmulator("nextcloud", version=version) as emulator:
        with Caller(emulator, password=emulator.add_app_password("admin")) as caller:
            assert caller.ask("GET", "/users").status == 200
            heard = caller.ask("POST", "/groups", {"groupid": "g"})
            assert heard.status == status
            assert ("g" in emulator.groups) == (status == 200)
            if status == 403:
                assert heard.message == "Password confirmation is required"
        with Caller(emulator) as caller:
            assert caller.ask("POST", "/groups", {"groupid": "h"}).status == 200


def test_old_session_needs_its_password_again_where_that_is_required() -> None:
    clock = Clock()
    with (
        CloudEmulator("nextcloud", clock=clock, require_password_confirmation=True) as emulator,
        Caller(emulator) as caller,
    ):
        assert caller.ask("POST", "/groups", {"groupid": "g"}).status == 200
        clock.now += 1816
        assert caller.ask("POST", "/groups", {"groupid": "h"}).status == 403
        assert caller.ask("GET", "/users").status == 200
        caller.cookies.clear()
        assert caller.ask("POST", "/groups", {"groupid": "h"}).status == 200


# The limit on edits


def test_edits_are_limited_per_caller_and_nothing_else_is() -> None:
    clock = Clock()
    with CloudEmulator("nextcloud", clock=clock, edit_limit=3) as emulator:
        emulator.add_account("second", groups=["admin"])
        emulator.add_account("ann")
        with Caller(emulator) as caller, Caller(emulator, "second") as second:
            assert caller.edit("ann", "quota", "lots").status == 400
            assert caller.edit("nobody", "quota", "1 GB").status == 404
            assert caller.edit("ann", "quota", "1 GB").status == 200
            heard = caller.edit("ann", "quota", "2 GB")
            assert (heard.status, heard.body) == (429, b"")
            assert heard.headers["Content-Type"].startswith("text/html")
            assert heard.headers["Retry-After"] is None
            assert caller.ask("PUT", "/users/ann/disable").status == 200
            created = {"userid": "bob", "password": STRONG, "quota": "3 GB"}
            assert caller.ask("POST", "/users", created).status == 200
            assert second.edit("ann", "quota", "2 GB").status == 200
            clock.now += 599
            assert caller.edit("ann", "quota", "4 GB").status == 429
            clock.now += 1
            assert caller.edit("ann", "quota", "4 GB").status == 200
        assert emulator.accounts["bob"].quota_definition == "3 GB"
        assert emulator.accounts["ann"].quota_definition == "4 GB"


def test_limit_on_edits_outlives_a_restart_until_it_is_reset() -> None:
    emulator = CloudEmulator("nextcloud", edit_limit=1)
    emulator.add_account("ann")
    for expected in (200, 429):
        with emulator, Caller(emulator) as caller:
            assert caller.edit("ann", "quota", "1 GB").status == expected
    emulator.edits.reset()
    with emulator, Caller(emulator) as caller:
        assert caller.edit("ann", "quota", "1 GB").status == 200


def test_limit_by_default_depends_on_product_and_version() -> None:
    products: list[tuple[ProductName, str]] = [
        ("nextcloud", "25.0.2"),
        ("nextcloud", "27.1.0"),
        ("owncloud", "10.7.0"),
    ]
    limits = [CloudEmulator(product, version=version).edits.limit for product, version in products]
    assert limits == [None, 50, None]
    assert CloudEmulator("nextcloud", edit_limit=None).edits.limit is None


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


# Lists


def test_pages_hold_everybody_once_by_name_and_end_in_a_list(cloud: CloudEmulator) -> None:
    for number in range(25):
        cloud.add_account(f"user{number:02}", display_name=f"N{99 - number}" if number % 2 else None)
    seen: list[str] = []
    with Caller(cloud) as caller:
        while isinstance(
            users := caller.ask("GET", "/users/details", limit=10, offset=len(seen)).data["users"], dict
        ):
            seen += users
        assert users == []
    assert len(seen) == len(set(seen)) == 26
    assert "user24" in seen[:20]
    assert "user01" in seen[20:]
    assert seen[20:] == sorted(seen[20:])


def test_kept_entries_follow_every_change(cloud: CloudEmulator) -> None:
    account = cloud.add_account("ann", quota="1 GB", has_logged_in=True)

    def look() -> dict[str, object]:
        with Caller(cloud) as caller:
            entry: dict[str, object] = caller.ask("GET", "/users/details").data["users"]["ann"]
            return entry

    assert look()["groups"] == []
    account.groups.add("g")
    assert look()["groups"] == ["g"]
    account.quota_definition = "2 GB"
    assert look()["quota"] == {
        "free": 2 * 1024**3,
        "used": 0,
        "total": 2 * 1024**3,
        "relative": 0,
        "quota": 2 * 1024**3,
    }
    account.field_overrides["quota"] = []
    account.field_overrides["email"] = MISSING
    assert look()["quota"] == []
    assert "email" not in look()
    account.field_overrides.clear()
    account.quota_definition = "default"
    cloud.settings.default_quota = "5 GB"
    quota = look()["quota"]
    assert isinstance(quota, dict)
    assert quota["quota"] == 5 * 1024**3


def test_renamed_account_moves_in_the_list(cloud: CloudEmulator) -> None:
    cloud.add_account("ann")
    cloud.add_account("bob")
    with Caller(cloud) as caller:
        assert caller.ask("GET", "/users", limit=1, offset=2).data["users"] == ["bob"]
        cloud.accounts["admin"].display_name = "Zoe"
        assert caller.ask("GET", "/users", limit=1, offset=2).data["users"] == ["admin"]


def test_ids_of_digits_are_numbers_and_remnants_only_ids(cloud: CloudEmulator) -> None:
    cloud.add_account("4711")
    cloud.add_account("0042")
    cloud.add_account("gone").is_remnant = True
    with Caller(cloud) as caller:
        users = caller.ask("GET", "/users/details").data["users"]
        assert users["4711"]["id"] == 4711
        assert users["0042"]["id"] == "0042"
        assert users["gone"] == {"id": "gone"}
        assert caller.ask("GET", "/users").data["users"] == ["0042", 4711, "admin", "gone"]
        assert caller.ask("GET", "/users/4711").data["id"] == "4711"
        assert caller.ask("GET", "/users/gone").code == 404


def test_page_hook_shifts_and_overfills(cloud: CloudEmulator) -> None:
    for name in ("ann", "bob", "cyd", "dan"):
        cloud.add_account(name)
    pages: list[Page] = []

    def disturb(page: Page) -> None:
        pages.append(page)
        if page.offset == 2:
            cloud.remove_account("ann")
        elif page.offset == 0:
            page.ids = ["bob", "admin", "ann", "nobody"]

    cloud.settings.before_page = disturb
    with Caller(cloud) as caller:
        assert caller.ask("GET", "/users", limit=2).data["users"] == ["bob", "admin", "ann"]
        assert caller.ask("GET", "/users", limit=2, offset=2).data["users"] == ["cyd", "dan"]
    assert [(page.operation, page.limit) for page in pages] == [("list", 2), ("list", 2)]


def test_disabled_and_recent_are_lists_only_where_they_are_known() -> None:
    with CloudEmulator("nextcloud", version="31.0.0") as emulator, Caller(emulator) as caller:
        emulator.add_account("ann", is_enabled=False)
        assert list(caller.ask("GET", "/users/disabled").data["users"]) == ["ann"]
        assert len(caller.ask("GET", "/users/recent").data["users"]) == 2
        assert caller.ask("GET", "/users/details", search="ann", limit="x").data["users"].keys() == {"ann"}


def test_quota_of_owncloud_follows_the_default(own_cloud: CloudEmulator) -> None:
    own_cloud.settings.default_quota = "1 KB"
    own_cloud.add_account("ann", used_bytes=512)
    with Caller(own_cloud) as caller:
        assert caller.ask("GET", "/users/ann").data["quota"] == {
            "free": 512,
            "used": 512,
            "total": 1024,
            "relative": 50,
            "definition": "default",
        }


# Rights


def test_users_without_rights_are_told_so(cloud: CloudEmulator) -> None:
    cloud.add_account("ann")
    cloud.add_account("bob")
    with Caller(cloud, "ann") as caller:
        assert caller.ask("GET", "/users/ann").status == 200
        assert caller.edit("ann", "email", "ann@example.com").status == 200
        assert caller.edit("ann", "quota", "1 TB").code == 103
        for method, path in (
            ("GET", "/users/details"),
            ("POST", "/users"),
            ("PUT", "/users/bob/disable"),
            ("DELETE", "/users/bob"),
            ("POST", "/users/bob/groups"),
            ("GET", "/users/bob/subadmins"),
            ("GET", "/groups"),
            ("POST", "/groups"),
            ("DELETE", "/groups/admin"),
        ):
            assert (caller.ask(method, path).status, caller.ask(method, path).code) == (403, 403)
        assert caller.ask("GET", "/users/bob/groups").code == 998
        assert caller.ask("GET", "/users/ann/groups").data == {"groups": []}


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_subadmin_sees_only_its_groups(product: ProductName) -> None:
    with CloudEmulator(product) as emulator:
        emulator.add_account("sub", subadmin_of=["g"])
        emulator.add_account("ann", groups=["g", "h"])
        emulator.add_account("bob", groups=["h"])
        with Caller(emulator, "sub") as caller:
            assert caller.ask("GET", "/users").data == {"users": ["ann"]}
            assert caller.ask("GET", "/users/ann").status == 200
            assert caller.ask("GET", "/users/bob").code in {997, 998}
            assert caller.ask("GET", "/users/ann/groups").data == {"groups": ["g"]}
            assert caller.ask("GET", "/users/bob/groups").code in {997, 998}
            assert caller.ask("GET", "/groups").data == {"groups": ["g"]}
            members = "/groups/{}/users" if product == "nextcloud" else "/groups/{}"
            assert caller.ask("GET", members.format("g")).data == {"users": ["ann"]}
            assert caller.ask("GET", members.format("h")).code in {403, 997}
            assert caller.ask("PUT", "/users/ann/disable").code in {100, 200}
            assert caller.ask("PUT", "/users/bob/disable").code in {997, 998}
            assert caller.ask("DELETE", "/users/bob").code in {997, 998}
            assert caller.ask("POST", "/users/bob/groups", {"groupid": "h"}).code == 104
            new = {"userid": "cyd", "password": STRONG}
            assert caller.ask("POST", "/users", new).code == 106
            assert caller.ask("POST", "/users", {**new, "groups[]": "h"}).code == 105
            assert caller.ask("POST", "/users", {**new, "groups[]": "g"}).code in {100, 200}
        assert emulator.accounts["cyd"].groups == {"g"}
        assert not emulator.accounts["ann"].is_enabled


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_group_administrators_are_made_and_unmade(product: ProductName) -> None:
    with CloudEmulator(product) as emulator, Caller(emulator) as caller:
        emulator.add_account("ann")
        emulator.add_group("g")

        def change(method: str, groupid: str, userid: str = "ann") -> int:
            return caller.ask(method, f"/users/{userid}/subadmins", {"groupid": groupid}).code

        none = caller.ask("GET", "/users/ann/subadmins")
        assert (none.code, none.data) == ((200, []) if product == "nextcloud" else (102, []))
        assert caller.ask("GET", "/users/nobody/subadmins").code in {101, 404}
        assert change("POST", "g", "nobody") == 101
        assert change("POST", "none") == 102
        assert change("DELETE", "none") == 101
        assert change("POST", "admin") == 103
        assert change("DELETE", "g") == 102
        assert change("POST", "g") in {100, 200}
        assert change("POST", "g") in {100, 200}
        assert caller.ask("GET", "/users/ann/subadmins").data == ["g"]
        assert change("DELETE", "g") in {100, 200}
        assert emulator.accounts["ann"].subadmin_of == set()


@pytest.mark.parametrize("product", ["nextcloud", "owncloud"])
def test_group_of_administrators_is_protected(product: ProductName) -> None:
    with CloudEmulator(product) as emulator, Caller(emulator) as caller:
        assert caller.ask("DELETE", "/groups/admin").code == 102
        assert caller.ask("DELETE", "/users/admin/groups", groupid="admin").code == 105
        assert emulator.accounts["admin"].groups == {"admin"}


def test_deleted_group_leaves_its_members(cloud: CloudEmulator) -> None:
    cloud.add_account("ann", groups=["g"], subadmin_of=["g"])
    with Caller(cloud) as caller:
        assert caller.ask("DELETE", "/groups/g").status == 200
    assert (cloud.accounts["ann"].groups, cloud.accounts["ann"].subadmin_of) == (set(), set())


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
