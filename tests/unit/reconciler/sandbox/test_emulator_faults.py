"""Every way in which the emulator can go wrong, and that it stops all the same."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator

import pytest

from reconciler.sandbox.emulator import CloudEmulator, Fault, FaultKind
from tests.unit.reconciler.sandbox.cloud_caller import STRONG, Caller

NEW = {"userid": "ann", "password": STRONG, "quota": "1 GB", "email": "a@b.cc", "groups[]": "g"}


@pytest.fixture
def cloud() -> Iterator[CloudEmulator]:
    with CloudEmulator("nextcloud") as emulator:
        emulator.add_group("g")
        yield emulator


def test_create_answers_500_after_only_the_row_was_made(cloud: CloudEmulator) -> None:
    cloud.faults.append(Fault("create", partial=True))
    with Caller(cloud) as caller:
        assert caller.ask("POST", "/users", NEW).status == 500
        account = cloud.accounts["ann"]
        assert (account.quota_definition, account.email, account.groups) == ("default", None, set())
        assert caller.ask("POST", "/users", NEW).code == 102
    assert cloud.mutating_calls()[0].status == 500
    assert cloud.mutating_calls()[0].had_effect


def test_partial_create_on_owncloud_has_no_group() -> None:
    with CloudEmulator("owncloud") as emulator, Caller(emulator) as caller:
        emulator.add_group("g")
        emulator.faults.append(Fault("create", "drop", partial=True))
        with pytest.raises(http.client.RemoteDisconnected):
            caller.ask("POST", "/users", NEW)
        assert emulator.accounts["ann"].groups == set()


@pytest.mark.parametrize("after_effect", [False, True])
def test_dropped_answer_may_have_had_its_effect(cloud: CloudEmulator, after_effect: bool) -> None:
    cloud.faults.append(Fault("create", "drop", after_effect=after_effect))
    with Caller(cloud) as caller, pytest.raises(http.client.RemoteDisconnected):
        caller.ask("POST", "/users", NEW)
    assert ("ann" in cloud.accounts) == after_effect
    assert cloud.calls[-1].status is None


def test_delete_outlasts_the_callers_patience(cloud: CloudEmulator) -> None:
    cloud.add_account("ann")
    cloud.faults.append(Fault("delete", "delay", seconds=600, after_effect=True))
    with Caller(cloud, timeout_seconds=0.3) as caller, pytest.raises(TimeoutError):
        caller.ask("DELETE", "/users/ann")
    assert "ann" not in cloud.accounts


def test_delayed_answer_comes(cloud: CloudEmulator) -> None:
    cloud.faults.append(Fault("list", "delay", seconds=0.2))
    with Caller(cloud) as caller:
        begun = time.monotonic()
        assert caller.ask("GET", "/users").status == 200
        assert time.monotonic() - begun >= 0.2


def test_stopping_ends_what_hangs() -> None:
    emulator = CloudEmulator("nextcloud")
    emulator.start()
    emulator.faults += [Fault("list", "hang", times=None), Fault("get", "delay", seconds=600)]
    failures: list[BaseException] = []

    def wait_for(path: str) -> None:
        with Caller(emulator) as caller:
            try:
                caller.ask("GET", path)
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)

    threads = [threading.Thread(target=wait_for, args=(path,)) for path in ("/users", "/users/admin")]
    for thread in threads:
        thread.start()
    while len(emulator.calls) < 2:
        time.sleep(0.01)
    begun = time.monotonic()
    emulator.stop()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - begun < 4
    assert len(failures) == 2


def test_hang_ends_by_itself_after_its_time(cloud: CloudEmulator) -> None:
    cloud.faults.append(Fault("list", "hang", seconds=0.1))
    with Caller(cloud) as caller:
        begun = time.monotonic()
        with pytest.raises(http.client.RemoteDisconnected):
            caller.ask("GET", "/users")
        assert 0.1 <= time.monotonic() - begun < 10
        assert caller.ask("GET", "/users").status == 200


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("html", "text/html; charset=UTF-8"),
        ("truncate", "application/json; charset=utf-8"),
        ("empty", "application/json; charset=utf-8"),
        ("garbage", "application/json; charset=utf-8"),
    ],
)
def test_answers_that_are_no_json(cloud: CloudEmulator, kind: FaultKind, content_type: str) -> None:
    cloud.faults.append(Fault(lambda call: call.operation == "list", kind))
    with Caller(cloud) as caller:
        heard = caller.ask("GET", "/users")
        assert (heard.status, heard.headers["Content-Type"]) == (200, content_type)
        with pytest.raises(ValueError, match=r".+"):
            json.loads(heard.body)
        assert caller.ask("GET", "/users").data == {"users": ["admin"]}


@pytest.mark.parametrize("is_chunked", [False, True])
def test_huge_answer(cloud: CloudEmulator, is_chunked: bool) -> None:
    cloud.faults.append(Fault("list", "huge", size_bytes=300_000, is_chunked=is_chunked))
    with Caller(cloud) as caller:
        heard = caller.ask("GET", "/users")
        assert len(heard.body) == 300_000
        assert (heard.headers["Content-Length"] is None) == is_chunked


def test_connection_breaks_in_the_middle_of_the_body(cloud: CloudEmulator) -> None:
    cloud.faults.append(Fault("list", "cut"))
    with Caller(cloud) as caller, pytest.raises(http.client.IncompleteRead):
        caller.ask("GET", "/users")


def test_answer_drips(cloud: CloudEmulator) -> None:
    cloud.faults.append(Fault("list", "drip", seconds=0.002))
    with Caller(cloud) as caller:
        begun = time.monotonic()
        assert caller.ask("GET", "/users").data == {"users": ["admin"]}
        assert time.monotonic() - begun > 0.1


def test_dripping_ends_with_the_emulator() -> None:
    emulator = CloudEmulator("nextcloud")
    emulator.start()
    emulator.faults.append(Fault("list", "drip", seconds=60))
    with Caller(emulator) as caller:
        thread = threading.Thread(target=emulator.stop)
        caller.connection.request("GET", f"{caller.api}/users", headers={"OCS-APIRequest": "true"})
        response = caller.connection.getresponse()
        thread.start()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
        thread.join(10)


def test_something_that_is_no_http(cloud: CloudEmulator) -> None:
    cloud.faults.append(Fault("list", "not_http"))
    with Caller(cloud) as caller, pytest.raises(http.client.BadStatusLine):
        caller.ask("GET", "/users")


def test_redirect_and_its_number_of_times(cloud: CloudEmulator) -> None:
    headers = (("Location", "http://127.0.0.1:9/"),)
    fault = Fault("edit", "status", status=302, headers=headers, times=2)
    cloud.faults.append(fault)
    cloud.add_account("ann")
    with Caller(cloud) as caller:
        statuses = [caller.edit("ann", "email", "a@b.cc").status for _ in range(3)]
        assert statuses == [302, 302, 200]
        assert fault.times == 0


def test_fault_for_everything_lasts_until_it_is_taken_away(cloud: CloudEmulator) -> None:
    cloud.faults.append(Fault("*", status=502, times=None))
    with Caller(cloud) as caller:
        assert {caller.ask("GET", path).status for path in ("/users", "//status.php", "/user")} == {502}
        cloud.faults.clear()
        assert caller.ask("GET", "/users").status == 200
