"""Connections to the billing database: SQLAlchemy engines for mysqlclient, psycopg 3 and SQLite.

Owns time-outs, character set, pooling and the two kinds of transactions; `bm_db.failures` names what goes
wrong in them. Called by `bm_db.billing` and `bm_db.sql_writer`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from bm_db.errors import DatabaseUrlInvalid
from bm_db.failures import DatabaseAddress, translated_failures

CONNECT_TIMEOUT_SECONDS: Final = 10
STATEMENT_TIMEOUT_SECONDS: Final = 60
_POOL_SIZE: Final = 4
_POOL_OVERFLOW: Final = 16
_DRIVERS: Final = {
    "mysql": "mysql+mysqldb",
    "mysql+mysqldb": "mysql+mysqldb",
    "mariadb": "mariadb+mysqldb",
    "mariadb+mysqldb": "mariadb+mysqldb",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
}
_URL_CURE: Final = "write for example mysql+mysqldb://reconciler@localhost/billmgr"


class Database:
    """The billing database: opens transactions, and names every failure of theirs. Thread-safe.

    Connects when it is first used. The password is in no message and no repr.
    """

    def __init__(
        self,
        database_url: str,
        password: str | None,
        *,
        connect_timeout_seconds: int = CONNECT_TIMEOUT_SECONDS,
        statement_timeout_seconds: int = STATEMENT_TIMEOUT_SECONDS,
    ) -> None:
        """Prepare an engine; nothing is connected.

        Raises:
            DatabaseUrlInvalid: not an URL, another driver, or no database named.
        """
        url = _read_url(database_url, password)
        self._engine = _make_engine(url, connect_timeout_seconds, statement_timeout_seconds)
        self.address = DatabaseAddress.of(url)

    def __repr__(self) -> str:
        return f"Database({self.address})"

    @property
    def dialect_name(self) -> str:
        """``mysql``, ``mariadb``, ``postgresql`` or ``sqlite``."""
        return self._engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only transaction in which everything is seen as of one moment.

        Raises:
            BillingError: whatever failed, by its situation.
        """
        with translated_failures(self.address), self._engine.connect() as opened:
            connection = opened
            if self.dialect_name == "postgresql":
                connection = opened.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            elif self.dialect_name != "sqlite":
                connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed at the end of the block, and undone when the block fails.

        Raises:
            BillingError: whatever failed, by its situation.
        """
        with (
            translated_failures(self.address),
            self._engine.connect().execution_options(is_writing=True) as connection,
        ):
            if self.dialect_name == "postgresql":
                # SQLAlchemy makes READ WRITE of what a read before has set, and so would write into a
                # database that its administrator has made read-only.
                driver: Any = connection.connection.dbapi_connection
                driver.read_only = None
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()


def _read_url(database_url: str, password: str | None) -> URL:
    """The URL with its driver and password settled."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError) as exc:
        raise DatabaseUrlInvalid(f"database_url is not a database URL: {_URL_CURE}") from exc
    drivername = _DRIVERS.get(url.drivername)
    if drivername is None:
        raise DatabaseUrlInvalid(
            f"database_url cannot use {url.drivername}: use mysql+mysqldb, postgresql+psycopg or sqlite"
        )
    if not url.database:
        raise DatabaseUrlInvalid(f"database_url names no database: {_URL_CURE}")
    url = url.set(drivername=drivername)
    if password is not None and drivername != "sqlite":
        url = url.set(password=password)
    return url


def _make_engine(url: URL, connect_timeout_seconds: int, statement_timeout_seconds: int) -> Engine:
    # hide_parameters: SQLAlchemy would otherwise print bound values, passwords among them, in its exceptions.
    options: dict[str, Any] = {
        "hide_parameters": True,
        "pool_pre_ping": True,
        "pool_size": _POOL_SIZE,
        "max_overflow": _POOL_OVERFLOW,
        "pool_timeout": statement_timeout_seconds,
    }
    if url.drivername == "sqlite":
        engine = create_engine(
            url, creator=lambda: _open_sqlite(str(url.database), connect_timeout_seconds), **options
        )
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if url.drivername == "postgresql+psycopg":
        limits = (f"-c {name}={statement_timeout_seconds}s" for name in ("statement_timeout", "lock_timeout"))
        # Keep-alives: a host that vanished without a word is noticed while we wait for its answer.
        connect_args = {
            "connect_timeout": connect_timeout_seconds,
            "options": " ".join(limits),
            "keepalives_idle": connect_timeout_seconds,
            "keepalives_interval": connect_timeout_seconds,
            "keepalives_count": 3,
        }
        return create_engine(url, connect_args=connect_args, **options)
    if "charset" not in url.query:
        url = url.update_query_dict({"charset": "utf8mb4"})
    # The server ends a statement first; the socket's limit is for a server that does not answer at all.
    silence_seconds = statement_timeout_seconds + connect_timeout_seconds
    connect_args = {
        "connect_timeout": connect_timeout_seconds,
        "read_timeout": silence_seconds,
        "write_timeout": silence_seconds,
    }
    engine = create_engine(url, connect_args=connect_args, isolation_level="REPEATABLE READ", **options)

    def limit_statements(connection: Any, _record: object) -> None:
        # MariaDB counts seconds, MySQL milliseconds (and only of reads).
        is_mariadb = "mariadb" in connection.get_server_info().lower()
        limit = (
            f"max_statement_time={statement_timeout_seconds}"
            if is_mariadb
            else f"max_execution_time={statement_timeout_seconds * 1000}"
        )
        cursor = connection.cursor()
        cursor.execute(f"SET SESSION {limit}, innodb_lock_wait_timeout={statement_timeout_seconds}")
        cursor.close()

    event.listen(engine, "connect", limit_statements)
    return engine


def _open_sqlite(path: str, busy_timeout_seconds: int) -> sqlite3.Connection:
    """Open a database file that exists (SQLite itself would make an empty one)."""
    connection = sqlite3.connect(
        f"file:{quote(str(Path(path).absolute()))}?mode=rw",
        uri=True,
        timeout=busy_timeout_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    # One value that is not UTF-8 must not end the reading of all the others.
    connection.text_factory = lambda content: content.decode("utf-8", "replace")
    return connection


def _begin_sqlite(connection: Connection) -> None:
    # The driver begins a transaction only before a write; a snapshot for reading needs an explicit one. A
    # writer takes its lock at once: two that read first could not both go on.
    is_writing = connection.get_execution_options().get("is_writing", False)
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if is_writing else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")
