"""Walking through all accounts of a server that changes, fails or misbehaves meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nc.errors import (
    BadAnswer,
    CloudError,
    CredentialsRefused,
    GroupIdRefused,
    Maintenance,
    PermissionRefused,
    RateLimited,
    ServerError,
    ServerUnreachable,
)
from nc.fanout import map_unordered
from states.model import UNKNOWN_QUOTA
from tests.contract.replay import HttpServer, Reply, Seen, ocs
from tests.unit.nc.raw_server import client_to
from tests.unit.nc.scripted_cloud import ABSENT, Script, account_data, scripted, success

HTML = Reply(200, b"<html>")


class Directory:
    """Accounts of a Nextcloud server, in pages; backends fill a page each."""

    def __init__(self, *backends: list[str]) -> None:
        self.backends = backends
        self.offsets: list[int] = []

    def page(self, seen: Seen) -> Reply:
        limit, offset = int(seen.query["limit"]), int(seen.query["offset"])
        self.offsets.append(offset)
        ids = [one for backend in self.backends for one in self.shown(backend, limit, offset)]
        self.turn()
        users = {one: account_data("nextcloud", one) for one in ids}
        return success("nextcloud", {"users": users or []})

    def shown(self, backend: list[str], limit: int, offset: int) -> list[str]:
        return backend[offset : offset + limit]

    def turn(self) -> None:
        """What happens between two pages."""


def names(count: int, prefix: str = "user") -> list[str]:
    return [f"{prefix}_{number:03}" for number in range(count)]


def walk(directory: Directory, page_size: int = 10) -> list[str]:
    script: Script = {"GET /users/details": directory.page}
    with scripted("nextcloud", script) as server, client_to(server.url, page_size=page_size) as client:
        return [account.userid for account in client.list_accounts()]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 35])
def test_every_page_is_read_until_an_empty_one(count: int) -> None:
    directory = Directory(names(count))
    assert walk(directory) == names(count)
    assert len(directory.offsets) == -(-count // 10) + 1


def test_page_that_is_fuller_than_asked_skips_nobody() -> None:
    first, second = names(35, "db"), names(25, "ldap")
    read = walk(Directory(first, second))
    assert sorted(read) == sorted(first + second)
    assert len(read) == 60


def test_short_page_is_not_the_end() -> None:
    class Capped(Directory):
        def shown(self, backend: list[str], limit: int, offset: int) -> list[str]:
            return backend[offset : offset + min(limit, 4)]

    assert walk(Capped(names(30))) == names(30)


def test_page_that_hides_some_is_not_the_end() -> None:
    class Hiding(Directory):
        def shown(self, backend: list[str], limit: int, offset: int) -> list[str]:
            return [one for one in backend[offset : offset + limit] if not one.endswith("3")]

    assert set(walk(Hiding(names(40)))) == {one for one in names(40) if not one.endswith("3")}


def test_users_that_move_while_pages_are_read_come_once() -> None:
    class Growing(Directory):
        def turn(self) -> None:
            self.backends[0].insert(0, f"new_{len(self.offsets):03}")

    read = walk(Growing(names(30)))
    assert set(names(30)) <= set(read)
    assert len(read) == len(set(read))


def test_deletions_while_pages_are_read_end_it_all_the_same() -> None:
    class Shrinking(Directory):
        def turn(self) -> None:
            del self.backends[0][:5]

    read = walk(Shrinking(names(50)))
    assert set(read) <= set(names(50))
    assert len(read) == len(set(read))


def test_server_that_ignores_the_offset_is_noticed() -> None:
    class Stuck(Directory):
        def shown(self, backend: list[str], limit: int, offset: int) -> list[str]:
            return backend[:limit]

    directory = Stuck(names(50))
    assert walk(directory) == names(10)
    assert len(directory.offsets) == 3


def test_ten_thousand_accounts_take_one_request_a_page() -> None:
    directory = Directory(names(10_000))
    assert len(walk(directory, page_size=200)) == 10_000
    assert len(directory.offsets) == 51


def page_of(users: Any) -> Reply:
    return success("nextcloud", {"users": users})


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ({"a": account_data("nextcloud", "a"), "b": {"id": "b"}}, {"a": True, "b": False}),
        ({"7": {"id": 7, "enabled": True, "groups": []}, "x": []}, {"7": True, "x": False}),
        ([{"id": 0, "enabled": True, "groups": []}, {"id": 1}], {"0": True, "1": False}),
        ({"A": {"enabled": True}}, {"A": False}),
    ],
)
def test_odd_entries_are_read(users: Any, expected: dict[str, bool]) -> None:
    script: Script = {
        "GET /users/details": lambda seen: page_of(users if seen.query["offset"] == "0" else [])
    }
    with scripted("nextcloud", script) as server, client_to(server.url) as client:
        read = {account.userid: account.is_complete for account in client.list_accounts()}
    assert read == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (page_of("x"), BadAnswer),
        (page_of(None), BadAnswer),
        (page_of([{"enabled": True}]), BadAnswer),
        (page_of(["a"]), BadAnswer),
        (success("nextcloud", []), BadAnswer),
        (Reply(403, ocs(403, [], "Logged in user must be at least a sub admin")), PermissionRefused),
        (HTML, BadAnswer),
        (Reply(500), ServerError),
    ],
)
def test_page_that_is_none_is_an_error_and_not_the_end(reply: Reply, expected: type[CloudError]) -> None:
    good = page_of({"a": account_data("nextcloud", "a")})
    script: Script = {"GET /users/details": lambda seen: good if seen.query["offset"] == "0" else reply}
    with scripted("nextcloud", script) as server, client_to(server.url) as client:
        accounts = client.list_accounts()
        assert next(accounts).userid == "a"
        with pytest.raises(expected):
            next(accounts)


# -- ownCloud -----------------------------------------------------------------------------------------


def owncloud(ids: list[Any], special: Script, members: dict[str, list[str]] | None = None) -> HttpServer:
    script: Script = {
        f"GET /users/{one}": success(
            "owncloud", account_data("owncloud", str(one), quota={"definition": "1 GB"})
        )
        for one in ids
    }
    script |= {
        f"GET /groups/{group}": success("owncloud", {"users": users})
        for group, users in ({"admin": ["admin"]} | (members or {})).items()
    }
    return scripted("owncloud", {"GET /users": success("owncloud", {"users": ids})} | script | special)


def read_all(server: HttpServer, **options: Any) -> dict[str, Any]:
    with server, client_to(server.url) as client:
        accounts = list(client.list_accounts(**options))
    assert len({account.userid for account in accounts}) == len(accounts)
    return {account.userid: account for account in accounts}


def test_owncloud_reads_the_wanted_accounts_and_only_names_the_others() -> None:
    ids = names(30)
    read = read_all(
        owncloud(ids, {}, {"gold": ["USER_001", "user_005"]}),
        groups=["gold"],
        only=lambda one: int(one[-3:]) < 10,
    )
    assert set(read) == set(ids)
    assert {one for one, account in read.items() if account.is_complete} == set(ids[:10])
    assert read["user_001"].groups == {"gold"}
    assert read["user_002"].groups == frozenset()
    assert read["user_001"].quota == 1024**3
    assert read["user_020"].quota is UNKNOWN_QUOTA
    assert read["user_020"].groups is None


def test_owncloud_asks_side_by_side_but_never_more_than_allowed() -> None:
    gate = threading.Barrier(4, timeout=60)

    def wait(seen: Seen) -> Reply:
        gate.wait()
        return success("owncloud", account_data("owncloud", ""))

    ids = names(16)
    assert len(read_all(owncloud(ids, {f"GET /users/{one}": wait for one in ids}))) == 16


def test_owncloud_account_that_vanished_is_left_out_and_one_that_fails_is_incomplete() -> None:
    special: Script = {
        "GET /users/user_001": ABSENT["owncloud"],
        "GET /users/user_002": HTML,
        "GET /users/user_003": Reply(500),
        "GET /users/user_005": Reply(200, ocs(101, [], "odd")),
    }
    read = read_all(owncloud(names(20), special))
    assert "user_001" not in read
    assert {one for one, account in read.items() if not account.is_complete} == {
        "user_002",
        "user_003",
        "user_005",
    }


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(401, ocs(997, [], "Unauthorised")), CredentialsRefused),
        (Reply(503, ocs(503, [], "Service unavailable")), Maintenance),
        (Reply(429), RateLimited),
    ],
)
def test_owncloud_error_of_the_whole_server_ends_the_listing(
    reply: Reply, expected: type[CloudError]
) -> None:
    with pytest.raises(expected):
        read_all(owncloud(names(20), {"GET /users/user_007": reply}))


def test_owncloud_failures_in_a_row_end_the_listing() -> None:
    ids = names(300)
    server = owncloud(ids, {f"GET /users/{one}": Reply(500) for one in ids})
    with pytest.raises(ServerError):
        read_all(server)
    assert len(server.requests) < 60


def test_owncloud_that_goes_away_ends_the_listing() -> None:
    server = owncloud(names(40), {})
    with client_to(server.url) as client:
        with server:
            accounts = client.list_accounts(only=lambda one: one != "user_000")
            first = next(accounts)
        assert first.userid.startswith("user_")
        client._transport.renew()
        with pytest.raises(CloudError) as caught:
            list(accounts)
    assert type(caught.value) in {ServerUnreachable, ServerError}


def test_owncloud_ids_of_digits_and_ids_that_cannot_be_asked_are_named() -> None:
    read = read_all(
        owncloud([1234, "ab", "..", " "], {"GET /users/..": Reply(500), "GET /users/%20": Reply(500)})
    )
    assert {one: account.is_complete for one, account in read.items()} == {
        "1234": True,
        "ab": True,
        "..": False,
        " ": False,
    }


def test_owncloud_group_that_is_missing_has_no_members_and_one_that_fails_makes_groups_unknown() -> None:
    missing = Reply(200, ocs(998, [], "The requested group could not be found"))
    read = read_all(owncloud(["user_1"], {"GET /groups/gold": missing}), groups=["gold"])
    assert read["user_1"].groups == frozenset()
    read = read_all(owncloud(["user_1"], {"GET /groups/a%2Fb": Reply(404, b"<html>")}), groups=["a/b"])
    assert read["user_1"].groups is None
    with pytest.raises(GroupIdRefused):
        read_all(owncloud(["user_1"], {}), groups=[".."])


@pytest.mark.parametrize("data", [[], {"users": 5}, {"users": [None]}])
def test_owncloud_list_that_is_none_is_a_bad_answer(data: object) -> None:
    with pytest.raises(BadAnswer):
        read_all(owncloud([], {"GET /users": success("owncloud", data)}))


def test_owncloud_listing_can_be_left_early() -> None:
    with owncloud(names(200), {}) as server, client_to(server.url) as client:
        accounts = client.list_accounts()
        next(accounts)
        accounts.close()  # type: ignore[attr-defined]
        assert sum("/users/user_" in path for path in server.paths) < 60


# -- side by side -------------------------------------------------------------------------------------


def test_only_a_few_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Any:
        for number in range(10_000):
            taken.append(number)
            yield number

    results = map_unordered(lambda number: number * 2, items(), 3)
    assert next(results) % 2 == 0
    assert len(taken) <= 12
    results.close()  # type: ignore[attr-defined]
    assert sorted(map_unordered(lambda number: number * 2, range(100), 3)) == [
        number * 2 for number in range(100)
    ]
    assert list(map_unordered(str, [], 3)) == []
