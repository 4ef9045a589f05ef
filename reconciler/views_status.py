"""What `status` and `usage` show: everything at a glance, for a person before a terminal, or as JSON."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from pydantic import TypeAdapter

from reconciler.guards import CAPS, CapUse
from reconciler.journal import NEAR_PERCENT, DaemonRecord, ServerUsage, ServiceRecord, ServiceUsage
from reconciler.output import Output, to_plain
from reconciler.status import GuardStatus, ServerStatus, Status
from reconciler.views import MOST_LINES, show_rest, show_services
from states import format_quota

_MOST_CAPS: Final = 10
_SPAN: Final = TypeAdapter(timedelta)


def show_status(output: Output, status: Status) -> None:
    """Servers, daemons, guards, counts by state and what needs a person."""
    if output.is_json:
        output.json(status)
        return
    _show_servers(output, status.servers)
    for daemon in status.daemons:
        output.line(_describe_daemon(daemon))
    if not status.daemons:
        output.line("no daemon runs")
    if status.mode == "observe":
        output.line("mode observe: everything is computed and shown, nothing is changed")
    states = ", ".join(f"{count} {state}" for state, count in sorted(status.states.items()))
    if states:
        held = f"; {status.held} held by an operator" if status.held else ""
        output.line(f"services: {states}{held}")
    _show_guards(output, status)
    if status.usage.quota_bytes:
        output.line(f"usage: {_describe_usage(status.usage)}")
    for title, records, total in (
        ("needs a person", status.attention, status.attention_total),
        ("waits", status.blocked, status.blocked_total),
    ):
        show_services(output, title, records[:MOST_LINES])
        show_rest(output, title, total - min(len(records), MOST_LINES))
    rows = [("nearly full", *_describe_service_usage(one)) for one in status.near_quota[:MOST_LINES]]
    if rows:
        output.table("", ("", "service", "server", "used", "quota", "%", "seen"), rows)
    show_rest(output, "nearly full", status.usage.near[0] - len(rows))


def _show_servers(output: Output, servers: list[ServerStatus]) -> None:
    """All of them; when they are many, those in trouble first."""
    chosen = servers
    if len(servers) > MOST_LINES:
        chosen = sorted(servers, key=lambda one: (one.condition == "ok", -one.oldest_unconverged_seconds))
        chosen = chosen[:MOST_LINES]
    rows = [
        (
            server.server_id,
            server.product,
            server.version,
            server.scanned_at,
            server.condition,
            ", ".join(f"{count} {state}" for state, count in sorted(server.services.items())),
            _describe_wait(server.oldest_unconverged_seconds),
            server.orphans,
            _describe_usage(server.usage) if server.usage.quota_bytes else None,
        )
        for server in chosen
    ]
    columns = ("server", "product", "version", "last scan", "condition", "services")
    output.table("servers", (*columns, "longest unconverged", "orphans", "usage"), rows)
    left_out = len(servers) - len(chosen)
    if left_out:
        shown = {server.server_id for server in chosen}
        bad = sum(1 for one in servers if one.condition != "ok" and one.server_id not in shown)
        output.line(f"servers: and {left_out} more, {bad or 'none'} of them in trouble")


def _show_guards(output: Output, status: Status) -> None:
    read = status.desired_read
    words = "active" if read.is_suspicious else "quiet"
    output.line(f"guard desired_read: {words} ({read.seen} of {read.good} seen)")
    for guard in status.guards[:MOST_LINES]:
        output.line(_describe_guard(guard))
    show_rest(output, "guards", len(status.guards) - MOST_LINES)
    uses: dict[int, list[CapUse]] = {}
    for use in status.caps:
        uses.setdefault(use.server_id, []).append(use)
    # Where they are many, those that are nearest to a limit.
    chosen = sorted(uses.items(), key=lambda item: -max(map(_get_share, item[1])))[:_MOST_CAPS]
    rows = [("used up", f"server {key}", *map(_describe_use, caps)) for key, caps in sorted(chosen)]
    if rows:
        output.table("", ("", "server", *([""] * len(CAPS))), rows)
    show_rest(output, "used up", len(uses) - len(rows))
    output.line(f"limits: {_describe_limits(status.limits)}")


def _get_share(use: CapUse) -> float:
    return use.used / max(1, use.limit)


def _describe_use(use: CapUse) -> str:
    return f"{use.guard} {use.used} of {use.limit} in {use.hours} h"


def _describe_limits(limits: dict[str, Any]) -> str:
    """The guards' settings that are not shown as used up."""

    def tell(name: str) -> str:
        return _describe_span(_SPAN.validate_python(limits[name]))

    return (
        f"deleted after {tell('deletion_grace')}, wanted in two reads {tell('deletion_confirm_interval')} "
        f"apart; a read of billing may shrink by {limits['max_desired_shrink_percent']:g} %; "
        f"{limits['hot_loop_mutations']} changes of one service an hour; a server is left alone after "
        f"{limits['breaker_failures']} failures and tried every {tell('breaker_probe_interval')}, after a "
        f"refused password every {tell('credentials_probe_interval')}; an approval is good for "
        f"{tell('approval_ttl')}"
    )


def _describe_span(span: timedelta) -> str:
    seconds = span.total_seconds()
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _describe_daemon(daemon: DaemonRecord) -> str:
    report: dict[str, Any] = daemon.report
    queue = ", ".join(f"{count} {name}" for name, count in report.get("queue", {}).items() if count)
    parts = [
        f"daemon on {daemon.host} since {daemon.started_at:%Y-%m-%d %H:%M:%S} UTC",
        f"queue: {queue or 'empty'}",
        f"{report.get('running', 0)} at work",
        f"last turn {report.get('last_turn_seconds', 0):.1f} s before {daemon.seen_at:%H:%M:%S} UTC",
    ]
    if report.get("config_error"):
        parts.append(f"works with its old configuration: {report['config_error']}")
    return "; ".join(parts)


def _describe_guard(guard: GuardStatus) -> str:
    where = "" if guard.server_id is None else f" on server {guard.server_id}"
    words = f"guard {guard.guard}: {guard.waiting} services wait{where}"
    return words if guard.command is None else f"{words}: `{guard.command}`"


def _describe_usage(usage: ServerUsage) -> str:
    words = f"{format_quota(usage.used_bytes)} of {format_quota(usage.quota_bytes)}"
    near, over = usage.near
    return f"{words}; {near} at 80 % or above, {over} full" if near else words


def _describe_service_usage(one: ServiceUsage) -> tuple[object, ...]:
    quota = "none" if one.quota_bytes is None else format_quota(one.quota_bytes)
    percent = None if one.percent is None else f"{one.percent:.0f}"
    return one.item_id, one.server_id, format_quota(one.used_bytes), quota, percent, one.seen_at


def _describe_wait(seconds: float) -> str | None:
    if not seconds:
        return None
    return str(timedelta(seconds=round(seconds)))


def show_service(
    output: Output, record: ServiceRecord, usage: ServiceUsage | None, *, grace: timedelta
) -> None:
    """Everything that is known of one service; ``grace`` is how long a closed one is kept."""
    if output.is_json:
        output.json({**to_plain(record), "usage": None if usage is None else _to_plain(usage)})
        return
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
        ("guard", record.blocked_guard),
        ("step that waits", record.blocked_step),
        ("not as sold since", record.unconverged_since),
        ("failed tries", record.attempts),
        ("next try", record.next_attempt_at),
        ("last message", record.last_error),
    ]
    if usage is not None:
        _, _, used, quota, percent, seen_at = _describe_service_usage(usage)
        share = f" ({percent} %)" if percent is not None else ""
        rows.append(("usage", f"{used} of {quota}{share}, seen {seen_at:%Y-%m-%d %H:%M} UTC"))
    if memory.retired_since is not None:
        rows.append(("not before", memory.retired_since + grace))
    output.table("", ("", ""), rows)


def show_usage(
    output: Output,
    servers: dict[int, ServerUsage],
    services: list[ServiceUsage],
    *,
    is_near_only: bool,
) -> None:
    """Sums by server, and the services, the fullest first; ``is_near_only``: those that are nearly full."""
    shown = [one for one in services if not is_near_only or (one.percent or 0) >= NEAR_PERCENT[0]]
    shown.sort(key=lambda one: (-(one.percent or 0), one.item_id))
    if output.is_json:
        output.json({"servers": servers, "services": [_to_plain(one) for one in shown]})
        return
    rows = [
        (
            f"server {server_id}",
            format_quota(usage.used_bytes),
            format_quota(usage.quota_bytes),
            *usage.near,
        )
        for server_id, usage in sorted(servers.items())
    ]
    output.table("", ("", "used", "sold", "at 80 % or above", "full"), rows[:MOST_LINES])
    show_rest(output, "servers", len(rows) - MOST_LINES)
    lines = [_describe_service_usage(one) for one in shown[:MOST_LINES]]
    output.table("", ("service", "server", "used", "quota", "%", "seen"), lines)
    show_rest(output, "services", len(shown) - MOST_LINES)
    if not (rows or lines):
        output.line("no usage was seen yet: the daemon looks every usage_interval")


def _to_plain(one: ServiceUsage) -> dict[str, object]:
    return {**to_plain(one), "percent": one.percent}
