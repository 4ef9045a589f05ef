"""The command line, `reconciler`: reads options, calls the parts, shows what they answer.

Exit codes: 0 done and nothing to report; 1 something failed or waits for a person; 2 the
configuration cannot be used, or wrong options. `plan` alone also says 2 when something would be
changed.
"""

from __future__ import annotations

import getpass
import io
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, Final, ParamSpec

import click

from bm_db.errors import BillingError
from reconciler.application import Application, check_billing
from reconciler.config import Config, ConfigInvalid, check_files, find_path, load_config
from reconciler.cycle import run_cycle
from reconciler.diagnosis import check_connection
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.journal import HistoryEntry, JournalError
from reconciler.logs import clean, set_up_logging
from reconciler.one_pass import PassResult
from reconciler.output import Output
from reconciler.planning import make_plan
from reconciler.views import show_diagnoses, show_plan, show_report, show_service, show_status
from states.diagram import draw_diagram, draw_table

P = ParamSpec("P")

FAILED: Final = 1
BAD_CONFIGURATION: Final = 2
HAS_CHANGES: Final = 2

ID: Final = click.IntRange(1, 2**63 - 1)
"""Ids as the databases number their rows."""


class _Options:
    """The options of all commands, and what they open."""

    def __init__(self, config_path: str | None, *, is_json: bool) -> None:
        self.config_path = config_path
        self.output = Output(is_json=is_json)

    def load(self, *, is_quiet: bool = False) -> Config:
        config = load_config(self.config_path)
        level = "warning" if is_quiet and config.logging.level == "info" else config.logging.level
        set_up_logging(is_json=config.logging.format == "json", level=level)
        return config

    def open(self, *, is_dry_run: bool = False, is_quiet: bool = False) -> Application:
        return Application(self.load(is_quiet=is_quiet), is_dry_run=is_dry_run)


def _fail(message: str, code: int = FAILED) -> None:
    """Say what is wrong on standard error, and end with an exit code."""
    for line in message.splitlines():
        click.echo(f"reconciler: {clean(line)}", err=True)
    sys.exit(code)


def command(
    function: Callable[Concatenate[_Options, P], int | None],
) -> Callable[P, None]:
    """Turn the errors of a command into one clear line and an exit code."""

    @click.option("--json", "is_json", is_flag=True, help="Answer in JSON.")
    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        is_json = bool(kwargs.pop("is_json", False))
        root = click.get_current_context().find_root()
        options = _Options(root.params.get("config_path"), is_json=is_json)
        try:
            code = function(options, *args, **kwargs)
        except ConfigInvalid as error:
            _fail(str(error), BAD_CONFIGURATION)
        except (BillingError, JournalError, ServerStopped, LookupError) as error:
            _fail(str(error.args[0] if isinstance(error, LookupError) and error.args else error))
        else:
            sys.exit(code or 0)

    return run  # type: ignore[no-any-return, unused-ignore]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "config_path", metavar="FILE", help="Configuration file.")
@click.version_option(package_name="bill-nextcloud", prog_name="reconciler")
def main(config_path: str | None) -> None:  # noqa: ARG001 - read by `command`
    """Keeps Nextcloud and ownCloud accounts as BILLmanager sold them."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a character that a terminal lacks ends no command
        sys.stdout.reconfigure(errors="backslashreplace")


@main.command()
@command
def once(options: _Options) -> int:
    """One full cycle: read, compare, repair, and end."""
    # On a terminal the progress bar stands where the log lines would go.
    with (
        options.open(is_quiet=sys.stderr.isatty()) as app,
        options.output.progress("services") as progress,
    ):
        report = run_cycle(app, progress=progress)
    show_report(options.output, report)
    return 0 if report.is_converged else FAILED


@main.command()
@click.option("--item", "item_id", type=ID, metavar="N", help="Only this service.")
@click.option("--server", "server_id", type=ID, metavar="N", help="Only this server.")
@command
def plan(options: _Options, item_id: int | None, server_id: int | None) -> int:
    """Show what would be changed; change nothing. Exit 0: nothing, 2: something, 1: an error."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        made = make_plan(app, item_id=item_id, server_id=server_id)
    show_plan(options.output, made)
    if made.errors:
        return FAILED
    return HAS_CHANGES if made.has_changes else 0


@main.command()
@click.argument("item_id", type=ID, required=False, metavar="[ITEM]")
@command
def status(options: _Options, item_id: int | None) -> int:
    """Servers, guards, counts by state and what needs a person; or one service."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        if item_id is not None:
            return show_service(options.output, app, item_id)
        return show_status(options.output, app)


@main.command()
@click.argument("item_id", type=ID, metavar="ITEM")
@command
def history(options: _Options, item_id: int) -> int:
    """What was done to a service, when, by whom and why."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        entries = app.journal.history.list_entries(item_id)
    if options.output.is_json:
        options.output.json(entries)
        return 0
    rows = [
        (entry.at, entry.actor, entry.action, entry.observed, entry.wanted, entry.result, entry.why)
        for entry in entries
    ]
    options.output.table("", ("at", "who", "what", "was", "wanted", "result", "why"), rows)
    if not rows:
        options.output.line(f"nothing was ever done to service {item_id}")
    return 0


@main.command()
@click.argument("item_ids", type=ID, nargs=-1, required=True, metavar="ITEM...")
@command
def resync(options: _Options, item_ids: tuple[int, ...]) -> int:
    """Look at services now and repair them; lifts a quarantine."""
    results: list[PassResult] = []
    with options.open() as app:
        app.fleet.refresh()
        for item_id in item_ids:
            record = app.journal.services.get(item_id)
            if record is not None and record.memory.hold_reason is None:
                app.journal.services.release(item_id)
            results.append(app.reconciler.reconcile_service(item_id, actor=_get_actor()))
    if options.output.is_json:
        options.output.json(results)
    else:
        for result in results:
            why = result.error or result.blocked_by or result.reason
            done = ", ".join(result.steps) or "nothing to do"
            options.output.line(f"service {result.item_id}: {result.state}, {done}; {why}")
    return FAILED if any(result.error or result.blocked_by for result in results) else 0


@main.command()
@click.argument("item_id", type=ID, metavar="ITEM")
@click.option("--reason", required=True, help="Why; shown wherever the service is shown.")
@command
def hold(options: _Options, item_id: int, reason: str) -> int:
    """Pause a service: nothing is done to its account until `release`."""
    with options.open(is_quiet=True) as app:
        if app.journal.services.get(item_id) is None and app.billing.get_service(item_id) is None:
            raise LookupError(f"billing has no service {item_id}")
        app.journal.services.hold(item_id, reason, _get_actor(), app.clock())
        _note_by_hand(app, item_id, "hold", reason)
    return _answer(options.output, f"service {item_id} is held", item_id=item_id, held=reason)


@main.command()
@click.argument("item_id", type=ID, metavar="ITEM")
@command
def release(options: _Options, item_id: int) -> int:
    """End a service's hold or quarantine."""
    with options.open(is_quiet=True) as app:
        if not app.journal.services.release(item_id):
            raise LookupError(f"service {item_id} is neither held nor quarantined by a guard")
        _note_by_hand(app, item_id, "release", "")
    return _answer(options.output, f"service {item_id} is released", item_id=item_id, held=None)


@main.command()
@click.argument("guard", type=click.Choice(["identity", "desired-read"]))
@click.option("--server", "server_id", type=ID, metavar="N", help="For identity: which server.")
@command
def approve(options: _Options, guard: str, server_id: int | None) -> int:
    """Accept what a guard stopped: a server's new identity, or the latest read of billing."""
    if guard == "identity" and server_id is None:
        raise click.UsageError("say which server: --server N")
    with options.open(is_quiet=True) as app:
        if guard == "desired-read":
            app.reconciler.guards.accept_read()
            words = "the latest read of billing counts as good"
        else:
            _find_servers(app, server_id)[0].approve_identity()
            words = f"server {server_id}: whoever answers next is taken as the right one"
    return _answer(options.output, words, guard=guard, server_id=server_id)


def _answer(output: Output, words: str, **facts: object) -> int:
    """Say in one line that something is done, or its facts in JSON."""
    if output.is_json:
        output.json(facts)
    else:
        output.line(words)
    return 0


def _note_by_hand(app: Application, item_id: int, action: str, why: str) -> None:
    app.journal.history.add(
        HistoryEntry(
            item_id=item_id,
            server_id=None,
            at=app.clock(),
            actor=_get_actor(),
            action=action,
            wanted="",
            observed="",
            result="done",
            why=why,
        )
    )


def _get_actor() -> str:
    return f"operator:{getpass.getuser()}"[:64]


@main.command(name="check-connection")
@click.argument("server_id", type=ID, required=False, metavar="[SERVER]")
@command
def check_connection_command(options: _Options, server_id: int | None) -> int:
    """Try each server with the calls that will be used; name the cause of a failure and its cure."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        servers = _find_servers(app, server_id)
        diagnoses = {server: check_connection(server) for server in servers}
    show_diagnoses(options.output, diagnoses)
    return 0 if diagnoses and all(item.is_usable for item in diagnoses.values()) else FAILED


def _find_servers(app: Application, server_id: int | None) -> list[CloudServer]:
    servers = app.fleet.refresh()
    if server_id is not None:
        servers = [server for server in servers if server.id == server_id]
    if not servers:
        which = f"server {server_id} of" if server_id is not None else "server of"
        raise LookupError(f"billing has no {which} module {app.config.billmanager.module}")
    return servers


@main.command(name="validate-config")
@command
def validate_config(options: _Options) -> int:
    """Check the configuration and the files it names; all errors at once."""
    config = load_config(options.config_path)
    faults = check_files(config) or check_billing(config)
    if faults:
        raise ConfigInvalid(faults)
    if options.output.is_json:
        options.output.json({"path": str(find_path(options.config_path)), "errors": []})
    else:
        options.output.line(f"{find_path(options.config_path)} is in order")
    return 0


@main.command(name="draw-states")
@click.option("--table", "is_table", is_flag=True, help="Every move, in Markdown.")
@command
def draw_states(options: _Options, is_table: bool) -> int:
    """Draw the state machine as a Mermaid diagram."""
    text = draw_table() if is_table else draw_diagram()
    if options.output.is_json:
        options.output.json({"text": text})
    else:
        click.echo(text, nl=False)
    return 0


@main.command()
@click.option("--keep", is_flag=True, help="Leave the servers running until Ctrl-C.")
@click.option("--services", type=click.IntRange(8, 20000), default=200, show_default=True)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where to put its files (default: temporary)."
)
@command
def demo(options: _Options, keep: bool, services: int, folder: Path | None) -> int:
    """Show it all on emulated servers, on this machine only: provision, tamper, repair."""
    from reconciler.demo import run_demo

    return run_demo(options.output, services=services, is_kept=keep, folder=folder)


if __name__ == "__main__":
    main()
