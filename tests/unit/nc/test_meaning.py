"""What statuses and codes mean to the client's methods; above all: unknown is not absent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from nc import ApiCall, CloudClient, errors
from nc.errors import (
    AccountExists,
    AccountIdRefused,
    AccountMissing,
    BadAnswer,
    CloudError,
    CredentialsRefused,
    EmailRefused,
    GroupIdRefused,
    GroupMissing,
    Maintenance,
    NotAdministrator,
    OutcomeUnknown,
    PasswordConfirmationRequired,
    PermissionRefused,
    QuotaRefused,
    RateLimited,
    ServerError,
    WeakPassword,
)
from nc.model import OPERATIONS
from states.model import UNLIMITED
from tests.contract.replay import HttpServer, Reply, Seen, ocs
from tests.unit.nc.raw_server import client_to
from tests.unit.nc.scripted_cloud import ABSENT, OK, account_data, scripted, success

HTML = b"<html><title>404 Not Found</title></html>"
XML_401 = (
    b'<?xml version="1.0"?><ocs><meta><statuscode>997</statuscode><message>Unauthorised</message></meta>'
    b"<data/></ocs>"
)
INVALID_QUERY = "Invalid query, please check the syntax."
PRODUCTS = ["nextcloud", "owncloud"]

CHANGES: dict[str, tuple[str, Callable[[CloudClient], None]]] = {
    "create_account": ("POST /users", lambda c: c.create_account("user_1", "S3cret", quota=5, email="a@b.c")),
    "set_quota": ("PUT /users/user_1", lambda c: c.set_quota("user_1", UNLIMITED)),
    "set_email": ("PUT /users/user_1", lambda c: c.set_email("user_1", "a@example.com")),
    "set_password": ("PUT /users/user_1", lambda c: c.set_password("user_1", "S3cret")),
    "enable": ("PUT /users/user_1/enable", lambda c: c.enable("user_1")),
    "disable": ("PUT /users/user_1/disable", lambda c: c.disable("user_1")),
    "delete_account": ("DELETE /users/user_1", lambda c: c.delete_account("user_1")),
    "add_to_group": ("POST /users/user_1/groups", lambda c: c.add_to_group("user_1", "gold")),
    "remove_from_group": ("DELETE /users/user_1/groups", lambda c: c.remove_from_group("user_1", "gold")),
    "create_group": ("POST /groups", lambda c: c.create_group("gold")),
    "prove_write_permission": ("POST /users/admin/groups", lambda c: c.prove_write_permission()),
}


def play(server: HttpServer, perform: Callable[[CloudClient], Any], **changes: Any) -> Any:
    with server, client_to(server.url, **changes) as client:
        return perform(client)


# -- unknown is never absent --------------------------------------------------------------------------

NEXTCLOUD_READS = [
    (ABSENT["nextcloud"], None),
    (Reply(404, ocs(404, [], "Benutzer existiert nicht")), None),
    (Reply(404, ocs(404, [], INVALID_QUERY)), BadAnswer),
    (Reply(404, ocs(404, [], "")), BadAnswer),
    (Reply(404, ocs(404, {"id": "user_1"}, "odd")), BadAnswer),
    (Reply(404, ocs(998, [], "")), NotAdministrator),
    (Reply(200, ocs(998, [], "")), NotAdministrator),
    (Reply(200, ocs(404, [], "User does not exist")), ServerError),
    (Reply(404, ocs(200, [], "OK")), ServerError),
    (Reply(404, HTML), BadAnswer),
    (Reply(404, b""), BadAnswer),
    (Reply(200, HTML), BadAnswer),
    (Reply(200, b""), BadAnswer),
    (Reply(200, ocs(200, [])), BadAnswer),
    (Reply(200, ocs(200, {"id": "user_10", "enabled": True, "groups": []})), BadAnswer),
    (Reply(200, ocs(200, {"id": "user_1"})), BadAnswer),
    (Reply(200, ocs(200, {"id": "user_1", "enabled": True, "groups": None})), BadAnswer),
    (Reply(200, ocs(200, account_data("nextcloud", "user_1"))[:-4]), BadAnswer),
    (Reply(204), BadAnswer),
    (Reply(304), BadAnswer),
    (Reply(400, HTML), BadAnswer),
    (Reply(412, b'{"message": "CSRF check failed"}'), BadAnswer),
    (Reply(401, XML_401), CredentialsRefused),
    (Reply(401, ocs(997, [], "")), CredentialsRefused),
    (Reply(401, HTML), CredentialsRefused),
    (Reply(403, ocs(403, [], "no")), PermissionRefused),
    (Reply(403, HTML), PermissionRefused),
    (Reply(429), RateLimited),
    (Reply(500, ocs(500, [], "Internal Server Error")), ServerError),
    (Reply(502, HTML), ServerError),
    (Reply(503, HTML), ServerError),
    (Reply(503, b"", {"X-Nextcloud-Maintenance-Mode": "1"}), Maintenance),
    (Reply(503, ocs(503, [], "Service unavailable")), Maintenance),
]
OWNCLOUD_READS = [
    (ABSENT["owncloud"], None),
    (Reply(200, ocs(998, [], None)), None),
    (Reply(200, ocs(998, [], INVALID_QUERY)), ServerError),
    (Reply(404, ocs(998, [], "The requested user could not be found")), ServerError),
    (Reply(404, ocs(404, [], "The requested user could not be found")), ServerError),
    (Reply(200, ocs(999, [], INVALID_QUERY)), ServerError),
    (Reply(200, ocs(101, [], "")), ServerError),
    (Reply(200, ocs(998, {"enabled": "true"}, "")), ServerError),
    (Reply(404, HTML), BadAnswer),
    (Reply(200, HTML), BadAnswer),
    (Reply(200, b""), BadAnswer),
    (Reply(200, ocs(100, [])), BadAnswer),
    (Reply(401, ocs(997, [], "Unauthorised")), CredentialsRefused),
    (Reply(401, ocs(997, [], None)), CredentialsRefused),
    (Reply(200, ocs(997, [], None)), CredentialsRefused),
    (Reply(503, ocs(503, [], "Service unavailable")), Maintenance),
    (Reply(200, ocs(503, [], "Service unavailable")), Maintenance),
    (Reply(500, b""), ServerError),
]


@pytest.mark.parametrize(
    ("product", "reply", "expected"),
    [("nextcloud", *row) for row in NEXTCLOUD_READS] + [("owncloud", *row) for row in OWNCLOUD_READS],
)
def test_only_a_positive_no_such_user_is_absent(
    product: str, reply: Reply, expected: type[CloudError] | None
) -> None:
    server = scripted(product, {"GET /users/user_1": reply})
    if expected is None:
        assert play(server, lambda client: client.get_account("user_1")) is None
    else:
        with pytest.raises(expected) as caught:
            play(server, lambda client: client.get_account("user_1"))
        assert type(caught.value) is expected
        assert len(str(caught.value)) < 500


# -- changes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", CHANGES)
@pytest.mark.parametrize("product", PRODUCTS)
def test_change_is_exactly_one_request(product: str, operation: str) -> None:
    key, perform = CHANGES[operation]
    server = scripted(product, {key: success(product)})
    assert play(server, perform) is None
    changing = [path for path in server.paths if not path.startswith("GET ")]
    assert len(changing) == 1
    assert changing[0].endswith(key.partition(" ")[2])


@pytest.mark.parametrize("operation", CHANGES)
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(500, ocs(500, [], "Internal Server Error")), OutcomeUnknown),
        (Reply(502, HTML), OutcomeUnknown),
        (Reply(503, HTML), OutcomeUnknown),
        (Reply(200, HTML), OutcomeUnknown),
        (Reply(200, b""), OutcomeUnknown),
        (Reply(404, HTML), OutcomeUnknown),
        (Reply(400, ocs(777, [], "what is that")), OutcomeUnknown),
        (Reply(500, ocs(200, [])), OutcomeUnknown),
        (Reply(400, ocs(200, [])), OutcomeUnknown),
        (Reply(503, b"", {"x-nextcloud-maintenance-mode": "1"}), Maintenance),
        (Reply(503, ocs(503, [], "Service unavailable")), Maintenance),
        (Reply(429, b"", {"content-type": "text/html"}), RateLimited),
        (Reply(401, XML_401), CredentialsRefused),
        (Reply(401, HTML), CredentialsRefused),
        (Reply(403, ocs(403, [], "no")), PermissionRefused),
        (Reply(403, b'{"message":"Password confirmation is required"}'), PasswordConfirmationRequired),
    ],
)
def test_change_that_was_not_clearly_answered_is_unknown_and_a_refused_one_is_not(
    product: str, operation: str, reply: Reply, expected: type[CloudError]
) -> None:
    key, perform = CHANGES[operation]
    calls: list[ApiCall] = []
    server = scripted(product, {key: reply})
    with pytest.raises(expected) as caught:
        play(server, perform, on_call=calls.append)
    assert type(caught.value) is expected
    if expected is OutcomeUnknown:
        assert isinstance(caught.value.__cause__, ServerError | BadAnswer)
    assert calls[-1].is_ambiguous == (expected is OutcomeUnknown)
    assert calls[-1].status == reply.status
    assert {call.operation for call in calls} <= set(OPERATIONS)
    assert len([path for path in server.paths if not path.startswith("GET ")]) == 1


CREATES = [
    ("nextcloud", 101, "Bad request", AccountIdRefused),
    ("nextcloud", 102, "User already exists", AccountExists),
    ("nextcloud", 102, "Invalid quota value lots", QuotaRefused),
    ("nextcloud", 102, "Benutzer existiert bereits", OutcomeUnknown),
    ("nextcloud", 102, "", OutcomeUnknown),
    ("nextcloud", 103, "", OutcomeUnknown),
    ("nextcloud", 104, "group gold does not exist", GroupMissing),
    ("nextcloud", 105, "", PermissionRefused),
    ("nextcloud", 107, "Password is S3cret and too short", WeakPassword),
    ("nextcloud", 110, "Required email address was not provided", EmailRefused),
    ("owncloud", 101, "Username contains whitespace", AccountIdRefused),
    ("owncloud", 101, "A valid password must be provided", WeakPassword),
    ("owncloud", 102, "", AccountExists),
    ("owncloud", 103, "", OutcomeUnknown),
    ("owncloud", 104, "", GroupMissing),
]


@pytest.mark.parametrize(("product", "code", "message", "expected"), CREATES)
def test_refused_create_is_named_or_unknown(
    product: str, code: int, message: str, expected: type[CloudError]
) -> None:
    reply = Reply(400 if product == "nextcloud" else 200, ocs(code, [], message))
    with pytest.raises(expected) as caught:
        play(scripted(product, {"POST /users": reply}), CHANGES["create_account"][1])
    assert type(caught.value) is expected
    assert caught.value.code == code
    assert "S3cret" not in str(caught.value)


@pytest.mark.parametrize("data", [{"id": "user_10"}, {"id": None}])
def test_create_of_another_account_than_asked_is_unknown(data: object) -> None:
    with pytest.raises(OutcomeUnknown):
        play(scripted("nextcloud", {"POST /users": success("nextcloud", data)}), CHANGES["create_account"][1])


def test_create_sends_everything_on_nextcloud_and_what_counts_on_owncloud() -> None:
    def create(client: CloudClient) -> None:
        client.create_account("user_1", "pw &=ü", quota=1500 * 1024**2, email="a@b.c", groups=["gold", "x y"])
        client.create_account("user_2", "pw", quota=UNLIMITED, email=None)

    sent = {}
    for product in PRODUCTS:
        server = scripted(product, {"POST /users": success(product)})
        play(server, create)
        sent[product] = [seen.form for seen in server.requests if seen.method == "POST"]
    assert sent["nextcloud"] == [
        [
            ("userid", "user_1"),
            ("password", "pw &=ü"),
            ("quota", "1610612736"),
            ("email", "a@b.c"),
            ("groups[]", "gold"),
            ("groups[]", "x y"),
        ],
        [("userid", "user_2"), ("password", "pw"), ("quota", "none")],
    ]
    assert sent["owncloud"] == [
        [("userid", "user_1"), ("password", "pw &=ü"), ("groups[]", "gold"), ("groups[]", "x y")],
        [("userid", "user_2"), ("password", "pw")],
    ]


EDITS = [
    ("nextcloud", "set_quota", 101, "Invalid quota value", QuotaRefused),
    ("nextcloud", "set_quota", 102, "Invalid quota value", QuotaRefused),
    ("nextcloud", "set_quota", 113, "", PermissionRefused),
    ("nextcloud", "set_email", 101, "", EmailRefused),
    ("nextcloud", "set_email", 113, "", PermissionRefused),
    ("nextcloud", "set_password", 101, "", WeakPassword),
    ("nextcloud", "set_password", 103, "too short", WeakPassword),
    ("nextcloud", "set_password", 103, "", PermissionRefused),
    ("nextcloud", "set_password", 107, "too short", WeakPassword),
    ("nextcloud", "set_password", 112, "", PermissionRefused),
    ("owncloud", "set_quota", 103, "", QuotaRefused),
    ("owncloud", "set_email", 102, "", EmailRefused),
    ("owncloud", "set_password", 403, "too short", WeakPassword),
    ("nextcloud", "add_to_group", 101, "", GroupIdRefused),
    ("nextcloud", "remove_from_group", 105, "", PermissionRefused),
    ("owncloud", "add_to_group", 104, "", PermissionRefused),
    ("owncloud", "create_group", 102, "", errors.GroupExists),
]


@pytest.mark.parametrize(("product", "operation", "code", "message", "expected"), EDITS)
def test_refused_change_is_named(
    product: str, operation: str, code: int, message: str, expected: type[CloudError]
) -> None:
    key, perform = CHANGES[operation]
    reply = Reply(400 if product == "nextcloud" else 200, ocs(code, [], message))
    with pytest.raises(expected) as caught:
        play(scripted(product, {key: reply}), perform)
    assert type(caught.value) is expected


DOUBTS = [
    ("nextcloud", "set_quota", Reply(404, ocs(998, [], ""))),
    ("nextcloud", "enable", Reply(400, ocs(101, [], ""))),
    ("nextcloud", "disable", Reply(404, ocs(404, [], "User does not exist"))),
    ("nextcloud", "delete_account", Reply(404, ocs(998, [], ""))),
    ("nextcloud", "add_to_group", Reply(400, ocs(103, [], ""))),
    ("owncloud", "set_quota", Reply(401, ocs(997, [], None))),
    ("owncloud", "set_password", Reply(401, ocs(997, [], None))),
    ("owncloud", "disable", Reply(200, ocs(101, [], None))),
    ("owncloud", "delete_account", Reply(200, ocs(101, [], None))),
    ("owncloud", "remove_from_group", Reply(200, ocs(103, [], None))),
]


@pytest.mark.parametrize(("product", "operation", "reply"), DOUBTS)
@pytest.mark.parametrize("situation", ["missing", "there", "unknown", "refused"])
def test_doubtful_answer_is_settled_by_reading_the_account(
    product: str, operation: str, reply: Reply, situation: str
) -> None:
    key, perform = CHANGES[operation]
    code = 101 if b"101" in reply.body else 103 if b"103" in reply.body else 997
    looked = {
        "missing": (ABSENT[product], AccountMissing),
        "there": (
            success(product, account_data(product, "user_1")),
            PermissionRefused if code == 997 and b"404" not in reply.body else OutcomeUnknown,
        ),
        "unknown": (Reply(502, HTML), ServerError),
        "refused": (Reply(401, XML_401), CredentialsRefused),
    }
    answer, expected = looked[situation]
    server = scripted(product, {key: reply, "GET /users/user_1": answer})
    with pytest.raises(expected) as caught:
        play(server, perform)
    assert type(caught.value) is expected
    assert server.paths[-1].startswith("GET ")


@pytest.mark.parametrize("operation", ["set_quota", "delete_account"])
def test_refused_login_of_owncloud_is_not_tried_again(operation: str) -> None:
    key, perform = CHANGES[operation]
    server = scripted("owncloud", {key: Reply(401, ocs(997, [], "Unauthorised"))})
    with pytest.raises(CredentialsRefused):
        play(server, perform)
    assert not server.paths[-1].startswith("GET ")


@pytest.mark.parametrize("product", PRODUCTS)
def test_own_account_is_not_disabled(product: str) -> None:
    server = scripted(
        product, {"PUT /users/ADMIN/disable": Reply(200, ocs(101)), "GET /users/ADMIN": ABSENT[product]}
    )
    with pytest.raises(AccountMissing):
        play(server, lambda client: client.disable("ADMIN"))
    there = success(product, account_data(product, "admin"))
    server = scripted(product, {"PUT /users/ADMIN/disable": Reply(200, ocs(101)), "GET /users/ADMIN": there})
    with pytest.raises(PermissionRefused, match="own account"):
        play(server, lambda client: client.disable("ADMIN"))


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"Retry-After": "17"}, 17, 17),
        ({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)}, 3000, 3600),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0, 0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 -0000"}, 0, 0),
        ({"Retry-After": "soon"}, None, None),
        ({"Retry-After": "9" * 400}, None, None),
        ({"Retry-After": "Mon, 01 Jan 99999 00:00:00 GMT"}, None, None),
        ({}, None, None),
    ],
    ids=range(8),
)
def test_rate_limit_says_how_long_to_wait(
    headers: dict[str, str], low: float | None, high: float | None
) -> None:
    with pytest.raises(RateLimited) as caught:
        play(
            scripted("nextcloud", {"GET /groups": Reply(429, b"", headers)}),
            lambda client: client.list_groups(),
        )
    waits = caught.value.retry_after_seconds
    assert waits is None if low is None else waits is not None and low <= waits <= (high or 0)


# -- ids ----------------------------------------------------------------------------------------------

BAD_IDS = [
    "",
    ".",
    "..",
    " a b",
    "abc ",
    "a" * 65,
    "a" * 1_000_000,
    "a/b",
    "a\nbc",
    "ü__",
    "a\x00b",
    "abc\u2028",
]


@pytest.mark.parametrize(
    ("product", "userid"),
    [(product, userid) for product in PRODUCTS for userid in BAD_IDS]
    + [("nextcloud", one) for one in ("details", "disabled", "recent", "a+b")]
    + [("owncloud", one) for one in ("a", "ab")],
    ids=repr,
)
def test_id_that_no_account_can_have_is_refused_without_a_request(product: str, userid: str) -> None:
    server = scripted(product, {})

    def perform(client: CloudClient) -> None:
        client.connect()
        before = len(server.requests)
        for call in (
            lambda: client.get_account(userid),
            lambda: client.create_account(userid, "x", quota=1, email=None),
            lambda: client.delete_account(userid),
            lambda: client.prove_password(userid, "x"),
        ):
            with pytest.raises(AccountIdRefused) as caught:
                call()
            assert len(str(caught.value)) < 200
            assert str(caught.value).isprintable()
        assert len(server.requests) == before

    play(server, perform)


@pytest.mark.parametrize("groupid", ["", " ", ".", "..", "g" * 256])
def test_group_that_cannot_be_is_refused_without_a_request(groupid: str) -> None:
    for perform in (
        lambda client: client.add_to_group("user_1", groupid),
        lambda client: client.create_group(groupid),
        lambda client: client.create_account("user_1", "x", quota=1, email=None, groups=[groupid]),
    ):
        server = scripted("nextcloud", {})
        with pytest.raises(GroupIdRefused):
            play(server, perform)
        assert all(path.startswith("GET ") for path in server.paths)


@pytest.mark.parametrize(("product", "userid"), [("nextcloud", "a b'c@d.e-f_G"), ("owncloud", "a+b c@d")])
def test_ids_are_percent_encoded_in_paths(product: str, userid: str) -> None:
    encoded = {"a b'c@d.e-f_G": "a%20b%27c%40d.e-f_G", "a+b c@d": "a%2Bb%20c%40d"}[userid]
    key = f"DELETE /users/{encoded}"
    server = scripted(product, {key: success(product)})
    play(server, lambda client: client.delete_account(userid))
    assert server.paths[-1].endswith(f"/users/{encoded}")


def test_group_names_travel_as_parameters() -> None:
    server = scripted("nextcloud", {"DELETE /users/user_1/groups": success("nextcloud")})
    play(server, lambda client: client.remove_from_group("user_1", "a/b&c=ü %"))
    assert server.requests[-1].query == {"format": "json", "groupid": "a/b&c=ü %"}


# -- passwords ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(
    ("status", "code", "data", "expected"),
    [
        (200, 0, {"id": "USER_1"}, True),
        (200, 0, {"id": "user_10"}, False),
        (200, 0, [], BadAnswer),
        (401, 997, [], False),
        (200, 997, [], False),
        (401, None, [], BadAnswer),
        (500, 500, [], ServerError),
        (404, 404, [], ServerError),
        (429, None, [], RateLimited),
        (503, 503, [], Maintenance),
    ],
)
def test_password_is_proved_only_by_an_answer_that_names_the_user(
    product: str, status: int, code: int | None, data: object, expected: Any
) -> None:
    first = success(product, {"id": "admin"})
    body = b"" if code is None else ocs(code or OK[product], data)

    def whoami(seen: Seen) -> Reply:
        return first if seen.headers["authorization"].startswith("Basic YWRtaW46") else Reply(status, body)

    server = scripted(product, {"GET /user": whoami})
    if isinstance(expected, bool):
        assert play(server, lambda client: client.prove_password("user_1", "pw")) is expected
    else:
        with pytest.raises(expected):
            play(server, lambda client: client.prove_password("user_1", "pw"))
    assert server.requests[-1].port != server.requests[0].port
