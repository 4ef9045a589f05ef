"""What the commands show of what the parts answer: as JSON, tables or lines; `status` in views_status.

Lines are for people: long lists are cut, and it is told how long they are.
"""

from __future__ import annotations

from typing import Final

from reconciler.cycle import CycleReport
from reconciler.diagnosis import Diagnosis
from reconciler.fleet import CloudServer
from reconciler.journal import HistoryEntry, ServiceRecord
from reconciler.one_pass import PassResult
from reconciler.orphans import OrphanReport
from reconciler.output import Output, to_plain
from reconciler.planning import Plan

MOST_LINES: Final = 60
"""How many services or servers are shown one by one."""


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
            f"nothing destructive is done until `{report.read.command}`"
        )
    show_services(output, "needs a person", report.attention)
    show_services(output, "waits", report.blocked)
    if report.busy:
        output.line(f"another process is working on: {shorten([str(item) for item in report.busy])}")
    for server_id, orphans in sorted(report.orphans.items()):
        output.line(f"server {server_id}: accounts that belong to no service: {shorten(sorted(orphans))}")


def show_services(output: Output, title: str, records: list[ServiceRecord]) -> None:
    """Services with the reason why they are shown."""
    if records:
        rows = [
            (title, f"service {record.item_id}", record.memory.state, record.blocked_by or record.reason)
            for record in records
        ]
        output.table("", ("", "service", "state", "why"), rows)


def show_rest(output: Output, title: str, count: int) -> None:
    """How many lines were left out."""
    if count > 0:
        output.line(f"{title}: and {count} more")


def shorten(names: list[str], most: int = 10) -> str:
    """Some names in one line, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


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
        output.line(f"server {server}: accounts that belong to no service: {shorten(sorted(orphans))}")
    changed = sum(1 for planned in made.planned if planned.changes)
    output.line(f"{made.services} services compared, {changed} would be changed")


def show_history(output: Output, entries: list[HistoryEntry]) -> None:
    """What was done, line by line, oldest first."""
    if output.is_json:
        output.json(entries)
        return
    rows = [
        (entry.at, entry.actor, entry.action, entry.observed, entry.wanted, entry.result, entry.why)
        for entry in entries
    ]
    output.table("", ("at", "who", "what", "was", "wanted", "result", "why"), rows)


def show_results(output: Output, results: list[PassResult]) -> None:
    """How single passes ended."""
    if output.is_json:
        output.json(results)
        return
    for result in results:
        why = result.error or result.blocked_by or result.reason
        done = ", ".join(result.steps) or "nothing to do"
        output.line(f"service {result.item_id}: {result.state}, {done}; {why}")


def show_orphans(output: Output, report: OrphanReport) -> None:
    """Accounts that no service names."""
    if output.is_json:
        output.json({"orphans": report.orphans, "errors": report.errors})
        return
    words = {True: "there", False: "gone, too", None: "not looked for"}
    rows = [
        (orphan.server_id, orphan.userid, words[orphan.is_there], orphan.why) for orphan in report.orphans
    ]
    output.table("", ("server", "account", "is", "why"), rows)
    for name, message in report.errors.items():
        output.line(f"{name} cannot be listed: {message.removeprefix(f'{name}: ')}")
    if not rows and not report.errors:
        output.line("every account is named by a service")


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
