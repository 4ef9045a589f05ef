"""`reconciler run` as a real process, as systemd would run it: with a notify socket, signals, and its log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from reconciler.sandbox.landscape import find_free_port
from tests.acceptance.conftest import World
from tests.conftest import MEASURING

DEADLINE_SECONDS = 90.0
"""For whatever is waited for; far beyond what it takes on an idle machine."""


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for a condition, however slow the machine is."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.02)


class RunningDaemon:
    """One process; a context manager that kills whatever is left."""

    def __init__(
        self, world: World, folder: Path, *, config: Path | None = None, environment: Mapping[str, str] = {}
    ) -> None:
        self.world = world
        self.config = config or world.land.config_path
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "daemon.log"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Abstract: no limit on the length of the folder's name.
        self._address = f"@bill-nextcloud-{os.getpid()}-{id(self)}"
        self._socket.bind("\0" + self._address[1:])
        self.messages: list[str] = []
        """What it told systemd so far, a line each."""
        # At once, as systemd does: a full socket would make the daemon lose messages.
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reconciler.cli", "--config", str(self.config), "run"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    **MEASURING,
                    "NOTIFY_SOCKET": self._address,
                    "WATCHDOG_USEC": "2000000",
                    **environment,
                },
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)  # ends the listener's waiting
        self._listener.join()
        self._socket.close()

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def _listen(self) -> None:
        while message := self._socket.recv(65536):
            self.messages += message.decode().splitlines()

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition while it runs."""

        def holds() -> object:
            if self.process.poll() is not None:
                raise AssertionError(f"{what}: the daemon ended with {self.process.returncode}:\n{self.log}")
            return condition()

        try:
            wait_until(holds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[-6000:]}") from None

    def wait_ready(self) -> None:
        self.wait_for(lambda: "READY=1" in self.messages, "it is ready")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def terminate(self) -> int:
        """End it as systemd does; the exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_SECONDS)

    def kill(self) -> None:
        """End it as the kernel does."""
        self.process.kill()
        self.process.wait()

    def get(self, path: str) -> tuple[int, str]:
        """An answer of its HTTP interface: status and body."""
        request = urllib.request.Request(f"http://127.0.0.1:{read_port(self.config)}{path}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def get_metrics(self) -> dict[str, float]:
        """All samples of a scrape, by name with labels."""
        status, text = self.get("/metrics")
        assert status == 200, text
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def get_json(self, path: str) -> Any:
        status, text = self.get(path)
        assert status == 200, text
        return json.loads(text)


def read_port(config: Path) -> int:
    for line in config.read_text().splitlines():
        if line.startswith("listen"):
            return int(line.rpartition(":")[2].strip(' "'))
    raise AssertionError("no port in the configuration")


def make_settings(**sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings of a daemon in a hurry, on a free port."""
    settings: dict[str, dict[str, Any]] = {
        "reconciler": {"poll_interval": "1s", "resync_interval": "1h"},
        "guards": {"breaker_probe_interval": "1s"},
        "http": {"listen": f"127.0.0.1:{find_free_port()}"},
    }
    for name, values in sections.items():
        settings.setdefault(name, {}).update(values)
    return settings


@contextlib.contextmanager
def running(world: World, *, name: str = "daemon", **options: Any) -> Iterator[RunningDaemon]:
    """A daemon that is ready."""
    with RunningDaemon(world, world.land.folder / name, **options) as daemon:
        daemon.wait_ready()
        yield daemon
