"""What the databases' own failures become: one of bm_db.errors, its cause kept, no secret in it."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from bm_db import errors, open_billing
from bm_db.engine import Database
from reconciler.sandbox.billing_data import SandboxBilling, open_sandbox_engine
from tests.databases import DatabaseServer
from tests.integration.bm_db.conftest import BillingUnderTest, Maker

SECRET = "Tr0ub4dor&3"
SERVERS = ["mariadb", "postgres"]


@contextmanager
def opened(url: str, password: str | None = None, **options: int) -> Iterator[Database]:
    database = Database(url, password, **options)
    try:
        yield database
    finally:
        database.close()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def url(server: DatabaseServer, make_database: Callable[[str], str]) -> str:
    return make_database(server.kind)


def create_user(server: DatabaseServer, database: str) -> str:
    """A user with the password SECRET who may connect and nothing else."""
    name = f"u_{database}"
    if server.kind == "mariadb":
        server.execute(
            f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{SECRET}'",
            f"GRANT CREATE TEMPORARY TABLES ON {database}.* TO {name}@'127.0.0.1'",
        )
    else:
        server.execute(
            "DO $$ BEGIN CREATE ROLE password_users;"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
            f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}' IN ROLE password_users",
        )
    return name


def fail(database: Database, statement: str, expected: type[errors.BillingError]) -> errors.BillingError:
    with pytest.raises(errors.BillingError) as caught, database.reading() as connection:
        connection.execute(text(statement))
    assert type(caught.value) is expected
    assert isinstance(caught.value.__cause__, SQLAlchemyError)
    assert "\n" not in str(caught.value)
    return caught.value


def test_refused_connection_names_host_database_and_cure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for scheme in ("mysql+mysqldb", "postgresql+psycopg"):
            with opened(f"{scheme}://reader@127.0.0.1:{port}/billmgr", SECRET) as database:
                failure = fail(database, "SELECT 1", errors.BillingUnreachable)
            assert f"billing database billmgr on 127.0.0.1:{port} cannot be reached" in str(failure)
            assert "database_url" in str(failure)
            assert failure.is_transient
            assert SECRET not in "".join(traceback.format_exception(failure))


@pytest.mark.parametrize("scheme", ["mysql+mysqldb", "postgresql+psycopg"])
def test_server_that_never_answers_is_given_up(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with opened(f"{scheme}://reader@127.0.0.1:{port}/billmgr", connect_timeout_seconds=2) as database:
            fail(database, "SELECT 1", errors.BillingUnreachable)
        assert time.monotonic() - began < 30


def test_unknown_host_is_unreachable() -> None:
    for scheme in ("mysql+mysqldb", "postgresql+psycopg"):
        with opened(f"{scheme}://reader@nowhere.invalid/billmgr") as database:
            assert "nowhere.invalid" in str(fail(database, "SELECT 1", errors.BillingUnreachable))


def test_wrong_password_is_access_denied_and_right_one_is_not(server: DatabaseServer, url: str) -> None:
    name = url.rpartition("/")[2]
    user_url = server.get_url(name, user=create_user(server, name))
    with opened(user_url, "wrong-Password-1") as database:
        failure = fail(database, "SELECT 1", errors.BillingAccessDenied)
    assert not failure.is_transient
    assert "password" in str(failure)
    assert "wrong-Password-1" not in "".join(traceback.format_exception(failure))
    with opened(user_url, SECRET) as database:
        assert SECRET not in repr(database)
        with database.reading() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
        server.execute("CREATE TABLE account (id INTEGER)", database=name)
        denied = fail(database, "SELECT id FROM account", errors.BillingAccessDenied)
        assert "GRANT" in str(denied)


def test_password_in_the_url_is_used_and_never_shown(server: DatabaseServer, url: str) -> None:
    name = url.rpartition("/")[2]
    user = create_user(server, name)
    with_password = server.get_url(name, user=f"{user}:{SECRET.replace('&', '%26')}")
    billing = open_billing(with_password, password=None, private_key_pem=None)
    with pytest.raises(errors.SchemaMismatch):
        billing.list_servers()
    assert SECRET not in repr(billing)
    billing.close()


def test_unknown_database_is_unreachable(server: DatabaseServer) -> None:
    with opened(server.get_url("no_such_database")) as database:
        failure = fail(database, "SELECT 1", errors.BillingUnreachable)
    assert "no_such_database" in str(failure)


def test_missing_table_and_column_are_a_mismatch(server: DatabaseServer, url: str) -> None:
    with opened(url) as database:
        assert "no_such_table" in str(fail(database, "SELECT 1 FROM no_such_table", errors.SchemaMismatch))
        with database.writing() as connection:
            connection.execute(text("CREATE TABLE item (id INTEGER)"))
        assert "no_such_column" in str(
            fail(database, "SELECT no_such_column FROM item", errors.SchemaMismatch)
        )


def test_database_that_was_made_read_only_is_not_written_all_the_same(
    postgres: DatabaseServer, make_database: Callable[[str], str]
) -> None:
    url = make_database("postgres")
    with opened(url) as database, database.writing() as connection:
        connection.execute(text("CREATE TABLE item (id INTEGER)"))
    postgres.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
    with opened(url) as database:
        with database.reading() as connection:  # the connection that is used again
            connection.execute(text("SELECT id FROM item"))
        with pytest.raises(errors.BillingAccessDenied, match="read-only"), database.writing() as connection:
            connection.execute(text("INSERT INTO item VALUES (1)"))


def test_refused_statement_is_neither_retried_nor_called_unreachable(
    server: DatabaseServer, url: str
) -> None:
    with opened(url) as database:
        failure = fail(database, "SELEKT 1", errors.BillingStatementFailed)
        assert not failure.is_transient


def test_lost_connection_is_unreachable_and_the_next_one_works(server: DatabaseServer, url: str) -> None:
    get_id, kill = {
        "mariadb": ("SELECT CONNECTION_ID()", "KILL {}"),
        "postgres": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
    }[server.kind]
    with opened(url) as database:

        def read_until_it_breaks() -> None:
            with database.reading() as connection:
                server.execute(kill.format(connection.execute(text(get_id)).scalar()))
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline:  # the server needs a moment to notice
                    connection.execute(text("SELECT 1"))

        with pytest.raises(errors.BillingUnreachable) as caught:
            read_until_it_breaks()
        assert caught.value.is_transient
        with database.reading() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1


def test_idle_connection_that_was_closed_is_replaced_unnoticed(server: DatabaseServer, url: str) -> None:
    get_id, kill = {
        "mariadb": ("SELECT CONNECTION_ID()", "KILL {}"),
        "postgres": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)"),
    }[server.kind]
    with opened(url) as database:
        with database.reading() as connection:
            process_id = connection.execute(text(get_id)).scalar()
        server.execute(kill.format(process_id))
        with database.reading() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1


def test_slow_statement_is_ended_and_busy(server: DatabaseServer, url: str) -> None:
    slow = {
        "mariadb": "SELECT COUNT(*) FROM seq_1_to_100000 a, seq_1_to_100000 b WHERE a.seq * b.seq % 7 = 3",
        "postgres": "SELECT pg_sleep(60)",
    }[server.kind]
    with opened(url, statement_timeout_seconds=1) as database:
        began = time.monotonic()
        failure = fail(database, slow, errors.BillingBusy)
        assert failure.is_transient
        assert time.monotonic() - began < 30


def test_lock_that_is_not_freed_is_busy(server: DatabaseServer, url: str) -> None:
    with opened(url, statement_timeout_seconds=1) as database:
        with database.writing() as connection:
            connection.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY)"))
        with database.writing() as connection:
            connection.execute(text("INSERT INTO item VALUES (1)"))
        with closing(server.connect(url.rpartition("/")[2])) as holder:
            cursor = holder.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT id FROM item FOR UPDATE")
            with pytest.raises(errors.BillingBusy), database.writing() as connection:
                connection.execute(text("SELECT id FROM item FOR UPDATE"))
            cursor.execute("ROLLBACK")


def test_deadlock_is_busy(server: DatabaseServer, url: str) -> None:
    with opened(url, statement_timeout_seconds=20) as database:
        with database.writing() as connection:
            connection.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY, status INTEGER)"))
        with database.writing() as connection:
            connection.execute(text("INSERT INTO item VALUES (1, 0), (2, 0)"))
        both_hold_one = threading.Barrier(2)
        failures: list[errors.BillingError] = []

        def change(first: int, second: int) -> None:
            try:
                with database.writing() as connection:
                    connection.execute(text(f"UPDATE item SET status = 1 WHERE id = {first}"))
                    both_hold_one.wait()
                    connection.execute(text(f"UPDATE item SET status = 1 WHERE id = {second}"))
            except errors.BillingError as exc:
                failures.append(exc)

        threads = [threading.Thread(target=change, args=pair) for pair in ((1, 2), (2, 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [type(failure) for failure in failures] == [errors.BillingBusy]


def test_no_free_connection_is_busy(server: DatabaseServer, url: str) -> None:
    with opened(url, statement_timeout_seconds=1) as database:
        held = [database.reading() for _ in range(20)]
        for each in held:
            each.__enter__()
        fail(database, "SELECT 1", errors.BillingBusy)
        for each in held:
            each.__exit__(None, None, None)


def test_failed_block_is_undone(server: DatabaseServer, url: str) -> None:
    with opened(url) as database:
        with database.writing() as connection:
            connection.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY)"))
        with suppress(KeyError), database.writing() as connection:
            connection.execute(text("INSERT INTO item VALUES (1)"))
            raise KeyError
        with database.reading() as connection:
            assert connection.execute(text("SELECT COUNT(*) FROM item")).scalar() == 0


def test_socket_of_mariadb_is_used_and_named(mariadb: DatabaseServer) -> None:
    with (
        opened(f"mariadb://root@localhost/mysql?unix_socket={mariadb.socket}") as database,
        database.reading() as connection,
    ):
        assert connection.execute(text("SELECT 1")).scalar() == 1
    with opened("mysql://root@localhost/billmgr?unix_socket=/nowhere/mysql.sock") as database:
        assert "on /nowhere/mysql.sock" in str(fail(database, "SELECT 1", errors.BillingUnreachable))


def test_rows_beyond_the_basic_plane_survive(world: BillingUnderTest) -> None:
    world.sandbox.add_plan("Plan", 1, group="Группа 🎈")
    assert world.billing.list_tariff_groups() == {"Группа 🎈"}


def test_missing_sqlite_file_is_unreachable_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "billing.db"
    with opened(f"sqlite:///{path}") as database:
        failure = fail(database, "SELECT 1", errors.BillingUnreachable)
    assert str(path) in str(failure)
    assert not path.exists()


def test_file_that_is_no_database_is_unreachable(tmp_path: Path) -> None:
    path = tmp_path / "billing.db"
    path.write_text("This is not a database, whatever it is called. " * 100)
    with opened(f"sqlite:///{path}") as database:
        fail(database, "SELECT 1 FROM sqlite_master", errors.BillingUnreachable)


def test_failures_of_sqlite_statements(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    with opened(world.url, connect_timeout_seconds=1) as database:
        fail(database, "SELECT 1 FROM no_such_table", errors.SchemaMismatch)
        fail(database, "SELECT no_such_column FROM item", errors.SchemaMismatch)
        fail(database, "INSERT INTO item (no_such_column) VALUES (1)", errors.SchemaMismatch)
        fail(database, "SELEKT 1", errors.BillingStatementFailed)
        with (
            database.writing(),
            opened(world.url, connect_timeout_seconds=1) as other,
            pytest.raises(errors.BillingBusy),
            other.writing(),
        ):
            pass
        with database.writing() as connection:
            connection.execute(text("INSERT INTO measure (intname) VALUES ('bit')"))


def test_path_with_odd_characters_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a #b %20c.db"
    engine = open_sandbox_engine(f"sqlite:///{path}")
    SandboxBilling(engine, "live")
    engine.dispose()
    billing = open_billing(f"sqlite:///{path}", password="unused", private_key_pem=None)
    assert billing.list_servers() == []
    billing.close()


def test_bound_values_are_in_no_message_and_no_traceback(make_billing: Maker) -> None:
    world = make_billing("live", "sqlite")
    with opened(world.url) as database:
        with pytest.raises(errors.SchemaMismatch) as caught, database.reading() as connection:
            connection.execute(text("SELECT 1 FROM no_such_table WHERE x = :value"), {"value": SECRET})
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_password_in_a_servers_text_is_taken_out(
    postgres: DatabaseServer, make_database: Callable[[str], str]
) -> None:
    # PostgreSQL lets its administrator in whatever the password, and repeats the table's name.
    with opened(make_database(postgres.kind), "hunter22") as database:
        failure = fail(database, "SELECT 1 FROM hunter22", errors.SchemaMismatch)
    assert "hunter22" not in str(failure)
    assert "***" in str(failure)
