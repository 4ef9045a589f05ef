"""A journal that is damaged, or that somebody else does not let go of: no journal, no effect.

A full disk, a newer journal and others are in tests/acceptance/test_bad_journal.py.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from nc import ServerIdentity
from reconciler.cycle import _Cycle
from reconciler.fleet import CloudServer
from reconciler.journal import JournalUnavailable, store
from reconciler.sandbox.emulator import Call, Fault
from tests.acceptance.daemon.running import wait_until
from tests.acceptance.evidence import check_failure, dump_accounts, dump_rows, invoke
from tests.acceptance.faults.stage import Stage


def test_garbage_in_any_place_of_the_journal(scene: Stage) -> None:
    """The program does not begin with a memory that it cannot trust, whatever part of it is damaged."""
    scene.begin(0)
    world, journal = scene.world, scene.world.land.folder / "journal.db"
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    accounts, billing = (
        [dump_accounts(cloud) for cloud in world.land.clouds],
        dump_rows(world.land.database_url),
    )
    content, noise = journal.read_bytes(), random.Random(0)
    for page in range(1, pages):
        start = page * size
        journal.write_bytes(content[:start] + noise.randbytes(size) + content[start + size :])
        refusal = invoke(world.land.config_path, "once")
        check_failure(
            refusal,
            r"the journal .* (is damaged|cannot be used).* move (it|a broken one) away .*only history",
        )
    assert [dump_accounts(cloud) for cloud in world.land.clouds] == accounts
    assert dump_rows(world.land.database_url) == billing
    assert [cloud.calls for cloud in world.land.clouds] == [[], []]
    journal.rename(journal.with_suffix(".broken"))
    scene.recover()


_LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
for line in sys.stdin:
    connection.execute("BEGIN IMMEDIATE" if line == "lock\\n" else "ROLLBACK")
    print("done", flush=True)
"""


def test_a_journal_that_is_locked_longer_than_is_waited_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process, from our first change on: that one was announced, and nothing further is begun."""
    monkeypatch.setattr(store, "_BUSY_SECONDS", 0.05)
    command = [sys.executable, "-c", _LOCKER, str(stage.world.land.folder / "journal.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as locker:

        def tell(word: str) -> None:
            assert locker.stdin is not None
            assert locker.stdout is not None
            print(word, file=locker.stdin, flush=True)
            assert locker.stdout.readline() == "done\n"

        def lock(call: Call) -> bool:
            if call.is_mutating and len(stage.sick.mutating_calls()) == 1:
                tell("lock")
            return False

        stage.sick.faults.append(Fault(lock))
        with pytest.raises(JournalUnavailable, match=r"database is locked.*; check that"):
            stage.world.once()
        stage.check_nothing_wrong()
        begun = [len(cloud.mutating_calls()) for cloud in stage.world.land.clouds]
        with pytest.raises(JournalUnavailable, match="database is locked"):
            stage.world.once()
        assert [len(cloud.mutating_calls()) for cloud in stage.world.land.clouds] == begun
        tell("unlock")
        assert locker.stdin is not None
        locker.stdin.close()
    monkeypatch.undo()
    stage.recover()


class OneFailsFirst(list[CloudServer]):
    """Servers of which one has failed before the reading of billing begins."""

    def __init__(self, servers: list[CloudServer], cycle: _Cycle) -> None:
        super().__init__(servers)
        self._cycle = cycle

    def __iter__(self) -> Iterator[CloudServer]:
        yield from super().__iter__()
        wait_until(lambda: self._cycle._failure, "one has failed")


def test_a_journal_that_fails_before_billing_is_read_ends_the_cycle(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever for a read that will not be made any more."""
    ensure_ready = CloudServer.ensure_ready
    ended: list[str] = []
    has_begun = threading.Event()

    def fail(server: CloudServer) -> ServerIdentity:
        if server.id == stage.server_id:
            assert has_begun.wait(60)
            raise JournalUnavailable("the disk is full")
        has_begun.set()
        return ensure_ready(server)

    def run() -> None:
        try:
            cycle.run()
        except JournalUnavailable as error:
            ended.append(str(error))

    with stage.world.open() as app:
        cycle = _Cycle(app, "test", None)
        servers = app.fleet.refresh()
        monkeypatch.setattr(CloudServer, "ensure_ready", fail)
        monkeypatch.setattr(app.fleet, "refresh", lambda: OneFailsFirst(servers, cycle))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    assert ended == ["the disk is full"]
    monkeypatch.undo()
    stage.check_nothing_wrong()
    stage.recover()
