"""Tells BILLmanager what it lacks: credentials, URL, an operation's end. Called by `reconciler.passes`."""

from __future__ import annotations

from typing import Final

from bm_db import BillingWriter
from reconciler.journal import Journal
from reconciler.one_pass import OnePass
from states import Ownership, ServiceState, Wish


class Delivery:
    """The last step of a pass, and of a password's reset."""

    def __init__(self, writer: BillingWriter, journal: Journal, *, is_observing: bool) -> None:
        """``is_observing``: mode "observe", in which nothing is written."""
        self._writer: Final = writer
        self._journal: Final = journal
        self._is_observing: Final = is_observing

    def tell(self, one: OnePass) -> None:
        """Step 8: credentials that billing lacks, and the end of its operation.

        Raises:
            BillingError: billing could not be told everything.
        """
        desired, state = one.desired, one.memory.state
        if desired is None or not self._is_writing:
            return
        self.deliver(one)
        is_reached = state in {
            Wish.ENABLED: {ServiceState.ACTIVE},
            Wish.DISABLED: {ServiceState.SUSPENDED},
            Wish.ABSENT: {ServiceState.RETIRING, ServiceState.DELETED, ServiceState.ABSENT},
        }.get(desired.wish, set())
        if is_reached and desired.status == 5 and desired.operation is not None:
            self._writer.write_operation_done(desired.item_id, desired.operation)

    def deliver(self, one: OnePass) -> bool:
        """The credentials only, as soon as the account is there and ours.

        Returns:
            Whether billing has them now.

        Raises:
            BillingError: it could not be given all of them.
        """
        desired, server = one.desired, one.server
        is_there = one.observed is not None and one.memory.ownership is not Ownership.NONE
        is_wanted = desired is not None and desired.wish in {Wish.ENABLED, Wish.DISABLED}
        if desired is None or server is None or not (self._is_writing and is_there and is_wanted):
            return False
        undelivered = self._journal.intents.get_undelivered(desired.item_id)
        password = undelivered[1] if undelivered else None
        missing = {
            "username": None if desired.is_username_recorded else one.memory.userid,
            "password": None if password == desired.password else password,
            "url": None if desired.is_url_recorded else server.url,
        }
        if any(missing.values()):
            self._writer.write_credentials(desired.item_id, **missing)
        if undelivered is not None:
            self._journal.intents.mark_delivered(desired.item_id)
        return True

    @property
    def _is_writing(self) -> bool:
        return self._writer.can_write and not self._is_observing
