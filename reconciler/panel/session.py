"""Opens the program's parts for one command, and turns their errors into BILLmanager's.

What calls servers and keeps the journal takes as long to load as all the rest: it is loaded when billing has
answered already.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bm_db import Billing
from bm_db.errors import BillingError
from reconciler.billing_access import open_billing_of
from reconciler.config import Config, ConfigInvalid, load_private_config
from reconciler.panel.errors import PanelError

if TYPE_CHECKING:
    from reconciler.application import Application


def load_panel_config() -> Config:
    """The daemon's own configuration; BILLmanager is always told by mgrctl, which runs where it does.

    Raises:
        PanelError: it cannot be used.
    """
    try:
        config = load_private_config()
    except ConfigInvalid as error:
        raise _refuse_configuration(error) from error
    section = config.billmanager.model_copy(update={"writer": "mgrctl"})
    return config.model_copy(update={"billmanager": section})


@contextmanager
def opening(config: Config, kind: str, object_name: str) -> Iterator[Application]:
    """All parts, with the servers read; errors of theirs become an error of this kind.

    Raises:
        PanelError: something failed.
    """
    with telling(kind, object_name), _opening_rest(config) as app:
        yield app


@contextmanager
def opening_service(config: Config, kind: str, item_id: int) -> Iterator[Application]:
    """The same for a service that billing has on a server of ours.

    Raises:
        PanelError: something failed, or there is no such service.
    """
    with telling(kind, str(item_id)):
        billing = open_billing_of(config)
        service = billing.get_service(item_id)
        if service is None:
            raise _miss(item_id, "billing has no such service")
        with _opening_rest(config, billing) as app:
            if app.fleet.get(service.server_id) is None:
                raise _miss(item_id, f"it is not on a server of module {config.billmanager.module}")
            yield app


@contextmanager
def _opening_rest(config: Config, billing: Billing | None = None) -> Iterator[Application]:
    from reconciler.application import Application

    with Application(config, billing=billing) as app:
        app.fleet.refresh()
        yield app


def _miss(item_id: int, why: str) -> PanelError:
    return PanelError("missing_service", str(item_id), why, is_final=True)


@contextmanager
def telling(kind: str, object_name: str) -> Iterator[None]:
    """Turn the program's own errors into an error of this kind."""
    try:
        yield
    except ConfigInvalid as error:
        raise _refuse_configuration(error) from error
    except _list_own_errors() as error:
        raise PanelError(kind, object_name, str(error)) from error


def _list_own_errors() -> tuple[type[Exception], ...]:
    from nc.errors import CloudError
    from reconciler.fleet import ServerStopped
    from reconciler.journal import JournalError
    from reconciler.operations import OperationRefused

    return BillingError, CloudError, JournalError, OperationRefused, ServerStopped


def _refuse_configuration(error: ConfigInvalid) -> PanelError:
    return PanelError("not_configured", "config.toml", "; ".join(error.errors), is_final=True)
