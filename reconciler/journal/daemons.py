"""Which daemons run on this journal, on any host: how the command line finds out, and what they report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from reconciler.journal.holders import is_gone
from reconciler.journal.store import Store
from reconciler.journal.tables import daemon

BEAT_SECONDS: Final = 5
_SILENCE: Final = timedelta(seconds=60)
"""One that was not seen for so long does not run; generous, since hosts' clocks differ."""


@dataclass(frozen=True, slots=True)
class DaemonRecord:
    """One running daemon, and what only it knows (its queue, its last turn)."""

    holder: str
    started_at: datetime
    seen_at: datetime
    report: dict[str, Any]

    @property
    def host(self) -> str:
        """The machine it runs on."""
        return self.holder.partition("/")[0]


class Daemons:
    """Reads and writes who runs."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def beat(self, holder: str, started_at: datetime, now: datetime, report: dict[str, Any]) -> None:
        """Record that a daemon runs."""
        values = {"seen_at": now, "report": json.dumps(report)}
        with self._store.write(is_lazy=True) as connection:
            changed = connection.execute(
                sa.update(daemon).where(daemon.c.holder == holder).values(**values)
            ).rowcount
            is_there = (
                changed
                or connection.execute(sa.select(daemon.c.holder).where(daemon.c.holder == holder)).first()
            )
            if not is_there:
                connection.execute(sa.insert(daemon).values(holder=holder, started_at=started_at, **values))

    def leave(self, holder: str) -> None:
        """Record that a daemon ends."""
        with self._store.write() as connection:
            connection.execute(sa.delete(daemon).where(daemon.c.holder == holder))

    def list_running(self, now: datetime) -> list[DaemonRecord]:
        """The daemons that run, oldest first."""
        with self._store.read() as connection:
            rows = connection.execute(sa.select(daemon).order_by(daemon.c.started_at)).all()
        return [
            DaemonRecord(row.holder, row.started_at, row.seen_at, json.loads(row.report))
            for row in rows
            if abs(now - row.seen_at) < _SILENCE and not is_gone(row.holder)
        ]

    def forget(self, before: datetime) -> None:
        """Delete those that were not seen since a time (killed ones)."""
        with self._store.write() as connection:
            connection.execute(sa.delete(daemon).where(daemon.c.seen_at < before))
