"""Puts the parts together from a configuration. Called by the command line; tests call it too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from bm_db import Billing, BillingWriter, MgrctlWriter, ReadOnlyWriter, SqlWriter
from reconciler.billing_access import open_billing_of
from reconciler.clock import Clock, system_clock
from reconciler.config import Config, read_secret
from reconciler.fleet import Fleet, OnCall
from reconciler.journal import Journal, open_journal
from reconciler.passes import Reconciler


class Application:
    """Everything one run needs, opened in the order in which it depends on each other."""

    def __init__(
        self,
        config: Config,
        *,
        is_dry_run: bool = False,
        clock: Clock = system_clock,
        on_call: OnCall | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
        billing: Billing | None = None,
    ) -> None:
        """Open billing database and journal; no server is called yet.

        Args:
            config: a checked configuration.
            is_dry_run: nothing will be changed: a journal that is missing is not made.
            clock: gives the time.
            on_call: told of every request to a cloud server.
            is_stopping: whether the program is about to end: passes then begin no further step.

        Raises:
            ConfigInvalid: a file it names cannot be read.
            BillingError, JournalError: what they concern cannot be used.
        """
        self.config: Final = config
        self.is_stopping: Final = is_stopping
        self.clock: Final = clock
        self.billing: Final = open_billing_of(config) if billing is None else billing
        self.writer: Final = _open_writer(config, self.billing)
        self.journal: Final = _open_journal(config, is_dry_run=is_dry_run)
        self.fleet: Final = Fleet(self.billing, self.journal, config, clock, on_call)
        self.comparing: Final = threading.Lock()
        """Held while a server's accounts are compared: that takes memory, and one core does one at a time."""
        self.reconciler: Final = Reconciler(
            self.billing, self.writer, self.journal, self.fleet, config, clock, is_stopping
        )

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up sessions and connections."""
        self.fleet.close()
        self.journal.close()
        self.billing.close()


def _open_writer(config: Config, billing: Billing) -> BillingWriter:
    if config.billmanager.writer == "mgrctl":
        return MgrctlWriter(billing, config.billmanager.mgrctl)
    return SqlWriter(billing) if config.billmanager.writer == "sql" else ReadOnlyWriter()


def _open_journal(config: Config, *, is_dry_run: bool) -> Journal:
    return open_journal(get_journal_url(config), config.reconciler.journal_key_file, is_dry_run=is_dry_run)


def get_journal_url(config: Config) -> str:
    """Where the journal is, with its password.

    Raises:
        ConfigInvalid: the password's file cannot be read.
    """
    section = config.reconciler
    if section.journal_password_file is None:
        return section.journal_url
    password = read_secret(section.journal_password_file)
    return sa.make_url(section.journal_url).set(password=password).render_as_string(hide_password=False)
