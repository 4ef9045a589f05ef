"""A new journal key: kept passwords stay readable, with the new key only, and nobody uses the old one."""

from __future__ import annotations

import base64
import fcntl
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.journal import (
    Journal,
    JournalError,
    JournalKeyUnusable,
    Outcome,
    keys,
    open_journal,
    rotate_key,
)
from reconciler.journal.keys import changing_key, generate_key, read_or_create_key
from reconciler.journal.tables import intent
from states import StepKind
from tests.integration.journal.conftest import JournalPlace
from tests.integration.journal.test_opening import make_enterable
from tests.unit.reconciler.samples import NOW, as_ordinary_user, begin, finish, make_step, open_sqlite, take

PASSWORDS = {7: "Kf7-wDx2-Lq9-tR4", 8: "пароль 😀", 9: "x" * 500}
OTHER_HOST = "elsewhere/boot.pid/4711/1"


def keep_passwords(journal: Journal) -> None:
    """Three services whose passwords billing lacks."""
    for item_id, password in PASSWORDS.items():
        lease = take(journal, item_id)
        begun = begin(journal, lease, make_step(StepKind.CREATE, f"user_{item_id}"), password=password)
        finish(journal, begun, Outcome.DONE)
        journal.leases.release(lease, NOW)


def read_passwords(journal: Journal) -> dict[int, str]:
    found = {item_id: journal.intents.get_undelivered(item_id) for item_id in PASSWORDS}
    return {item_id: kept[1] for item_id, kept in found.items() if kept}


def rotate(place: JournalPlace) -> str:
    """Change the key; the new one."""
    made = rotate_key(place.url, place.key_file, "operator:test", NOW)
    assert (made.key_file, made.passwords) == (str(place.key_file), len(PASSWORDS))
    return place.key_file.read_text()


def refuse(url: str, key_file: Path, pattern: str, kind: type[JournalError] = JournalError) -> None:
    """Be sure that it is refused with one line, and that the key stays as it is."""
    before = key_file.read_bytes() if key_file.is_file() else None
    with pytest.raises(kind, match=pattern) as caught:
        rotate_key(url, key_file, "operator:test", NOW)
    assert str(caught.value).isprintable()
    assert (key_file.read_bytes() if key_file.is_file() else None) == before
    assert not list(key_file.parent.glob(".*.new"))


@pytest.fixture
def kept(place: JournalPlace) -> JournalPlace:
    """A journal that keeps passwords, and that nobody has open."""
    journal = place.open()
    keep_passwords(journal)
    journal.close()
    return place


@pytest.fixture
def lone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JournalPlace:
    """The same on SQLite, where the product of the database adds nothing; nobody waits long."""
    monkeypatch.setattr(keys, "_CHANGE_SECONDS", 0.1)
    place = JournalPlace("sqlite", f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "journal.key")
    journal = place.open()
    keep_passwords(journal)
    journal.close()
    place.engine.dispose()
    return place


def test_every_kept_password_is_readable_with_the_new_key_and_with_no_other(kept: JournalPlace) -> None:
    query = sa.select(intent.c.id, intent.c.password).order_by(intent.c.id)
    old, before = kept.key_file.read_text(), kept.query(query)
    new = rotate(kept)
    assert len(base64.urlsafe_b64decode(new.strip())) == 32
    assert new != old
    journal = kept.open()
    assert read_passwords(journal) == PASSWORDS
    after = kept.query(query)
    assert [row[0] for row in after] == [row[0] for row in before]
    assert not {row[1] for row in after} & {row[1] for row in before}
    [entry] = journal.history.list_entries(0)
    assert (entry.actor, entry.action, entry.at) == ("operator:test", "rotate-key", NOW)
    assert entry.why == "3 passwords that are kept were encrypted anew"
    journal.close()
    kept.key_file.write_text(old)
    with pytest.raises(JournalKeyUnusable, match="does not fit the journal"):
        read_passwords(kept.open())


def test_a_journal_that_keeps_nothing_gets_a_new_key_too(place: JournalPlace) -> None:
    place.open().close()
    old = place.key_file.read_text()
    assert rotate_key(place.url, place.key_file, "operator:test", NOW).passwords == 0
    assert place.key_file.read_text() != old


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440])
def test_owner_and_mode_stay(lone: JournalPlace, mode: int) -> None:
    lone.key_file.chmod(mode)
    if os.geteuid() == 0:
        os.chown(lone.key_file, 65534, 65533)
    before = lone.key_file.stat()
    rotate(lone)
    after = lone.key_file.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (mode, before.st_uid, before.st_gid)
    assert [path.name for path in lone.key_file.parent.iterdir() if "key" in path.name] == ["journal.key"]


def test_a_link_stays_one(lone: JournalPlace, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real.key"
    real.parent.mkdir()
    lone.key_file.rename(real)
    lone.key_file.symlink_to(real)
    old = real.read_text()
    assert rotate(lone) == real.read_text() != old
    assert lone.key_file.is_symlink()


def test_nothing_that_the_old_key_decrypts_is_left_in_sqlites_files(lone: JournalPlace) -> None:
    journal = lone.open()
    for item_id in range(100, 160):
        lease = take(journal, item_id)
        finish(journal, begin(journal, lease, make_step(StepKind.CREATE, "x"), password="x" * 20))
        journal.leases.release(lease, NOW)
    # The first characters are a version and a time, the same in all of them.
    old_texts = [str(row[0])[20:60].encode() for row in lone.query(sa.select(intent.c.password))]
    journal.close()
    with closing(sqlite3.connect(lone.key_file.with_name("journal.db"))) as connection, connection:
        connection.execute("PRAGMA secure_delete = OFF")  # some builds of SQLite have it on
        connection.execute("UPDATE intent SET password = NULL WHERE item_id >= 100")  # as a delivery does
    lone.engine.dispose()

    def find_old() -> list[bytes]:
        content = b"".join(path.read_bytes() for path in lone.key_file.parent.glob("journal.db*"))
        return [text for text in old_texts if text in content]

    assert len(find_old()) > len(PASSWORDS), "in free pages there are those of delivered passwords, too"
    rotate(lone)
    assert find_old() == []


def test_a_change_that_was_cut_off_is_finished_by_the_next(lone: JournalPlace) -> None:
    old, halfway = lone.key_file.read_text().strip(), generate_key().decode()
    lone.key_file.write_text(f"{halfway}\n{old}\n")
    (lone.key_file.parent / ".journal.key.new").write_text("half a k")
    journal = lone.open()
    assert read_passwords(journal) == PASSWORDS
    lease = take(journal, 11)
    finish(journal, begin(journal, lease, make_step(StepKind.CREATE, "user_11"), password="meanwhile"))
    journal.leases.release(lease, NOW)
    journal.close()
    made = rotate_key(lone.url, lone.key_file, "operator:test", NOW)
    assert (made.was_unfinished, made.passwords) == (True, len(PASSWORDS) + 1)
    new = lone.key_file.read_text()
    assert len(new.split()) == 1
    assert new.strip() not in {old, halfway}
    journal = lone.open()
    assert read_passwords(journal) == PASSWORDS
    found = journal.intents.get_undelivered(11)
    assert found is not None
    assert found[1] == "meanwhile"


# -- who else works with it


def test_it_is_refused_while_the_key_is_in_use(lone: JournalPlace) -> None:
    journal = lone.open()
    refuse(lone.url, lone.key_file, "is in use: end the daemon", JournalKeyUnusable)
    reader = open_journal(lone.url, lone.key_file, is_dry_run=True)
    journal.close()
    refuse(lone.url, lone.key_file, "is in use: end the daemon", JournalKeyUnusable)
    reader.close()
    rotate(lone)


def test_a_command_that_is_about_to_end_is_waited_for(
    lone: JournalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_CHANGE_SECONDS", 60.0)
    journal = lone.open()
    timer = threading.Timer(0.2, journal.close)
    timer.start()
    rotate(lone)
    timer.join()


def test_a_journal_that_is_dropped_without_being_closed_does_not_keep_its_key_for_ever(
    lone: JournalPlace,
) -> None:
    open_sqlite(lone.key_file.parent)
    rotate(lone)


def test_whoever_opens_the_journal_meanwhile_waits_and_gets_the_new_key(lone: JournalPlace) -> None:
    new = generate_key()
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(lone.open().mark("x")))
    with changing_key(lone.key_file) as file:
        file.replace([new, *file.keys])
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "a file that takes the place of the locked one is locked, too"
        file.replace([new])
    thread.join(60)
    assert found == [keys.JournalKey(new, name="new").mark("x")]


def test_a_key_that_is_replaced_between_opening_and_locking_it_is_read_anew(
    lone: JournalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = generate_key()
    lock = fcntl.flock
    replaced: list[Path] = []

    def replace_first(descriptor: int, operation: int) -> None:
        if not replaced:
            replaced.append(lone.key_file.with_name("draft"))
            replaced[0].write_bytes(new)
            replaced[0].replace(lone.key_file)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", replace_first)
    assert read_or_create_key(lone.key_file, may_create=False).mark("x") == keys.JournalKey(
        new, name=""
    ).mark("x")


def test_whoever_waits_in_vain_is_told_why(lone: JournalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_USE_SECONDS", 0.1)
    with (
        changing_key(lone.key_file),
        pytest.raises(
            JournalKeyUnusable, match="is being changed since 0 s: wait for `reconciler rotate-key`"
        ),
    ):
        lone.open()


def test_it_is_refused_while_a_daemon_runs_on_another_host(lone: JournalPlace) -> None:
    journal = lone.open()
    journal.daemons.beat(OTHER_HOST, NOW, NOW, {})
    journal.close()
    refuse(lone.url, lone.key_file, "a daemon runs on elsewhere: end it first")
    journal = lone.open()
    journal.daemons.leave(OTHER_HOST)
    journal.close()
    rotate(lone)


def test_it_is_refused_while_a_service_is_worked_on_elsewhere_until_its_lease_is_over(
    lone: JournalPlace,
) -> None:
    journal = lone.open()
    assert journal.leases.acquire(7, OTHER_HOST, NOW)
    journal.close()
    refuse(lone.url, lone.key_file, "service 7 is being worked on by elsewhere: .*latest at 12:15:00 UTC")
    made = rotate_key(lone.url, lone.key_file, "operator:test", NOW + timedelta(minutes=16))
    assert made.passwords == len(PASSWORDS)


# -- what cannot be used


def spoil_content(path: Path) -> None:
    path.write_text("no key\n")


def spoil_key(path: Path) -> None:
    path.write_bytes(generate_key())


@pytest.mark.parametrize(
    ("spoil", "pattern"),
    [
        (Path.unlink, "cannot be read: No such file or directory; restore it"),
        (spoil_content, "holds no journal key: restore the right file"),
        (spoil_key, "does not fit the journal: restore the key file"),
    ],
)
def test_a_key_that_is_not_the_journals_changes_nothing(
    lone: JournalPlace, spoil: Callable[[Path], None], pattern: str
) -> None:
    query = sa.select(intent.c.password).order_by(intent.c.id)
    before = lone.query(query)
    spoil(lone.key_file)
    refuse(lone.url, lone.key_file, pattern, JournalKeyUnusable)
    assert lone.query(query) == before


def test_without_a_journal_there_is_nothing_to_change(tmp_path: Path) -> None:
    key_file = tmp_path / "journal.key"
    key_file.write_bytes(generate_key())
    refuse(f"sqlite:///{tmp_path / 'journal.db'}", key_file, "there is no journal yet")
    assert [path.name for path in tmp_path.iterdir()] == ["journal.key"]


def test_a_folder_that_cannot_be_written_loses_no_password(lone: JournalPlace, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    key_file = folder / "journal.key"
    lone.key_file.rename(key_file)
    # The journal itself can be written by anybody, so that the folder of the key is all that is in the way.
    for path in [tmp_path, *tmp_path.glob("journal.db*"), key_file]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    make_enterable(tmp_path)
    folder.chmod(0o555)
    with as_ordinary_user():
        refuse(lone.url, key_file, "cannot be replaced: Permission denied; no password is lost")
    folder.chmod(0o755)
    journal = open_journal(lone.url, key_file)
    assert read_passwords(journal) == PASSWORDS
    journal.close()
