"""What was about to be done and what became of it, written before and after every mutating call."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from reconciler.journal.keys import JournalKey
from reconciler.journal.leases import Lease, extend
from reconciler.journal.services import OPEN_OUTCOMES, make_key, update_row
from reconciler.journal.store import Store
from reconciler.journal.tables import history, intent
from states import Step


class Outcome(enum.StrEnum):
    """What became of an intent."""

    DONE = "done"
    """The server said so, or the account's state proves it."""
    FAILED = "failed"
    """It certainly had no effect."""
    UNKNOWN = "unknown"
    """Nobody knows: only another look tells."""
    REFUSED = "refused"
    """An open create turned out not to be ours."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An intent on record."""

    id: int
    item_id: int
    server_id: int
    step: Step


class Intents:
    """Reads and writes intents, and with each of them the history."""

    def __init__(self, store: Store, key: JournalKey) -> None:
        self._store: Final = store
        self._key: Final = key

    def begin(
        self,
        held: Lease,
        server_id: int,
        step: Step,
        *,
        before: str,
        after: str,
        password: str | None,
        now: datetime,
    ) -> Begun:
        """Record what is about to be done; only then may it be done.

        Raises:
            LeaseLost: the service was taken by another worker: it must not be done.
            JournalUnavailable: it cannot be recorded: it must not be done.
        """
        with self._store.write() as connection:
            extend(connection, held, now)
            result = connection.execute(
                sa.insert(intent).values(
                    item_id=held.item_id,
                    server_id=server_id,
                    kind=step.kind.value,
                    userid=step.userid,
                    before=before,
                    after=after,
                    is_decrease=step.is_decrease,
                    is_recreation=step.is_recreation,
                    password=None if password is None else self._key.encrypt(password),
                    epoch=held.epoch,
                    begun_at=now,
                )
            )
            key = result.inserted_primary_key
        assert key is not None  # noqa: S101 - an insert of one row always has one
        return Begun(int(key[0]), held.item_id, server_id, step)

    def finish(
        self,
        begun: Begun,
        outcome: Outcome,
        *,
        actor: str,
        why: str,
        wanted: str,
        observed: str,
        error: str | None,
        now: datetime,
        service_values: dict[str, Any] | None = None,
    ) -> None:
        """Record what became of an intent, the history of it, and what it means for the service."""
        closed: dict[str, Any] = {"outcome": outcome.value, "finished_at": now, "error": error}
        if outcome is Outcome.FAILED:
            closed["password"] = None  # it opens nothing: no account was made
        with self._store.write() as connection:
            connection.execute(sa.update(intent).where(intent.c.id == begun.id).values(**closed))
            connection.execute(
                sa.insert(history).values(
                    item_id=begun.item_id,
                    server_id=begun.server_id,
                    at=now,
                    actor=actor,
                    action=begun.step.kind.value,
                    wanted=wanted,
                    observed=observed,
                    result=outcome.value,
                    why=why if error is None else f"{why}; {error}",
                )
            )
            if service_values:
                update_row(connection, begun.item_id, **service_values)

    def get_open_create(self, item_id: int, server_id: int, userid: str) -> tuple[int, str] | None:
        """Id and password of the latest create of this account that was never answered."""
        return self._get_create(item_id, OPEN_OUTCOMES, intent.c.server_id == server_id, _is_named(userid))

    def get_undelivered(self, item_id: int) -> tuple[int, str] | None:
        """Id and password of the latest create whose credentials billing does not have yet."""
        return self._get_create(item_id, intent.c.outcome == Outcome.DONE.value)

    def _get_create(self, item_id: int, *conditions: sa.ColumnElement[bool]) -> tuple[int, str] | None:
        query = (
            sa.select(intent.c.id, intent.c.password)
            .where(
                intent.c.item_id == item_id,
                intent.c.kind == "create",
                intent.c.password.is_not(None),
                *conditions,
            )
            .order_by(intent.c.id.desc())
            .limit(1)
        )
        with self._store.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (int(row.id), self._key.decrypt(row.password))

    def list_undelivered(self) -> set[int]:
        """Services whose credentials billing does not have yet."""
        query = sa.select(intent.c.item_id).where(
            intent.c.kind == "create",
            intent.c.password.is_not(None),
            intent.c.outcome == Outcome.DONE.value,
        )
        with self._store.read() as connection:
            return set(connection.execute(query).scalars())

    def settle_creates(
        self, item_id: int, userid: str, outcome: Outcome, now: datetime, *, proved_id: int | None = None
    ) -> None:
        """Close all open creates of an account once it is known what they did.

        ``proved_id`` is the one whose password opens the account: it keeps it for the delivery, all
        others lose theirs.
        """
        is_open = sa.and_(
            intent.c.item_id == item_id, intent.c.kind == "create", OPEN_OUTCOMES, _is_named(userid)
        )
        with self._store.write() as connection:
            if proved_id is not None:
                connection.execute(
                    sa.update(intent)
                    .where(intent.c.id == proved_id)
                    .values(outcome=outcome.value, finished_at=now)
                )
            connection.execute(
                sa.update(intent)
                .where(is_open)
                .values(outcome=Outcome.REFUSED.value, finished_at=now, password=None)
            )

    def mark_delivered(self, item_id: int) -> None:
        """Erase the passwords of a service that billing has now."""
        with self._store.write() as connection:
            connection.execute(
                sa.update(intent)
                .where(intent.c.item_id == item_id, intent.c.outcome == Outcome.DONE.value)
                .values(password=None)
            )

    def count_since(
        self, since: datetime, *conditions: sa.ColumnElement[bool], server_id: int | None = None
    ) -> int:
        """How many intents were begun after a time and not certainly without effect."""
        query = sa.select(sa.func.count()).where(
            intent.c.begun_at > since,
            sa.or_(intent.c.outcome.is_(None), intent.c.outcome != Outcome.FAILED.value),
            *conditions,
        )
        if server_id is not None:
            query = query.where(intent.c.server_id == server_id)
        with self._store.read() as connection:
            return int(connection.execute(query).scalar_one())


def _is_named(userid: str) -> sa.ColumnElement[bool]:
    return sa.func.lower(intent.c.userid) == make_key(userid)
