"""What a full cycle over services that are all right costs: requests, writes, time, memory.

Run by `make bench`, or by hand: ``python -m benchmarks.full_scan --services 10000``. The server is an
emulator in a process of its own. Time is printed as a ratio to merely paging through the same
accounts with the same client, taken in turn with it; absolute times say nothing on a shared machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nc import ApiCall, CloudClient, ServerConnection
from reconciler.application import Application
from reconciler.config import load_config
from reconciler.cycle import run_cycle
from reconciler.sandbox.landscape import Landscape

MAX_REQUESTS = 60
MAX_RATIO = 1.5
MAX_RSS_MIB = 150
REAL_SECONDS_PER_ACCOUNT = 0.005
"""What a listing with details was measured to cost on real Nextcloud servers (25.0.2 and 27.1.0)."""
PAGE_SIZE = 200


def main() -> int:
    """Measure and print; the exit code is 1 when a promise on requests, writes or memory is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with world(options.services) as (land, cloud):
        first_seconds = time_cycle(land)
        ratio, cycle_seconds, paging_seconds = compare(land, cloud, options.rounds)
        requests, writes = count_requests(land)
        rss_mib = measure_rss(land.config_path)
    with world(options.services, latency_seconds=PAGE_SIZE * REAL_SECONDS_PER_ACCOUNT / 5) as (land, cloud):
        time_cycle(land)
        slow_ratio, _, _ = compare(land, cloud, 2)
    is_usual = options.services == 10_000
    report = [
        (
            f"HTTP requests of a cycle (at most {MAX_REQUESTS})",
            requests,
            requests <= MAX_REQUESTS or not is_usual,
        ),
        ("HTTP requests that write (none)", writes, writes == 0),
        (
            f"cycle / paging, emulator without any cost (at most {MAX_RATIO})",
            f"{ratio:.2f}",
            ratio <= MAX_RATIO,
        ),
        (
            f"cycle / paging, a fifth of a real server's cost (at most {MAX_RATIO})",
            f"{slow_ratio:.2f}",
            slow_ratio <= MAX_RATIO,
        ),
        (f"peak memory of `reconciler once` in MiB (under {MAX_RSS_MIB})", rss_mib, rss_mib < MAX_RSS_MIB),
        ("cycle, seconds (this machine)", f"{cycle_seconds:.2f}", True),
        ("paging alone, seconds (this machine)", f"{paging_seconds:.2f}", True),
        ("first cycle with an empty journal, seconds (this machine)", f"{first_seconds:.2f}", True),
    ]
    print(f"{options.services} services that are all right, one Nextcloud emulator")
    for what, value, is_kept in report:
        print(f"  {what}: {value}{'' if is_kept else '  NOT KEPT'}")
    # Time is only shown: what it says depends on who else uses the machine.
    return 0 if (requests <= MAX_REQUESTS or not is_usual) and writes == 0 and rss_mib < MAX_RSS_MIB else 1


@contextlib.contextmanager
def world(services: int, *, latency_seconds: float = 0.0) -> Iterator[tuple[Landscape, dict[str, str]]]:
    """A server with accounts and a billing database that sold each of them."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        start_cloud(services, latency_seconds) as cloud,
        Landscape(Path(name), []) as land,
    ):
        server_id = land.billing.add_server(
            "bench", cloud["base_url"], cloud["admin_user"], cloud["admin_password"]
        )
        sell(land, server_id, services, cloud["base_url"])
        yield land, cloud


@contextlib.contextmanager
def start_cloud(
    accounts: int, latency_seconds: float, *, edit_limit: str = "product"
) -> Iterator[dict[str, str]]:
    """An emulator process with accounts user00000 … of 5 GB; what it says of itself."""
    options = {"--accounts": accounts, "--latency-seconds": latency_seconds, "--edit-limit": edit_limit}
    command = [sys.executable, "-m", "reconciler.sandbox.emulator"]
    command += [str(word) for option in options.items() for word in option]
    with subprocess.Popen(
        [*command, "--stop-with-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the emulator has no pipes")
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def sell(land: Landscape, server_id: int, count: int, url: str) -> None:
    """Sell one service an account, as an earlier module would have left it."""
    plan_id = land.billing.add_plan("5 GB", 5)
    items = land.billing.add_many_services(count, plan_ids=[plan_id], server_ids=[server_id])
    land.billing.insert_many(
        "itemparam",
        (
            {"item": item, "intname": name, "value": value}
            for number, item in enumerate(items)
            for name, value in (("username", f"user{number:05}"), ("url", url))
        ),
    )


def time_cycle(land: Landscape) -> float:
    """Seconds of one full cycle, opening and closing included."""
    started = time.perf_counter()
    with Application(load_config(land.config_path)) as app:
        report = run_cycle(app)
    if not report.is_converged:
        raise RuntimeError(f"the benchmark's world is not in order: {report}")
    return time.perf_counter() - started


def time_paging(cloud: dict[str, str]) -> float:
    """Seconds of merely listing all accounts, login included."""
    started = time.perf_counter()
    client = open_client(cloud)
    client.connect()
    sum(1 for _ in client.list_accounts())
    client.close()
    return time.perf_counter() - started


def open_client(cloud: dict[str, str]) -> CloudClient:
    """A client without a pace."""
    return CloudClient(
        ServerConnection(
            cloud["base_url"], cloud["admin_user"], cloud["admin_password"], requests_per_second=10_000.0
        )
    )


def compare(land: Landscape, cloud: dict[str, str], rounds: int) -> tuple[float, float, float]:
    """Median ratio, and the medians of both, measured in turn."""
    pairs = [(time_cycle(land), time_paging(cloud)) for _ in range(rounds)]
    return (
        statistics.median(cycle / paging for cycle, paging in pairs),
        statistics.median(cycle for cycle, _ in pairs),
        statistics.median(paging for _, paging in pairs),
    )


def count_requests(land: Landscape) -> tuple[int, int]:
    """All requests of one cycle, and those that ask for a change."""
    calls: list[ApiCall] = []
    reading = {"status", "login", "get_account", "list_accounts", "list_groups"}
    config = load_config(land.config_path)
    with Application(config, on_call=lambda _, call: calls.append(call)) as app:
        run_cycle(app)
    return len(calls), sum(1 for call in calls if call.operation not in reading)


def measure_rss(config_path: Path) -> int:
    """Peak resident memory of `reconciler once`, in MiB."""
    command = [sys.executable, "-m", "reconciler.cli", "--config", str(config_path), "once", "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"`reconciler once` ended with {process.returncode}")
    return usage.ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
