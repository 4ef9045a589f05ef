"""How everything stands, in one value: for `reconciler status`, the HTTP interface and the console."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from reconciler.application import Application
from reconciler.fleet import name_instance
from reconciler.guards import CAPS, CapUse, Guard, ReadVerdict, name_command
from reconciler.journal import DaemonRecord, ServerUsage, ServiceRecord, ServiceUsage
from states import ServiceState

MOST_SHOWN: Final = 200
"""How many services of a kind are listed; their number is told all the same."""

ATTENTION: Final = (ServiceState.QUARANTINED, ServiceState.BACKOFF, ServiceState.ORPHANED)
"""States that a person should know of."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server. Everything but ``server_id`` may be unknown yet.

    Attributes:
        condition: "ok", or one line that says why it is left alone.
        cause: a word for that (`reconciler.fleet.ServerStopped.cause`); None when it is not.
        services: how many, by state.
        oldest_unconverged_seconds: how long the longest unconverged service has been so; 0 without one.
        orphans: accounts that look like ours and belong to no service, at the latest scan.
        usage: bytes sold and used, services near their quota.
    """

    server_id: int
    product: str | None
    version: str | None
    condition: str
    cause: str | None
    services: dict[str, int]
    oldest_unconverged_seconds: float
    scanned_at: datetime | None
    orphans: int | None
    usage: ServerUsage


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """A guard that is active.

    Attributes:
        guard: its name.
        server_id: on which server; None for all.
        waiting: how many services wait for it.
        command: how an operator lets pass what waits now; None when only time does.
    """

    guard: str
    server_id: int | None
    waiting: int
    command: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """All of it; lists of services are cut to `MOST_SHOWN`.

    Attributes:
        mode: enforce or observe.
        daemons: those that run on this journal.
        desired_read: what the desired-read guard says of the latest read of billing.
        limits: the configured limits of all guards.
        caps: how far the guards that count are used up, on each server.
        states: services of all servers, by state.
        held: how many services an operator has paused.
        usage: bytes sold and used on all servers, and how many services are near their quota.
        attention_total, blocked_total: how many there are, of which the lists have the first.
        attention: services that a person should know of.
        blocked: services whose next step waits for a guard or a server.
        near_quota: services at 80 percent of their quota or above, the fullest first.
    """

    mode: str
    daemons: list[DaemonRecord]
    desired_read: ReadVerdict
    guards: list[GuardStatus]
    limits: dict[str, Any]
    caps: list[CapUse]
    servers: list[ServerStatus]
    states: dict[str, int]
    held: int
    usage: ServerUsage
    attention_total: int
    blocked_total: int
    attention: list[ServiceRecord] = field(default_factory=list)
    blocked: list[ServiceRecord] = field(default_factory=list)
    near_quota: list[ServiceUsage] = field(default_factory=list)


def describe_status(app: Application) -> Status:
    """Read it all from the journal; no server and no billing is asked.

    Raises:
        JournalError: it cannot be read.
    """
    journal, now = app.journal, app.clock()
    counts = journal.services.count_by_state()
    totals: Counter[str] = Counter()
    by_server: dict[int | None, dict[str, int]] = {}
    for (server_id, state), count in sorted(counts.items(), key=str):
        totals[state] += count
        by_server.setdefault(server_id, {})[state] = count
    oldest = journal.overview.get_oldest_unconverged()
    usage = journal.usage.sum_by_server()
    servers = []
    for record in journal.servers.list_all():
        since = oldest.get(record.server_id)
        strange = record.strange_identity and f"another installation answers ({record.strange_identity})"
        servers.append(
            ServerStatus(
                server_id=record.server_id,
                product=record.product,
                version=record.version,
                condition=record.breaker_message or strange or "ok",
                cause=record.breaker_cause or ("identity" if strange else None),
                services=by_server.get(record.server_id, {}),
                oldest_unconverged_seconds=max(0.0, (now - since).total_seconds()) if since else 0.0,
                scanned_at=record.scanned_at,
                orphans=record.orphans,
                usage=usage.get(record.server_id, ServerUsage()),
            )
        )
    return Status(
        mode=app.config.reconciler.mode,
        daemons=journal.daemons.list_running(now),
        desired_read=(read := app.reconciler.guards.get_read_verdict()),
        guards=_list_guards(app, read),
        limits=app.config.guards.model_dump(mode="json"),
        caps=app.reconciler.guards.list_uses(
            {one.server_id: sum(one.services.values()) for one in servers}, now
        ),
        servers=servers,
        states=dict(totals),
        held=journal.overview.count_held(),
        usage=_sum_up(usage.values()),
        attention_total=sum(totals[state.value] for state in ATTENTION),
        blocked_total=journal.overview.count_waiting(),
        attention=journal.services.list_in_states(ATTENTION, limit=MOST_SHOWN),
        blocked=journal.services.list_blocked(limit=MOST_SHOWN),
        near_quota=journal.usage.list_near(limit=MOST_SHOWN),
    )


def _sum_up(usage: Iterable[ServerUsage]) -> ServerUsage:
    every = list(usage)
    return ServerUsage(
        sum(one.used_bytes for one in every),
        sum(one.quota_bytes for one in every),
        (sum(one.near[0] for one in every), sum(one.near[1] for one in every)),
    )


def _list_guards(app: Application, read: ReadVerdict) -> list[GuardStatus]:
    waiting = Counter(app.journal.overview.count_blocked())
    strange = {record.server_id: record.strange_identity for record in app.journal.servers.list_all()}
    active = set(waiting)
    active |= {(server_id, Guard.IDENTITY.value) for server_id, seen in strange.items() if seen}
    if read.is_suspicious and not any(guard == Guard.DESIRED_READ for _, guard in active):
        active.add((None, Guard.DESIRED_READ.value))
    return [
        GuardStatus(
            guard,
            server_id,
            waiting[server_id, guard],
            _get_command(Guard(guard), server_id, read, strange.get(server_id) if server_id else None),
        )
        for server_id, guard in sorted(active, key=str)
    ]


def _get_command(guard: Guard, server_id: int | None, read: ReadVerdict, strange: str | None) -> str | None:
    if guard in CAPS:
        return name_command(guard, server_id)
    if guard is Guard.IDENTITY and strange is not None:
        return f"{name_command(guard, server_id)}{name_instance(strange)}"
    return {Guard.DESIRED_READ: read.command, Guard.HOT_LOOP: "reconciler release ITEM"}.get(guard)
