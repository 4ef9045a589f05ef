"""The journal's key: encrypts the passwords that wait for their delivery.

A Fernet key in a file of its own, made at the first start, readable by its owner only.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import tempfile
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from reconciler.journal.errors import JournalKeyUnusable


class JournalKey:
    """Encrypts and decrypts the passwords in the journal."""

    def __init__(self, key: bytes, *, name: str) -> None:
        """Take a key.

        Args:
            key: Fernet key text (32 bytes in URL-safe base64).
            name: what messages call it.

        Raises:
            JournalKeyUnusable: it is no such key.
        """
        self._name: Final = name
        self._mark_key: Final = key.strip()
        try:
            self._fernet: Final = Fernet(key.strip())
        except ValueError as error:
            raise JournalKeyUnusable(f"{name} holds no journal key: restore the right file") from error

    def __repr__(self) -> str:
        return f"JournalKey({self._name!r})"

    def mark(self, *secrets: str) -> str:
        """A mark of some values: equal for equal ones, and useless to guess them without the key."""
        return hmac.new(self._mark_key, "\0".join(secrets).encode(), "sha256").hexdigest()

    def encrypt(self, password: str) -> str:
        """A password as the journal keeps it."""
        return self._fernet.encrypt(password.encode()).decode()

    def decrypt(self, ciphertext: str) -> str:
        """The password kept in the journal.

        Raises:
            JournalKeyUnusable: it was encrypted with another key.
        """
        try:
            return self._fernet.decrypt(ciphertext.encode()).decode()
        except InvalidToken as error:
            raise JournalKeyUnusable(
                f"{self._name} does not fit the journal: restore the key file that belongs to it"
            ) from error


def read_or_create_key(path: Path, *, may_create: bool) -> JournalKey:
    """The key in a file, which is made when it is missing and may be made.

    Raises:
        JournalKeyUnusable: missing and not to be made, unreadable, or not a key.
    """
    if may_create:
        try:
            if not path.exists():
                _create_key(path)
        except OSError as error:
            raise JournalKeyUnusable(
                f"the journal key {path} cannot be made: {error.strerror}; make its folder writable once"
            ) from error
    try:
        return JournalKey(path.read_bytes(), name=str(path))
    except OSError as error:
        raise JournalKeyUnusable(
            f"the journal key {path} cannot be read: {error.strerror}; restore it, or make it readable"
        ) from error


def _create_key(path: Path) -> None:
    """Make the file with its whole content at once: another process may read it at the same moment."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def make_scratch_key() -> JournalKey:
    """A key for a journal that is kept in memory only."""
    return JournalKey(Fernet.generate_key(), name="the scratch key")
