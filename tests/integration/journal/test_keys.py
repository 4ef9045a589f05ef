"""The key file: made once, readable by its owner only, and never replaced while passwords need it."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from reconciler.journal import Journal, JournalKeyUnusable, JournalUnavailable, Outcome, open_journal
from reconciler.journal.keys import JournalKey, make_scratch_key, read_or_create_key
from states import StepKind
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import (
    NOW,
    PASSWORD,
    as_ordinary_user,
    begin,
    finish,
    make_desired,
    make_step,
    open_sqlite,
    take,
)

WORKERS = 6
ROUNDS = 40


def add_password(journal: Journal) -> None:
    lease = take(journal)
    finish(journal, begin(journal, lease, make_step(StepKind.CREATE), password=PASSWORD), Outcome.DONE)
    journal.leases.release(lease, NOW)


def fail_to_read(path: Path, *, may_create: bool = True) -> str:
    with pytest.raises(JournalKeyUnusable) as caught:
        read_or_create_key(path, may_create=may_create)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_key_is_made_for_its_owner_only(tmp_path: Path) -> None:
    open_sqlite(tmp_path).close()
    file = tmp_path / "journal.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir() if "key" in each.name] == ["journal.key"]


def test_key_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = read_or_create_key(path, may_create=True)
    content = path.read_bytes()
    second = read_or_create_key(path, may_create=True)
    third = read_or_create_key(path, may_create=False)
    assert path.read_bytes() == content
    assert second.decrypt(first.encrypt(PASSWORD)) == PASSWORD
    assert third.mark("a") == first.mark("a")


def test_missing_key_is_made_anew_while_no_password_needs_it(tmp_path: Path) -> None:
    journal = open_sqlite(tmp_path)
    add_password(journal)
    journal.intents.mark_delivered(take(journal), NOW)
    journal.close()
    (tmp_path / "journal.key").unlink()
    open_sqlite(tmp_path).close()
    assert (tmp_path / "journal.key").exists()


def test_missing_key_is_refused_while_passwords_wait(place: JournalPlace) -> None:
    add_password(place.open())
    place.key_file.unlink()
    with pytest.raises(JournalKeyUnusable) as caught:
        place.open()
    assert str(place.key_file) in str(caught.value)
    assert "restore" in str(caught.value)
    assert not place.key_file.exists()


@pytest.mark.parametrize("content", [b"", b"secret-text", b"\xff\xfe\x00", b"A" * 44, b"A" * 100_000])
def test_content_that_is_no_key_is_named_and_never_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    assert fail_to_read(path) == f"{path} holds no journal key: restore the right file"
    assert path.read_bytes() == content


def test_key_that_cannot_be_made_or_read_is_named_with_the_cure(tmp_path: Path) -> None:
    assert "cannot be made: No such file or directory; make its folder" in fail_to_read(
        tmp_path / "no" / "key"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "cannot be read: Is a directory" in fail_to_read(folder)
    missing = fail_to_read(tmp_path / "gone", may_create=False)
    assert "cannot be read: No such file or directory; restore it" in missing


def test_key_of_somebody_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    read_or_create_key(path, may_create=True)
    path.chmod(0)
    with as_ordinary_user():
        assert "Permission denied" in fail_to_read(path)


def test_workers_that_make_the_key_at_once_end_up_with_the_same(tmp_path: Path) -> None:
    for turn in range(ROUNDS):
        path = tmp_path / f"key{turn}"
        marks: list[str] = []
        start = threading.Barrier(WORKERS)

        def run(path: Path = path, marks: list[str] = marks, start: threading.Barrier = start) -> None:
            start.wait(20)
            try:
                marks.append(read_or_create_key(path, may_create=True).mark("same"))
            except JournalKeyUnusable as error:
                marks.append(str(error))

        threads = [threading.Thread(target=run) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(marks) == WORKERS
        assert len(set(marks)) == 1, marks
    assert len(list(tmp_path.iterdir())) == ROUNDS  # nothing but the keys is left behind


def test_password_of_any_characters_comes_back() -> None:
    key = make_scratch_key()
    for password in ("", PASSWORD, "пароль 😀\0\n", "x" * 10_000):
        assert key.decrypt(key.encrypt(password)) == password


def test_same_password_looks_different_every_time() -> None:
    key = make_scratch_key()
    assert key.encrypt(PASSWORD) != key.encrypt(PASSWORD)


def test_password_of_another_key_is_refused_by_name() -> None:
    with pytest.raises(JournalKeyUnusable, match="the scratch key does not fit the journal"):
        make_scratch_key().decrypt(make_scratch_key().encrypt(PASSWORD))


def test_mark_is_equal_for_equal_values_under_the_same_key_only(tmp_path: Path) -> None:
    journal, other = open_sqlite(tmp_path), make_scratch_key()
    mark = journal.mark("https://cloud.example", "admin", PASSWORD)
    assert mark == journal.mark("https://cloud.example", "admin", PASSWORD)
    assert mark != journal.mark("https://cloud.example", "admin", PASSWORD + "1")
    assert mark != journal.mark("https://cloud.example", "adminK", PASSWORD[1:])
    assert mark != other.mark("https://cloud.example", "admin", PASSWORD)
    assert PASSWORD not in mark
    assert len(mark) == 64
    journal.close()


def test_repr_names_the_file_and_not_the_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = read_or_create_key(path, may_create=True)
    assert repr(key) == f"JournalKey('{path}')"
    assert isinstance(key, JournalKey)


def test_dry_run_makes_no_file_and_no_key(tmp_path: Path) -> None:
    url, key_file = f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "journal.key"
    journal = open_journal(url, key_file, is_dry_run=True)
    add_password(journal)
    assert journal.intents.list_undelivered() == {7}
    assert list(tmp_path.iterdir()) == []
    journal.close()
    again = open_journal(url, key_file, is_dry_run=True)
    assert again.intents.list_undelivered() == set()
    again.close()


def test_dry_run_reads_the_journal_that_is_there(place: JournalPlace) -> None:
    add_password(place.open())
    journal = open_journal(place.url, place.key_file, is_dry_run=True)
    found = journal.intents.get_undelivered(7)
    assert found is not None
    assert found[1] == PASSWORD
    journal.close()


@pytest.mark.parametrize("place", ["mariadb", "postgres"], indirect=True)
def test_dry_run_on_a_server_without_a_journal_leaves_it_empty(place: JournalPlace) -> None:
    journal = open_journal(place.url, place.key_file, is_dry_run=True)
    assert journal.services.list_all() == []
    journal.close()
    assert place.list_tables() == set()
    assert not place.key_file.exists()


def test_dry_run_without_the_key_reads_the_journal_as_long_as_nothing_is_encrypted(tmp_path: Path) -> None:
    first = open_sqlite(tmp_path)
    first.services.note_desired([make_desired(7)], NOW)
    key_file = tmp_path / "journal.key"
    key_file.unlink()
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    journal = open_journal(url, key_file, is_dry_run=True)
    assert journal.services.get(7) is not None
    journal.close()
    assert not key_file.exists()
    add_password(first)
    first.close()
    with pytest.raises(JournalKeyUnusable, match="restore it"):
        open_journal(url, key_file, is_dry_run=True)


def test_dry_run_that_cannot_see_the_journal_does_not_take_it_for_missing(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    open_sqlite(folder).close()
    folder.chmod(0)
    with as_ordinary_user(), pytest.raises(JournalUnavailable, match="Permission denied"):
        open_journal(f"sqlite:///{folder / 'journal.db'}", folder / "journal.key", is_dry_run=True)
