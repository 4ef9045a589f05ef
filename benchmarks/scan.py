"""What a full cycle over services that are in order costs, beside what the server itself allows.

``python -m benchmarks.scan``. Baselines, in turn with it: merely paging through the same accounts with the
same client (the limit), and how event-driven modules look at a service: a listing with a search and a look,
each with a connection and a log-in of its own. On ownCloud, which has no details in its listings: the looks.

``--server URL`` measures a real Nextcloud instead (``BENCH_USER``, ``BENCH_PASSWORD``): it only reads,
and compares listing all its accounts as a scan does with bare requests for the same pages.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from benchmarks.measuring import Report, read_options, take_turns
from benchmarks.world import open_client, sell, start_cloud
from nc import ApiCall
from reconciler.application import Application
from reconciler.config import load_config
from reconciler.cycle import run_cycle
from reconciler.sandbox.landscape import Landscape

LOOKED_AT = 20
"""So many services are looked at as event-driven modules do; they take half a second each."""
CONCURRENCY = 4
PAGE_SIZE = 200
"""The configuration's default."""
SETTINGS: dict[str, dict[str, object]] = {
    "nextcloud": {"concurrency": CONCURRENCY},
    "logging": {"level": "warning"},
}
READING = {"status", "login", "get_account", "list_accounts", "list_members", "list_groups"}


def main() -> int:
    """Measure and print; 1 when a cycle writes, or needs more requests than it may."""
    options = read_options(__doc__, {"server": "URL"}, services=(2000, 10_000), owncloud=(300, 2000))
    if options.server:
        return measure_real(options.server, options.rounds, options.json)
    count, report = options.services, Report(f"scan: {options.services} services in order")
    with world(count) as (land, cloud):
        cycles, pages = take_turns(options.rounds, lambda: run(land), lambda: page(cloud))
        calls = count_calls(land)
        memory = measure_memory(land.config_path)
    writes = sum(1 for call in calls if call.operation not in READING)
    report.add("requests a service", [len(calls) / count], "requests", most=0.006 if count >= 5000 else None)
    report.add("requests that write", [writes], "requests", most=0)
    report.add("cycle, a server without any cost; to paging", cycles, "s", baseline=pages)
    report.add("peak memory of `reconciler once`", [memory], "MiB", most=150)
    # As measured on real servers, Nextcloud 25.0.2 and 27.1.0.
    with world(count, login_seconds=0.25, account_seconds=0.005, latency_seconds=0.02) as (land, cloud):
        cycles, pages, looks = take_turns(
            options.rounds, lambda: run(land), lambda: page(cloud), lambda: look_one_by_one(cloud)
        )
    report.add("cycle, a server with real costs; to paging", cycles, "s", baseline=pages, most=1.10)
    each = [looked / LOOKED_AT * count / cycle for cycle, looked in zip(cycles, looks, strict=True)]
    report.add("event-driven modules' way / cycle, with real costs", each, "times", least=80)
    accounts = options.owncloud
    with world(accounts, product="owncloud", login_seconds=0.25, latency_seconds=0.02) as (land, cloud):
        cycles, looks = take_turns(options.rounds, lambda: run(land), lambda: look_at_all(cloud, accounts))
    report.add(f"ownCloud, {accounts} services; to the looks alone", cycles, "s", baseline=looks, most=1.15)
    report.save(options.json)
    return 1 if writes else 0


def measure_real(url: str, rounds: int, json: Path | None) -> int:
    """A real server's listing, and nothing but its pages; it logs in once for each."""
    names = {"admin_user": "BENCH_USER", "admin_password": "BENCH_PASSWORD"}
    missing = [name for name in names.values() if not os.environ.get(name)]
    if missing:
        sys.exit(f"benchmarks.scan --server: set {' and '.join(missing)} in the environment")
    cloud = {"base_url": url} | {key: os.environ[name] for key, name in names.items()}
    report = Report(f"scan: {url}")
    listings, pages = take_turns(rounds, lambda: page(cloud), lambda: page_bare(cloud))
    report.add("all accounts listed; to bare requests for the same pages", listings, "s", baseline=pages)
    report.save(json)
    return 0


def page_bare(cloud: dict[str, str]) -> None:
    """Ask for all pages, and understand no more than whether one is empty."""
    with requests.Session() as session:
        for offset in itertools.count(0, PAGE_SIZE):
            answer = get(session, cloud, f"/details?format=json&limit={PAGE_SIZE}&offset={offset}")
            if not answer.json()["ocs"]["data"]["users"]:
                return


@contextlib.contextmanager
def world(services: int, **cloud_options: object) -> Iterator[tuple[Landscape, dict[str, str]]]:
    """A server with accounts, a billing database that sold each of them, and a first cycle."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        start_cloud(services, **cloud_options) as cloud,
        Landscape(Path(name), [], settings=SETTINGS) as land,
    ):
        sell(land, cloud, services)
        run(land)
        yield land, cloud


def run(land: Landscape) -> None:
    """One full cycle, opening and closing included."""
    with Application(load_config(land.config_path)) as app:
        report = run_cycle(app)
    if not report.is_converged:
        raise RuntimeError(f"the benchmark's world is not in order: {report}")


def page(cloud: dict[str, str]) -> None:
    """Merely list all accounts, log-in included."""
    client = open_client(cloud)
    client.connect()
    sum(1 for _ in client.list_accounts())
    client.close()


def look_one_by_one(cloud: dict[str, str]) -> None:
    """Look at some services as event-driven modules do."""
    for number in range(LOOKED_AT):
        for path in (f"?search=user{number:05}&format=json", f"/user{number:05}?format=json"):
            with requests.Session() as session:
                get(session, cloud, path)


def get(session: requests.Session, cloud: dict[str, str], path: str) -> requests.Response:
    """One bare request for users."""
    answer = session.get(
        f"{cloud['base_url'].rstrip('/')}/ocs/v1.php/cloud/users{path}",
        auth=(cloud["admin_user"], cloud["admin_password"]),
        headers={"OCS-APIRequest": "true"},
        timeout=60,
    )
    answer.raise_for_status()
    return answer


def look_at_all(cloud: dict[str, str], count: int) -> None:
    """Ask for every account, one request each, as many at once as a scan does; each thread logs in once."""

    def look_at(first: int) -> None:
        with requests.Session() as session:
            for number in range(first, count, CONCURRENCY):
                get(session, cloud, f"/user{number:05}?format=json")

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(look_at, range(CONCURRENCY)))


def count_calls(land: Landscape) -> list[ApiCall]:
    """All requests of one cycle."""
    calls: list[ApiCall] = []
    config = load_config(land.config_path)
    with Application(config, on_call=lambda _, call: calls.append(call)) as app:
        run_cycle(app)
    return calls


def measure_memory(config_path: Path) -> int:
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
