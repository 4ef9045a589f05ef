"""Carries what a scan saw of the services' usage to the journal and to billing's daily statistics.

A day's values are replaced by every later look at the same day; what could not be seen is not written.
Billing is told that a day is complete with the first look at a later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from bm_db import Usage
from reconciler.application import Application
from reconciler.journal import ServiceUsage


def record_usage(app: Application, server_id: int, seen: Sequence[ServiceUsage], day: date) -> int:
    """Record one server's usage.

    Args:
        app: the parts.
        server_id: the server.
        seen: what was seen of its services; those that could not be looked at are not in it.
        day: on this day, by the billing machine's own time.

    Returns:
        How many rows billing got; 0 when it is not written to, or has them already.

    Raises:
        BillingError, JournalError: not everything was written; the next time all of it is tried again.
    """
    app.journal.usage.record(seen)
    if not app.writer.can_write or app.config.reconciler.mode == "observe":
        return 0
    rows = app.writer.write_usage(
        server_id, day, [Usage(one.item_id, one.used_bytes, one.quota_bytes) for one in seen]
    )
    record = app.journal.servers.get(server_id)
    today, latest = day.isoformat(), record.usage_day
    if latest is not None and latest < today and record.complete_day != latest:
        app.writer.write_usage_complete(server_id, date.fromisoformat(latest))
        app.journal.servers.update(server_id, complete_day=latest)
    if latest is None or latest < today:
        app.journal.servers.update(server_id, usage_day=today)
    return rows
