"""Who did what to which service, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from reconciler.journal.store import Store
from reconciler.journal.tables import history


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of a service's history; texts are one line each and hold no secret."""

    item_id: int
    server_id: int | None
    at: datetime
    actor: str
    action: str
    wanted: str
    observed: str
    result: str
    why: str


class History:
    """Reads and writes the history."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def add(self, entry: HistoryEntry) -> None:
        """Add one line."""
        with self._store.write() as connection:
            insert_entries(connection, [entry])

    def forget(self, before: datetime) -> None:
        """Delete the lines of before a time."""
        with self._store.write() as connection:
            connection.execute(sa.delete(history).where(history.c.at < before))

    def list_entries(self, item_id: int, *, limit: int = 1000) -> list[HistoryEntry]:
        """A service's latest lines, oldest first."""
        query = (
            sa.select(history).where(history.c.item_id == item_id).order_by(history.c.id.desc()).limit(limit)
        )
        with self._store.read() as connection:
            rows = connection.execute(query).mappings().all()
        names = HistoryEntry.__slots__
        return [HistoryEntry(**{name: row[name] for name in names}) for row in reversed(rows)]


# Made once: a pass adds a line, and building a statement costs more than running it.
_INSERT: Final = sa.insert(history)


def insert_entries(connection: sa.Connection, entries: Sequence[HistoryEntry]) -> None:
    """Add lines within a transaction."""
    rows = [{name: getattr(entry, name) for name in HistoryEntry.__slots__} for entry in entries]
    connection.execute(_INSERT, rows)
