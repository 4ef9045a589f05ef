"""Tells BILLmanager what it lacks: credentials, URL, an operation's end. Called by `reconciler.passes`."""

from __future__ import annotations

from typing import Final

from bm_db import BillingWriter
from reconciler.fleet import CloudServer
from reconciler.journal import Journal
from reconciler.one_pass import OnePass
from states import DesiredService, Ownership, ServiceState, Wish


class Delivery:
    """The last step of a pass."""

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
        if desired is None or not self._writer.can_write or self._is_observing:
            return
        is_there = one.observed is not None and one.memory.ownership is not Ownership.NONE
        if is_there and desired.wish in {Wish.ENABLED, Wish.DISABLED} and one.server is not None:
            self._deliver(one, desired, one.server)
        is_reached = state in {
            Wish.ENABLED: {ServiceState.ACTIVE},
            Wish.DISABLED: {ServiceState.SUSPENDED},
            Wish.ABSENT: {ServiceState.RETIRING, ServiceState.DELETED, ServiceState.ABSENT},
        }.get(desired.wish, set())
        if is_reached and desired.status == 5 and desired.operation is not None:
            self._writer.write_operation_done(desired.item_id, desired.operation)

    def _deliver(self, one: OnePass, desired: DesiredService, server: CloudServer) -> None:
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
