"""The emulator answers as the real servers did, exchange by exchange.

Each recording is replayed in its order against one emulator, over real sockets, so that the state
carries over as it did on the real server. Where a recording jumps (something happened on the real
server that was not recorded), `PREPARATIONS` says what has to be done first. Each exchange is a test
of its own. What may differ is named in `TOLERATED`, with the reason.
"""

from __future__ import annotations

import base64
import functools
import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest

from reconciler.sandbox.emulator import CloudEmulator, ProductName

RECORDINGS: Final = Path(__file__).parents[1] / "recordings"
STRONG: Final = "Kf7-wDx2-Lq9-tR4"
WEAK: Final = "123456"
DISK_BYTES: Final = 70_000_000_000

TOLERATED: Final = {
    "lastLogin": "the moment of a log-in",
    "storageLocation": "a folder of the recording's machine",
    "home": "a folder of the recording's machine",
    "language": "the emulator has one language; no provisioning client reads it",
    "capabilities": "hundreds of fields of other apps; the version beside it is compared",
}
"""Fields of ``data`` whose values may differ (they must still be there)."""

COMPARED_HEADERS: Final = ("content-type", "www-authenticate", "x-nextcloud-maintenance-mode")
"""content-length is not: the recorded one is of the compressed body."""


@dataclass(frozen=True)
class Exchange:
    """One recorded exchange."""

    file: str
    place: int
    name: str
    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def test_id(self) -> str:
        return f"{self.file}-{self.place}-{self.name}".encode("ascii", "replace").decode().replace("/", "_")


@dataclass(frozen=True)
class Answered:
    """What the emulator said."""

    status: int
    headers: dict[str, str]
    body: bytes


@functools.cache
def read_exchanges() -> tuple[Exchange, ...]:
    return tuple(
        Exchange(path.stem, place, content["name"], content["request"], content["response"])
        for path in sorted(RECORDINGS.glob("*.jsonl"))
        for place, content in enumerate(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    )


def credentials_of(auth: str, emulator: CloudEmulator) -> tuple[str, str] | None:
    return {
        "none": None,
        "basic admin": (emulator.admin_user, emulator.admin_password),
        "basic, wrong password": (emulator.admin_user, "not-the-password"),
        "basic admin, wrong password": (emulator.admin_user, "not-the-password"),
        "basic, not an admin": ("probe_b", STRONG),
        "basic, the disabled user": ("probe_b", STRONG),
    }[auth]


def send(emulator: CloudEmulator, name: str, request: dict[str, Any]) -> Answered:
    """Send a recorded request over a connection of its own."""
    headers = {key: value for key, value in request["headers"].items() if value is not None}
    credentials = credentials_of(request["auth"], emulator)
    if credentials is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()
    password = WEAK if "weak" in name else STRONG
    body = None
    if request.get("form"):
        filled = {key: value.replace("<password>", password) for key, value in request["form"].items()}
        body = urlencode(filled).encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    elif request.get("json"):
        body = json.dumps(request["json"]).replace("<password>", password).encode()
        headers["Content-Type"] = "application/json"
    query = urlencode(request.get("query") or {}, quote_via=quote)
    port = int(emulator.base_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(request["method"], f"{request['path']}?{query}", body, headers)
        response = connection.getresponse()
        return Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def give_ten_bytes(emulator: CloudEmulator, _exchange: Exchange) -> None:
    """The whole series of quotas was sent before; the one before this was ``10 XB``."""
    emulator.accounts["probe_a"].quota_definition = "10 B"


def remove_probe_d(emulator: CloudEmulator, _exchange: Exchange) -> None:
    """The recording script removed the account with the weak password again."""
    emulator.remove_account("probe_d")


def create_probe_a(emulator: CloudEmulator, _exchange: Exchange) -> None:
    emulator.add_account("probe_a", password=STRONG)


def use_up_editor(emulator: CloudEmulator, exchange: Exchange) -> None:
    for _ in range(10):
        assert send(emulator, exchange.name, exchange.request).status != 429


def use_up_edits(emulator: CloudEmulator, exchange: Exchange) -> None:
    """Five edits were recorded, three of them refused: with 45 more the fifty are used up."""
    for _ in range(45):
        assert send(emulator, exchange.name, exchange.request).status == 200


def begin_maintenance(emulator: CloudEmulator, _exchange: Exchange) -> None:
    emulator.maintenance = True


def end_maintenance(emulator: CloudEmulator, _exchange: Exchange) -> None:
    emulator.maintenance = False


def let_admin_use_space(emulator: CloudEmulator, exchange: Exchange) -> None:
    emulator.maintenance = False
    used = {"nextcloud-27.1.0": 164, "owncloud-10.7.0-maintenance": 1_047_691}[exchange.file]
    emulator.accounts["admin"].used_bytes = used


def set_up_storage(emulator: CloudEmulator, exchange: Exchange) -> None:
    """The user had logged in, and the quota in the exchange's name was set."""
    account = emulator.accounts["probe_a"]
    account.has_logged_in = True
    account.used_bytes = exchange.response["body"]["ocs"]["data"]["quota"]["used"]
    edit = {
        "method": "PUT",
        "path": exchange.request["path"],
        "headers": exchange.request["headers"],
        "auth": "basic admin",
        "query": {"format": "json"},
        "form": {"key": "quota", "value": exchange.name.split("'")[1]},
    }
    assert send(emulator, "edit", edit).status == 200


PREPARATIONS: Final[dict[tuple[str, str], Callable[[CloudEmulator, Exchange], None]]] = {
    ("nextcloud-25.0.2", "edit quota 'lots'"): give_ten_bytes,
    ("owncloud-10.7.0", "edit quota 'lots'"): give_ten_bytes,
    ("owncloud-10.7.0", "create user with missing group v2"): remove_probe_d,
    ("nextcloud-25.0.2-quota", "edit quota 'none'"): create_probe_a,
    ("owncloud-10.7.0-quota", "edit quota 'none'"): create_probe_a,
    (
        "nextcloud-25.0.2",
        "rate limited (another endpoint, 10 in 120 s; same middleware as editUser has since 27)",
    ): use_up_editor,
    ("nextcloud-27.1.0", "users/details, first page"): let_admin_use_space,
    ("nextcloud-27.1.0", "edit quota, 51st edit within ten minutes by the same caller"): use_up_edits,
    ("nextcloud-27.1.0", "maintenance: status"): begin_maintenance,
    ("nextcloud-27.1.0", "delete probe_a"): end_maintenance,
    ("owncloud-10.7.0-maintenance", "maintenance: status"): begin_maintenance,
    ("owncloud-10.7.0-maintenance", "after maintenance: get user"): let_admin_use_space,
}


def preparation_of(exchange: Exchange) -> Callable[[CloudEmulator, Exchange], None] | None:
    if exchange.name.startswith("get user with storage set up"):
        return set_up_storage
    return PREPARATIONS.get((exchange.file, exchange.name))


@functools.cache
def replay(file: str) -> dict[int, Answered | BaseException]:
    """Every answer of one recording; what failed to be prepared is an error of that exchange only."""
    product: ProductName = "nextcloud" if file.startswith("nextcloud") else "owncloud"
    answers: dict[int, Answered | BaseException] = {}
    with CloudEmulator(product, version=file.split("-")[1]) as emulator:
        for exchange in (entry for entry in read_exchanges() if entry.file == file):
            prepare = preparation_of(exchange)
            try:
                if prepare is not None:
                    prepare(emulator, exchange)
                answers[exchange.place] = send(emulator, exchange.name, exchange.request)
            except (AssertionError, LookupError, OSError, http.client.HTTPException) as error:
                answers[exchange.place] = error
    return answers


def simplify(value: Any) -> Any:
    """Data without what is tolerated, its place kept; the machine's disk is cut out of quotas."""
    if isinstance(value, list):
        return [simplify(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    is_of_the_disk = value.get("total", 0) > DISK_BYTES if "free" in value else False
    return {
        key: "tolerated"
        if key in TOLERATED or (is_of_the_disk and key in {"free", "total"})
        else simplify(entry)
        for key, entry in value.items()
    }


def find_content(body: Any) -> Iterator[tuple[str, Any]]:
    """meta and data of an envelope; the whole of anything else."""
    if isinstance(body, dict) and "ocs" in body:
        yield "meta", body["ocs"]["meta"]
        yield "data", simplify(body["ocs"]["data"])
    else:
        yield "body", body


@pytest.mark.parametrize("exchange", read_exchanges(), ids=lambda exchange: exchange.test_id)
def test_emulator_answers_as_the_real_server_did(exchange: Exchange) -> None:
    answered = replay(exchange.file)[exchange.place]
    if isinstance(answered, BaseException):
        raise answered
    recorded = exchange.response
    assert answered.status == recorded["status"]
    for name in COMPARED_HEADERS:
        assert answered.headers.get(name) == recorded["headers"].get(name), name
    expected = recorded["body"]
    got: Any = json.loads(answered.body) if isinstance(expected, dict) else answered.body.decode()
    assert dict(find_content(got)) == dict(find_content(expected))


def test_every_preparation_belongs_to_an_exchange() -> None:
    named = {(exchange.file, exchange.name) for exchange in read_exchanges()}
    assert set(PREPARATIONS) <= named


def test_no_recording_is_missing() -> None:
    assert len({exchange.test_id for exchange in read_exchanges()}) == 381
    assert len({exchange.file for exchange in read_exchanges()}) == 6
