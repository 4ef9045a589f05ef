"""One worker a service, across processes and hosts that share the journal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from reconciler.journal.errors import LeaseLost
from reconciler.journal.holders import is_gone
from reconciler.journal.store import Store
from reconciler.journal.tables import lease

LEASE_SECONDS: Final = 900
"""Longer than the longest single call (a deletion); every begun step extends it."""

_LONG_AGO: Final = timedelta(days=366)
"""A lease that was given back is free also when the clock is set back afterwards."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to change one service.

    ``epoch`` rises with every change of hands: a worker that slept past its lease is told apart.
    """

    item_id: int
    holder: str
    epoch: int


class Leases:
    """Takes, extends and gives back leases."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def acquire(self, item_id: int, holder: str, now: datetime) -> Lease | None:
        """Take a service; None when another worker has it.

        The lease of a process of this machine that has ended is taken over at once.
        """
        expires_at = now + timedelta(seconds=LEASE_SECONDS)
        with self._store.write(is_lazy=True) as connection:
            row = connection.execute(_LOCKED, {"one": item_id}).one_or_none()
            if row is None:
                try:
                    with connection.begin_nested():
                        first = {"item_id": item_id, "holder": holder, "epoch": 1, "expires_at": expires_at}
                        connection.execute(_INSERT, first)
                except sa.exc.IntegrityError:
                    return None
                return Lease(item_id, holder, 1)
            if row.expires_at > now and not is_gone(row.holder):
                return None
            taken = {"one": item_id, "by": holder, "next": row.epoch + 1, "until": expires_at}
            connection.execute(_TAKE, taken)
            return Lease(item_id, holder, row.epoch + 1)

    def extend(self, held: Lease, now: datetime) -> None:
        """Make sure that a lease still is held, and extend it.

        Raises:
            LeaseLost: it has expired or has changed hands.
        """
        with self._store.write(is_lazy=True) as connection:
            extend(connection, held, now)

    def release(self, held: Lease, now: datetime) -> None:
        """Give a service back; harmless when it was lost already."""
        with self._store.write(is_lazy=True) as connection:
            given_back = {"held_item": held.item_id, "held_epoch": held.epoch, "until": now - _LONG_AGO}
            connection.execute(_RELEASE, given_back)


def extend(connection: sa.Connection, held: Lease, now: datetime, *, gives_back: bool = False) -> None:
    """Make sure, within a transaction, that a lease still is held, and extend it or give it back.

    Raises:
        LeaseLost: it has expired or has changed hands.
    """
    if not is_extended(connection, held, now, gives_back=gives_back):
        raise LeaseLost(f"service {held.item_id} was taken by another worker meanwhile")


def is_extended(connection: sa.Connection, held: Lease, now: datetime, *, gives_back: bool = False) -> bool:
    """Extend a lease or give it back within a transaction; False when it has expired or has changed hands."""
    values = {
        "held_item": held.item_id,
        "held_epoch": held.epoch,
        "at": now,
        "until": now - _LONG_AGO if gives_back else now + timedelta(seconds=LEASE_SECONDS),
    }
    return connection.execute(_EXTEND, values).rowcount == 1


# Made once: they belong to every pass, and building a statement costs more than running it.
_LOCKED: Final = (
    sa.select(lease.c.epoch, lease.c.expires_at, lease.c.holder)
    .where(lease.c.item_id == sa.bindparam("one"))
    .with_for_update()
)
_INSERT: Final = sa.insert(lease)
_TAKE: Final = (
    sa.update(lease)
    .where(lease.c.item_id == sa.bindparam("one"))
    .values(holder=sa.bindparam("by"), epoch=sa.bindparam("next"), expires_at=sa.bindparam("until"))
)
_RELEASE: Final = (
    sa.update(lease)
    .where(lease.c.item_id == sa.bindparam("held_item"), lease.c.epoch == sa.bindparam("held_epoch"))
    .values(expires_at=sa.bindparam("until"))
)
_EXTEND: Final = _RELEASE.where(lease.c.expires_at > sa.bindparam("at"))
