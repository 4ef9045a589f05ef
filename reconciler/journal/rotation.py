"""Changes the journal's key: every password that is kept is encrypted anew. For `reconciler rotate-key`.

Wherever it is cut off, each password can be decrypted: the key file holds the new and the old key before the
first password is changed, all of them change in one transaction, and the old key goes only after that. A
change that was cut off is finished by the next one.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from reconciler.journal.daemons import Daemons
from reconciler.journal.errors import JournalError, JournalKeyUnusable, JournalUnavailable
from reconciler.journal.holders import is_gone
from reconciler.journal.keys import JournalKey, KeyFile, changing_key, generate_key
from reconciler.journal.store import Store, is_there
from reconciler.journal.tables import history, intent, lease

_ACTION: Final = "rotate-key"
_NO_SERVICE: Final = 0


@dataclass(frozen=True, slots=True)
class KeyRotation:
    """A key that was changed.

    Attributes:
        key_file: where it is.
        passwords: how many were encrypted anew.
        was_unfinished: an earlier change had been cut off.
    """

    key_file: str
    passwords: int
    was_unfinished: bool


def rotate_key(url: str, key_file: Path, actor: str, now: datetime) -> KeyRotation:
    """Make a new key for the journal at a URL.

    Raises:
        JournalKeyUnusable: the key is in use, missing, does not fit, or its file cannot be changed.
        JournalError: the journal cannot be used, or somebody works with it.
    """
    with changing_key(key_file) as file:
        if not is_there(url):
            raise JournalUnavailable("there is no journal yet: it and its key are made at the first start")
        old = JournalKey(b"\n".join(file.keys), name=str(key_file))
        store = Store(url)
        try:
            _refuse_while_used(store, now)
            passwords = _change(store, file, old, key_file, actor, now)
            if store.engine.dialect.name == "sqlite":
                _forget_old_pages(store, key_file)
        finally:
            store.close()
        return KeyRotation(str(key_file), passwords, was_unfinished=len(file.keys) > 1)


def _refuse_while_used(store: Store, now: datetime) -> None:
    """Other machines cannot see our lock; whoever works there is known from the journal."""
    hosts = sorted({daemon.host for daemon in Daemons(store).list_running(now)})
    if hosts:
        raise JournalError(
            f"a daemon runs on {', '.join(hosts)}: end it first, it would go on with the old key"
        )
    with store.read() as connection:
        held = connection.execute(sa.select(lease).where(lease.c.expires_at > now)).all()
    for row in held:
        if not is_gone(row.holder):
            raise JournalError(
                f"service {row.item_id} is being worked on by {row.holder.partition('/')[0]}: "
                f"try again when that has ended, at the latest at {row.expires_at:%H:%M:%S} UTC"
            )


def _change(store: Store, file: KeyFile, old: JournalKey, key_file: Path, actor: str, now: datetime) -> int:
    new = generate_key()
    cipher = JournalKey(new, name=str(key_file))
    try:
        with store.write() as connection:
            rows = connection.execute(
                sa.select(intent.c.id, intent.c.password)
                .where(intent.c.password.is_not(None))
                .with_for_update()
            ).all()
            renewed = [{"key": row.id, "text": cipher.encrypt(old.decrypt(row.password))} for row in rows]
            file.replace([new, *file.keys])
            if renewed:
                connection.execute(
                    sa.update(intent)
                    .where(intent.c.id == sa.bindparam("key"))
                    .values(password=sa.bindparam("text")),
                    renewed,
                )
            connection.execute(
                sa.insert(history).values(
                    item_id=_NO_SERVICE,
                    at=now,
                    actor=actor,
                    action=_ACTION,
                    wanted="",
                    observed="",
                    result="done",
                    why=f"{len(renewed)} passwords that are kept were encrypted anew",
                )
            )
        file.replace([new])
    except OSError as error:
        raise JournalKeyUnusable(
            f"the journal key {key_file} cannot be replaced: {error.strerror}; no password is lost; "
            "run this as a user who may write into its folder"
        ) from error
    return len(renewed)


def _forget_old_pages(store: Store, key_file: Path) -> None:
    """Write SQLite's file anew: in free pages and in its log stands what the old key decrypts."""
    try:
        connection = store.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.close()
        finally:
            connection.close()
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise JournalUnavailable(
            f"the journal key {key_file} is new, but the journal's file could not be written anew ({error}): "
            "it may still hold what the old key decrypts; run this again"
        ) from error
