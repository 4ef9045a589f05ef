"""Telling BILLmanager what it must know: the promise of a writer, and the one that writes nothing.

`bm_db.mgrctl_writer` is the supported way, `bm_db.sql_writer` the fallback; ``reconciler`` chooses by the
configuration's ``writer``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Protocol

from bm_db.cards import Card
from bm_db.usage_writer import Usage


class BillingWriter(Protocol):
    """Writes to BILLmanager. Every call may be repeated: the result is the same."""

    @property
    def can_write(self) -> bool:
        """Whether anything is written at all."""

    def write_credentials(
        self,
        item_id: int,
        *,
        username: str | None = None,
        password: str | None = None,
        url: str | None = None,
    ) -> None:
        """Save what the client sees on the service's card; each value that is given, the password encrypted.

        Raises:
            BillingError: not everything was saved.
        """

    def write_card(self, item_id: int, card: Card) -> None:
        """Save what the card says of the account; each text that is given.

        Raises:
            BillingError: not everything was saved.
        """

    def write_operation_done(self, item_id: int, operation: str) -> bool:
        """Tell that BILLmanager's operation on the service is done; False when this writer cannot.

        Raises:
            BillingError: BILLmanager was not told.
        """

    def write_usage(self, server_id: int, day: date, usage: Iterable[Usage]) -> int:
        """Record what a server's services use on a day; a second time replaces the first.

        Returns:
            How many rows were new or differed.

        Raises:
            BillingError: not everything was recorded; what was stays so.
        """

    def write_usage_complete(self, server_id: int, day: date) -> bool:
        """Tell that a server's usage of a day is complete; False when this writer cannot.

        Raises:
            BillingError: BILLmanager was not told.
        """


class ReadOnlyWriter:
    """For ``writer = "none"``: leaves BILLmanager as it is."""

    can_write = False

    def write_credentials(
        self,
        item_id: int,
        *,
        username: str | None = None,
        password: str | None = None,
        url: str | None = None,
    ) -> None:
        """Nothing."""

    def write_card(self, item_id: int, card: Card) -> None:
        """Nothing."""

    def write_operation_done(self, item_id: int, operation: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """False: nothing is told."""
        return False

    def write_usage(self, server_id: int, day: date, usage: Iterable[Usage]) -> int:  # noqa: ARG002 - the protocol's signature
        """0: nothing is written."""
        return 0

    def write_usage_complete(self, server_id: int, day: date) -> bool:  # noqa: ARG002 - the protocol's signature
        """False: nothing is told."""
        return False
