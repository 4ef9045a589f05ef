"""A billing database that fails over, has deadlocks, or takes no changes.

One that cannot be reached, is restarted, or refuses us: in test_bad_billing.py and the daemon's tests.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bm_db.errors import BillingUnreachable
from reconciler.application import Application
from reconciler.cycle import run_cycle
from reconciler.scan import read_desired
from states import ServiceState
from tests.acceptance.conftest import MakeWorld
from tests.acceptance.daemon.running import wait_until
from tests.acceptance.faults.stage import Stage
from tests.databases import DatabaseServer, restartable_server, running_server


@pytest.fixture(params=["mariadb", "postgres"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def stage(make_world: MakeWorld, server: DatabaseServer) -> Stage:
    return Stage(make_world(kind=server.kind))


def get_database(stage: Stage) -> str:
    return sa.make_url(stage.world.land.database_url).database or ""


# -- failing over


class Killer:
    """Kills the program's connection right before one of the statements of a complete read."""

    def __init__(self, app: Application, server: DatabaseServer, place: int | None) -> None:
        """``place``: before which statement, from 0; None: before none, to count them."""
        self.count = 0
        self._server, self._place = server, place
        self._list, app.billing.list_services = app.billing.list_services, self._read  # type: ignore[method-assign]
        self._is_reading = False
        sa.event.listen(app.billing.database._engine, "before_cursor_execute", self._meet)

    def _read(self, **options: Any) -> Iterator[Any]:
        self._is_reading = True
        try:
            yield from self._list(**options)
        finally:
            self._is_reading = False

    def _meet(self, connection: sa.Connection, *_: object) -> None:
        if self._is_reading:
            if self.count == self._place:
                self._kill(connection.connection.dbapi_connection)
            self.count += 1

    def _kill(self, driver: Any) -> None:
        if self._server.kind == "mariadb":
            process_id = driver.thread_id()
            self._server.execute(f"KILL {process_id}")
            is_there = f"SELECT COUNT(*) FROM information_schema.processlist WHERE id = {process_id}"
        else:
            process_id = driver.info.backend_pid
            self._server.execute(f"SELECT pg_terminate_backend({process_id})")
            is_there = f"SELECT COUNT(*) FROM pg_stat_activity WHERE pid = {process_id}"
        wait_until(lambda: ask(self._server, is_there) == 0, "it is gone")


def ask(server: DatabaseServer, query: str) -> object:
    with closing(server.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        return cursor.fetchone()[0]


def test_a_database_that_fails_over_in_the_middle_of_a_complete_read(
    stage: Stage, server: DatabaseServer
) -> None:
    """At whatever statement: half a read is none, and nobody is taken for gone because of it."""
    world = stage.world
    with world.open() as app:
        app.fleet.refresh()  # the first read of all looks at the schema, too
        counter = Killer(app, server, None)
        read_desired(app, is_dry_run=True)
    assert counter.count > 3
    for place in range(counter.count):
        with world.open() as app:
            Killer(app, server, place)
            with pytest.raises(BillingUnreachable, match=r"billing database .* cannot be reached .*: check"):
                run_cycle(app)
            assert not app.reconciler.guards.get_read_verdict().is_suspicious
        assert [cloud.mutating_calls() for cloud in world.land.clouds] == [[], []]
        world.wait(minutes=1)
    stage.recover()


# -- deadlocks


def test_a_deadlock_with_another_writer(stage: Stage, server: DatabaseServer) -> None:
    """We are the one that the database sacrifices: the password waits, and is delivered later."""
    world, item = stage.world, stage.mine.fresh
    if server.kind == "postgres":
        # Whoever has waited so long looks for deadlocks, and gives up: that is to be us.
        server.execute(f"ALTER DATABASE {get_database(stage)} SET deadlock_timeout = '2s'")
    with closing(server.connect(get_database(stage))) as other:
        cursor = other.cursor()
        begin_heavy_transaction(server, cursor, item)
        cycle = threading.Thread(target=world.once)
        cycle.start()
        wait_until(lambda: is_waiting(server, get_database(stage)), "we wait for the other one")
        cursor.execute(f"SELECT id FROM item WHERE id = {item} FOR UPDATE")
        cursor.execute("COMMIT")
        cycle.join(60)
    assert not cycle.is_alive()
    stage.check_nothing_wrong()
    stage.check_served(stage.others)
    record = stage.read_records()[item]
    assert record.memory.state is ServiceState.BACKOFF
    assert "did not finish in time" in (record.last_error or "")
    assert "deadlock" in (record.last_error or "").lower()
    account = world.get_account(item)
    assert account is not None
    assert world.billing.get_params(item) == {}
    stage.recover()
    assert world.get_account(item) is account


def begin_heavy_transaction(server: DatabaseServer, cursor: Any, item: int) -> None:
    """One that keeps us from adding parameters of a service, and is too large to be sacrificed."""
    if server.kind == "mariadb":
        cursor.execute("CREATE TABLE ballast (number INTEGER)")
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO ballast SELECT seq FROM seq_1_to_1000")
        cursor.execute(f"SELECT id FROM itemparam WHERE item = {item} FOR UPDATE")
    else:
        cursor.execute("SET deadlock_timeout = '10min'")
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE itemparam IN SHARE ROW EXCLUSIVE MODE")


def is_waiting(server: DatabaseServer, database: str) -> bool:
    """Whether somebody waits for a lock while he has the service's row."""
    if server.kind == "mariadb":
        time.sleep(0.15)  # this table is renewed only when nobody has read it for a tenth of a second
        query = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    else:
        query = (
            "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            f"AND datname = '{database}' AND query LIKE 'INSERT INTO itemparam%'"
        )
    return ask(server, query) != 0


# -- read-only


@dataclass(frozen=True)
class ReadOnly:
    """How a database is made read-only, what it is called then, and how that ends."""

    stage: Stage
    begin: Callable[[], None]
    end: Callable[[], None]
    words: str


@pytest.fixture
def read_only_mariadb(make_world: MakeWorld) -> Iterator[ReadOnly]:
    """A server of its own: the setting is the whole server's."""
    with running_server("mariadb") as server:
        database = server.create_database()
        server.execute("CREATE USER writer@'127.0.0.1'", f"GRANT ALL ON {database}.* TO writer@'127.0.0.1'")
        world = make_world(database_url=server.get_url(database))
        url = {"billmanager": {"database_url": server.get_url(database, user="writer")}}
        yield ReadOnly(
            Stage(world, url),
            lambda: server.execute("SET GLOBAL read_only = 1"),
            lambda: server.execute("SET GLOBAL read_only = 0"),
            "running with the --read-only option",
        )
        world.billing.engine.dispose()


@pytest.fixture
def read_only_postgres(make_world: MakeWorld) -> Iterator[ReadOnly]:
    """A server that becomes a standby, and is promoted again."""
    with restartable_server("postgres") as server:
        world = make_world(database_url=server.server.get_url(server.server.create_database()))

        def degrade() -> None:
            world.billing.engine.dispose()
            server.stop()
            (Path(server.server.socket) / "data" / "standby.signal").touch()
            server.start()

        def promote() -> None:
            server.server.execute("SELECT pg_promote()")
            world.billing.engine.dispose()

        yield ReadOnly(Stage(world), degrade, promote, "in a read-only transaction")
        world.billing.engine.dispose()


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_a_database_that_takes_no_changes(request: pytest.FixtureRequest, kind: str) -> None:
    """A replica after a fail-over: everything else is done, and the passwords wait."""
    database: ReadOnly = request.getfixturevalue(f"read_only_{kind}")
    stage, world = database.stage, database.stage.world
    fresh = [stage.mine.fresh, stage.others.fresh]
    database.begin()
    for _ in range(2):
        report = world.once()
        stage.check_nothing_wrong()
        world.wait(minutes=2)
    assert [record.item_id for record in report.attention] == sorted(fresh)
    for record in report.attention:
        assert record.memory.state is ServiceState.BACKOFF
        assert re.search(f"refused access .*{database.words}", record.last_error or ""), record.last_error
    for services in (stage.mine, stage.others):
        accounts = [world.get_account(item) for item in (services.unpaid, services.upgraded, services.closed)]
        assert [account and (account.is_enabled, account.quota_definition) for account in accounts] == [
            (False, "5 GB"),
            (True, "50 GB"),
            None,
        ]
    passwords = [account.password for account in map(world.get_account, fresh) if account]
    database.end()
    stage.recover()
    assert [world.billing.get_password(item) for item in fresh] == passwords
