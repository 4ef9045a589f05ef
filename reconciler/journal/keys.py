"""The journal's key: encrypts the passwords that wait for their delivery.

A Fernet key in a file of its own, made at the first start, readable by its owner only. While it is being
changed (`reconciler.journal.rotation`) the file holds several, the new one first: it encrypts, and all of
them decrypt. Whoever uses the key keeps the file locked, shared; whoever changes it has it alone. So nobody
goes on encrypting with a key that is about to be forgotten.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hmac
import os
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from reconciler.journal.errors import JournalKeyUnusable

_LARGEST_FILE: Final = 64 * 1024
_USE_SECONDS: Final = 60.0
"""How long whoever needs the key waits until it is changed."""
_CHANGE_SECONDS: Final = 2.0
"""How long whoever changes it waits for commands that are about to end."""
_LOOK_SECONDS: Final = 0.05
_CANNOT_LOCK: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


class JournalKey:
    """Encrypts and decrypts the passwords in the journal."""

    def __init__(self, key: bytes, *, name: str, lock: int | None = None) -> None:
        """Take a key.

        Args:
            key: Fernet key text (32 bytes in URL-safe base64), or several of them, the newest first.
            name: what messages call it.
            lock: a descriptor that is to be closed when the key is no longer used.

        Raises:
            JournalKeyUnusable: it is no such key.
        """
        self._name: Final = name
        self._release = None if lock is None else weakref.finalize(self, os.close, lock)
        self._mark_key: Final = key.split()[0] if key.split() else b""
        try:
            self._fernet: Final = MultiFernet([Fernet(each) for each in key.split()])
        except ValueError as error:
            self.close()
            raise JournalKeyUnusable(f"{name} holds no journal key: restore the right file") from error

    def __repr__(self) -> str:
        return f"JournalKey({self._name!r})"

    def close(self) -> None:
        """Let others change it; nothing may be encrypted with it afterwards."""
        if self._release is not None:
            self._release()

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


class KeyFile:
    """The key file, while somebody has it alone to change it."""

    def __init__(self, path: Path, content: bytes, stat: os.stat_result, locks: contextlib.ExitStack) -> None:
        """Take a file that is locked; ``locks`` keeps what replaces it locked, too."""
        self._path: Final = path
        self._stat: Final = stat
        self._locks: Final = locks
        self.keys: Final = content.split()
        """The keys in it, the newest first."""

    def replace(self, keys: Sequence[bytes]) -> None:
        """Put these keys in the place of what is there, all at once; owner and mode stay.

        Raises:
            OSError: it cannot be done; what was there is still there.
        """
        draft = self._path.with_name(f".{self._path.name}.new")
        draft.unlink(missing_ok=True)  # of a change that was killed
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._locks.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            made = os.fstat(descriptor)
            if (made.st_uid, made.st_gid) != (self._stat.st_uid, self._stat.st_gid):
                os.fchown(descriptor, self._stat.st_uid, self._stat.st_gid)
            os.fchmod(descriptor, self._stat.st_mode & 0o7777)
            os.write(descriptor, b"".join(key + b"\n" for key in keys))
            os.fsync(descriptor)
            draft.replace(self._path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _sync_folder(self._path.parent)


def generate_key() -> bytes:
    """The text of a new key."""
    return Fernet.generate_key()


def read_or_create_key(path: Path, *, may_create: bool) -> JournalKey:
    """The key in a file, which is made when it is missing and may be made.

    Raises:
        JournalKeyUnusable: missing and not to be made, unreadable, not a key, or being changed without end.
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
        descriptor = _open_locked(path, fcntl.LOCK_SH, _USE_SECONDS)
        try:
            content = os.pread(descriptor, _LARGEST_FILE, 0)
        except OSError:
            os.close(descriptor)
            raise
    except BlockingIOError as error:
        raise JournalKeyUnusable(
            f"the journal key {path} is being changed since {_USE_SECONDS:.0f} s: "
            "wait for `reconciler rotate-key` to end, or end it"
        ) from error
    except OSError as error:
        raise JournalKeyUnusable(
            f"the journal key {path} cannot be read: {error.strerror}; restore it, or make it readable"
        ) from error
    return JournalKey(content, name=str(path), lock=descriptor)


@contextlib.contextmanager
def changing_key(path: Path) -> Iterator[KeyFile]:
    """Have the key file alone; whoever wants to use the key meanwhile waits.

    Raises:
        JournalKeyUnusable: it is in use on this machine, missing, or cannot be read.
    """
    place = path.resolve()  # a link stays one
    with contextlib.ExitStack() as locks:
        try:
            descriptor = _open_locked(place, fcntl.LOCK_EX, _CHANGE_SECONDS)
            locks.callback(os.close, descriptor)
            content, stat = os.pread(descriptor, _LARGEST_FILE, 0), os.fstat(descriptor)
        except BlockingIOError as error:
            raise JournalKeyUnusable(
                f"the journal key {path} is in use: end the daemon and other commands of this program on "
                "this machine (systemctl stop bill-nextcloud-reconciler), then try again"
            ) from error
        except OSError as error:
            raise JournalKeyUnusable(
                f"the journal key {path} cannot be read: {error.strerror}; restore it, or make it readable"
            ) from error
        yield KeyFile(place, content, stat, locks)


def _open_locked(path: Path, lock: int, seconds: float) -> int:
    """Open a file and lock it, once it is sure that it was not replaced meanwhile.

    Raises:
        BlockingIOError: others did not let go of it in time.
        OSError: it cannot be opened, or not be locked alone.
    """
    deadline = time.monotonic() + seconds
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise
            time.sleep(_LOOK_SECONDS)
        except OSError as error:
            if lock == fcntl.LOCK_SH and error.errno in _CANNOT_LOCK:
                return descriptor  # a filesystem without locks: its key cannot be changed, that is all
            os.close(descriptor)
            raise
        os.close(descriptor)


def _create_key(path: Path) -> None:
    """Make the file with its whole content at once: another process may read it at the same moment."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _sync_folder(folder: Path) -> None:
    """Have the disk know which file is there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_scratch_key() -> JournalKey:
    """A key for a journal that is kept in memory only."""
    return JournalKey(generate_key(), name="the scratch key")
