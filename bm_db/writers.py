"""Telling BILLmanager what it must know: the promise of a writer, and the one that writes nothing.

`bm_db.mgrctl_writer` is the supported way, `bm_db.sql_writer` the fallback; ``reconciler`` chooses by the
configuration's ``writer``.
"""

from __future__ import annotations

from typing import Final, Protocol

OPERATIONS: Final = frozenset({"open", "suspend", "resume", "setparam", "close"})
"""The operations of BILLmanager whose end it wants to be told."""


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

    def write_operation_done(self, item_id: int, operation: str) -> bool:
        """Tell that BILLmanager's operation on the service is done; False when this writer cannot.

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

    def write_operation_done(self, item_id: int, operation: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """False: nothing is told."""
        return False
