"""What all commands share: their options, what they open, their exit codes, and how they fail.

Used by `reconciler.cli` and its parts.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Final, ParamSpec

import click

from bm_db.errors import BillingError
from nc.errors import CloudError
from reconciler.application import Application
from reconciler.config import Config, ConfigInvalid, load_private_config
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.journal import JournalError
from reconciler.logs import clean, set_up_logging
from reconciler.operations import OperationRefused
from reconciler.output import Output

P = ParamSpec("P")

FAILED: Final = 1
BAD_CONFIGURATION: Final = 2
HAS_FINDINGS: Final = 2

ID: Final = click.IntRange(1, 2**63 - 1)
"""Ids as the databases number their rows."""

server_option = click.option("--server", "server_id", type=ID, metavar="N", help="Only this server.")


class Options:
    """The options of all commands, and what they open."""

    def __init__(self, config_path: str | None, *, is_json: bool) -> None:
        self.config_path = config_path
        self.output = Output(is_json=is_json)

    def load(self, *, is_quiet: bool = False) -> Config:
        """Read the configuration and set up logging by it; quiet: warnings and errors only, by default.

        Raises:
            ConfigInvalid: it cannot be used, or everybody could read a secret of it or change it.
        """
        config = load_private_config(self.config_path)
        level = "warning" if is_quiet and config.logging.level == "info" else config.logging.level
        set_up_logging(is_json=config.logging.format == "json", level=level)
        return config

    def open(self, *, is_dry_run: bool = False, is_quiet: bool = False) -> Application:
        """Open all parts; a dry run makes no journal."""
        return Application(self.load(is_quiet=is_quiet), is_dry_run=is_dry_run)

    def answer(self, words: str, **facts: object) -> int:
        """Say in one line that something is done, or its facts in JSON; the exit code."""
        if self.output.is_json:
            self.output.json(facts)
        else:
            self.output.line(words)
        return 0


def command(
    function: Callable[Concatenate[Options, P], int | None],
) -> Callable[P, None]:
    """Turn the errors of a command into one clear line and an exit code."""

    @click.option("--json", "is_json", is_flag=True, help="Answer in JSON.")
    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        is_json = bool(kwargs.pop("is_json", False))
        root = click.get_current_context().find_root()
        options = Options(root.params.get("config_path"), is_json=is_json)
        try:
            code = function(options, *args, **kwargs)
        except ConfigInvalid as error:
            _fail(str(error), BAD_CONFIGURATION)
        except (
            BillingError,
            CloudError,
            JournalError,
            OperationRefused,
            ServerStopped,
            LookupError,
        ) as error:
            _fail(str(error.args[0] if isinstance(error, LookupError) and error.args else error))
        else:
            sys.exit(code or 0)

    return run  # type: ignore[no-any-return, unused-ignore]


def _fail(message: str, code: int = FAILED) -> None:
    """Say what is wrong on standard error, and end with an exit code."""
    for line in message.splitlines():
        click.echo(f"reconciler: {clean(line)}", err=True)
    sys.exit(code)


def get_actor() -> str:
    """Who runs this, as the history names him."""
    return f"operator:{getpass.getuser()}"[:64]


def find_servers(app: Application, server_id: int | None) -> list[CloudServer]:
    """The servers as billing names them now, or the one that is meant.

    Raises:
        LookupError: there is none.
    """
    servers = app.fleet.refresh()
    if server_id is not None:
        servers = [server for server in servers if server.id == server_id]
    if not servers:
        which = f"server {server_id} of" if server_id is not None else "server of"
        raise LookupError(f"billing has no {which} module {app.config.billmanager.module}")
    return servers
