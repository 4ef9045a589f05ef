"""How start-up and memory grow with the number of services, and whether they grow with time.

``python -m benchmarks.memory`` (1000 and 10,000 services); ``--full`` goes on to 100,000 and 1,000,000.
Billing is a real MariaDB; its ten servers are switched off, so that what is measured is what services cost by
themselves. The growth over scans is measured on an emulated server of its own.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import Report, read_options
from benchmarks.running import Daemon, run_daemon, wait_for
from benchmarks.world import sell, start_cloud
from reconciler.sandbox.landscape import Landscape, find_free_port
from tests.databases import running_server

SERVERS = 10
SIZES = (1_000, 10_000, 100_000, 1_000_000)
SETTLED_SECONDS = 30.0
SCANNED = 1000
WARM_SCANS = 10


def main() -> int:
    """Measure and print."""
    options = read_options(__doc__, most=(10_000, 1_000_000), scans=(20, 50))
    report = Report("start-up and memory")
    for count in (size for size in SIZES if size <= options.most):
        measure_size(report, count)
    measure_growth(report, options.scans)
    report.save(options.json)
    return 0


@contextlib.contextmanager
def billing_land(port: int, **reconciler: str) -> Iterator[Landscape]:
    """A landscape on a MariaDB of its own, whose daemon writes nothing to billing."""
    settings = {
        "billmanager": {"writer": "none"},
        "http": {"listen": f"127.0.0.1:{port}"},
        "reconciler": reconciler,
    }
    with (
        running_server("mariadb") as server,
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        Landscape(
            Path(name), [], database_url=server.get_url(server.create_database()), settings=settings
        ) as land,
    ):
        yield land


def measure_size(report: Report, count: int) -> None:
    """A first start and a second one, with so many services."""
    port = find_free_port()
    with billing_land(port) as land:
        billing = land.billing
        plans = [billing.add_plan(f"plan {number}", 5 + number) for number in range(20)]
        servers = [
            billing.add_server(f"s{number}", f"http://127.0.0.1:{find_free_port()}", "a", "b")
            for number in range(SERVERS)
        ]
        billing.add_many_services(count, plan_ids=plans, server_ids=servers, is_recorded=True)
        for number, name in enumerate(("first start", "a restart"), 1):
            started = time.monotonic()
            with run_daemon(land, port) as daemon:
                # Not /readyz: a daemon without any server that answers is not that.
                wait_for_line(daemon, "info ready", number)
                report.add(
                    f"{count:,} services: {name}, until ready", [time.monotonic() - started], "s", most=20
                )
                wait_for_line(daemon, "info billing read", number)
                report.add(
                    f"{count:,} services: {name}, until all is read", [time.monotonic() - started], "s"
                )
                time.sleep(SETTLED_SECONDS)
                most = 120 + 250 * count / 2**20
                report.add(f"{count:,} services: memory", [daemon.get_rss_mib()], "MiB", most=most)


def measure_growth(report: Report, scans: int) -> None:
    """Memory over many scans of one server."""
    port = find_free_port()
    with start_cloud(SCANNED) as cloud, billing_land(port, resync_interval="1s") as land:
        sell(land, cloud, SCANNED)
        with run_daemon(land, port) as daemon:
            wait_for_line(daemon, "info scan server=", WARM_SCANS)
            before = daemon.get_rss_mib()
            wait_for_line(daemon, "info scan server=", WARM_SCANS + scans)
            grown = daemon.get_rss_mib() - before
    report.add(f"memory that {scans} scans of {SCANNED} accounts add", [grown], "MiB", most=1)


def wait_for_line(daemon: Daemon, words: str, count: int) -> None:
    """Wait until so many lines of the landscape's log have these words."""
    wait_for(lambda: daemon.count_log_lines(words) >= count, words, seconds=1200, pause=0.1)


if __name__ == "__main__":
    sys.exit(main())
