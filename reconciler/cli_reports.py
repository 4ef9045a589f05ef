"""The commands that look and change nothing: plan, status, history, usage, orphans, check-connection."""

from __future__ import annotations

import click

from reconciler.command import FAILED, HAS_FINDINGS, ID, Options, command, find_servers, server_option
from reconciler.diagnosis import check_connection
from reconciler.operations import NO_SERVICE
from reconciler.orphans import find_orphans
from reconciler.planning import make_plan
from reconciler.status import describe_status
from reconciler.views import show_diagnoses, show_history, show_orphans, show_plan
from reconciler.views_status import show_service, show_status, show_usage


@click.command()
@click.option("--item", "item_id", type=ID, metavar="N", help="Only this service.")
@server_option
@command
def plan(options: Options, item_id: int | None, server_id: int | None) -> int:
    """Show what would be changed; change nothing. Exit 0: nothing, 2: something, 1: an error."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        made = make_plan(app, item_id=item_id, server_id=server_id)
    show_plan(options.output, made)
    if made.errors:
        return FAILED
    return HAS_FINDINGS if made.has_changes else 0


@click.command()
@click.argument("item_id", type=ID, required=False, metavar="[ITEM]")
@command
def status(options: Options, item_id: int | None) -> int:
    """Servers, daemons, guards, counts by state and what needs a person; or one service."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        if item_id is None:
            show_status(options.output, describe_status(app))
            return 0
        record = app.journal.services.get(item_id)
        if record is None:
            raise LookupError(
                f"service {item_id} was never looked at: run `reconciler plan --item {item_id}`"
            )
        usage = app.journal.usage.get(item_id)
        show_service(options.output, record, usage, grace=app.config.guards.deletion_grace)
    return 0


@click.command()
@click.argument("item_id", type=ID, required=False, metavar="[ITEM]")
@command
def history(options: Options, item_id: int | None) -> int:
    """What was done to a service, when, by whom and why; without ITEM what concerned no single one."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        entries = app.journal.history.list_entries(item_id or NO_SERVICE)
    show_history(options.output, entries)
    if not entries and not options.output.is_json:
        whom = f"to service {item_id}" if item_id else "that concerned no single service"
        options.output.line(f"nothing was ever done {whom}")
    return 0


@click.command()
@server_option
@click.option("--near", "is_near_only", is_flag=True, help="Only services at 80 % of their quota or above.")
@command
def usage(options: Options, server_id: int | None, is_near_only: bool) -> int:
    """How much of what was sold is used, as last seen: servers, and services, the fullest first."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        journal = app.journal.usage
        sums, services = journal.sum_by_server(), journal.list_all(server_id)
        if server_id is not None and server_id not in sums:
            find_servers(app, server_id)
    chosen = {key: value for key, value in sums.items() if server_id in {None, key}}
    show_usage(options.output, chosen, services, is_near_only=is_near_only)
    return 0


@click.command()
@server_option
@click.option("--all", "is_all", is_flag=True, help="All of them, whatever their names.")
@command
def orphans(options: Options, server_id: int | None, is_all: bool) -> int:
    """Accounts that no service names. Changes nothing. Exit 0: none, 2: some, 1: an error."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        report = find_orphans(app, server_id=server_id, is_all=is_all)
    show_orphans(options.output, report)
    if report.errors:
        return FAILED
    return HAS_FINDINGS if any(orphan.is_candidate for orphan in report.orphans) else 0


@click.command(name="check-connection")
@click.argument("server_id", type=ID, required=False, metavar="[SERVER]")
@command
def check_connection_command(options: Options, server_id: int | None) -> int:
    """Try each server with the calls that will be used; name the cause of a failure and its cure."""
    with options.open(is_dry_run=True, is_quiet=True) as app:
        servers = find_servers(app, server_id)
        diagnoses = {server: check_connection(server) for server in servers}
    show_diagnoses(options.output, diagnoses)
    return 0 if diagnoses and all(item.is_usable for item in diagnoses.values()) else FAILED
