"""What was about to be done and what became of it, written before and after every mutating call."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa

from reconciler.journal.errors import LeaseLost
from reconciler.journal.history import HistoryEntry, insert_entries
from reconciler.journal.keys import JournalKey
from reconciler.journal.leases import Lease, extend, is_extended
from reconciler.journal.services import OPEN_OUTCOMES, make_key, update_row
from reconciler.journal.store import Store
from reconciler.journal.tables import intent
from states import Step, StepKind

_IS_KEPT: Final = sa.and_(
    intent.c.kind.in_([StepKind.CREATE.value, StepKind.SET_PASSWORD.value]), intent.c.password.is_not(None)
)
"""A step whose password the journal keeps."""

_TAKEN: Final = "another worker had taken the service by the time of the answer"


class Outcome(enum.StrEnum):
    """What became of an intent."""

    DONE = "done"
    """The server said so, or the account's state proves it."""
    FAILED = "failed"
    """It certainly had no effect."""
    UNKNOWN = "unknown"
    """Nobody knows: only another look tells."""
    REFUSED = "refused"
    """An open create turned out not to be ours, an open reset without effect or replaced."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An intent on record, and the lease under which it was begun."""

    id: int
    held: Lease
    server_id: int
    step: Step


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """A step with a password whose effect nobody knows yet."""

    id: int
    begun_at: datetime
    password: str = field(repr=False)


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
        service_values: dict[str, Any] | None = None,
    ) -> Begun:
        """Record what is about to be done, and what else there is to record of the service.

        Only then may it be done.

        Raises:
            LeaseLost: the service was taken by another worker: it must not be done.
            JournalUnavailable: it cannot be recorded: it must not be done.
        """
        with self._store.write() as connection:
            extend(connection, held, now)
            result = connection.execute(
                _INSERT,
                {
                    "item_id": held.item_id,
                    "server_id": server_id,
                    "kind": step.kind.value,
                    "userid": step.userid,
                    "before": before,
                    "after": after,
                    "is_decrease": step.is_decrease,
                    "is_recreation": step.is_recreation,
                    "password": None if password is None else self._key.encrypt(password),
                    "epoch": held.epoch,
                    "begun_at": now,
                },
            )
            key = result.inserted_primary_key
            if service_values:
                update_row(connection, held.item_id, **service_values)
        assert key is not None  # noqa: S101 - an insert of one row always has one
        return Begun(int(key[0]), held, server_id, step)

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
        """Record what became of an intent, the history of it, and what it means for the service.

        Raises:
            LeaseLost: another worker has the service by now. Only the history tells of it; the intent stays
                open, as after a crash, and whoever has the service finds out what it did.
        """
        closed: dict[str, Any] = {"outcome": outcome.value, "finished_at": now, "error": error}
        if outcome is Outcome.FAILED:
            closed["password"] = None  # it opens nothing: no account was made
        item_id = begun.held.item_id
        with self._store.write(is_lazy=True) as connection:
            is_held = is_extended(connection, begun.held, now)
            notes = [why, *([] if error is None else [error]), *([] if is_held else [_TAKEN])]
            if is_held:
                connection.execute(sa.update(intent).where(intent.c.id == begun.id).values(**closed))
                if service_values:
                    update_row(connection, item_id, **service_values)
            entry = HistoryEntry(
                item_id=item_id,
                server_id=begun.server_id,
                at=now,
                actor=actor,
                action=begun.step.kind.value,
                wanted=wanted,
                observed=observed,
                result=outcome.value,
                why="; ".join(notes),
            )
            insert_entries(connection, [entry])
        if not is_held:
            raise LeaseLost(f"service {item_id}: {_TAKEN}")

    def get_open_create(self, item_id: int, server_id: int, userid: str) -> tuple[int, str] | None:
        """Id and password of the latest create of this account that was never answered."""
        found = self.list_open(StepKind.CREATE, item_id, server_id, userid)
        return (found[0].id, found[0].password) if found else None

    def list_open(self, kind: StepKind, item_id: int, server_id: int, userid: str) -> list[OpenIntent]:
        """The steps of a kind, with a password, on this account that were never answered; latest first."""
        place = {"one": item_id, "what": kind.value, "server": server_id, "key": make_key(userid)}
        with self._store.read() as connection:
            rows = connection.execute(_OPEN, place).all()
        return [OpenIntent(row.id, row.begun_at, self._key.decrypt(row.password)) for row in rows]

    def get_undelivered(self, item_id: int) -> tuple[int, str] | None:
        """Id and password of the latest create or new password that billing does not have yet."""
        with self._store.read() as connection:
            row = connection.execute(_UNDELIVERED, {"one": item_id}).one_or_none()
        return None if row is None else (int(row.id), self._key.decrypt(row.password))

    def list_undelivered(self) -> set[int]:
        """Services whose credentials billing lacks, or may lack: a reset was never answered."""
        is_open_reset = sa.and_(intent.c.kind == StepKind.SET_PASSWORD.value, OPEN_OUTCOMES)
        is_due = sa.or_(intent.c.outcome == Outcome.DONE.value, is_open_reset)
        query = sa.select(intent.c.item_id).where(_IS_KEPT, is_due)
        with self._store.read() as connection:
            return set(connection.execute(query).scalars())

    def settle(
        self,
        kind: StepKind,
        held: Lease,
        userid: str,
        now: datetime,
        *,
        proved_id: int | None = None,
        begun_before: datetime | None = None,
        service_values: dict[str, Any] | None = None,
    ) -> None:
        """Close the open steps of a kind on an account once it is known what they did.

        Args:
            kind: CREATE or SET_PASSWORD.
            held: the service.
            userid: the account.
            now: the time.
            proved_id: the one whose password opens the account: it is done, and keeps its password for the
                delivery; all others lose theirs.
            begun_before: leave those that were begun later: they may yet have their effect.
            service_values: what it means for the service; a crash must not leave the one without the other.

        Raises:
            LeaseLost: another worker has the service by now; nothing was closed.
        """
        item_id = held.item_id
        is_closed = sa.and_(
            intent.c.item_id == item_id,
            intent.c.kind == kind.value,
            OPEN_OUTCOMES,
            _is_named(make_key(userid)),
        )
        if begun_before is not None:
            is_closed = sa.and_(is_closed, intent.c.begun_at < begun_before)
        with self._store.write() as connection:
            extend(connection, held, now)
            if proved_id is not None:
                connection.execute(
                    sa.update(intent)
                    .where(intent.c.id == proved_id)
                    .values(outcome=Outcome.DONE.value, finished_at=now)
                )
            connection.execute(
                sa.update(intent)
                .where(is_closed)
                .values(outcome=Outcome.REFUSED.value, finished_at=now, password=None)
            )
            if service_values:
                update_row(connection, item_id, **service_values)

    def mark_delivered(self, held: Lease, now: datetime, *, latest_id: int | None = None) -> None:
        """Erase the passwords of a service that billing has now.

        Args:
            held: the service.
            now: the time.
            latest_id: the intent whose password was delivered, and with it all earlier ones; None: all.

        Raises:
            LeaseLost: another worker has the service by now; nothing was erased.
        """
        is_delivered = sa.and_(intent.c.item_id == held.item_id, intent.c.outcome == Outcome.DONE.value)
        if latest_id is not None:
            is_delivered = sa.and_(is_delivered, intent.c.id <= latest_id)
        with self._store.write(is_lazy=True) as connection:
            extend(connection, held, now)
            connection.execute(sa.update(intent).where(is_delivered).values(password=None))

    def count_since(
        self,
        since: datetime,
        condition: sa.ColumnElement[bool] | None = None,
        *,
        server_id: int | None = None,
        item_id: int | None = None,
    ) -> int:
        """How many intents were begun after a time and not certainly without effect.

        Args:
            since: the time.
            condition: on the table ``intent``; the same object each time, since a statement is kept for it.
            server_id, item_id: only those of this server or service.
        """
        places = {"server_id": server_id, "item_id": item_id}
        given = {name: value for name, value in places.items() if value is not None}
        query = _make_count(condition, tuple(given))
        with self._store.read() as connection:
            return int(connection.execute(query, {"since": since, **given}).scalar_one())

    def count_by_server(self, since: datetime, condition: sa.ColumnElement[bool]) -> dict[int, int]:
        """The same by server; servers without any are left out."""
        query = (
            sa.select(intent.c.server_id, sa.func.count())
            .where(_counts_since(since), condition)
            .group_by(intent.c.server_id)
        )
        with self._store.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def forget(self, before: datetime) -> None:
        """Delete those of before a time of which nothing is left to find out or to deliver."""
        with self._store.write() as connection:
            connection.execute(
                sa.delete(intent).where(
                    intent.c.finished_at < before, intent.c.password.is_(None), sa.not_(OPEN_OUTCOMES)
                )
            )

    def list_times(self, since: datetime, kinds: Collection[StepKind], server_id: int) -> list[datetime]:
        """When steps of some kinds were begun on a server after a time, certain failures left out."""
        query = sa.select(intent.c.begun_at).where(
            _counts_since(since),
            intent.c.server_id == server_id,
            intent.c.kind.in_([kind.value for kind in kinds]),
        )
        with self._store.read() as connection:
            return list(connection.execute(query.order_by(intent.c.begun_at)).scalars())


def _is_named(key: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    """Of the account with this key (see `make_key`)."""
    return sa.func.lower(intent.c.userid) == key


# Made once: they belong to every pass or step, and building a statement costs more than running it.
_INSERT: Final = sa.insert(intent)
_OPEN: Final = (
    sa.select(intent.c.id, intent.c.begun_at, intent.c.password)
    .where(
        intent.c.item_id == sa.bindparam("one"),
        intent.c.kind == sa.bindparam("what"),
        intent.c.password.is_not(None),
        OPEN_OUTCOMES,
        intent.c.server_id == sa.bindparam("server"),
        _is_named(sa.bindparam("key")),
    )
    .order_by(intent.c.id.desc())
)
_UNDELIVERED: Final = (
    sa.select(intent.c.id, intent.c.password)
    .where(intent.c.item_id == sa.bindparam("one"), _IS_KEPT, intent.c.outcome == Outcome.DONE.value)
    .order_by(intent.c.id.desc())
    .limit(1)
)


@lru_cache(64)
def _make_count(condition: sa.ColumnElement[bool] | None, places: tuple[str, ...]) -> sa.Select[int]:
    since = sa.bindparam("since", type_=intent.c.begun_at.type)
    query = sa.select(sa.func.count()).where(_counts_since(since))
    if condition is not None:
        query = query.where(condition)
    return query.where(*(intent.c[name] == sa.bindparam(name) for name in places))


def _counts_since(since: datetime | sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """Begun after a time, and not certainly without effect."""
    is_possible = sa.or_(intent.c.outcome.is_(None), intent.c.outcome != Outcome.FAILED.value)
    return sa.and_(intent.c.begun_at > since, is_possible)
