"""How the journal's own writes reach the disk."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from reconciler.journal import open_journal
from reconciler.journal.store import Store
from states import Step, StepKind
from tests.unit.reconciler.samples import NOW, make_desired

FULL, NORMAL = 2, 1


def read_synchronous(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())


def test_only_lazy_transactions_do_not_wait_for_the_disk(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'journal.db'}")
    for is_lazy, wanted in ((False, FULL), (True, NORMAL), (True, NORMAL), (False, FULL)):
        with store.write(is_lazy=is_lazy) as connection:
            assert read_synchronous(connection) == wanted, (
                "also on a connection that was used otherwise before"
            )
    store.close()


def test_an_intent_is_on_the_disk_before_its_call_is_made(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO intent"):
            seen.append(read_synchronous(connection))

    journal = open_journal(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "key")
    journal.services.note_desired([make_desired(7)], NOW)
    held = journal.leases.acquire(7, "worker", NOW)
    assert held is not None
    sa.event.listen(sa.Engine, "before_cursor_execute", look)
    try:
        step = Step(StepKind.DISABLE, "user_7")
        journal.intents.begin(held, 1, step, before="", after="", password=None, now=NOW)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", look)
    assert seen == [FULL]
    journal.close()
