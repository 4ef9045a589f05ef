"""What an operator lets pass a guard: one step of one service each, once, for a limited time."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from reconciler.journal.store import Store
from reconciler.journal.tables import approval

_CHUNK: Final = 500


class Approvals:
    """Reads and writes approvals."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def add(self, guard: str, item_ids: Collection[int], actor: str, expires_at: datetime) -> None:
        """Let each of these services pass the guard once, whatever was approved before."""
        items = list(item_ids)
        with self._store.write() as connection:
            for start in range(0, len(items), _CHUNK):
                chunk = items[start : start + _CHUNK]
                is_replaced = (
                    approval.c.guard == guard,
                    approval.c.item_id.in_(chunk),
                    approval.c.used_at.is_(None),
                )
                connection.execute(sa.delete(approval).where(*is_replaced))
                connection.execute(
                    sa.insert(approval),
                    [
                        {"guard": guard, "item_id": item_id, "actor": actor, "expires_at": expires_at}
                        for item_id in chunk
                    ],
                )

    def has(self, guard: str, item_id: int, now: datetime) -> bool:
        """Whether a service may pass the guard."""
        with self._store.read() as connection:
            return connection.execute(_select_good(guard, item_id, now)).first() is not None

    def use(self, guard: str, item_id: int, now: datetime) -> str | None:
        """Use up an approval; who gave it, None when there is none (any more)."""
        with self._store.write() as connection:
            found = connection.execute(_select_good(guard, item_id, now).with_for_update()).first()
            if found is None:
                return None
            connection.execute(sa.update(approval).where(approval.c.id == found.id).values(used_at=now))
            return str(found.actor)

    def forget(self, before: datetime) -> None:
        """Delete those that expired before a time."""
        with self._store.write() as connection:
            connection.execute(sa.delete(approval).where(approval.c.expires_at < before))


def _select_good(guard: str, item_id: int, now: datetime) -> sa.Select[Any]:
    is_good = (
        approval.c.guard == guard,
        approval.c.item_id == item_id,
        approval.c.used_at.is_(None),
        approval.c.expires_at > now,
    )
    return sa.select(approval.c.id, approval.c.actor).where(*is_good).order_by(approval.c.id).limit(1)
