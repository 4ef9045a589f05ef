"""Carries what a scan saw of the services' usage to journal, billing's daily statistics and cards.

A day's values are replaced by every later look at the same day; what could not be seen is not written.
Billing is told that a day is complete with the first look at a later one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from bm_db import Card, Usage
from reconciler.application import Application
from reconciler.card import describe_state, describe_used
from reconciler.journal import ServiceRecord, ServiceUsage, describe_this_process
from states import SOLD_WISHES, Ownership

_CHUNK: Final = 500
CARDS_SECONDS: Final = 60.0
"""How long cards are written at a time: each value may be a process of its own."""
_REST: Final = 2.0
"""How long to rest after a card, as a multiple of what it took: services that need something go first."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """How many cards were written, and whether all were looked at."""

    written: int
    is_done: bool


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
    if not _is_writing(app):
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


def refresh_cards(
    app: Application, seen: Sequence[ServiceUsage], *, budget_seconds: float = CARDS_SECONDS
) -> Refreshed:
    """Make the cards of one server's services say what is so: the used space, and the state.

    Passes write the state as well, but only of services for which there is something to do. This writes what
    is missing or wrong until its time is up, a third of the time; the next time goes on from there.

    Raises:
        BillingError, JournalError: not all of them; the next time all of it is tried again.
    """
    if not _is_writing(app):
        return Refreshed(0, is_done=True)
    deadline, written = time.monotonic() + budget_seconds, 0
    for start in range(0, len(seen), _CHUNK):
        chunk = seen[start : start + _CHUNK]
        ids = [one.item_id for one in chunk]
        cards, records = app.billing.get_cards(ids), app.journal.services.load(ids)
        for one in chunk:
            if _find_wrong(app, one, records.get(one.item_id), cards[one.item_id]) == Card():
                continue
            started = time.monotonic()
            if app.is_stopping() or started > deadline:
                return Refreshed(written, is_done=False)
            written += _write_card(app, one, cards[one.item_id])
            time.sleep(_REST * (time.monotonic() - started))
    return Refreshed(written, is_done=True)


def _is_writing(app: Application) -> bool:
    return app.writer.can_write and app.config.reconciler.mode != "observe"


def _find_wrong(app: Application, seen: ServiceUsage, record: ServiceRecord | None, card: Card) -> Card:
    """The texts that are to be written, by a service's row; none for an account that is not ours."""
    if record is None or record.wish not in SOLD_WISHES or record.memory.ownership is Ownership.NONE:
        return Card()
    language = app.config.billmanager.card_language
    state = describe_state(record.memory.state, record.attempts, language)
    used = describe_used(seen.used_bytes, language)
    return Card(None if state == card.state else state, None if used == card.used else used)


def _write_card(app: Application, seen: ServiceUsage, card: Card) -> bool:
    """Write one card while nobody else works on the service; else who does writes its state."""
    lease = app.journal.leases.acquire(seen.item_id, describe_this_process(), app.clock())
    if lease is None:
        return False
    try:
        record = app.journal.services.get(seen.item_id)
        app.writer.write_card(seen.item_id, _find_wrong(app, seen, record, card))
    finally:
        app.journal.leases.release(lease, app.clock())
    return True
