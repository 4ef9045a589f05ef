"""Values and parts that tests of the reconciler share: a clock, services, steps, an opened journal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from reconciler.journal import Begun, Journal, Lease, Outcome, open_journal
from states import DesiredService, Step, StepKind, Wish

NOW: Final = datetime(2026, 1, 15, 12, 0, 0, 123456, tzinfo=UTC)
PASSWORD: Final = "Kf7-wDx2-Lq9-tR4"
_NOBODY: Final = 65534


class FakeClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **length: float) -> datetime:
        """Let time pass; gives the new time."""
        self.now += timedelta(**length)
        return self.now


def make_desired(item_id: int = 7, **changes: Any) -> DesiredService:
    """A service as sold, on server 1 unless told otherwise."""
    values: dict[str, Any] = {
        "item_id": item_id,
        "server_id": 1,
        "wish": Wish.ENABLED,
        "username": f"user_{item_id}",
        "quota": 1024**3,
    }
    return DesiredService(**(values | changes))


def make_step(kind: StepKind = StepKind.DISABLE, userid: str = "user_7", **changes: Any) -> Step:
    """A step of the account of service 7."""
    return Step(kind, userid, **changes)


def open_sqlite(folder: Path) -> Journal:
    """The journal of a folder, made when it is missing."""
    return open_journal(f"sqlite:///{folder / 'journal.db'}", folder / "journal.key")


def take(journal: Journal, item_id: int = 7, now: datetime = NOW) -> Lease:
    """A lease that nobody else has."""
    lease = journal.leases.acquire(item_id, "test", now)
    assert lease is not None
    return lease


def begin(
    journal: Journal,
    lease: Lease,
    step: Step,
    *,
    server_id: int = 1,
    password: str | None = None,
    now: datetime = NOW,
) -> Begun:
    """Record what is about to be done."""
    return journal.intents.begin(
        lease, server_id, step, before="before", after="after", password=password, now=now
    )


def finish(
    journal: Journal, begun: Begun, outcome: Outcome = Outcome.DONE, *, now: datetime = NOW, **changes: Any
) -> None:
    """Record what became of it."""
    values: dict[str, Any] = {
        "actor": "test",
        "why": "because",
        "wanted": "wanted",
        "observed": "observed",
        "error": None,
    }
    journal.intents.finish(begun, outcome, now=now, **(values | changes))


def do(
    journal: Journal,
    step: Step,
    *,
    item_id: int = 7,
    server_id: int = 1,
    outcome: Outcome = Outcome.DONE,
    now: datetime = NOW,
) -> None:
    """Take a step as far as the journal sees it."""
    lease = take(journal, item_id, now)
    finish(journal, begin(journal, lease, step, server_id=server_id, now=now), outcome, now=now)
    journal.leases.release(lease, now)


@contextlib.contextmanager
def counted_statements(engine: sa.Engine | type[sa.Engine]) -> Iterator[list[str]]:
    """Collects the SQL that is sent meanwhile, transaction control left out."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Do without root's right to read and write every file."""
    change: Callable[[int], None] = os.seteuid
    user = os.geteuid()
    if user == 0:
        change(_NOBODY)
    try:
        yield
    finally:
        change(user)
