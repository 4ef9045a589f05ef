"""Opens the program's parts for one command, and turns their errors into BILLmanager's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bm_db.errors import BillingError
from nc.errors import CloudError
from reconciler.application import Application
from reconciler.config import Config, ConfigInvalid, load_private_config
from reconciler.fleet import ServerStopped
from reconciler.journal import JournalError
from reconciler.operations import OperationRefused
from reconciler.panel.errors import PanelError


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
    with telling(kind, object_name), Application(config) as app:
        app.fleet.refresh()
        yield app


@contextmanager
def telling(kind: str, object_name: str) -> Iterator[None]:
    """Turn the program's own errors into an error of this kind."""
    try:
        yield
    except ConfigInvalid as error:
        raise _refuse_configuration(error) from error
    except (BillingError, JournalError, CloudError, ServerStopped, OperationRefused) as error:
        raise PanelError(kind, object_name, str(error)) from error


def _refuse_configuration(error: ConfigInvalid) -> PanelError:
    return PanelError("not_configured", "config.toml", "; ".join(error.errors), is_final=True)
