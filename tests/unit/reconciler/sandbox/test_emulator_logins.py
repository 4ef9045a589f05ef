"""Sessions, refused passwords, app passwords and the limit on edits."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from reconciler.sandbox.emulator import CloudEmulator, ProductName
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
