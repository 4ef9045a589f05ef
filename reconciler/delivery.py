"""Tells BILLmanager what it lacks: credentials, URL, an operation's end, the account's state.

Called by `reconciler.passes`.
"""

from __future__ import annotations

from typing import Final

from bm_db import BillingWriter, Card
from bm_db.errors import BillingError
from reconciler.card import describe_state
from reconciler.clock import Clock
from reconciler.journal import Journal
from reconciler.logs import get_logger
from reconciler.one_pass import OnePass
from reconciler.panel.messages import Language
from states import SOLD_WISHES, Ownership, ServiceState, Wish

_log = get_logger("delivery")


class Delivery:
    """The last step of a pass, and of a password's reset.

    Right before each single write the lease is looked at: BILLmanager itself cannot tell a worker that slept
    from the one that has taken over.
    """

    def __init__(
        self,
        writer: BillingWriter,
        journal: Journal,
        clock: Clock,
        *,
        is_observing: bool,
        card_language: Language,
    ) -> None:
        """Take the parts.

        Args:
            writer, journal, clock: what it works with.
            is_observing: mode "observe", in which nothing is written.
            card_language: of the texts on the services' cards.
        """
        self._writer: Final = writer
        self._journal: Final = journal
        self._clock: Final = clock
        self._is_observing: Final = is_observing
        self._card_language: Final = card_language

    def tell(self, one: OnePass) -> None:
        """Step 8: credentials that billing lacks, and the end of its operation.

        Raises:
            BillingError: billing could not be told everything.
            LeaseLost: another worker has the service by now; nothing more was told.
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
            self._check_lease(one)
            self._writer.write_operation_done(desired.item_id, desired.operation)

    def deliver(self, one: OnePass) -> bool:
        """The credentials only, as soon as the account is there and ours.

        Returns:
            Whether billing has them now.

        Raises:
            BillingError: it could not be given all of them.
            LeaseLost: another worker has the service by now; no more was given.
        """
        desired, server = one.desired, one.server
        is_there = one.observed is not None and one.memory.ownership is not Ownership.NONE
        is_wanted = desired is not None and desired.wish in SOLD_WISHES
        if desired is None or server is None or not (self._is_writing and is_there and is_wanted):
            return False
        undelivered = self._journal.intents.get_undelivered(desired.item_id)
        password = undelivered[1] if undelivered else None
        # Made again with the password that is on the card, perhaps on another server.
        is_made_again = password is not None and password == desired.password
        missing = {
            "username": None if desired.is_username_recorded else one.memory.userid,
            "password": None if is_made_again else password,
            "url": None if desired.is_url_recorded and not is_made_again else server.url,
        }
        for name, value in missing.items():
            if value:
                self._check_lease(one)
                self._writer.write_credentials(desired.item_id, **{name: value})
        if undelivered is not None:
            self._journal.intents.mark_delivered(one.lease, self._clock(), latest_id=undelivered[0])
        return True

    def find_news(self, one: OnePass, state: ServiceState) -> str | None:
        """What the service's card is to say once the pass ends in a state; None when it says so already."""
        desired = one.desired
        if desired is None or desired.wish not in SOLD_WISHES or not self._is_writing:
            return None
        text = describe_state(state, one.record.attempts + 1, self._card_language)
        return None if text == desired.card_state else text

    def show_state(self, one: OnePass) -> None:
        """Make the service's card say how the pass has left the account.

        The client's text fails no pass: what could not be written is written with the usage.

        Raises:
            LeaseLost: another worker has the service by now, and says it himself.
        """
        text = self.find_news(one, one.result.state)
        if text is None:
            return
        self._check_lease(one)
        try:
            self._writer.write_card(one.lease.item_id, Card(state=text))
        except BillingError as error:
            _log.log("warning", "card not written", service=one.lease.item_id, error=str(error))

    def _check_lease(self, one: OnePass) -> None:
        self._journal.leases.extend(one.lease, self._clock())

    @property
    def _is_writing(self) -> bool:
        return self._writer.can_write and not self._is_observing
