"""Pages, their order and their hooks, and who may see whom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.sandbox.emulator import MISSING, CloudEmulator, Page, ProductName
from tests.unit.reconciler.sandbox.cloud_caller import STRONG, Caller


@pytest.fixture
def cloud() -> Iterator[CloudEmulator]:
    with CloudEmulator("nextcloud", version="27.1.0") as emulator:
        yield emulator


@pytest.fixture
def own_cloud() -> Iterator[CloudEmulator]:
    with CloudEmulator("owncloud") as emulator:
        yield emulator


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
