"""What the commands of `reconciler.cli` show of what the parts answer: as JSON, tables or lines."""

from __future__ import annotations

from reconciler.application import Application
from reconciler.cycle import CycleReport
from reconciler.diagnosis import Diagnosis
from reconciler.fleet import CloudServer
from reconciler.journal import ServiceRecord
from reconciler.output import Output, to_plain
from reconciler.planning import Plan
from states import ServiceState


def show_report(output: Output, report: CycleReport) -> None:
    """What a full cycle did and what it leaves."""
    if output.is_json:
        output.json(report)
        return
    steps = ", ".join(f"{count} {kind}" for kind, count in sorted(report.steps.items())) or "nothing"
    output.line(f"{report.services} services, {report.passes} looked at singly, done: {steps}")
    states = ", ".join(f"{count} {state}" for state, count in sorted(report.states.items()))
    output.line(f"states: {states or 'none'} ({report.duration_seconds:.1f} s)")
    for name in report.inactive:
        output.line(f"{name} is switched off in BILLmanager: nothing is done there")
    for message in report.servers.values():
        output.line(f"left out: {message}")
    if report.read is not None and report.read.is_suspicious:
        output.line(
            f"guard desired_read: billing shows {report.read.seen} services, {report.read.good} before: "
            "nothing destructive is done until `reconciler approve desired-read`"
        )
    _show_services(output, "needs a person", report.attention)
    _show_services(output, "waits", report.blocked)
    if report.busy:
        output.line(f"another process is working on: {_shorten([str(item) for item in report.busy])}")
    for server_id, orphans in sorted(report.orphans.items()):
        output.line(f"server {server_id}: accounts that belong to no service: {_shorten(orphans)}")


def _show_services(output: Output, title: str, records: list[ServiceRecord]) -> None:
    if records:
        rows = [
            (title, f"service {record.item_id}", record.memory.state, record.blocked_by or record.reason)
            for record in records
        ]
        output.table("", ("", "service", "state", "why"), rows)


def _shorten(names: list[str], most: int = 10) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + rest


def show_plan(output: Output, made: Plan) -> None:
    """What would be done, service by service."""
    if output.is_json:
        output.json(
            {
                "services": made.services,
                "planned": [
                    {
                        "item_id": planned.item_id,
                        "server_id": planned.server_id,
                        "userid": planned.userid,
                        "state": planned.verdict.state,
                        "reason": planned.verdict.reason,
                        "differences": planned.differences,
                        "changes": planned.changes,
                        "notes": planned.verdict.notes,
                    }
                    for planned in made.planned
                ],
                "errors": made.errors,
                "orphans": made.orphans,
            }
        )
        return
    rows = []
    for planned in made.planned:
        differences = "; ".join(
            f"{difference.field}: {difference.observed} -> {difference.wanted}"
            + ("" if difference.is_enforced else " (only reported)")
            for difference in planned.differences
        )
        rows.append(
            (
                planned.item_id,
                planned.server_id,
                planned.userid,
                planned.verdict.state,
                differences or planned.verdict.reason,
                ", ".join(planned.changes) or "nothing",
            )
        )
    if rows:
        output.table("", ("service", "server", "account", "state", "difference", "would do"), rows)
    for name, message in made.errors.items():
        output.line(f"{name} cannot be compared: {message.removeprefix(f'{name}: ')}")
    for server, orphans in sorted(made.orphans.items()):
        output.line(f"server {server}: accounts that belong to no service: {_shorten(orphans)}")
    changed = sum(1 for planned in made.planned if planned.changes)
    output.line(f"{made.services} services compared, {changed} would be changed")


def show_service(output: Output, app: Application, item_id: int) -> int:
    """Everything that is known of one service; the exit code.

    Raises:
        LookupError: it was never looked at.
    """
    record = app.journal.services.get(item_id)
    if record is None:
        raise LookupError(f"service {item_id} was never looked at: run `reconciler plan --item {item_id}`")
    if output.is_json:
        output.json(record)
        return 0
    memory = record.memory
    rows: list[tuple[str, object]] = [
        ("service", record.item_id),
        ("server", record.server_id),
        ("account", record.userid),
        ("state", memory.state),
        ("since", record.since),
        ("reason", record.reason),
        ("billing wants", record.wish),
        ("ownership", memory.ownership),
        ("held", memory.hold_reason),
        ("waits for", record.blocked_by),
        ("failed tries", record.attempts),
        ("last message", record.last_error),
    ]
    if memory.retired_since is not None:
        rows.append(("not before", memory.retired_since + app.config.guards.deletion_grace))
    output.table("", ("", ""), rows)
    return 0


def show_status(output: Output, app: Application) -> int:
    """Servers, guards, counts by state and what needs a person; the exit code."""
    journal = app.journal
    servers = journal.servers.list_all()
    counts = journal.services.count_by_state()
    read = app.reconciler.guards.get_read_verdict()
    attention = journal.services.list_in_states((ServiceState.QUARANTINED, ServiceState.BACKOFF))
    blocked = journal.services.list_blocked()
    if output.is_json:
        states: dict[str, int] = {}
        for (_, state), count in counts.items():
            states[state] = states.get(state, 0) + count
        output.json(
            {
                "servers": servers,
                "states": states,
                "desired_read": read,
                "attention": attention,
                "blocked": blocked,
                "guards": app.config.guards.model_dump(mode="json"),
            }
        )
        return 0
    rows: list[tuple[object, ...]] = []
    for server in servers:
        by_state = ", ".join(
            f"{count} {state}"
            for (owner, state), count in sorted(counts.items(), key=str)
            if owner == server.server_id
        )
        trouble = server.breaker_message or (
            "another installation answers" if server.strange_identity else "ok"
        )
        rows.append((server.server_id, server.product, server.version, server.scanned_at, trouble, by_state))
    output.table("servers", ("server", "product", "version", "last scan", "condition", "services"), rows)
    output.line(
        f"guard desired_read: {'active' if read.is_suspicious else 'quiet'} ({read.seen} of {read.good} seen)"
    )
    _show_services(output, "needs a person", attention)
    _show_services(output, "waits", blocked)
    return 0


def show_diagnoses(output: Output, diagnoses: dict[CloudServer, Diagnosis]) -> None:
    """What the connection checks found."""
    if output.is_json:
        output.json(
            [
                {"server_id": server.id, "url": server.url, **to_plain(item)}
                for server, item in diagnoses.items()
            ]
        )
        return
    rows = [
        (server.id, server.url, item.cause, item.message, item.cure or "-")
        for server, item in diagnoses.items()
    ]
    output.table("", ("server", "URL", "result", "message", "cure"), rows)
