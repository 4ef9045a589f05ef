"""What the daemon costs and how fast it is: start, idle CPU, memory, a drain of drifts, fresh changes.

``python -m benchmarks.daemon --services 100000 --servers 10 --drifts 5000`` (which is ``--full``).
Billing is a real MariaDB; the servers are emulators in processes of their own that answer after 50 ms. The
rate of the drain is told as a share of what the servers' limits allow: min(concurrency / latency, requests a
second).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import Report, read_options
from benchmarks.running import Daemon, get_memory_goal_mib, run_daemon, wait_for
from benchmarks.world import mariadb_land, open_client, sell, start_cloud
from reconciler.sandbox.landscape import Landscape, find_free_port

LATENCY_SECONDS = 0.05
CONCURRENCY = 4
REQUESTS_PER_SECOND = 20.0
"""The defaults of the configuration."""
REQUESTS_PER_DRIFT = 3
"""A look, the change, and a look whether it helped."""
IDLE_SECONDS = 30.0
MAX_WAIT_SECONDS = 2.0
PENDING_PERCENT = 3
"""So many services were suspended while no daemon ran; more than a twentieth would wait for a person."""
GIB = 1024**3


@dataclass
class Stage:
    """What is measured: sold accounts on emulated servers, and how many of them are tampered with."""

    report: Report
    land: Landscape
    port: int
    clouds: list[dict[str, str]]
    items: list[list[int]]
    drifts: int


def main() -> int:
    """Measure and print; what is measured depends on the machine, so nothing fails."""
    options = read_options(__doc__, services=(2000, 100_000), servers=(2, 10), drifts=(180, 5000))
    if 10 * options.drifts >= options.services:
        sys.exit("benchmarks.daemon: of a tenth of a server's accounts the quota is not cut: fewer --drifts")
    report = Report(f"daemon: {options.services} services on {options.servers} servers")
    with contextlib.ExitStack() as stack:
        per_server = options.services // options.servers
        clouds = [
            stack.enter_context(start_cloud(per_server, latency_seconds=LATENCY_SECONDS, edit_limit="none"))
            for _ in range(options.servers)
        ]
        port = find_free_port()
        settings = {
            # As many passes as the servers take at once: the default of 16 is for four of them.
            "reconciler": {"resync_interval": "2h", "workers": max(16, CONCURRENCY * options.servers)},
            # What the first hour tells BILLmanager of all accounts at once would go beside the rest.
            "billmanager": {"writer": "none"},
            "nextcloud": {"requests_per_second": REQUESTS_PER_SECOND, "concurrency": CONCURRENCY},
            "http": {"listen": f"127.0.0.1:{port}"},
        }
        land = stack.enter_context(mariadb_land(settings))
        items = [sell(land, cloud, per_server, f"bench-{number}") for number, cloud in enumerate(clouds)]
        measure(Stage(report, land, port, clouds, items, options.drifts))
    report.save(options.json)
    return 0


def measure(stage: Stage) -> None:
    """All figures."""
    report, land, port, clouds, items = stage.report, stage.land, stage.port, stage.clouds, stage.items
    started = time.monotonic()
    with run_daemon(land, port) as daemon:
        wait_for(daemon.is_ready, "it is ready", pause=0.1)
        report.add("first start, until ready", [time.monotonic() - started], "s")
        count = sum(len(each) for each in items)
        active = r'reconciler_services\{.*state="active".*\}'
        wait_for(lambda: daemon.sum(active) == count, "all accounts are adopted", seconds=600)
        report.add("first start, until all accounts are adopted", [time.monotonic() - started], "s")
        wait_for(daemon.is_idle, "it is idle")
        before = daemon.get_cpu_seconds()
        time.sleep(IDLE_SECONDS)
        percent = 100 * (daemon.get_cpu_seconds() - before) / IDLE_SECONDS
        report.add("idle CPU", [percent], "% of a core", most=3)
        latency = [time_change(land, items[0][place], clouds[0], place) for place in range(5)]
        report.add("a change until its account is changed, idle (poll 5 s)", latency, "s")
        drain(stage, daemon)
        most = get_memory_goal_mib(count, compared=len(items[0]))
        report.add("memory", [daemon.get_rss_mib()], "MiB", most=most)
    for each in items:
        for item in each[-len(each) * PENDING_PERCENT // 100 :]:
            land.billing.set_status(item, 3)
    started = time.monotonic()
    with run_daemon(land, port) as daemon:
        wait_for(daemon.is_ready, "it is ready again", pause=0.1)
        report.add("a restart, until ready", [time.monotonic() - started], "s", most=20)
        latency = [time_change(land, items[0][place], clouds[0], place) for place in range(10, 15)]
        name = f"a change right after it, {PENDING_PERCENT} % of all services being due"
        report.add(name, latency, "s")


def drain(stage: Stage, daemon: Daemon) -> None:
    """Tamper with accounts on all servers, have them scanned, and watch them being repaired."""
    report, land, clouds, items, drifts = stage.report, stage.land, stage.clouds, stage.items, stage.drifts
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


if __name__ == "__main__":
    sys.exit(main())
