"""How much of what was sold is used, as last seen: for status and metrics; the days' values go to billing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from reconciler.journal.store import Store
from reconciler.journal.tables import usage

_CHUNK: Final = 500
NEAR_PERCENT: Final = (80, 100)
"""From which shares of its quota on a service is told to be near or over it."""


@dataclass(frozen=True, slots=True)
class ServiceUsage:
    """One service's use of its quota in bytes; ``quota_bytes`` None is unlimited."""

    item_id: int
    server_id: int
    used_bytes: int
    quota_bytes: int | None
    seen_at: datetime

    @property
    def percent(self) -> float | None:
        """The used share of the quota; None when unlimited."""
        if self.quota_bytes is None:
            return None
        return 100.0 * self.used_bytes / self.quota_bytes if self.quota_bytes else 100.0


@dataclass(frozen=True, slots=True)
class ServerUsage:
    """One server's sums: bytes sold and used, and how many services are at 80 and at 100 percent or above."""

    used_bytes: int = 0
    quota_bytes: int = 0
    near: tuple[int, int] = (0, 0)


class Usages:
    """Reads and writes the latest usage."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def record(self, seen: Sequence[ServiceUsage]) -> None:
        """Replace what is known of these services; the others keep what was seen last."""
        for start in range(0, len(seen), _CHUNK):
            chunk = seen[start : start + _CHUNK]
            with self._store.write(is_lazy=True) as connection:
                ids = [one.item_id for one in chunk]
                connection.execute(sa.delete(usage).where(usage.c.item_id.in_(ids)))
                connection.execute(
                    sa.insert(usage),
                    [{name: getattr(one, name) for name in ServiceUsage.__slots__} for one in chunk],
                )

    def sum_by_server(self) -> dict[int, ServerUsage]:
        """The sums, by server id."""
        near = [
            sa.func.coalesce(sa.func.sum(sa.case((_is_near(share), 1), else_=0)), 0) for share in NEAR_PERCENT
        ]
        sums = sa.func.sum(usage.c.used_bytes), sa.func.sum(usage.c.quota_bytes)
        query = sa.select(usage.c.server_id, *sums, *near).group_by(usage.c.server_id)
        with self._store.read() as connection:
            return {
                row[0]: ServerUsage(int(row[1] or 0), int(row[2] or 0), (int(row[3]), int(row[4])))
                for row in connection.execute(query)
            }

    def list_near(self, *, limit: int) -> list[ServiceUsage]:
        """The services at 80 percent of their quota or above, the fullest first."""
        share = usage.c.used_bytes * 1.0 / sa.func.nullif(usage.c.quota_bytes, 0)
        query = (
            sa.select(usage)
            .where(_is_near(NEAR_PERCENT[0]))
            .order_by(share.desc(), usage.c.item_id)
            .limit(limit)
        )
        return self._list(query)

    def list_all(self, server_id: int | None = None) -> list[ServiceUsage]:
        """What is known of all services, or of one server's, by item id."""
        query = sa.select(usage).order_by(usage.c.item_id)
        return self._list(query if server_id is None else query.where(usage.c.server_id == server_id))

    def get(self, item_id: int) -> ServiceUsage | None:
        """What is known of one service."""
        return next(iter(self._list(sa.select(usage).where(usage.c.item_id == item_id))), None)

    def forget(self, before: datetime) -> None:
        """Delete what was not seen since a time (services that are gone)."""
        with self._store.write() as connection:
            connection.execute(sa.delete(usage).where(usage.c.seen_at < before))

    def _list(self, query: sa.Select[tuple[object, ...]]) -> list[ServiceUsage]:
        with self._store.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [ServiceUsage(**{name: row[name] for name in ServiceUsage.__slots__}) for row in rows]


def _is_near(percent: int) -> sa.ColumnElement[bool]:
    # Not in whole numbers: a quota of petabytes times a hundred would not fit.
    return usage.c.used_bytes >= usage.c.quota_bytes * (percent / 100.0)
