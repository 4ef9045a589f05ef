"""What an operator lets pass a guard: the one step that each service waits for, once, for a limited time.

An approval is good for that very step, and only as long as the service waits for it without a break: whatever
else is planned meanwhile withdraws it. How each one ends stands in the service's history.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from reconciler.journal.history import HistoryEntry, insert_entries
from reconciler.journal.store import Store
from reconciler.journal.tables import approval, service

_CHUNK: Final = 500
_IS_OPEN: Final = sa.and_(approval.c.outcome.is_(None), approval.c.used_at.is_(None))
_NOBODY: Final = "reconciler"
"""Who is named in the history where time or a change of mind has ended an approval."""


class ApprovalEnd(enum.StrEnum):
    """How an approval ended."""

    USED = "used"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    """The service came to wait for something else, or for nothing."""
    REPLACED = "replaced"
    """By a later one for the same guard."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A service that a guard keeps waiting, and the step that it waits for."""

    item_id: int
    server_id: int | None
    step: str


@dataclass(frozen=True, slots=True)
class Approval:
    """One that can be used for the step that was asked about."""

    id: int
    actor: str


class Approvals:
    """Reads and writes approvals, and with each of them the history."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def add(
        self, guard: str, server_id: int | None, actor: str, now: datetime, expires_at: datetime
    ) -> list[Waiting]:
        """Let all services that the guard keeps waiting now pass it, each once, with the step it waits for.

        Args:
            guard: which guard.
            server_id: only the services of this server; None for all.
            actor: who gives it.
            now, expires_at: from when to when it is good.

        Returns:
            The services, by item id, and what each may do.
        """
        query = (
            sa.select(service.c.item_id, service.c.desired_server_id, service.c.blocked_step)
            .where(service.c.blocked_guard == guard, service.c.blocked_step.is_not(None))
            .order_by(service.c.item_id)
        )
        if server_id is not None:
            query = query.where(service.c.desired_server_id == server_id)
        with self._store.write() as connection:
            waiting = [Waiting(*row) for row in connection.execute(query)]
            for start in range(0, len(waiting), _CHUNK):
                self._add(connection, guard, waiting[start : start + _CHUNK], actor, now, expires_at)
        return waiting

    def _add(
        self,
        connection: sa.Connection,
        guard: str,
        chunk: list[Waiting],
        actor: str,
        now: datetime,
        expires_at: datetime,
    ) -> None:
        is_replaced = sa.and_(
            approval.c.guard == guard, approval.c.item_id.in_([each.item_id for each in chunk]), _IS_OPEN
        )
        connection.execute(sa.update(approval).where(is_replaced).values(outcome=ApprovalEnd.REPLACED.value))
        given = [
            {
                "guard": guard,
                "item_id": each.item_id,
                "actor": actor,
                "expires_at": expires_at,
                "step": each.step,
            }
            for each in chunk
        ]
        connection.execute(sa.insert(approval), given)
        why = f"may pass guard {guard} once until {expires_at:%Y-%m-%d %H:%M:%S} UTC"
        insert_entries(connection, [_make_entry(each, now, actor, "done", why) for each in chunk])

    def find(self, guard: str, item_id: int, step: str, now: datetime) -> Approval | None:
        """The approval by which a service may pass a guard with a step; None without one.

        One that has expired, or was given for another step, is ended by this.
        """
        query = (
            sa.select(approval, service.c.blocked_step, service.c.desired_server_id)
            .join_from(approval, service, service.c.item_id == approval.c.item_id)
            .where(approval.c.guard == guard, approval.c.item_id == item_id, _IS_OPEN)
            .order_by(approval.c.id.desc())
        )
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        good: Approval | None = None
        for row in rows:
            if row.expires_at <= now:
                self._end(row, ApprovalEnd.EXPIRED, now, _explain_expiry(row))
            elif row.step != step:
                why = f"{_name(row)} is withdrawn: it was for another step; what waits now is {step}"
                self._end(row, ApprovalEnd.WITHDRAWN, now, why)
            elif row.blocked_step != step:
                why = f"{_name(row)} is withdrawn: meanwhile the service did not wait for it any more"
                self._end(row, ApprovalEnd.WITHDRAWN, now, why)
            else:
                good = good or Approval(row.id, row.actor)
        return good

    def use(self, found: Approval, entry: HistoryEntry) -> bool:
        """Use up an approval, and say so in the history; False when it was ended meanwhile."""
        with self._store.write() as connection:
            values = {"outcome": ApprovalEnd.USED.value, "used_at": entry.at}
            changed = connection.execute(
                sa.update(approval).where(approval.c.id == found.id, _IS_OPEN).values(**values)
            ).rowcount
            if changed:
                insert_entries(connection, [entry])
        return bool(changed)

    def end_expired(self, now: datetime) -> None:
        """End all whose time is over, and say in the history that they were not used."""
        query = (
            sa.select(approval, service.c.desired_server_id)
            .join_from(approval, service, service.c.item_id == approval.c.item_id, isouter=True)
            .where(_IS_OPEN, approval.c.expires_at <= now)
        )
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            self._end(row, ApprovalEnd.EXPIRED, now, _explain_expiry(row))

    def _end(self, row: sa.Row[Any], end: ApprovalEnd, now: datetime, why: str) -> None:
        about = Waiting(row.item_id, row.desired_server_id, row.step or "")
        with self._store.write() as connection:
            changed = connection.execute(
                sa.update(approval).where(approval.c.id == row.id, _IS_OPEN).values(outcome=end.value)
            ).rowcount
            if changed:
                insert_entries(connection, [_make_entry(about, now, _NOBODY, end.value, why)])

    def forget(self, before: datetime) -> None:
        """Delete those that expired before a time."""
        with self._store.write() as connection:
            connection.execute(sa.delete(approval).where(approval.c.expires_at < before))


def _make_entry(about: Waiting, now: datetime, actor: str, result: str, why: str) -> HistoryEntry:
    return HistoryEntry(
        item_id=about.item_id,
        server_id=about.server_id,
        at=now,
        actor=actor,
        action="approve",
        wanted=about.step,
        observed="",
        result=result,
        why=why,
    )


def _name(row: sa.Row[Any]) -> str:
    return f"the permission of {row.actor} to pass guard {row.guard}"


def _explain_expiry(row: sa.Row[Any]) -> str:
    return f"{_name(row)} expired unused at {row.expires_at:%Y-%m-%d %H:%M:%S} UTC"
