"""A worker that is stopped (SIGSTOP) in the middle of something, and goes on (SIGCONT) much later."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from reconciler.sandbox.emulator import Call, CloudEmulator
from reconciler.sandbox.emulator_http import Outcome
from tests.acceptance.conftest import World
from tests.acceptance.daemon.running import wait_until

_SECONDS = 60.0


class GatedCloud(CloudEmulator):
    """A server that keeps back the answer to one request, which it has carried out, until it may go."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held: tuple[str, str] | None = None
        self.is_holding = threading.Event()
        self._may_go = threading.Event()

    def hold(self, operation: str, userid: str) -> None:
        """Keep back the answer to the next request of this kind."""
        self._held = operation, userid

    def let_go(self) -> None:
        self._may_go.set()

    def serve(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, address: str
    ) -> Outcome:
        outcome = super().serve(method, target, headers, body, address)
        if self._is_held(outcome.call):
            self.is_holding.set()
            self._may_go.wait(_SECONDS)
        return outcome

    def _is_held(self, call: Call) -> bool:
        with self.lock:
            if self._held != (call.operation, call.userid):
                return False
            self._held = None
            return True


_PASS = """
import sys
from pathlib import Path
from reconciler.application import Application
from reconciler.config import load_config

with Application(load_config(Path(sys.argv[1]))) as app:
    app.fleet.refresh()
    print(app.reconciler.reconcile_service(int(sys.argv[2]), actor="sleeper"))
"""


class Sleeper:
    """One pass over one service in a process of its own, that can be stopped and woken up.

    It is one thread, so that it cannot be stopped while another one has the journal to itself.
    """

    def __init__(self, world: World, item_id: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PASS, str(world.land.config_path), str(item_id)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # ends a stopped process, too
        self.process.communicate()

    def stop_when(self, condition: Callable[[], object], what: str) -> None:
        """Stop it as soon as a condition holds, and be sure that it stands still."""
        wait_until(lambda: condition() or self.process.poll() is not None, what)
        assert self.process.poll() is None, self.process.communicate()[0]
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it stands still")

    def wake_up(self) -> str:
        """Let it go on to its end; what it said."""
        self.process.send_signal(signal.SIGCONT)
        return self.process.communicate(timeout=_SECONDS)[0]
