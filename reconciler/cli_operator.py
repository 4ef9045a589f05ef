"""The commands by which an operator intervenes.

They are resync, hold, release, approve, adopt, reset-password and rotate-key.
"""

from __future__ import annotations

import sys

import click

from reconciler.adoption import adopt_account
from reconciler.application import get_journal_url
from reconciler.clock import system_clock
from reconciler.command import FAILED, ID, Options, command, find_servers, get_actor
from reconciler.guards import CAPS, Guard
from reconciler.journal import rotate_key
from reconciler.one_pass import PassResult
from reconciler.operations import (
    OperationRefused,
    approve_cap,
    approve_identity,
    approve_read,
    ask_resync,
    hold_service,
    release_service,
)
from reconciler.passwords import reset_password
from reconciler.resync import resync_and_wait
from reconciler.views import shorten, show_results

_WAIT_SECONDS = 300.0
_COUNT = click.IntRange(min=0)
_GUARDS = {guard.value.replace("_", "-"): guard for guard in (Guard.IDENTITY, Guard.DESIRED_READ, *CAPS)}


@click.command()
@click.argument("item_ids", type=ID, nargs=-1, required=True, metavar="ITEM...")
@click.option("--wait", "is_waiting", is_flag=True, help="Wait for the daemon, and show what came of it.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=_WAIT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait, with --wait.",
)
@command
def resync(options: Options, item_ids: tuple[int, ...], is_waiting: bool, timeout_seconds: float) -> int:
    """Look at services now and repair them; lifts a quarantine. The daemon does it when one runs."""
    items = list(dict.fromkeys(item_ids))
    with options.open() as app:
        daemons = app.journal.daemons.list_running(app.clock())
        if daemons and not is_waiting:
            ask_resync(app, items, get_actor())
            hosts = sorted({daemon.host for daemon in daemons})
            words = (
                f"asked the daemon on {', '.join(hosts)}: service {shorten([str(item) for item in items])}"
            )
            return options.answer(words, asked=items, hosts=hosts)
        results = resync_and_wait(
            app, items, get_actor(), timeout_seconds=timeout_seconds if is_waiting else 0.0
        )
    return _show(options, results)


@click.command()
@click.argument("item_id", type=ID, metavar="ITEM")
@click.option("--reason", required=True, help="Why; shown wherever the service is shown.")
@command
def hold(options: Options, item_id: int, reason: str) -> int:
    """Pause a service: nothing is done to its account until `release`."""
    with options.open(is_quiet=True) as app:
        hold_service(app, item_id, reason, get_actor())
    return options.answer(f"service {item_id} is held", item_id=item_id, held=reason)


@click.command()
@click.argument("item_id", type=ID, metavar="ITEM")
@command
def release(options: Options, item_id: int) -> int:
    """End a service's hold or quarantine."""
    with options.open(is_quiet=True) as app:
        release_service(app, item_id, get_actor())
    return options.answer(f"service {item_id} is released", item_id=item_id, held=None)


@click.command()
@click.argument("name", type=click.Choice(list(_GUARDS)), metavar="GUARD")
@click.option("--server", "server_id", type=ID, metavar="N", help="Which server; identity needs it.")
@click.option("--services", type=_COUNT, metavar="N", help="desired-read: as many as you have seen, or more.")
@click.option("--instance", "instance_id", metavar="ID", help="identity: which installation you have seen.")
@command
def approve(
    options: Options, name: str, server_id: int | None, services: int | None, instance_id: str | None
) -> int:
    """Accept what a guard stopped, and nothing else: `status` and `plan` show it.

    \b
    identity --server N [--instance ID]
                          the other installation that was seen there is the right one
    desired-read [--services N]
                          billing is right to have so many fewer services
    deletions, disables, recreations, quota-decreases [--server N]
                          the services that wait for it now may pass it, each once and with
                          the very step it waits for, within guards.approval_ttl
    """
    guard = _GUARDS[name]
    if guard is Guard.IDENTITY and server_id is None:
        raise click.UsageError("say which server: --server N")
    if guard is Guard.DESIRED_READ and server_id is not None:
        raise click.UsageError("desired-read concerns all servers: leave out --server")
    if services is not None and guard is not Guard.DESIRED_READ:
        raise click.UsageError("--services goes with desired-read")
    if instance_id is not None and guard is not Guard.IDENTITY:
        raise click.UsageError("--instance goes with identity")
    with options.open(is_quiet=True) as app:
        servers = find_servers(app, server_id) if server_id is not None else []
        if guard is Guard.DESIRED_READ:
            read = approve_read(app, get_actor(), services or 0)
            words = f"the latest read of billing counts as good: {read.seen} services, {read.good} before"
            return options.answer(words, guard=name, server_id=None, services=None, seen=read.seen)
        if guard is Guard.IDENTITY:
            identity = approve_identity(app, servers[0], get_actor(), instance_id)
            words = f"server {server_id}: {identity} is taken as the right installation"
            return options.answer(words, guard=name, server_id=server_id, services=None, identity=identity)
        given = approve_cap(app, guard, server_id, get_actor())
        minutes = app.config.guards.approval_ttl.total_seconds() / 60
    words = f"no service waits for guard {name}"
    if given:
        words = (
            f"{len(given)} services may pass guard {name} once within {minutes:g} min, each with what it "
            f"waits for now: {shorten([str(each.item_id) for each in given])}"
        )
    return options.answer(
        words,
        guard=name,
        server_id=server_id,
        services=[each.item_id for each in given],
        steps={each.item_id: each.step for each in given},
    )


@click.command()
@click.argument("item_id", type=ID, metavar="ITEM")
@click.argument("userid", metavar="USER")
@click.option("--force", "is_forced", is_flag=True, help="Also when the account uses more than was sold.")
@command
def adopt(options: Options, item_id: int, userid: str, is_forced: bool) -> int:
    """Make an existing account the account of a service, on the service's server."""
    actor = get_actor()
    with options.open() as app:
        app.fleet.refresh()
        items = adopt_account(app, item_id, userid, actor, is_forced=is_forced)
        results = resync_and_wait(app, items, actor, timeout_seconds=_WAIT_SECONDS)
    if options.output.is_json:
        options.output.json({"item_id": item_id, "userid": userid, "passes": results})
        return _judge(results)
    options.output.line(
        f"service {item_id} has the account {userid}; its password is not known here: "
        f"`reconciler reset-password {item_id}` sets a new one"
    )
    return _show(options, results)


@click.command(name="reset-password")
@click.argument("item_id", type=ID, metavar="ITEM")
@click.option("--stdin", "is_given", is_flag=True, help="Read it from standard input; else one is generated.")
@command
def reset_password_command(options: Options, item_id: int, is_given: bool) -> int:
    """Give a service's account a new password, and put it on the service's card."""
    password = _read_password() if is_given else None
    with options.open() as app:
        app.fleet.refresh()
        reset = reset_password(app, item_id, get_actor(), password=password)
    whose = f"{reset.userid} of service {item_id} has a new password"
    # What cannot be read anywhere else, and was not given by whoever runs this, is shown.
    shown = None if reset.is_delivered or is_given else reset.password
    where = "it is on the service's card"
    if not reset.is_delivered:
        where = 'billing is not written to (writer = "none"): tell it to the client'
    return options.answer(
        f"{whose}; {where}" if shown is None else f"{whose}; {where}: {shown}",
        item_id=item_id,
        server_id=reset.server_id,
        userid=reset.userid,
        is_delivered=reset.is_delivered,
        password=shown,
    )


@click.command(name="rotate-key")
@command
def rotate_key_command(options: Options) -> int:
    """Make a new journal key, and encrypt with it what is kept. End the daemon before."""
    config = options.load(is_quiet=True)
    made = rotate_key(
        get_journal_url(config), config.reconciler.journal_key_file, get_actor(), system_clock()
    )
    earlier = "; an earlier change that was cut off is finished by it" if made.was_unfinished else ""
    return options.answer(
        f"{made.key_file} holds a new key, {made.passwords} kept passwords were encrypted with it{earlier}",
        key_file=made.key_file,
        passwords=made.passwords,
        was_unfinished=made.was_unfinished,
    )


def _read_password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("New password", hide_input=True, err=True))
    lines = sys.stdin.read().splitlines()
    if len(lines) != 1:
        raise OperationRefused("one line is expected on standard input: the password")
    return lines[0]


def _show(options: Options, results: list[PassResult]) -> int:
    show_results(options.output, results)
    return _judge(results)


def _judge(results: list[PassResult]) -> int:
    return FAILED if any(result.error or result.blocked_by for result in results) else 0
