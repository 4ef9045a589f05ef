"""Gives a service's account a new password: `reconciler reset-password`. Called by the command line.

The password stands in the journal, encrypted, before the server gets it, and stays there until billing has
it. A crash at any moment is settled by the next pass: it finds out by logging in whether the new password is
in force (`Changes.settle_resets`) and then delivers it like that of a new account.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bm_db.errors import BillingError
from bm_db.written_values import check_written_value
from nc.errors import OutcomeUnknown
from reconciler.application import Application
from reconciler.credentials import generate_password
from reconciler.one_pass import OnePass, PassBlocked
from reconciler.operations import OperationRefused, having_lease
from states import Ownership, ServiceState, Step, StepKind, Verdict

_HAS_ACCOUNT: Final = frozenset(
    {
        ServiceState.PROVISIONING,
        ServiceState.ACTIVE,
        ServiceState.DRIFTED,
        ServiceState.SUSPENDING,
        ServiceState.SUSPENDED,
        ServiceState.RESUMING,
    }
)
"""States of a service that is sold, with an account that is or may be ours."""


@dataclass(frozen=True, slots=True)
class PasswordReset:
    """A password that is in force.

    Attributes:
        item_id, server_id, userid: whose.
        is_delivered: it is on the service's card; False when billing is not written to.
        password: the new one.
    """

    item_id: int
    server_id: int
    userid: str
    is_delivered: bool
    password: str = field(repr=False)


def reset_password(
    app: Application, item_id: int, actor: str, *, password: str | None = None
) -> PasswordReset:
    """Set a new password on the server, and save it to the service's card.

    Args:
        app: the parts, with the fleet read.
        item_id: the service.
        actor: who wants it.
        password: by default a generated one.

    Raises:
        OperationRefused, LookupError: it cannot be set now; nothing was changed.
        WeakPassword: the server does not take it.
        ServerStopped, CloudError, BillingError, JournalError: as they say.
    """
    if app.config.reconciler.mode == "observe":
        raise OperationRefused('nothing is changed in mode "observe"')
    if password is None:
        password = generate_password()
    _check_deliverable(app, password)
    with having_lease(app, item_id) as lease:
        one, verdict = app.reconciler.examine(lease, actor)
        _check(one, verdict)
        app.reconciler.delivery.deliver(one)  # what a new account still waits for is more than a password
        one.result.reason = "an operator wants another password"
        _set(app, one, password)
        is_delivered = _deliver(app, one)
        userid, server_id = one.memory.userid, one.memory.server_id
    if userid is None or server_id is None:
        raise AssertionError("an account that is ours has a name and a server")
    return PasswordReset(item_id, server_id, userid, is_delivered, password)


def _check_deliverable(app: Application, password: str) -> None:
    """Refuse what billing could not be told afterwards.

    Raises:
        OperationRefused, BillingError: why.
    """
    if not password:
        raise OperationRefused("an empty password is none")
    check_written_value("the password", password)
    if app.billing.cipher is not None:
        app.billing.cipher.encrypt(password)  # it may be too long for the key
    elif app.config.billmanager.writer == "sql":
        raise OperationRefused(
            "a password cannot be saved without BILLmanager's key: set billmanager.private_key_file"
        )


def _check(one: OnePass, verdict: Verdict) -> None:
    item_id = one.lease.item_id
    if verdict.state not in _HAS_ACCOUNT:
        raise OperationRefused(f"service {item_id} is {verdict.state}: {verdict.reason}")
    if one.server is None:
        raise OperationRefused(f"service {item_id} is on a server that billing does not have")
    if one.observed is None:
        raise OperationRefused(f"{one.server} has no account of service {item_id}: {verdict.reason}")
    if one.memory.has_open_create:
        raise OperationRefused(
            f"a create of {one.observed.userid} was never answered: first `reconciler resync {item_id}`"
        )


def _set(app: Application, one: OnePass, password: str) -> None:
    changes, observed = app.reconciler.changes, one.observed
    if one.memory.ownership is Ownership.NONE and observed is not None:
        changes.take(one, Step(StepKind.ADOPT, observed.userid))  # billing names it
    try:
        changes.set_password(one, password)
    except PassBlocked as blocked:
        raise OperationRefused(f"{blocked}; nothing was changed, try again then") from blocked
    except OutcomeUnknown as error:
        if not changes.settle_resets(one):
            raise OperationRefused(
                f"{error}; whether the new password is in force nobody knows: the next pass finds out, and "
                "puts it on the service's card if it is; or try again"
            ) from error


def _deliver(app: Application, one: OnePass) -> bool:
    try:
        return app.reconciler.delivery.deliver(one)
    except BillingError as error:
        raise OperationRefused(
            f"the new password is in force, but billing was not told: {error}; the next pass tells it"
        ) from error
