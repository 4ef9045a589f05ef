"""What is due, and how all services stand together; for the daemon, `status`, metrics, the HTTP interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from reconciler.journal.services import ServiceRecord, load_rows, make_key
from reconciler.journal.store import Store
from reconciler.journal.tables import hold, server, service
from states import ServiceState

_UNFINISHED: Final = (
    ServiceState.PROVISIONING,
    ServiceState.DRIFTED,
    ServiceState.SUSPENDING,
    ServiceState.RESUMING,
    ServiceState.DELETING,
)


@dataclass(frozen=True, slots=True)
class Due:
    """A service that a pass must look at again, and what there was to do at first (None: unknown)."""

    item_id: int
    server_id: int | None
    kind: str | None


_DUE: Final = sa.select(service.c.item_id, service.c.desired_server_id, service.c.unconverged_kind)

# Made once: an idle daemon asks every few seconds.
_DUE_TRIES: Final = (
    _DUE.where(service.c.next_attempt_at <= sa.bindparam("now"))
    .order_by(service.c.next_attempt_at)
    .limit(sa.bindparam("most"))
)
_DUE_GRACES: Final = (
    sa.select(service.c.item_id, service.c.desired_server_id, sa.literal(ServiceState.DELETING.value))
    .where(
        service.c.state == ServiceState.RETIRING.value,
        service.c.retired_since <= sa.bindparam("before"),
        service.c.next_attempt_at.is_(None),
    )
    .order_by(service.c.retired_since)
    .limit(sa.bindparam("most"))
)


class Overview:
    """Reads the services' rows as a whole; changes nothing."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def list_due(self, now: datetime, grace: timedelta, *, limit: int = 1000) -> list[Due]:
        """Services whose next try is due, and those whose grace has run out, the longest due first."""
        with self._store.read() as connection:
            rows = [
                *connection.execute(_DUE_TRIES, {"now": now, "most": limit}),
                *connection.execute(_DUE_GRACES, {"before": now - grace, "most": limit}),
            ]
            return [Due(*row) for row in rows]

    def list_unfinished(self) -> list[Due]:
        """Services that the last run was working on, or knew to be not as sold, when it ended."""
        is_working = service.c.state.in_([state.value for state in _UNFINISHED])
        # What was queued and never looked at. Servers that were never scanned are scanned first of all.
        scanned = sa.select(server.c.server_id).where(server.c.scanned_at.is_not(None))
        is_waiting = sa.and_(
            service.c.unconverged_since.is_not(None), service.c.desired_server_id.in_(scanned)
        )
        query = _DUE.where(sa.or_(is_working, is_waiting), service.c.next_attempt_at.is_(None))
        with self._store.read() as connection:
            return [Due(*row) for row in connection.execute(query)]

    def count_blocked(self) -> dict[tuple[int | None, str], int]:
        """How many services each guard keeps waiting, by server and guard."""
        query = (
            sa.select(service.c.desired_server_id, service.c.blocked_guard, sa.func.count())
            .where(service.c.blocked_guard.is_not(None))
            .group_by(service.c.desired_server_id, service.c.blocked_guard)
        )
        with self._store.read() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def count_waiting(self) -> int:
        """How many services' next step waits for a guard or a server."""
        query = sa.select(sa.func.count()).where(service.c.blocked_by.is_not(None))
        with self._store.read() as connection:
            return int(connection.execute(query).scalar_one())

    def list_blocked_by_guard(self, guard: str, server_id: int | None) -> list[int]:
        """The services that a guard keeps waiting, on one server or on all."""
        query = sa.select(service.c.item_id).where(service.c.blocked_guard == guard)
        if server_id is not None:
            query = query.where(service.c.desired_server_id == server_id)
        with self._store.read() as connection:
            return list(connection.execute(query.order_by(service.c.item_id)).scalars())

    def get_oldest_unconverged(self) -> dict[int | None, datetime]:
        """Since when each server has had an unconverged service; servers without one are left out."""
        query = (
            sa.select(service.c.desired_server_id, sa.func.min(service.c.unconverged_since))
            .where(service.c.unconverged_since.is_not(None))
            .group_by(service.c.desired_server_id)
        )
        with self._store.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def count_held(self) -> int:
        """How many services an operator has paused."""
        with self._store.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(hold)).scalar_one())

    def search(
        self,
        *,
        state: ServiceState | None = None,
        server_id: int | None = None,
        text: str = "",
        page: int = 1,
        page_size: int = 100,
    ) -> tuple[Sequence[ServiceRecord], int]:
        """One page of the services by item id, and how many there are in all.

        Args:
            state, server_id: only those.
            text: only those with this item id, or whose account's name begins so (without case).
            page: from 1.
            page_size: services a page.
        """
        conditions: list[sa.ColumnElement[bool]] = []
        if state is not None:
            conditions.append(service.c.state == state.value)
        if server_id is not None:
            conditions.append(service.c.desired_server_id == server_id)
        if text:
            is_named = service.c.desired_key.startswith(make_key(text), autoescape=True)
            is_id = text.isascii() and text.isdecimal() and len(text) <= 18
            conditions.append(sa.or_(is_named, service.c.item_id == int(text)) if is_id else is_named)
        ids = sa.select(service.c.item_id).where(*conditions).order_by(service.c.item_id)
        with self._store.read() as connection:
            total = int(
                connection.execute(
                    sa.select(sa.func.count()).select_from(service).where(*conditions)
                ).scalar_one()
            )
            chosen = list(connection.execute(ids.limit(page_size).offset((page - 1) * page_size)).scalars())
            rows = load_rows(connection, service.c.item_id.in_(chosen))
        return [rows[item_id] for item_id in chosen if item_id in rows], total
