"""Every answer recorded from the real servers means to the client what it meant there.

The table says by hand, for each name of an exchange, which of the client's methods gets that answer
and what must come of it; exchanges that the client never makes go through transport and envelope.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from nc import CloudClient, Product, ServerConnection, errors
from nc.calls import Call
from nc.envelope import parse_envelope
from nc.errors import (
    AccountExists,
    AccountIdRefused,
    AccountMissing,
    BadAnswer,
    CredentialsRefused,
    EmailRefused,
    GroupExists,
    GroupIdRefused,
    GroupMissing,
    Maintenance,
    NotAdministrator,
    OutcomeUnknown,
    PermissionRefused,
    QuotaRefused,
    RateLimited,
    WeakPassword,
)
from nc.transport import Transport
from states.model import DEFAULT, UNLIMITED, ObservedQuota
from tests.contract.replay import HttpServer, Recorded, Reply, Seen, ocs, read_recordings

PRODUCTS = {
    "nextcloud": (Product.NEXTCLOUD, "/ocs/v2.php/cloud"),
    "owncloud": (Product.OWNCLOUD, "/ocs/v1.php/cloud"),
}
STATUS = {
    "nextcloud": b'{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"27.1.0.7",'
    b'"versionstring":"27.1.0","productname":"Nextcloud","extendedSupport":false}',
    "owncloud": b'{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"10.7.0.4",'
    b'"versionstring":"10.7.0","productname":"ownCloud"}',
}
ADMIN: dict[str, dict[str, Any]] = {
    "nextcloud": {
        "id": "admin",
        "enabled": True,
        "quota": {"quota": "none"},
        "groups": ["admin"],
        "subadmin": [],
    },
    "owncloud": {"enabled": "true", "quota": {"definition": "default"}, "email": None},
}
MISSING = {
    "nextcloud": Reply(404, ocs(404, [], "User does not exist")),
    "owncloud": Reply(200, ocs(998, [], "The requested user could not be found")),
}


@dataclass(frozen=True)
class Account:
    """What must be read of an account; the fields that ownCloud's answer lacks are asked separately."""

    quota: ObservedQuota
    is_enabled: bool = True
    used: int | None = None
    email: str | None = None
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Envelope:
    """What transport and envelope alone must make of an answer."""

    status: int
    code: int | None
    data: Any = None
    """A type, or the exact value."""


@dataclass(frozen=True)
class Row:
    """What becomes of the exchanges whose name matches."""

    pattern: str
    method: str
    expected: Any
    is_there: bool = False
    """Whether the account is found when the client looks again."""


LIST: Any = list
DICT: Any = dict
G = frozenset({"probe_g"})

ACCOUNTS_BY_QUOTA: dict[str, dict[str, ObservedQuota]] = {
    "nextcloud": {
        "none": UNLIMITED,
        "default": UNLIMITED,
        "0": 0,
        "-1": 0,
        "1": 1,
        "1000": 1000,
        "1023": 1023,
        "1025": 1024,
        "1536": 2048,
        "1000000": 1000448,
        "1048575": 1048576,
        "52428800": 52428800,
        "123456789": 123417395,
        "1000000000": 1000026931,
        "1500000000": 1503238554,
        "1610612736": 1610612736,
        "10000000000": 9985798963,
        "1234567890123": 1209462790554,
        "1.5GB": 1610612736,
        "1.5 GiB": 2,
        "1,5 GB": 1073741824,
        "10 XB": 10,
        "lots": 10,
        "": 10,
        "1 GB": 1073741824,
        "999999 PB": 647392446434508800,
    },
}
ACCOUNTS_BY_QUOTA["owncloud"] = ACCOUNTS_BY_QUOTA["nextcloud"] | {
    "default": DEFAULT,
    "999999 PB": 999999 * 1024**5,
}
USED = {"nextcloud": 5164, "owncloud": 1052691}

NEXTCLOUD = [
    Row("status.php|status", "connect", ("25.0.2", "27.1.0")),
    Row("maintenance: status", "connect", Maintenance),
    Row("capabilities.*", "envelope", Envelope(200, 200, DICT)),
    Row("no credentials|wrong password", "login", CredentialsRefused),
    Row("disabled user authenticates", "prove_password", False),
    Row("no OCS-APIRequest header", "list_groups", BadAnswer),
    Row("unknown route v1", "envelope", Envelope(200, 998, [])),
    Row("unknown route v2", "get_account", BadAnswer),
    Row("method not allowed", "set_quota", (OutcomeUnknown, BadAnswer)),
    Row("create group", "create_group", None),
    Row("create group that exists already v2|create group again", "create_group", GroupExists),
    Row("create group that exists already v1", "envelope", Envelope(200, 102, [])),
    Row("create group with empty id", "create_group", GroupIdRefused),
    Row("create user v1", "envelope", Envelope(200, 100, {"id": "probe_b"})),
    Row("create user that exists already v1", "envelope", Envelope(200, 102, [])),
    Row("create user with missing group v1", "envelope", Envelope(200, 104, [])),
    Row("create user (v2|with all fields|with a JSON body|again after delete)", "create_account", None),
    Row("create with quota.*", "create_account", None),
    Row("create user that exists (already|in other case)", "create_account", AccountExists),
    Row("create user that exists already, other case", "create_account", AccountExists),
    Row(
        "create user with (invalid characters|plus sign|trailing space|reserved name|id of 65.*|empty id)",
        "create_account",
        AccountIdRefused,
    ),
    Row("create user without userid parameter", "create_account", (OutcomeUnknown, errors.ServerError)),
    Row("create user without password", "create_account", EmailRefused),
    Row("create user with weak password", "create_account", WeakPassword),
    Row("create with weak password", "create_account", None),  # that server had no password policy
    Row("create (user )?with missing group( v2)?", "create_account", GroupMissing),
    Row("create (user )?with invalid quota", "create_account", QuotaRefused),
    Row("create user with invalid email", "create_account", (OutcomeUnknown, errors.ServerError)),
    Row("create with invalid email", "create_account", None),  # stored, in 27
    Row(
        "get user created with all fields",
        "get_account",
        Account(1610612736, True, 0, "probe.c@example.com", G),
    ),
    Row("get user after create with invalid quota", "get_account", Account(UNLIMITED, True, 0)),
    Row("the user left behind by it", "get_account", Account(UNLIMITED, True, 0)),
    Row(
        "get user after create with invalid email", "get_account", Account(UNLIMITED, True, 0, "not-an-email")
    ),
    Row(
        r"the user left behind by it \(email\)", "get_account", Account(1073741824, True, 0, "not an address")
    ),
    Row("get user that never logged in|get user in other case", "get_account", Account(UNLIMITED, True, 0)),
    Row("get user", "get_account", Account(1503238554, True, 0, "probe.a@example.com")),
    Row("the user created meanwhile", "get_account", Account(5368709120, True, 0, "d@example.com")),
    Row("get user missing v2|get missing user|get deleted user", "get_account", "absent"),
    Row("get user missing v1", "envelope", Envelope(200, 404, [])),
    Row(r"list users(| page .| beyond.*| limit 0| search.*)", "envelope", Envelope(200, 200, DICT)),
    Row("list groups", "list_groups", (frozenset({"probe_g"}), frozenset({"admin", "probe g/1"}))),
    Row("users details", "list_accounts", {"probe_a": UNLIMITED, "probe_b": UNLIMITED}),
    Row("users/details, first page", "list_accounts", {"admin": UNLIMITED, "probe_b": UNLIMITED}),
    Row("users details beyond the end|users/details, past the end", "list_accounts", {}),
    Row("users disabled|users/disabled is not.*", "envelope", Envelope(404, 404, [])),
    Row("edit quota (invalid )?v1", "envelope", Envelope(200, None, [])),
    Row("edit quota of missing user v1", "envelope", Envelope(200, 998, [])),
    Row("edit quota ('lots'|'')|edit invalid quota", "set_quota", QuotaRefused),
    Row("edit quota '.*'|edit quota with a JSON body", "set_quota", None),
    Row("get user after edit quota '(.*)', storage not set up", "get_account", "by quota, never used"),
    Row("get user with storage set up, quota '(.*)'", "get_account", "by quota, used"),
    Row("edit quota of missing user( v2)?", "set_quota", AccountMissing),
    Row("not an admin edits another user", "set_quota", PermissionRefused, is_there=True),
    Row("edit unknown key", "set_quota", PermissionRefused),
    Row("edit email|edit email empty", "set_email", None),
    Row("edit email invalid", "set_email", EmailRefused),
    Row("edit display name( empty)?", "envelope", Envelope(200, 200, [])),
    Row("edit display name 65 characters", "envelope", Envelope(400, 101, [])),
    Row("edit own user, language.*", "envelope", Envelope(200, 200, [])),
    Row("get user after edit email.*", "get_account", Account(3221225472, True, 0, "probe.a@example.com")),
    Row("get user after clearing", "get_account", Account(3221225472, True, 0)),
    Row("edit password weak", "set_password", WeakPassword),
    Row("disable( user| again| user that is disabled| while edits are limited)?", "disable", None),
    Row("enable( user| user that is enabled)?", "enable", None),
    Row("disable missing user( v2)?", "disable", AccountMissing),
    Row("disable missing user v1", "envelope", Envelope(200, 101, [])),
    Row("disable self", "disable", PermissionRefused, is_there=True),
    Row("get disabled user", "get_account", "disabled"),
    Row("not an admin lists users", "list_groups", PermissionRefused),
    Row("not an admin reads another user", "get_account", NotAdministrator),
    Row("group members", "envelope", Envelope(200, 200, {"users": ["probe_c"]})),
    Row("group members of missing group", "envelope", Envelope(404, 404, [])),
    Row("get groups of user", "envelope", Envelope(200, 200, {"groups": ["probe_g"]})),
    Row("groups of the user", "envelope", Envelope(200, 200, {"groups": ["probe g/1"]})),
    Row("get groups of missing user", "envelope", Envelope(404, 998, [])),
    Row("add to group( again)?", "add_to_group", None),
    Row("add to missing group( v2)?", "add_to_group", GroupMissing),
    Row("add to missing group v1", "envelope", Envelope(200, 102, [])),
    Row("add missing user to group", "add_to_group", AccountMissing),
    Row("add to group without groupid", "add_to_group", GroupIdRefused),
    Row("remove from group( again)?", "remove_from_group", None),
    Row("remove from missing group", "remove_from_group", GroupMissing),
    Row("remove missing user from group", "remove_from_group", AccountMissing),
    Row("rate limited .*|edit quota, 51st edit.*", "set_quota", RateLimited),
    Row("delete group( with a slash)?", "envelope", Envelope(200, 200, [])),
    Row("delete missing group", "envelope", Envelope(400, 101, [])),
    Row("delete user|delete probe_.", "delete_account", None),
    Row("delete missing user( v2)?", "delete_account", AccountMissing),
    Row("delete missing user v1", "envelope", Envelope(200, 998, [])),
    Row("delete self", "delete_account", PermissionRefused, is_there=True),
    Row("maintenance: get user", "get_account", Maintenance),
    Row("maintenance: users/details", "list_accounts", Maintenance),
    Row("maintenance: create", "create_account", Maintenance),
]

OWNCLOUD = [
    Row("status.php", "connect", ("10.7.0",)),
    Row("maintenance: status", "connect", Maintenance),
    Row("maintenance: list users", "list_accounts", Maintenance),
    Row("maintenance: get user", "get_account", Maintenance),
    Row(
        "after maintenance: get user",
        "get_account",
        Account(DEFAULT, True, 1047691, groups=frozenset({"admin"})),
    ),
    Row("capabilities, anonymous", "envelope", Envelope(401, 997, [])),
    Row("capabilities", "envelope", Envelope(200, 200, DICT)),
    Row("no credentials|wrong password", "login", CredentialsRefused),
    Row("disabled user authenticates", "prove_password", False),
    Row("no OCS-APIRequest header", "envelope", Envelope(200, 100, {"users": ["admin"]})),
    Row("unknown route v1", "get_account", errors.ServerError),
    Row("unknown route v2", "get_account", errors.ServerError),
    Row("method not allowed", "set_quota", (OutcomeUnknown, BadAnswer)),
    Row("create group", "create_group", None),
    Row("create group that exists already v1", "create_group", GroupExists),
    Row("create group that exists already v2", "create_group", (OutcomeUnknown, errors.ServerError)),
    Row("create group with empty id", "create_group", GroupIdRefused),
    Row("list groups", "list_groups", (frozenset({"probe_g"}),)),
    Row("create user v2", "envelope", Envelope(200, 200, [])),
    Row("create user (v1|with all fields|with plus sign|again after delete)", "create_account", None),
    Row("create user with (weak password|invalid quota)", "create_account", None),  # neither is looked at
    Row("get user created with all fields", "get_account", Account(DEFAULT)),
    Row("create user that exists already", "envelope", Envelope(400, 400, [])),
    Row("create user that exists (already v1|in other case)", "create_account", AccountExists),
    Row(
        "create user with (a JSON body|invalid characters|trailing space|reserved name|id of 65.*|empty id)",
        "create_account",
        AccountIdRefused,
    ),
    Row("create user without userid parameter", "create_account", AccountIdRefused),
    Row("create user without password", "create_account", WeakPassword),
    Row("create user with missing group v2", "envelope", Envelope(403, 403, [])),
    Row("create user with missing group v1", "create_account", GroupMissing),
    Row("get user after create with invalid quota|get user that never.*", "get_account", Account(DEFAULT)),
    Row("get user in other case", "get_account", Account(DEFAULT)),
    Row("get user missing v2", "envelope", Envelope(404, 404, [])),
    Row("get user missing v1|get deleted user", "get_account", "absent"),
    Row("list users limit 0", "list_ids", {"probe_a", "probe_b", "probe_c", "probe_d", "probe_x+y"}),
    Row(r"list users(| page .| beyond.*| search.*)", "envelope", Envelope(200, 100, DICT)),
    Row("users (details|disabled)", "envelope", Envelope(200, 998, [])),  # nothing special: no such user
    Row("edit quota ('lots'|'')", "set_quota", QuotaRefused),
    Row("edit quota '.*'|edit quota with a JSON body", "set_quota", None),
    Row("get user after edit quota '(.*)', storage not set up", "get_account", "by quota, never used"),
    Row("get user with storage set up, quota '(.*)'", "get_account", "by quota, used"),
    Row("edit quota v2", "envelope", Envelope(200, 200, [])),
    Row("edit quota invalid v2", "envelope", Envelope(400, 400, [])),
    Row("edit quota of missing user v2", "envelope", Envelope(401, 997, [])),
    Row("edit quota of missing user v1", "set_quota", AccountMissing),
    Row("edit unknown key|not an admin edits another user", "set_quota", PermissionRefused, is_there=True),
    Row("edit email|edit email empty", "set_email", None),
    Row("edit email invalid", "set_email", EmailRefused),
    Row("edit display name.*", "envelope", Envelope(200, 100, [])),
    Row("get user after edit email.*", "get_account", Account(3221225472, True, None, "Probe.A@Example.COM")),
    Row("get user after clearing", "get_account", Account(3221225472, True, None, "")),
    Row("disable user( that is disabled)?", "disable", None),
    Row("enable user( that is enabled)?", "enable", None),
    Row("get disabled user", "get_account", Account(DEFAULT, False)),
    Row("disable missing user v2", "envelope", Envelope(400, 400, [])),
    Row("disable missing user v1", "disable", AccountMissing),
    Row("disable self", "disable", PermissionRefused, is_there=True),
    Row("not an admin lists users", "list_accounts", CredentialsRefused),
    Row("not an admin reads another user", "get_account", CredentialsRefused),
    Row("group members", "members", {"probe_c": frozenset({"admin", "probe_g"})}),
    Row("group members of missing group", "members", {"probe_c": frozenset()}),
    Row("get groups of user", "get_account_groups", frozenset({"probe_g"})),
    Row("get groups of missing user", "get_account_groups", BadAnswer),
    Row("add to group( again)?", "add_to_group", None),
    Row("add to missing group v1", "add_to_group", GroupMissing),
    Row("(add to missing group|delete missing user) v2", "envelope", Envelope(400, 400, [])),
    Row("add missing user to group", "add_to_group", AccountMissing),
    Row("add to group without groupid", "add_to_group", GroupIdRefused),
    Row("remove from group( again)?", "remove_from_group", None),
    Row("remove from missing group", "remove_from_group", GroupMissing),
    Row("remove missing user from group", "remove_from_group", AccountMissing),
    Row("delete group", "envelope", Envelope(200, 100, [])),
    Row("delete missing group", "envelope", Envelope(200, 101, [])),
    Row("delete user", "delete_account", None),
    Row("delete missing user v1", "delete_account", AccountMissing),
    Row("delete self", "delete_account", PermissionRefused, is_there=True),
]
TABLE = {"nextcloud": NEXTCLOUD, "owncloud": OWNCLOUD}
RECORDED = list(read_recordings())


def find_row(recorded: Recorded) -> Row:
    rows = [row for row in TABLE[recorded.product] if re.fullmatch(row.pattern, recorded.name)]
    assert rows, f"nobody said what {recorded.name!r} means"
    return rows[0]


def userid_of(recorded: Recorded) -> str:
    """The account the exchange was about, or another one where the client would not even ask."""
    match = re.fullmatch(r".*/users/([A-Za-z_]+)(/(groups|enable|disable))?", recorded.request["path"])
    if match and match[1] not in {"details", "disabled"}:
        return match[1]
    userid = (recorded.request.get("form") or recorded.request.get("json") or {}).get("userid", "")
    return userid if re.fullmatch(r"[A-Za-z_+]{3,30}", userid) and "x+y" not in userid else "probe_x"


class Stage:
    """A server that lets the client connect, and gives the recorded answer to what comes then."""

    def __init__(self, recorded: Recorded, row: Row) -> None:
        self.recorded = recorded
        self.row = row
        self.is_open = False
        self.played: list[Seen] = []

    def answer(self, seen: Seen) -> Reply:
        recorded, row = self.recorded, self.row
        root = PRODUCTS[recorded.product][1]
        path = {
            "connect": "/status.php",
            "login": f"{root}/user",
            "prove_password": f"{root}/user",
            "members": f"{root}/groups/probe_g",
            "get_account_groups": f"{root}/users/probe_c/groups",
        }.get(row.method)
        can_play = self.is_open or row.method in {"connect", "login"}
        if can_play and not self.played and path in {None, seen.path}:
            self.played.append(seen)
            return recorded.reply
        if seen.path == "/status.php":
            return Reply(body=STATUS[recorded.product])
        return self.answer_around(seen.path.removeprefix(root))

    def answer_around(self, path: str) -> Reply:
        """What the client asks before and after the recorded exchange."""
        recorded, row = self.recorded, self.row
        userid = path.rpartition("/")[2]
        if path.endswith("/subadmins"):
            return Reply(body=ocs(102, [], "Unknown error occurred"))
        lists: dict[str, Any] = {
            "/user": {"id": "admin"},
            "/users": {"users": ["probe_c"]},
            "/groups/admin": {"users": ["PROBE_C"] if recorded.name == "group members" else ["admin"]},
            "/users/admin/groups": {"groups": ["admin"]},
            "/users/details": {"users": []},
        }
        data = lists.get(path, {"groups": []} if path.endswith("/groups") else None)
        if data is None:
            if self.is_open and not row.is_there and row.method not in {"members", "get_account_groups"}:
                return MISSING[recorded.product]
            data = ADMIN[recorded.product] | {"id": userid}
        return Reply(body=ocs(200 if recorded.product == "nextcloud" else 100, data))


def call_client(client: CloudClient, recorded: Recorded, row: Row) -> Any:
    """Do what the row says with the account of the exchange."""
    userid = userid_of(recorded)
    actions: dict[str, Callable[[], Any]] = {
        "get_account": lambda: client.get_account(userid),
        "list_groups": client.list_groups,
        "list_accounts": lambda: list(client.list_accounts()),
        "list_ids": lambda: list(client.list_accounts(only=lambda _: False)),
        "members": lambda: list(client.list_accounts(groups=["probe_g"])),
        "get_account_groups": lambda: client.get_account("probe_c"),
        "create_account": lambda: client.create_account(
            userid, "S3cret-password", quota=5368709120, email="a@example.com", groups=["probe_g"]
        ),
        "create_group": lambda: client.create_group("probe_g"),
        "set_quota": lambda: client.set_quota(userid, 1073741824),
        "set_email": lambda: client.set_email(userid, "a@example.com"),
        "set_password": lambda: client.set_password(userid, "weak"),
        "enable": lambda: client.enable(userid),
        "disable": lambda: client.disable(userid),
        "delete_account": lambda: client.delete_account(userid),
        "add_to_group": lambda: client.add_to_group(userid, "probe_g"),
        "remove_from_group": lambda: client.remove_from_group(userid, "probe_g"),
        "prove_password": lambda: client.prove_password(userid, "S3cret-password"),
    }
    return actions[row.method]()


def expect_account(recorded: Recorded, row: Row) -> Account | None:
    expected = row.expected
    if isinstance(expected, Account) or expected == "absent":
        return expected if isinstance(expected, Account) else None
    if expected == "disabled":
        is_newer = recorded.file == "nextcloud-27.1.0"
        quota = 1503238554 if is_newer else UNLIMITED
        return Account(quota, False, 0, "probe.a@example.com" if is_newer else None)
    match = re.fullmatch(row.pattern, recorded.name)
    assert match
    quota_read = ACCOUNTS_BY_QUOTA[recorded.product][match[1]]
    if expected == "by quota, used":
        return Account(
            quota_read, True, USED[recorded.product], None if recorded.product == "nextcloud" else ""
        )
    return Account(quota_read, True, 0 if recorded.product == "nextcloud" else None)


def check_result(result: Any, recorded: Recorded, row: Row) -> None:
    if row.method == "get_account":
        wanted = expect_account(recorded, row)
        assert (result is None) == (wanted is None)
        if wanted:
            read = (result.quota, result.is_enabled, result.used_bytes, result.email, result.groups)
            assert read == (wanted.quota, wanted.is_enabled, wanted.used, wanted.email, wanted.groups)
            assert result.userid.lower() == userid_of(recorded).lower()
            assert result.is_subadmin is False
            assert result.is_complete
    elif row.method == "list_accounts":
        assert {account.userid: account.quota for account in result} == row.expected
        assert all(account.is_complete for account in result)
    elif row.method == "list_ids":
        assert {account.userid for account in result} == row.expected
    elif row.method == "members":
        assert {account.userid: account.groups for account in result} == row.expected
    elif row.method == "get_account_groups":
        assert result.groups == row.expected
    elif row.method == "connect":
        assert result.version in row.expected
        assert result.product is PRODUCTS[recorded.product][0]
    elif row.method == "list_groups":
        assert result in row.expected
    else:
        assert result is row.expected


def check(perform: Callable[[], Any], recorded: Recorded, row: Row) -> None:
    """Perform, and compare with what the row says: a result, an error, or an error and its cause."""
    kind, cause = row.expected if isinstance(row.expected, tuple) and len(row.expected) == 2 else (None, None)
    kind = kind if isinstance(kind, type) else row.expected
    if isinstance(kind, type) and issubclass(kind, errors.CloudError):
        with pytest.raises(kind) as caught:
            perform()
        assert type(caught.value) is kind
        if kind is OutcomeUnknown:
            assert type(caught.value.__cause__) is cause
    else:
        check_result(perform(), recorded, row)


def through_envelope(recorded: Recorded, url: str) -> None:
    row = find_row(recorded)
    request = recorded.request
    query = tuple((str(key), str(value)) for key, value in (request.get("query") or {}).items())
    form = tuple((request.get("form") or {}).items()) or None
    transport = Transport(ServerConnection(url, "admin", "a password", requests_per_second=0))
    try:
        call = Call("list_groups", request["method"], request["path"], query, form, "recorded")
        raw = transport.send(call)
    finally:
        transport.renew()
    assert raw.body == recorded.reply.body
    envelope = parse_envelope(raw.body)
    expected = row.expected
    assert raw.status == expected.status
    assert expected.code in {None, envelope.code}
    if isinstance(expected.data, type):
        assert type(envelope.data) is expected.data
    else:
        assert envelope.data == expected.data


@pytest.mark.parametrize(
    "recorded", RECORDED, ids=[f"{one.file}:{one.line} {one.name}"[:90] for one in RECORDED]
)
def test_recorded_exchange_is_understood(recorded: Recorded) -> None:
    row = find_row(recorded)
    stage = Stage(recorded, row)
    stage.is_open = row.method == "envelope"
    with HttpServer(stage.answer) as server:
        if row.method == "envelope":
            through_envelope(recorded, server.url)
            return
        client = CloudClient(ServerConnection(server.url, "admin", "a password", requests_per_second=0))
        try:
            if row.method in {"connect", "login"}:
                check(client.connect, recorded, row)
            else:
                client.connect()
                stage.is_open = True
                check(lambda: call_client(client, recorded, row), recorded, row)
        finally:
            client.close()
    assert len(stage.played) == 1
    # Where the client makes the very call that was recorded, it makes it to the very same place.
    request, root = recorded.request, PRODUCTS[recorded.product][1]
    is_same = request["path"].startswith(root) and userid_of(recorded) in request["path"]
    if (
        is_same
        and request["method"] != "PATCH"
        and row.method not in {"prove_password", "get_account_groups"}
    ):
        assert (stage.played[0].method, stage.played[0].path) == (request["method"], request["path"])


def test_every_row_of_the_table_is_about_some_exchange() -> None:
    for product, rows in TABLE.items():
        used = {find_row(recorded).pattern for recorded in RECORDED if recorded.product == product}
        assert [row.pattern for row in rows if row.pattern not in used] == []
