"""A provider under siege: faulty servers, changes by the second, a daemon that is killed again and again.

``make soak MINUTES=3``, or ``python -m tests.soak.soak --services 10000 --servers 10 --minutes 3``. Billing
is a real MariaDB, the daemon a real process that gets SIGKILL every few seconds. Meanwhile everything that
reaches a server is judged; in the end faults and kills stop, and every service must come to be as billing
wants it.
Exit code 1 for any violation, or for a service that does not converge.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler.application import Application
from reconciler.config import load_config
from reconciler.operations import ask_resync
from reconciler.sandbox.emulator import CloudEmulator, ProductName
from reconciler.sandbox.landscape import Landscape, find_free_port
from states import ServiceState
from tests.databases import running_server
from tests.soak.chaos import Changes, Faults, Service
from tests.soak.watching import Watching, list_unconverged, wait_for

QUOTAS = (2, 5, 20)
READY_SECONDS = 300.0
CONVERGE_SECONDS = 1800.0
SETTINGS = {
    # Everything may happen as often as it is wanted: what the caps stop is tested elsewhere.
    "guards": {
        "deletion_grace": "6s",
        "deletion_confirm_interval": "2s",
        "min_deletions": 100_000,
        "min_disables": 100_000,
        "min_recreations": 100_000,
        "min_quota_decreases": 100_000,
        "hot_loop_mutations": 1000,
        "breaker_probe_interval": "2s",
    },
    "reconciler": {"poll_interval": "2s", "resync_interval": "1m", "workers": 16},
    "nextcloud": {"requests_per_second": 100.0, "timeout": "10s"},
}


def main() -> int:
    """Run it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--servers", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(running_server("mariadb"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        clouds = [
            CloudEmulator(_choose_product(number), edit_limit=None) for number in range(options.servers)
        ]
        land = stack.enter_context(
            Landscape(
                folder,
                clouds,
                database_url=database.get_url(database.create_database()),
                settings={**SETTINGS, "http": {"listen": f"127.0.0.1:{find_free_port()}"}},
            )
        )
        return Soak(land, options.services, options.seed).run(options.minutes)


def _choose_product(number: int) -> ProductName:
    return "owncloud" if number % 5 == 4 else "nextcloud"


class Soak:
    """One run."""

    def __init__(self, land: Landscape, count: int, seed: int) -> None:
        self._land = land
        self._random = random.Random(seed)
        plans = [land.billing.add_plan(f"{size} GB", size) for size in QUOTAS]
        self._services = _sell(land, count, plans)
        self._changes = Changes(land, self._services, plans, seed)
        self._faults = Faults(land.clouds, seed)
        self._watching = Watching(land, {service.item_id: service for service in self._services})
        self._kills = 0
        self._log_read = 0

    def run(self, minutes: float) -> int:
        self._watching.start()
        with self._daemon() as daemon:
            self._wait_ready(daemon)
        print("siege begins", flush=True)
        self._faults.begin()
        self._changes.start()
        over = time.monotonic() + 60 * minutes
        while time.monotonic() < over:
            self._run_until_killed()
        self._changes.end()
        self._faults.end()
        print("siege is over", flush=True)
        left, seconds = self._converge()
        self._watching.end()
        self._tell(left, seconds)
        return 1 if left or self._watching.violations else 0

    def _run_until_killed(self) -> None:
        """One life of the daemon: until a few seconds after it is ready, or in the middle of its start."""
        with self._daemon() as daemon:
            if self._random.random() < 0.8:
                self._wait_ready(daemon)
            time.sleep(self._random.uniform(0.5, 8.0))
            daemon.send_signal(signal.SIGKILL)
            self._kills += 1

    def _converge(self) -> tuple[list[Service], float]:
        """Let the daemon work in peace; the services that stay wrong, and how long the rest took."""
        quotas = [f"{size} GB" for size in QUOTAS]
        started = time.monotonic()
        with self._daemon() as daemon, Application(load_config(self._land.config_path)) as app:
            self._wait_ready(daemon)
            # An operator's resync: those that have failed again and again would wait up to 15 minutes.
            waiting = app.journal.services.list_in_states([ServiceState.BACKOFF])
            ask_resync(app, [record.item_id for record in waiting], "operator:soak")
            with contextlib.suppress(TimeoutError):
                wait_for(
                    lambda: not list_unconverged(self._land, self._services, quotas),
                    "everything is as billing wants it",
                    CONVERGE_SECONDS,
                )
            left = list_unconverged(self._land, self._services, quotas)
            for service in left[:20]:
                record = app.journal.services.get(service.item_id)
                print(f"service {service.item_id}, status {service.status}: {record}")
        return left, time.monotonic() - started

    def _tell(self, left: list[Service], seconds: float) -> None:
        changes = ", ".join(f"{name} {count}" for name, count in sorted(self._changes.counts.items()))
        print(f"services: {len(self._services)} on {len(self._land.clouds)} servers")
        print(f"faults injected: {self._faults.count}")
        print(f"kills: {self._kills}")
        print(f"changes: {sum(self._changes.counts.values())} ({changes})")
        print(f"writes: {self._watching.writes}")
        print(f"unconverged: {len(left)}, after {seconds:.0f} s in peace")
        for violation in self._watching.violations[:20]:
            print(f"violation: {violation}")
        print(f"violations: {len(self._watching.violations)}")

    @contextlib.contextmanager
    def _daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "reconciler.cli", "--config", str(self._land.config_path), "run"]
        with (self._land.folder / "daemon.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)

    def _wait_ready(self, daemon: subprocess.Popen[bytes]) -> None:
        log = self._land.folder / "daemon.log"

        def is_ready() -> bool:
            if daemon.poll() is not None:
                raise RuntimeError(f"the daemon ended: {log.read_text()[-2000:]}")
            with log.open("rb") as file:
                file.seek(self._log_read)
                return b"ready " in file.read()

        wait_for(is_ready, "the daemon is ready", READY_SECONDS)
        self._log_read = log.stat().st_size


def _sell(land: Landscape, count: int, plans: list[int]) -> list[Service]:
    """Services that are as sold, with accounts that an earlier module has made."""
    services = []
    per_server = count // len(land.clouds)
    now = time.monotonic()
    for number, (cloud, server_id) in enumerate(zip(land.clouds, land.server_ids, strict=True)):
        items = land.billing.add_many_services(per_server, plan_ids=[plans[1]], server_ids=[server_id])
        land.billing.insert_many(
            "itemparam",
            (
                {"item": item, "intname": name, "value": value}
                for item in items
                for name, value in (("username", f"user_{item}"), ("url", cloud.base_url))
            ),
        )
        for item in items:
            cloud.add_account(f"user_{item}", quota="5 GB", email=f"client{item}@example.net")
            services.append(Service(item, number, 1, [(now, 2)]))
    return services


if __name__ == "__main__":
    sys.exit(main())
