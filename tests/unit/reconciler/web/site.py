"""A provider with three services, the application over it, and its HTTP interface on a free port."""

from __future__ import annotations

import http.client
import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from reconciler.application import Application
from reconciler.config import load_config
from reconciler.cycle import run_cycle
from reconciler.journal import Answer
from reconciler.sandbox.billing_data import SandboxBilling, open_sandbox_engine
from reconciler.sandbox.emulator import CloudEmulator
from reconciler.sandbox.landscape import Landscape
from reconciler.web import Check, WebServer

TOKEN: Final = "token-7f1c2b9d4e"
DEADLINE_SECONDS: Final = 60.0
METRICS: Final = b"# TYPE reconciler_held_services gauge\nreconciler_held_services 0.0\n"


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the socket."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json", (self.status, self.body)
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error, which must be the whole answer, and one line."""
        assert self.status >= 400
        [(name, text)] = self.json.items()
        assert name == "error"
        assert isinstance(text, str)
        assert text.isprintable()
        return text


class Provider:
    """A billing database and a journal in a folder: services 1 and 2 on a Nextcloud, 3 on an ownCloud.

    Made once; every site works on a copy. The clouds are gone: the HTTP interface never asks them.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder: Final = folder
        self.key: Final = key
        clouds = [CloudEmulator("nextcloud"), CloudEmulator("owncloud")]
        with Landscape(folder, clouds, private_key_pem=key) as landscape:
            self.server_ids: Final = landscape.server_ids
            plan = landscape.billing.add_plan("Basic", 5)
            for number, server in enumerate((0, 0, 1), start=1):
                account = landscape.billing.add_client(f"client{number}@example.net")
                item_id = landscape.billing.add_service(plan, account, self.server_ids[server])
                assert item_id == number
            with Application(load_config(landscape.config_path)) as app:
                report = run_cycle(app)
                assert report.states == {"active": 3}

    def copy(self, folder: Path) -> Path:
        """Put all of it into a folder; its config.toml."""
        shutil.copytree(self.folder, folder)
        path = folder / "config.toml"
        path.write_text(path.read_text("utf-8").replace(str(self.folder), str(folder)), "utf-8")
        return path


class Site:
    """The backend of a `WebServer`, as the daemon is, and the client of it."""

    def __init__(
        self,
        provider: Provider,
        folder: Path,
        *,
        token: str | None = TOKEN,
        is_loopback: bool | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.config_path = provider.copy(folder)
        self.nextcloud, self.owncloud = provider.server_ids
        self._key = provider.key
        self._closing = ExitStack()
        self.app = Application(load_config(self.config_path))
        self.health = Check("loop", True, "last completed turn 0.1 s ago")
        self.readiness = [Check("journal", True, "ok"), Check("servers", True, "2 of 2 can be called")]
        self.metrics = METRICS
        self.defect: Exception | None = None
        self.host = host
        self.server = WebServer(host, 0, token=token, backend=self, is_loopback=is_loopback)
        self.server.start()

    def close(self) -> None:
        self.server.stop()
        self.app.close()
        self._closing.close()

    @cached_property
    def billing(self) -> SandboxBilling:
        engine = open_sandbox_engine(f"sqlite:///{self.folder / 'billmgr.db'}")
        self._closing.callback(engine.dispose)
        return SandboxBilling(engine, "live", self._key, create=False)

    # -- the backend

    def get_app(self) -> Application:
        if self.defect is not None:
            raise self.defect
        return self.app

    def render_metrics(self) -> bytes:
        return self.metrics

    def get_health(self) -> Check:
        return self.health

    def list_readiness(self) -> list[Check]:
        return self.readiness

    # -- the client

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        token: str | None = None,
    ) -> Reply:
        """One request on a connection of its own."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(self.host, self.server.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, *, token: str | None = None, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers, token=token)

    def post(self, path: str, body: object = None, *, token: str | None = TOKEN) -> Reply:
        """A change as a well-behaved client asks for it; a body is sent as JSON."""
        if body is None:
            return self.ask("POST", path, token=token)
        return self.ask(
            "POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"}, token=token
        )

    def ask_raw(self, data: bytes) -> Reply:
        """Send bytes as they are; the answer to them."""
        with socket.create_connection((self.host, self.server.port), timeout=DEADLINE_SECONDS) as connection:
            connection.sendall(data)
            response = http.client.HTTPResponse(connection)
            response.begin()
            reply = Reply(response.status, response.headers, response.read())
            response.close()
            return reply

    def list_history(self, item_id: int) -> list[tuple[str, str, str]]:
        """Actor, action and reason of each line."""
        entries = self.app.journal.history.list_entries(item_id)
        return [(entry.actor, entry.action, entry.why) for entry in entries]


OpenSite = Callable[..., Site]


@contextmanager
def collecting_log() -> Iterator[list[tuple[str, Mapping[str, object]]]]:
    """What the HTTP interface logs meanwhile: events and their fields."""
    lines: list[tuple[str, Mapping[str, object]]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.getMessage(), vars(record)["fields"]))  # type: ignore[method-assign]
    logger = logging.getLogger("reconciler.http")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@contextmanager
def answering(site: Site, answer: Answer) -> Iterator[list[int]]:
    """Something that takes requests and answers them, as the daemon does; gives the ids of those."""
    is_over = threading.Event()
    answered: list[int] = []

    def work() -> None:
        requests = site.app.journal.requests
        while not is_over.wait(0.01):
            taken = [request.id for request in requests.take("test")]
            if taken:
                requests.finish(taken, answer, site.app.clock())
                answered.extend(taken)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield answered
    finally:
        is_over.set()
        thread.join()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, however slow the machine is."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)
