"""How start-up and memory grow with the number of services, and whether they grow with time.

``python -m benchmarks.memory`` (1000 and 10,000 services); ``--full`` goes on to 100,000 and 1,000,000.
Billing is a real MariaDB; its ten servers are switched off, so that what is measured is what services cost by
themselves. The growth over scans is measured on an emulated server of its own.
"""

from __future__ import annotations

import sys
import time

from benchmarks.measuring import Report, read_options
from benchmarks.running import Daemon, get_memory_goal_mib, run_daemon, wait_for
from benchmarks.world import mariadb_land, sell, sell_anywhere, start_cloud
from reconciler.sandbox.landscape import find_free_port

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


def make_settings(port: int, **reconciler: str) -> dict[str, dict[str, str]]:
    """Settings of a daemon that writes nothing to billing."""
    return {
        "billmanager": {"writer": "none"},
        "http": {"listen": f"127.0.0.1:{port}"},
        "reconciler": reconciler,
    }


def measure_size(report: Report, count: int) -> None:
    """A first start and a second one, with so many services."""
    port = find_free_port()
    with mariadb_land(make_settings(port)) as land:
        sell_anywhere(land, count)
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
                most = get_memory_goal_mib(count)
                report.add(f"{count:,} services: memory", [daemon.get_rss_mib()], "MiB", most=most)


def measure_growth(report: Report, scans: int) -> None:
    """Memory over many scans of one server."""
    port = find_free_port()
    settings = make_settings(port, resync_interval="1s")
    with start_cloud(SCANNED) as cloud, mariadb_land(settings) as land:
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
