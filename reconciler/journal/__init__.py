"""The reconciler's own memory: what it did, what it was about to do, and whose accounts are whose.

No journal, no effect: what cannot be recorded is not done. Losing it costs history only: accounts
are adopted again through the names in billing. Owned by the composition root, used by scan, pass,
guards and the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from reconciler.journal.approvals import Approval, Approvals, Waiting
from reconciler.journal.daemons import DaemonRecord, Daemons
from reconciler.journal.errors import (
    JournalError,
    JournalKeyUnusable,
    JournalTooNew,
    JournalUnavailable,
    LeaseLost,
)
from reconciler.journal.history import History, HistoryEntry
from reconciler.journal.holders import describe_this_process
from reconciler.journal.intents import Begun, Intents, Outcome
from reconciler.journal.keys import make_scratch_key, read_or_create_key
from reconciler.journal.leases import Lease, Leases
from reconciler.journal.overview import Due, Overview
from reconciler.journal.requests import Answer, Request, Requests
from reconciler.journal.rotation import KeyRotation, rotate_key
from reconciler.journal.servers import ServerRecord, Servers
from reconciler.journal.services import CONVERGING, ServiceRecord, Services, Sighting, make_key
from reconciler.journal.store import Store, is_there
from reconciler.journal.tables import intent
from reconciler.journal.usage import NEAR_PERCENT, ServerUsage, ServiceUsage, Usages

__all__ = [
    "CONVERGING",
    "NEAR_PERCENT",
    "Answer",
    "Approval",
    "Begun",
    "DaemonRecord",
    "Due",
    "History",
    "HistoryEntry",
    "Journal",
    "JournalError",
    "JournalKeyUnusable",
    "JournalTooNew",
    "JournalUnavailable",
    "KeyRotation",
    "Lease",
    "LeaseLost",
    "Outcome",
    "Request",
    "ServerRecord",
    "ServerUsage",
    "ServiceRecord",
    "ServiceUsage",
    "Sighting",
    "Waiting",
    "describe_this_process",
    "make_key",
    "open_journal",
    "rotate_key",
]


class Journal:
    """All of the journal, part by part."""

    def __init__(self, store: Store, key_file: Path | None) -> None:
        """Take an opened store; ``key_file`` None makes a key that is forgotten with the process.

        Raises:
            JournalKeyUnusable: the key file cannot be used, or is missing though it is needed.
        """
        self._store: Final = store
        if key_file is None:
            key = make_scratch_key()
        else:
            key = read_or_create_key(key_file, may_create=not _has_passwords(store))
        self.services: Final = Services(store)
        self.intents: Final = Intents(store, key)
        self.leases: Final = Leases(store)
        self.history: Final = History(store)
        self.servers: Final = Servers(store)
        self.overview: Final = Overview(store)
        self.requests: Final = Requests(store)
        self.approvals: Final = Approvals(store)
        self.daemons: Final = Daemons(store)
        self.usage: Final = Usages(store)
        self.mark: Final = key.mark
        self._key: Final = key

    def close(self) -> None:
        """Give up all connections, and the key."""
        self._store.close()
        self._key.close()


def open_journal(url: str, key_file: Path, *, is_dry_run: bool = False) -> Journal:
    """Open the journal, and make it when it is missing.

    Args:
        url: SQLAlchemy URL of the journal.
        key_file: where its key is, or is to be made.
        is_dry_run: make nothing: without a journal yet, start from an empty one in memory; without
            its key, do without as long as nothing is encrypted.

    Raises:
        JournalError: it cannot be used; nothing may be changed then.
    """
    if is_dry_run and not _is_begun(url, key_file):
        return Journal(Store(url, is_scratch=True), None)
    store = Store(url, is_checked=not is_dry_run)
    try:
        is_keyless = is_dry_run and not key_file.exists() and not _has_passwords(store)
        return Journal(store, None if is_keyless else key_file)
    except JournalError:
        store.close()
        raise


def _is_begun(url: str, key_file: Path) -> bool:
    """Whether there is a journal to look into; on a database server its key says so."""
    try:
        return is_there(url) and (url.startswith("sqlite") or key_file.exists())
    except OSError as error:
        raise JournalUnavailable(f"the journal cannot be used: {error.filename}: {error.strerror}") from error


def _has_passwords(store: Store) -> bool:
    """Whether passwords wait in the journal: then its key must not be made anew."""
    with store.read() as connection:
        query = sa.select(intent.c.id).where(intent.c.password.is_not(None)).limit(1)
        return connection.execute(query).first() is not None
