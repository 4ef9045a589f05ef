"""What the daemon costs and how fast it is: start, idle CPU, memory, a drain of drifts, fresh changes.

``python -m benchmarks.daemon --services 100000 --servers 10 --drifts 5000`` (which is ``--full``).
Billing is a real MariaDB; the servers are emulators in processes of their own that answer after 50 ms. The
rate of the drain is told as a share of what the servers' limits allow: min(concurrency / latency, requests a
second).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import Report, read_options
from benchmarks.world import open_client, sell, start_cloud
from reconciler.sandbox.landscape import Landscape, find_free_port
from tests.databases import running_server

LATENCY_SECONDS = 0.05
CONCURRENCY = 4
REQUESTS_PER_SECOND = 20.0
"""The defaults of the configuration."""
REQUESTS_PER_DRIFT = 3
"""A look, the change, and a look whether it helped."""
IDLE_SECONDS = 30.0
MAX_WAIT_SECONDS = 2.0
GIB = 1024**3


@dataclass
class Process:
    """A running daemon, seen from outside."""

    process: subprocess.Popen[bytes]
    port: int

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def get_metrics(self) -> dict[str, float]:
        lines = [line for line in self.get("/metrics").splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def sum(self, pattern: str, metrics: dict[str, float] | None = None) -> float:
        found = metrics if metrics is not None else self.get_metrics()
        return sum(value for name, value in found.items() if re.fullmatch(pattern, name))

    def get_cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get_rss_mib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(match[1]) // 1024 if match else 0


def main() -> int:
    """Measure and print; what is measured depends on the machine, so nothing fails."""
    options = read_options(__doc__, services=(2000, 100_000), servers=(2, 10), drifts=(200, 5000))
    report = Report(f"daemon: {options.services} services on {options.servers} servers")
    with contextlib.ExitStack() as stack:
        per_server = options.services // options.servers
        clouds = [
            stack.enter_context(start_cloud(per_server, latency_seconds=LATENCY_SECONDS, edit_limit="none"))
            for _ in range(options.servers)
        ]
        database = stack.enter_context(running_server("mariadb"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port = find_free_port()
        land = stack.enter_context(
            Landscape(
                folder,
                [],
                database_url=database.get_url(database.create_database()),
                settings={
                    # As many passes as the servers take at once: the default of 16 is for four of them.
                    "reconciler": {
                        "resync_interval": "2h",
                        "workers": max(16, CONCURRENCY * options.servers),
                    },
                    # What the first hour tells BILLmanager of all accounts at once would go beside the rest.
                    "billmanager": {"writer": "none"},
                    "nextcloud": {
                        "requests_per_second": REQUESTS_PER_SECOND,
                        "concurrency": CONCURRENCY,
                    },
                    "http": {"listen": f"127.0.0.1:{port}"},
                },
            )
        )
        items = [sell(land, cloud, per_server, f"bench-{number}") for number, cloud in enumerate(clouds)]
        measure(report, land, port, clouds, items, options.drifts)
    report.save(options.json)
    return 0


@contextlib.contextmanager
def run_daemon(land: Landscape, port: int) -> Iterator[Process]:
    """The daemon as a process; its log goes into the landscape's folder."""
    command = [sys.executable, "-m", "reconciler.cli", "--config", str(land.config_path), "run"]
    environment = os.environ | {
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_TRIM_THRESHOLD_": "131072",
    }  # as its systemd unit has it
    with (
        (land.folder / "daemon.log").open("ab") as log,
        subprocess.Popen(command, stderr=log, env=environment) as process,
    ):
        try:
            yield Process(process, port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def measure(
    report: Report,
    land: Landscape,
    port: int,
    clouds: list[dict[str, str]],
    items: list[list[int]],
    drifts: int,
) -> None:
    """All figures."""
    started = time.monotonic()
    with run_daemon(land, port) as daemon:
        wait_for(lambda: is_ready(daemon), "it is ready")
        report.add("first start, until ready", [time.monotonic() - started], "s")
        count = sum(len(each) for each in items)
        active = r'reconciler_services\{.*state="active".*\}'
        wait_for(lambda: daemon.sum(active) == count, "all accounts are adopted", seconds=600)
        report.add("first start, until all accounts are adopted", [time.monotonic() - started], "s")
        wait_for(lambda: is_idle(daemon), "it is idle")
        before = daemon.get_cpu_seconds()
        time.sleep(IDLE_SECONDS)
        percent = 100 * (daemon.get_cpu_seconds() - before) / IDLE_SECONDS
        report.add("idle CPU", [percent], "% of a core", most=3)
        latency = [time_change(land, items[0][place], clouds[0], place) for place in range(5)]
        report.add("a change until its account is changed, idle (poll 5 s)", latency, "s")
        drain(report, land, daemon, clouds, items, drifts)
        most = 120 + 250 * count / 2**20
        report.add("memory", [daemon.get_rss_mib()], "MiB", most=most)
    started = time.monotonic()
    with run_daemon(land, port) as daemon:
        wait_for(lambda: is_ready(daemon), "it is ready again")
        report.add("a restart, until ready", [time.monotonic() - started], "s", most=20)


def drain(
    report: Report,
    land: Landscape,
    daemon: Process,
    clouds: list[dict[str, str]],
    items: list[list[int]],
    drifts: int,
) -> None:
    """Tamper with accounts on all servers, have them scanned, and watch them being repaired."""
    with ThreadPoolExecutor(len(clouds)) as pool:
        list(pool.map(tamper, clouds, [drifts // len(clouds)] * len(clouds)))
    repairs = r'reconciler_mutations_total\{action="set_quota".*\}'
    waits = r'reconciler_workqueue_queue_duration_seconds_bucket\{le="2.0",priority="change"\}'
    all_waits = r'reconciler_workqueue_queue_duration_seconds_count\{priority="change"\}'
    before, repaired = daemon.get_metrics(), daemon.sum(repairs)
    land.billing.add_plan("another", 1)  # a changed tariff has all servers scanned
    wait_for(lambda: daemon.sum(repairs) > repaired, "the drain has begun", seconds=300)
    samples: list[tuple[float, float, float, float]] = []
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(2.0):  # it costs the daemon, too
            done = daemon.sum(repairs) - repaired
            samples.append((time.monotonic(), done, daemon.get_cpu_seconds(), get_busy_seconds()))

    sampler = threading.Thread(target=sample)
    sampler.start()
    latency: list[float] = []
    place = 20
    while not samples or samples[-1][1] < drifts * 0.9:
        number = place % len(clouds)
        latency.append(time_change(land, items[number][place], clouds[number], place))
        place += 1
    is_over.set()
    sampler.join()
    steady = [one for one in samples if drifts * 0.05 <= one[1] <= drifts * 0.9]
    took, repairs_done, cpu, busy = (
        later - earlier for earlier, later in zip(steady[0], steady[-1], strict=True)
    )
    rate = repairs_done / took
    limit = len(clouds) * min(CONCURRENCY / LATENCY_SECONDS, REQUESTS_PER_SECOND) / REQUESTS_PER_DRIFT
    after = daemon.get_metrics()
    total = daemon.sum(all_waits, after) - daemon.sum(all_waits, before)
    quick = daemon.sum(waits, after) - daemon.sum(waits, before)
    wait_for(lambda: daemon.sum(repairs) >= repaired + drifts, "all are repaired", seconds=600)
    report.add("drain; to what the servers' limits allow", [rate], "repairs/s", ratio=rate / limit, least=0.9)
    report.add("drain, CPU of the daemon", [100 * cpu / took], "% of a core")
    report.add("drain, CPU of the machine, all its cores together", [100 * busy / took], "% of a core")
    report.add("a change until its account is changed, during the drain", latency, "s")
    name = f"changes during the drain that wait at most {MAX_WAIT_SECONDS:.0f} s"
    report.add(name, [quick / total if total else 0.0], "share", least=0.99)


def get_busy_seconds() -> float:
    """How long this machine's cores have worked, whatever for."""
    user, nice, system, _idle, _waiting, irq, soft_irq = Path("/proc/stat").read_text().split()[1:8]
    busy = (user, nice, system, irq, soft_irq)
    return sum(map(int, busy)) / os.sysconf("SC_CLK_TCK")


def tamper(cloud: dict[str, str], count: int) -> None:
    """Give accounts of one server another quota behind the daemon's back."""
    client = open_client(cloud)
    for place in range(count):
        client.set_quota(f"user{100 + place:05}", 7 * GIB)
    client.close()


def time_change(land: Landscape, item: int, cloud: dict[str, str], place: int) -> float:
    """Seconds from the commit of a suspension in billing until the account is disabled."""
    client = open_client(cloud)
    land.billing.set_status(item, 3)
    started = time.monotonic()

    def is_disabled() -> bool:
        account = client.get_account(f"user{place:05}")
        return account is not None and account.is_enabled is False

    wait_for(is_disabled, f"service {item} is suspended", seconds=120, pause=0.1)
    client.close()
    return time.monotonic() - started


def is_ready(daemon: Process) -> bool:
    with contextlib.suppress(OSError):
        answer: Any = json.loads(daemon.get("/readyz"))
        return bool(answer)
    return False


def is_idle(daemon: Process) -> bool:
    metrics = daemon.get_metrics()
    return daemon.sum(r"reconciler_workqueue_depth\{.*\}", metrics) == 0


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float = 300.0, pause: float = 0.3) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(pause)


if __name__ == "__main__":
    sys.exit(main())
