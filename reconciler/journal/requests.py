"""What operators ask of a running daemon, from this host or another: look at a service now.

Written by the command line and the HTTP interface, taken by the daemon, answered by its passes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from reconciler.journal.holders import is_gone
from reconciler.journal.store import Store
from reconciler.journal.tables import request

_CHUNK: Final = 500

# Made once: an idle daemon asks several times a second.
_IS_NEW: Final = sa.and_(request.c.finished_at.is_(None), request.c.taken_by.is_(None))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: the end of the pass that was made for it."""

    state: str
    reason: str
    steps: tuple[str, ...] = ()
    error: str | None = None
    blocked_by: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A wish for a pass over one service; ``answer`` is None until it was made."""

    id: int
    item_id: int
    actor: str
    made_at: datetime
    taken_by: str | None = None
    answer: Answer | None = None


class Requests:
    """Reads and writes requests."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def add(self, item_ids: Sequence[int], actor: str, now: datetime) -> list[int]:
        """Ask for a pass over each service; the requests' ids, in the same order."""
        ids: list[int] = []
        with self._store.write() as connection:
            for item_id in item_ids:
                added = connection.execute(
                    sa.insert(request).values(item_id=item_id, actor=actor, made_at=now)
                )
                ids += [int(key) for key in added.inserted_primary_key or ()]
        return ids

    def take(self, holder: str) -> list[Request]:
        """Take all that nobody has taken yet; each goes to one taker only."""
        return self._take(holder, _IS_NEW)

    def take_over(self, holder: str) -> list[Request]:
        """Take those whose taker has ended without an answer."""
        query = (
            sa.select(request.c.taken_by)
            .where(request.c.finished_at.is_(None), request.c.taken_by.is_not(None))
            .distinct()
        )
        with self._store.read() as connection:
            gone = [name for name in connection.execute(query).scalars() if is_gone(name)]
        is_left = sa.and_(request.c.finished_at.is_(None), request.c.taken_by.in_(gone))
        return self._take(holder, is_left) if gone else []

    def _take(self, holder: str, is_open: sa.ColumnElement[bool]) -> list[Request]:
        with self._store.read() as connection:
            ids = list(connection.execute(sa.select(request.c.id).where(is_open)).scalars())
        taken: list[Request] = []
        for start in range(0, len(ids), _CHUNK):
            chunk = request.c.id.in_(ids[start : start + _CHUNK])
            with self._store.write() as connection:
                connection.execute(sa.update(request).where(chunk, is_open).values(taken_by=holder))
                mine = sa.select(request).where(chunk, request.c.taken_by == holder).order_by(request.c.id)
                taken += [_to_request(row) for row in connection.execute(mine)]
        return taken

    def finish(self, ids: Collection[int], answer: Answer, now: datetime) -> None:
        """Record the answer to some requests."""
        text = json.dumps(dataclasses.asdict(answer))
        with self._store.write(is_lazy=True) as connection:
            connection.execute(
                sa.update(request).where(request.c.id.in_(ids)).values(finished_at=now, answer=text)
            )

    def get(self, ids: Collection[int]) -> dict[int, Request]:
        """Some requests, by id."""
        with self._store.read() as connection:
            rows = connection.execute(sa.select(request).where(request.c.id.in_(ids)))
            return {row.id: _to_request(row) for row in rows}

    def withdraw(self, ids: Collection[int]) -> set[int]:
        """Take back requests that nobody works on any more; the ids of those that were taken back."""
        with self._store.write() as connection:
            query = sa.select(request.c.id, request.c.taken_by).where(
                request.c.id.in_(ids), request.c.finished_at.is_(None)
            )
            idle = {
                row.id
                for row in connection.execute(query.with_for_update())
                if row.taken_by is None or is_gone(row.taken_by)
            }
            connection.execute(sa.delete(request).where(request.c.id.in_(idle)))
        return idle

    def forget(self, before: datetime) -> None:
        """Delete the answered ones of before a time."""
        with self._store.write() as connection:
            connection.execute(sa.delete(request).where(request.c.finished_at < before))


def _to_request(row: sa.Row[Any]) -> Request:
    answer = None
    if row.answer is not None:
        facts = json.loads(row.answer)
        answer = Answer(**{**facts, "steps": tuple(facts["steps"])})
    return Request(row.id, row.item_id, row.actor, row.made_at, row.taken_by, answer)
