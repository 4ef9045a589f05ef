"""Gives an existing account to a service: `reconciler adopt`. Called by the command line.

Nothing is changed on the server here. The account's name is written to billing, the ownership to the journal;
the pass that follows does the rest, as for every service. Billing is told first: a crash in between leaves a
service whose account billing names, and such an account is adopted by any pass.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from typing import Final

from reconciler.application import Application
from reconciler.fleet import CloudServer
from reconciler.journal import HistoryEntry, Lease, ServiceRecord, make_key
from reconciler.operations import OperationRefused, find_place, having_lease, note_by_hand
from reconciler.remembering import forget_account, to_values
from reconciler.steps import describe_account
from states import (
    Fault,
    FaultField,
    Mode,
    ObservedAccount,
    Ownership,
    Wish,
    explain_protection,
    format_quota,
)

_UNWANTED: Final = {
    Wish.NONE: "is not paid: no account is wanted",
    Wish.ABSENT: "is no longer sold: no account is wanted",
    Wish.AS_IS: "is being worked on by BILLmanager: try again when it is done",
}


def adopt_account(app: Application, item_id: int, userid: str, actor: str, *, is_forced: bool) -> list[int]:
    """Make an existing account the account of a service.

    Args:
        app: the parts, with the fleet read.
        item_id: the service.
        userid: the account, on the service's server.
        actor: who wants it.
        is_forced: also when the account uses more than was sold.

    Returns:
        The services that a pass must look at now.

    Raises:
        OperationRefused, LookupError: it cannot be; nothing was changed.
        ServerStopped, CloudError, BillingError, JournalError: as they say.
    """
    with ExitStack() as leases:
        lease = leases.enter_context(having_lease(app, item_id))
        return _Adoption(app, lease, actor, leases).run(userid, is_forced=is_forced)


class _Adoption:
    def __init__(self, app: Application, lease: Lease, actor: str, leases: ExitStack) -> None:
        self._app: Final = app
        self._lease: Final = lease
        self._item_id: Final = lease.item_id
        self._actor: Final = actor
        self._leases: Final = leases
        self._desired, self._server = find_place(app, lease.item_id)

    def run(self, userid: str, *, is_forced: bool) -> list[int]:
        app, desired, server = self._app, self._desired, self._server
        self._check_wanted()
        app.journal.services.note_desired([desired], app.clock())
        record = app.journal.services.get(self._item_id)
        if record is None:
            raise AssertionError("a service has no row although it was just noted")
        account = self._look(server, userid)
        if account is None:
            raise OperationRefused(f"{server} has no account {userid}")
        self._check_account(account)
        former = self._find_former_owner(account)
        self._check_own_account(record, account)
        if not is_forced:
            self._check_usage(account)
        self._tell_billing(record, account)
        if former is not None:
            self._take_from(former, account)
        self._record(record, account)
        return [self._item_id] if former is None else [self._item_id, former.item_id]

    def _check_wanted(self) -> None:
        app, desired = self._app, self._desired
        fault: Fault | None = desired.get_fault(FaultField.STATUS)
        if fault is not None:
            raise OperationRefused(fault.message)
        if desired.wish in _UNWANTED:
            raise OperationRefused(f"service {self._item_id} {_UNWANTED[desired.wish]}")
        if app.config.reconciler.mode == "observe":
            raise OperationRefused('nothing is changed in mode "observe"')

    def _look(self, server: CloudServer, userid: str) -> ObservedAccount | None:
        server.ensure_ready()
        with server.calling():
            return server.client.get_account(userid)

    def _check_account(self, account: ObservedAccount) -> None:
        if not account.is_conclusive:
            raise OperationRefused(f"{self._server} does not say enough of the account {account.userid}")
        protection = explain_protection(account, self._server.api_user)
        if protection is not None:
            raise OperationRefused(protection)

    def _find_former_owner(self, account: ObservedAccount) -> Lease | None:
        """The lease of the service whose account it was, when its row is gone from billing; None without one.

        Raises:
            OperationRefused: it is another service's.
        """
        app, server, key = self._app, self._server, make_key(account.userid)
        for other in app.billing.list_services(with_passwords=False, server_id=server.id):
            if other.item_id != self._item_id and make_key(other.username) == key:
                raise OperationRefused(
                    f"the account {account.userid} is that of service {other.item_id}, by its name in billing"
                )
        owner_id = app.journal.services.list_accounts(server.id).get(key)
        if owner_id in {None, self._item_id}:
            return None
        owner_lease = self._leases.enter_context(having_lease(app, owner_id))
        if app.billing.get_service(owner_id) is not None:
            raise OperationRefused(f"the account {account.userid} is that of service {owner_id}")
        return owner_lease

    def _check_own_account(self, record: ServiceRecord, account: ObservedAccount) -> None:
        """Leave a service alone that has another account of its own."""
        app, desired, memory = self._app, self._desired, record.memory
        if memory.has_open_create:
            raise OperationRefused(
                f"a create of {desired.username} was never answered: `resync {self._item_id}` first"
            )
        if memory.ownership is not Ownership.NONE and memory.userid is not None:
            own_server, own = app.fleet.get(memory.server_id), memory.userid
            if own_server is None:
                raise OperationRefused(
                    f"service {self._item_id} has the account {own} on server {memory.server_id}, which "
                    "billing has no more: whether it still exists cannot be asked"
                )
        elif desired.is_username_recorded and desired.username:
            own_server, own = self._server, desired.username
        else:
            return
        is_same = own_server.id == self._server.id and make_key(own) == make_key(account.userid)
        if not is_same and self._look(own_server, own) is not None:
            raise OperationRefused(
                f"service {self._item_id} has the account {own} on {own_server}: delete that one first"
            )

    def _check_usage(self, account: ObservedAccount) -> None:
        sold, used, quota = self._desired.quota, account.used_bytes, account.quota
        if self._app.config.policy.quota is not Mode.ENFORCE or not isinstance(sold, int) or used is None:
            return
        is_decrease = not isinstance(quota, int) or quota > sold
        if is_decrease and used > sold:
            raise OperationRefused(
                f"{account.userid} uses {format_quota(used)}, service {self._item_id} is sold "
                f"{format_quota(sold)}: it could take no more files; if that is right, --force"
            )

    def _tell_billing(self, record: ServiceRecord, account: ObservedAccount) -> None:
        desired, server = self._desired, self._server
        is_named = desired.is_username_recorded and make_key(desired.username) == make_key(account.userid)
        is_elsewhere = record.memory.server_id not in {None, server.id}
        missing = {
            "username": None if is_named else account.userid,
            "url": server.url if is_elsewhere or not desired.is_url_recorded else None,
        }
        if self._app.writer.can_write:
            if any(missing.values()):
                self._app.journal.leases.extend(self._lease, self._app.clock())
                self._app.writer.write_credentials(self._item_id, **missing)
        elif not is_named:
            raise OperationRefused(
                f'billing is not written to (writer = "none"): set the parameter username of service '
                f"{self._item_id} to {account.userid} in BILLmanager first"
            )

    def _take_from(self, lease: Lease, account: ObservedAccount) -> None:
        services, former_id = self._app.journal.services, lease.item_id
        former = services.get(former_id)
        if former is not None:
            # What billing once named for it must not make it a namesake of the service that has it now.
            named = {"desired_server_id": None, "desired_key": None, "wish": None}
            values = named | to_values(forget_account(former.memory))
            services.record(lease, self._app.clock(), values)
        why = f"its account {account.userid} was given to service {self._item_id}"
        note_by_hand(self._app, former_id, "adopt", self._actor, why, server_id=self._server.id)

    def _record(self, record: ServiceRecord, account: ObservedAccount) -> None:
        app, memory = self._app, record.memory
        is_new = memory.ownership is Ownership.NONE or make_key(memory.userid or "") != make_key(
            account.userid
        )
        if is_new:
            # The password of an account that it had before must not be handed out with this one.
            app.journal.intents.mark_delivered(self._lease, app.clock())
            memory = dataclasses.replace(
                forget_account(memory),
                ownership=Ownership.ADOPTED,
                server_id=self._server.id,
                userid=account.userid,
                is_provisioned=True,
            )
        entry = HistoryEntry(
            item_id=self._item_id,
            server_id=self._server.id,
            at=app.clock(),
            actor=self._actor,
            action="adopt",
            wanted=f"the account {account.userid}",
            observed=describe_account(account),
            result="done",
            why="an operator gave it to the service",
        )
        values = to_values(dataclasses.replace(memory, quarantine_reason=None))
        app.journal.services.record(self._lease, app.clock(), values, entry=entry)
