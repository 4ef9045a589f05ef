"""What the journal remembers of each server: its identity, its breaker, its last good read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from reconciler.journal.store import Store
from reconciler.journal.tables import server


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One server's row; everything but the id is None until it is known."""

    server_id: int
    product: str | None = None
    version: str | None = None
    instance_id: str | None = None
    strange_identity: str | None = None
    breaker_cause: str | None = None
    breaker_message: str | None = None
    breaker_since: datetime | None = None
    probe_at: datetime | None = None
    credentials_mark: str | None = None
    seen_services: int | None = None
    good_services: int | None = None
    scanned_at: datetime | None = None
    orphans: int | None = None
    usage_day: str | None = None
    complete_day: str | None = None
    group_ids: str | None = None


class Servers:
    """Reads and writes the servers' rows."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def get(self, server_id: int) -> ServerRecord:
        """One server's row, an empty one before the first contact."""
        query = sa.select(server).where(server.c.server_id == server_id)
        with self._store.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return ServerRecord(server_id) if row is None else ServerRecord(**row)

    def list_all(self) -> list[ServerRecord]:
        """Every server's row, by id."""
        with self._store.read() as connection:
            rows = connection.execute(_ALL).mappings().all()
        return [ServerRecord(**row) for row in rows]

    def update(self, server_id: int, **values: Any) -> None:
        """Change columns of one server's row, which is made when it is missing."""
        with self._store.write() as connection:
            changed = connection.execute(
                sa.update(server).where(server.c.server_id == server_id).values(**values)
            ).rowcount
            is_there = (
                changed
                or connection.execute(
                    sa.select(server.c.server_id).where(server.c.server_id == server_id)
                ).first()
            )
            if not is_there:
                connection.execute(sa.insert(server).values(server_id=server_id, **values))


# Made once: each pass asks how many services were read, and building a statement costs more than running it.
_ALL: Final = sa.select(server).order_by(server.c.server_id)
