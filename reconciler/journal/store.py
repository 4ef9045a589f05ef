"""Opens the journal's database, brings its schema up to date, and translates its errors.

Used by the classes of this package only; everybody else holds a `reconciler.journal.Journal`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from reconciler.journal.errors import JournalError, JournalTooNew, JournalUnavailable

HEAD: Final = "0004"
"""The newest revision in ``migrations/versions``; a test holds it true."""

_BUSY_SECONDS: Final = 30
_BAD_URL: Final = "journal_url is not the address of a database that can be used"


class Store:
    """The journal's database: transactions for reading and for writing."""

    def __init__(self, url: str, *, is_scratch: bool = False, is_checked: bool = False) -> None:
        """Connect and migrate.

        Args:
            url: SQLAlchemy URL.
            is_scratch: keep everything in memory and forget it: what a dry run starts from when
                there is no journal yet.
            is_checked: read all of SQLite's file and refuse a damaged one (2 ms a megabyte), before anything
                is done because of what the rest of it says.

        Raises:
            JournalUnavailable: it cannot be opened or written, or is damaged.
            JournalTooNew: a newer version of this program wrote it.
        """
        self._shown_url = parse_url(url).render_as_string(hide_password=True)
        # In memory there is one connection, which threads can use one after the other only.
        self._turn: contextlib.AbstractContextManager[object] = (
            threading.RLock() if is_scratch else contextlib.nullcontext()
        )
        # SQLite lets one write, and has the others sleep and look again: our own threads queue up instead.
        self._writing: contextlib.AbstractContextManager[object] = (
            threading.Lock() if url.startswith("sqlite") and not is_scratch else contextlib.nullcontext()
        )
        options: dict[str, Any] = {}
        if is_scratch:
            url = "sqlite://"
            options = {"poolclass": sa.StaticPool, "connect_args": {"check_same_thread": False}}
        elif url.startswith("sqlite"):
            options = {"connect_args": {"timeout": _BUSY_SECONDS}, "pool_size": 32}
        else:
            # MariaDB's default locks the gaps between rows: workers that add rows would deadlock.
            options = {
                "pool_pre_ping": True,
                "pool_size": 16,
                "max_overflow": 32,
                "isolation_level": "READ COMMITTED",
            }
        try:
            self.engine: Final = sa.create_engine(url, **options)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise JournalUnavailable(f"the journal {self._shown_url}: {_BAD_URL}") from error
        if self.engine.dialect.name == "sqlite":
            _prepare_sqlite(self.engine)
        try:
            if is_checked and self.engine.dialect.name == "sqlite":
                self._check()
            self._migrate()
        except JournalError:
            self.close()
            raise

    @contextlib.contextmanager
    def write(self, *, is_lazy: bool = False) -> Iterator[sa.Connection]:
        """A transaction that is committed at its end, and rolled back on any error.

        Args:
            is_lazy: SQLite need not wait for the disk. A power cut may undo it, a crash of this program
                cannot; the next transaction that is not lazy secures it, too. For whatever is found out anew
                by looking again.

        Raises:
            JournalUnavailable: the database refused; nothing was written.
        """
        with self._translated(), self._turn, self._writing, self.engine.connect() as raw:
            connection = raw.execution_options(is_lazy=is_lazy)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads.

        Raises:
            JournalUnavailable: the database refused.
        """
        with self._translated(), self._turn, self.engine.connect() as raw:
            connection = raw.execution_options(is_reader=True)
            yield connection

    def close(self) -> None:
        """Give up all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise JournalUnavailable(
                f"the journal {self._shown_url} cannot be used: {cause}; nothing was changed; check that it "
                "can be written and the disk is not full, or move a broken one away (only history is lost)"
            ) from error

    def _check(self) -> None:
        with self.read() as connection:
            finding = str(connection.execute(sa.text("PRAGMA quick_check(1)")).scalar())
        if finding != "ok":
            raise JournalUnavailable(
                f"the journal {self._shown_url} is damaged ({finding.splitlines()[-1]}); nothing was "
                "changed; move it away and start again (only history is lost)"
            )

    def _migrate(self) -> None:
        with self.read() as connection:
            revision = None
            if sa.inspect(connection).has_table("alembic_version"):
                revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        if revision == HEAD:
            return
        if revision is not None and revision > HEAD:
            raise JournalTooNew(
                f"the journal {self._shown_url} was written by a newer version (revision {revision}, "
                f"known is {HEAD}): upgrade this program, or restore the older journal"
            )
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        with resources.as_file(resources.files("reconciler.journal") / "migrations") as folder:
            config.set_main_option("script_location", str(folder).replace("%", "%%"))
            try:
                with self.write() as connection, _alone(connection):
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
            except CommandError as error:
                raise JournalUnavailable(
                    f"the journal {self._shown_url} cannot be brought up to date: {error}"
                ) from error


@contextlib.contextmanager
def _alone(connection: sa.Connection) -> Iterator[None]:
    """Let other processes wait that want to bring the same journal up to date."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('journal'))")
        yield
    elif connection.dialect.name == "sqlite":
        yield  # BEGIN IMMEDIATE has done it
    else:
        connection.exec_driver_sql("SELECT GET_LOCK(CONCAT(DATABASE(), '.journal'), 60)")
        try:
            yield
        finally:
            connection.exec_driver_sql("DO RELEASE_LOCK(CONCAT(DATABASE(), '.journal'))")


def _prepare_sqlite(engine: sa.Engine) -> None:
    """Real transactions, write-ahead log, every commit on the disk unless it may be lazy."""

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we begin our transactions ourselves, see on_begin
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Half a megabyte, not two: each thread has a connection, and the system caches the file, too.
        connection.execute("PRAGMA cache_size = -512")

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        is_reader = options.get("is_reader", False)
        if not is_reader:
            connection.exec_driver_sql(
                f"PRAGMA synchronous = {'NORMAL' if options.get('is_lazy') else 'FULL'}"
            )
        # Taking the write lock at once avoids the deadlock of two readers that both want to write.
        connection.exec_driver_sql("BEGIN" if is_reader else "BEGIN IMMEDIATE")


def parse_url(url: str) -> sa.URL:
    """The parts of a journal's URL.

    Raises:
        JournalUnavailable: it has none; the URL, which may hold a password, is not repeated.
    """
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise JournalUnavailable(f"the journal: {_BAD_URL}") from error


def is_there(url: str) -> bool:
    """Whether a journal exists at the URL (a database server is believed to have one).

    Raises:
        JournalUnavailable: the URL is none.
        OSError: it cannot be seen.
    """
    parsed = parse_url(url)
    return not parsed.drivername.startswith("sqlite") or Path(parsed.database or "").exists()
