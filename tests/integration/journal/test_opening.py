"""A journal that cannot be used: one clear line, never a secret, and nothing is made or changed."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.journal import Journal, JournalUnavailable, open_journal
from reconciler.journal import store as store_module
from tests.databases import DatabaseServer, Kind, running_server
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import NOW, as_ordinary_user, make_desired, open_sqlite

SECRET = "s3cret-Journal-password"


def fail(act: Callable[[], object]) -> str:
    """The one line that an unusable journal is told with."""
    with pytest.raises(JournalUnavailable) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    assert "journal" in message
    return message


def fail_to_open(url: str, folder: Path) -> str:
    message = fail(lambda: open_journal(url, folder / "journal.key"))
    assert SECRET not in message
    assert not (folder / "journal.key").exists()
    return message


@pytest.mark.parametrize("place_of_file", ["missing/journal.db", "file/journal.db", "folder"])
def test_place_where_no_file_can_be_is_named(tmp_path: Path, place_of_file: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    message = fail_to_open(f"sqlite:///{tmp_path / place_of_file}", tmp_path)
    assert str(tmp_path / place_of_file) in message
    assert "unable to open database file" in message
    assert "nothing was changed" in message


def make_enterable(folder: Path) -> None:
    """Let other users get as far as the folder."""
    for parent in folder.parents:
        if parent.owner() == "root" and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o055)


def test_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    make_enterable(tmp_path)
    tmp_path.chmod(0o555)
    try:
        with as_ordinary_user():
            message = fail_to_open(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path)
    finally:
        tmp_path.chmod(0o755)
    assert "unable to open database file" in message


def test_file_that_may_not_be_written_changes_nothing(tmp_path: Path) -> None:
    make_enterable(tmp_path)
    open_sqlite(tmp_path).close()
    tmp_path.chmod(0o777)
    (tmp_path / "journal.db").chmod(0o444)
    (tmp_path / "journal.key").chmod(0o444)
    with as_ordinary_user():

        def write() -> None:
            with closing(open_sqlite(tmp_path)) as journal:
                journal.services.note_desired([make_desired(7)], NOW)

        assert "readonly database" in fail(write)


@pytest.mark.parametrize("content", [b"this is no database" * 1000, bytes(range(256)) * 64])
def test_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "journal.db"
    file.write_bytes(content)
    message = fail_to_open(f"sqlite:///{file}", tmp_path)
    assert str(file) in message
    assert "file is not a database" in message
    assert file.read_bytes() == content


def test_damaged_file_is_named(tmp_path: Path) -> None:
    with closing(open_sqlite(tmp_path)) as journal:
        journal.services.note_desired((make_desired(item) for item in range(1, 3000)), NOW)
    file = tmp_path / "journal.db"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(size - 4096))

    def read() -> None:
        with closing(open_sqlite(tmp_path)) as journal:
            journal.services.list_all()

    assert "malformed" in fail(read)


def test_file_locked_by_somebody_else_is_told_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.05)
    with (
        closing(open_sqlite(tmp_path)) as journal,
        closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as other,
    ):
        journal.services.note_desired([make_desired(7)], NOW)
        other.execute("BEGIN IMMEDIATE")
        message = fail(lambda: journal.services.note_desired([make_desired(8)], NOW))
        assert "database is locked" in message
        assert len(journal.services.list_all()) == 1  # who only reads waits for nobody
        journal.services.note_desired([make_desired(7)], NOW)  # nor does who has nothing new to write
        open_sqlite(tmp_path).close()
        other.execute("ROLLBACK")
        journal.services.note_desired([make_desired(8)], NOW)
        assert len(journal.services.list_all()) == 2


@pytest.mark.parametrize(
    "url", [f"nonsense {SECRET}", "", f"mysql+mysqldb://user:{SECRET}@host:port/journal"]
)
@pytest.mark.parametrize("is_dry_run", [False, True])
def test_url_that_is_none_is_told_without_what_it_holds(tmp_path: Path, url: str, is_dry_run: bool) -> None:
    message = fail(lambda: open_journal(url, tmp_path / "journal.key", is_dry_run=is_dry_run))
    assert "journal_url is not the address of a database" in message
    assert SECRET not in message


@pytest.mark.parametrize("driver", ["nosuchdatabase", "sqlite+nosuchdriver", "mysql+pymysql"])
def test_url_of_a_database_that_has_no_driver_here_is_named(tmp_path: Path, driver: str) -> None:
    message = fail_to_open(f"{driver}://user:{SECRET}@host/journal", tmp_path)
    assert f"{driver}://user:***@host/journal: journal_url is not" in message


@pytest.mark.parametrize("driver", ["mysql+mysqldb", "postgresql+psycopg"])
def test_server_that_is_not_there_is_named_without_the_password(tmp_path: Path, driver: str) -> None:
    with socket.socket() as bound:  # bound and not listening: nobody answers there
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        message = fail_to_open(f"{driver}://user:{SECRET}@127.0.0.1:{port}/journal", tmp_path)
    assert f"{driver}://user:***@127.0.0.1:{port}/journal" in message


def make_user(server: DatabaseServer) -> None:
    if server.kind == "mariadb":
        server.execute("CREATE OR REPLACE USER journal_user@'127.0.0.1' IDENTIFIED BY 'right'")
        return
    server.execute(
        """DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'password_users') THEN
            CREATE ROLE password_users; END IF;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'journal_user') THEN
            CREATE ROLE journal_user LOGIN PASSWORD 'right' IN ROLE password_users; END IF;
        END $$"""
    )


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_refused_password_is_told_and_not_shown(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    server: DatabaseServer = request.getfixturevalue(kind)
    make_user(server)
    name = server.create_database()
    try:
        url = server.get_url(name, user=f"journal_user:{SECRET}")
        message = fail_to_open(url, tmp_path)
    finally:
        server.drop_database(name)
    assert "journal_user" in message
    assert "denied" in message or "authentication failed" in message


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_database_that_is_not_there_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    server: DatabaseServer = request.getfixturevalue(kind)
    assert "no_such_database" in fail_to_open(server.get_url("no_such_database"), tmp_path)


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_server_that_dies_stops_reading_and_writing(tmp_path: Path, kind: Kind) -> None:
    with running_server(kind) as server:
        url = server.get_url(server.create_database())
        with closing(open_journal(url, tmp_path / "journal.key")) as journal:
            journal.services.note_desired([make_desired(7)], NOW)
            server.kill()
            assert "cannot be used" in fail(lambda: journal.services.get(7))
            assert "cannot be used" in fail(lambda: journal.services.hold(7, "why", "ann", NOW))


def test_failed_transaction_writes_nothing_at_all(journal: Journal) -> None:
    too_much = make_desired(8, server_id=2**70)
    journal.services.note_desired([make_desired(7)], NOW)
    with pytest.raises((JournalUnavailable, OverflowError)):
        journal.services.note_desired([make_desired(9), too_much], NOW)
    assert [record.item_id for record in journal.services.list_all()] == [7]


def test_texts_of_every_script_fit_into_a_database_of_an_old_server(
    mariadb: DatabaseServer, tmp_path: Path
) -> None:
    name = mariadb.create_database()
    try:
        mariadb.execute(f"ALTER DATABASE {name} CHARACTER SET latin1")
        with closing(open_journal(mariadb.get_url(name), tmp_path / "journal.key")) as journal:
            journal.services.hold(7, "переезд 😀", "анна", NOW)
            journal.services.note_desired([make_desired(7)], NOW)
            assert journal.services.load([7])[7].memory.hold_reason == "переезд 😀"
    finally:
        mariadb.drop_database(name)


def test_two_openings_of_one_journal_see_each_other(place: JournalPlace) -> None:
    one, other = place.open(), place.open()
    one.services.note_desired([make_desired(7)], NOW)
    assert other.services.get(7) is not None


def test_journal_of_a_dry_run_can_be_used_by_several_threads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    with closing(open_journal(url, tmp_path / "journal.key", is_dry_run=True)) as journal:

        def work(server_id: int) -> None:
            for _ in range(20):
                journal.servers.update(server_id, product="nextcloud")
                assert journal.servers.get(server_id).product == "nextcloud"

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(1, 9)))
        assert len(journal.servers.list_all()) == 8
    assert list(tmp_path.iterdir()) == []
