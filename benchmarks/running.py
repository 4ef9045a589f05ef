"""The daemon as benchmarks run and watch it: a process of its own, seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.sandbox.landscape import Landscape

_COMPARED_BYTES = 1100
"""An account as observed (590 bytes by tracemalloc), as sold (360), and its usage (150)."""
_UNIT = Path(__file__).parent.parent / "systemd/bill-nextcloud-reconciler.service"


@dataclass
class Daemon:
    """A running daemon."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path

    def get(self, path: str) -> str:
        """An answer of its HTTP interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def get_metrics(self) -> dict[str, float]:
        """All samples, by name with labels."""
        lines = [line for line in self.get("/metrics").splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def sum(self, pattern: str, metrics: dict[str, float] | None = None) -> float:
        """The sum of the samples whose names match, now or of an earlier look."""
        found = metrics if metrics is not None else self.get_metrics()
        return sum(value for name, value in found.items() if re.fullmatch(pattern, name))

    def get_cpu_seconds(self) -> float:
        """What it has used so far, of all cores."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get_rss_mib(self) -> int:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(match[1]) // 1024 if match else 0

    def count_log_lines(self, pattern: str) -> int:
        """How many lines of its log, and of those before it in the same landscape, match."""
        return len(re.findall(pattern, self.log_path.read_text("utf-8", "replace")))

    def is_ready(self) -> bool:
        """Whether it says so."""
        with contextlib.suppress(OSError):
            answer: Any = json.loads(self.get("/readyz"))
            return bool(answer)
        return False

    def is_idle(self) -> bool:
        """Whether nothing waits for its turn."""
        return self.sum(r"reconciler_workqueue_depth\{.*\}") == 0


def get_memory_goal_mib(services: int, *, compared: int = 0) -> float:
    """What a daemon may need: 120 MiB, 250 bytes a service, and what one server's comparison takes.

    Args:
        services: all that were sold.
        compared: the accounts of one server.
    """
    return 120 + (250 * services + _COMPARED_BYTES * compared) / 2**20


def read_unit_environment() -> dict[str, str]:
    """The variables that the daemon's systemd unit sets."""
    lines = re.findall(r"^Environment=(.+)$", _UNIT.read_text("utf-8"), re.MULTILINE)
    return dict(word.split("=", 1) for line in lines for word in line.split())


@contextlib.contextmanager
def run_daemon(land: Landscape, port: int) -> Iterator[Daemon]:
    """The daemon as a process; its log goes into the landscape's folder."""
    command = [sys.executable, "-m", "reconciler.cli", "--config", str(land.config_path), "run"]
    log_path, environment = land.folder / "daemon.log", os.environ | read_unit_environment()
    with log_path.open("ab") as log, subprocess.Popen(command, stderr=log, env=environment) as process:
        try:
            yield Daemon(process, port, log_path)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float = 300.0, pause: float = 0.3) -> None:
    """Wait for a condition; RuntimeError after so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(pause)
