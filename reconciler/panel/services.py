"""BILLmanager's commands on one service: the daemon's own pass, and what BILLmanager is told of its end.

A pass tells a success itself (`reconciler.delivery`), so it is told once whoever does the work. A failure is
told here, since only a command knows which operation has failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Final

from bm_db import MgrctlWriter, Order
from bm_db.errors import BillingError
from reconciler.billing_access import open_billing_of
from reconciler.config import Config
from reconciler.logs import get_logger
from reconciler.panel.documents import make_error, render
from reconciler.panel.errors import PanelError
from reconciler.panel.messages import Language
from reconciler.panel.session import load_panel_config, opening_service, telling
from states import COLLISION, ServiceState

if TYPE_CHECKING:
    from reconciler.application import Application
    from reconciler.one_pass import PassResult

LEASE_SECONDS: Final = 30.0
"""How long a command waits for the daemon's own pass over the service."""

_KINDS: Final = {
    "open": "could_not_create",
    "close": "could_not_close",
    "suspend": "could_not_suspend",
    "resume": "could_not_resume",
    "setparam": "could_not_change",
}
_AIMS: Final = {
    "open": {ServiceState.ACTIVE},
    "resume": {ServiceState.ACTIVE},
    "setparam": {ServiceState.ACTIVE},
    "suspend": {ServiceState.SUSPENDED},
    # Within its grace an account is disabled; the daemon deletes it later.
    "close": {ServiceState.RETIRING, ServiceState.DELETED, ServiceState.ABSENT},
}
_WAITS_FOR_A_PERSON: Final = {ServiceState.QUARANTINED, ServiceState.HELD, ServiceState.ORPHANED}

_log = get_logger("panel")


def run_operation(order: Order, item_id: int, language: Language) -> None:
    """Bring a service to where an operation of BILLmanager's wants it.

    Args:
        order: the operation; when it does not name the running one, a failure is told by the exit code only.
        item_id: the service.
        language: of the error that BILLmanager keeps.

    Raises:
        PanelError: it is not there; BILLmanager was told why.
    """
    config = load_panel_config()
    try:
        _operate(config, order, item_id)
    except PanelError as error:
        if order.operation_id is not None:
            _report(config, error, order.operation, item_id, order.operation_id, language)
        raise


def sync_item(item_id: int) -> None:
    """Reconcile a service now.

    Raises:
        PanelError: it is not as billing wants it.
    """
    with opening_service(load_panel_config(), "could_not_change", item_id) as app:
        result = _reconcile(app, item_id, "sync_item", None)
        if reason := result.error or result.blocked_by:
            raise _explain(result, "could_not_change", reason)


def change_password(item_id: int, password: str | None) -> None:
    """Give a service's account a new password, generated when none is given, and put it on its card.

    Raises:
        PanelError: it has the old one, or nobody knows.
    """
    with opening_service(load_panel_config(), "could_not_set_password", item_id) as app:
        from reconciler.passwords import reset_password

        reset_password(app, item_id, "billmanager:changepassword", password=password)


def _operate(config: Config, order: Order, item_id: int) -> None:
    kind = _KINDS[order.operation]
    with opening_service(config, kind, item_id) as app:
        result = _reconcile(app, item_id, order.operation, order)
        reason = result.error or result.blocked_by
        if reason is None and result.state not in _AIMS[order.operation]:
            reason = f"billing wants it otherwise by now: it is {result.state} ({result.reason})"
        if reason is not None:
            raise _explain(result, kind, reason)


def _reconcile(app: Application, item_id: int, command: str, order: Order | None) -> PassResult:
    from reconciler.operations import reconcile_when_free

    deadline = time.monotonic() + LEASE_SECONDS
    return reconcile_when_free(app, item_id, f"billmanager:{command}", deadline, order)


def _explain(result: PassResult, kind: str, reason: str) -> PanelError:
    if result.reason.startswith(COLLISION):
        kind = "account_exists"
    is_final = result.state in _WAITS_FOR_A_PERSON
    return PanelError(kind, str(result.item_id), reason, is_final=is_final)


def _report(
    config: Config, error: PanelError, operation: str, item_id: int, operation_id: int, language: Language
) -> None:
    """Tell BILLmanager why an operation failed, and that a person must go on when trying again is no use."""
    with telling("not_configured", "config.toml"):
        billing = open_billing_of(config)
    writer = MgrctlWriter(billing, config.billmanager.mgrctl)
    document = render(make_error(error, language)).decode()

    def give_up() -> None:
        running = billing.get_operation(item_id, operation_id)
        tries = running.tries if running is not None else 0
        if not error.is_final and tries < config.billmanager.manual_after_tries:
            return  # BILLmanager tries again
        is_revertible = operation == "setparam" and running is not None and running.is_tariff_change
        if is_revertible and _tell(lambda: writer.write_tariff_rollback(item_id), item_id):
            _log.log("warning", "tariff rolled back", item=item_id, tries=tries)
            return
        writer.hand_to_person(operation_id, item_id, operation)
        _log.log("warning", "handed to a person", item=item_id, operation=operation, tries=tries)

    with closing(billing):
        _tell(lambda: writer.write_operation_failed(operation_id, document), item_id)
        _tell(give_up, item_id)


def _tell(write: Callable[[], None], item_id: int) -> bool:
    """Write something to BILLmanager; a failure is logged, since the command has failed already."""
    try:
        write()
    except BillingError as failure:
        _log.log("error", "not told", item=item_id, error=str(failure))
        return False
    return True
