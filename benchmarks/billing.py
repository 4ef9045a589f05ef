"""What reading BILLmanager costs: all services, and the poll for what has changed, on a real MariaDB.

``python -m benchmarks.billing``. The baseline of the read are the same columns by the bare driver.
"""

from __future__ import annotations

import resource
import sys

import MySQLdb
from sqlalchemy import make_url

from benchmarks.measuring import Report, read_options, take_time, take_turns
from benchmarks.world import mariadb_land, sell_anywhere
from bm_db import Billing
from reconciler.billing_access import open_billing_of
from reconciler.config import load_config

BARE = (
    "SELECT id, pricelist, account, processingmodule, status, period FROM item WHERE parent IS NULL",
    "SELECT item, intname, value FROM itemparam WHERE intname IN ('username', 'url')",
    "SELECT account, email, enabled FROM user ORDER BY id",
)


def main() -> int:
    """Measure and print."""
    options = read_options(__doc__, services=(20_000, 1_000_000))
    report = Report(f"billing: {options.services} services")
    with mariadb_land() as land:
        sell_anywhere(land, options.services)
        billing = open_billing_of(load_config(land.config_path))
        before = get_peak_mib()
        reads, bare = take_turns(
            options.rounds,
            lambda: read(billing, options.services),
            lambda: read_bare(land.database_url, options.services),
        )
        grown = get_peak_mib() - before
        tracker = billing.track_changes()
        (firsts,) = take_turns(1, tracker.poll)
        learning = []
        while tracker.is_learning:
            learning.append(take_time(tracker.poll))
        (polls,) = take_turns(25, tracker.poll)  # so many look at everything once
        billing.close()
    report.add("all services read; to the bare driver", reads, "s", baseline=bare, most=2.0)
    report.add("memory that reading them takes (streamed)", [grown], "MiB")
    report.add("first poll, which remembers everything", firsts, "s")
    if learning:
        report.add("a poll while single services are learnt", learning, "s")
    report.add("a poll that finds nothing changed", polls, "s", most=1.0)
    report.save(options.json)
    return 0


def read(billing: Billing, count: int) -> None:
    """Understand every service, and keep none."""
    if sum(1 for _ in billing.list_services(with_passwords=False)) != count:
        raise RuntimeError("not all services were read")


def read_bare(url: str, count: int) -> None:
    """Fetch the same columns, and keep nothing."""
    parts = make_url(url)
    connection = MySQLdb.connect(
        host=parts.host or "",
        port=parts.port or 3306,
        user=parts.username or "",
        password=parts.password or "",
        database=parts.database or "",
        charset="utf8mb4",
        cursorclass=MySQLdb.cursors.SSCursor,
    )
    seen = []
    for statement in BARE:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            seen.append(sum(1 for _ in cursor))
    connection.close()
    if seen[0] != count:
        raise RuntimeError("not all services were fetched")


def get_peak_mib() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
