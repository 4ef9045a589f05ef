"""What Prometheus is told: counters of what happens here, and gauges of how everything stands.

Base units, no label for a service or a user. Every label value that is known beforehand starts at 0: those of
the program with the first scrape, those of a server as soon as billing names it. The gauges are read from the
journal when they are asked for, at most every few seconds.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nc import OPERATIONS, ApiCall
from reconciler.fleet import STOP_CAUSES, CloudServer
from reconciler.guards import Guard, ReadVerdict
from reconciler.journal import NEAR_PERCENT, ServerRecord, ServerUsage
from reconciler.one_pass import PassResult
from reconciler.workqueue import Priority
from states import ServiceState, StepKind

RESULTS: Final = ("ok", "blocked", "backoff", "quarantined", "busy", "error")
"""How a pass can end."""

FIELDS: Final = ("existence", "enabled", "quota", "group", "email")
"""Fields in which an account can differ from what was sold."""

ALL_SERVERS: Final = "all"
"""The server label of what concerns no single one."""

_KINDS: Final = ("provisioning", "drifted", "suspending", "resuming", "deleting")
_MUTATIONS: Final = tuple(kind.value for kind in StepKind if kind.is_mutating)
_GLOBAL_GUARDS: Final = (Guard.DESIRED_READ,)
_PASS_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600)
_CALL_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_WAIT_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)
_CONVERGENCE_BUCKETS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
_FRESH_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How everything stands, as the gauges show it."""

    servers: list[CloudServer]
    records: dict[int, ServerRecord]
    states: dict[tuple[int | None, str], int]
    oldest: dict[int | None, datetime]
    blocked: dict[tuple[int | None, str], int]
    read: ReadVerdict
    usage: dict[int, ServerUsage]
    held: int
    rests: dict[int, float]
    now: datetime


class DriftBoard:
    """Which fields of which services differ, as last seen by a scan or a pass. Thread-safe."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._fields: dict[int, tuple[int | None, tuple[str, ...]]] = {}

    def note(self, item_id: int, server_id: int | None, fields: tuple[str, ...]) -> None:
        """What a pass saw of one service last."""
        with self._lock:
            if fields:
                self._fields[item_id] = server_id, fields
            else:
                self._fields.pop(item_id, None)

    def replace(self, server_id: int, differing: dict[int, tuple[str, ...]]) -> None:
        """What a scan saw of one server: all others of its services differ in nothing."""
        with self._lock:
            for item_id in [item for item, (owner, _) in self._fields.items() if owner == server_id]:
                del self._fields[item_id]
            self._fields.update({item_id: (server_id, fields) for item_id, fields in differing.items()})

    def count(self) -> dict[tuple[int | None, str], int]:
        """How many services differ, by server and field."""
        counts: dict[tuple[int | None, str], int] = {}
        with self._lock:
            for server_id, fields in self._fields.values():
                for name in fields:
                    counts[server_id, name] = counts.get((server_id, name), 0) + 1
        return counts


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(
        self, take_snapshot: Callable[[], Snapshot], count_waiting: Callable[[], dict[Priority, int]]
    ):
        """Make them, all at 0.

        Args:
            take_snapshot: reads how everything stands; may raise, then the last one is shown.
            count_waiting: how many services wait for a pass.
        """
        # A second series for each, which nobody looks at.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry: Final = CollectorRegistry()
        self.drift: Final = DriftBoard()
        self.desired_read_at: datetime | None = None
        self._known_servers: set[int] = set()
        registry = self.registry
        self._passes: Final = Counter(
            "reconciler_reconcile", "Passes over services.", ["server", "result"], registry=registry
        )
        self._pass_seconds: Final = Histogram(
            "reconciler_reconcile_duration_seconds",
            "How long a pass took.",
            ["server"],
            buckets=_PASS_BUCKETS,
            registry=registry,
        )
        self._convergence: Final = Histogram(
            "reconciler_convergence_duration_seconds",
            "From seeing that a service is not as sold until it is, by what there was to do at first.",
            ["kind"],
            buckets=_CONVERGENCE_BUCKETS,
            registry=registry,
        )
        self._mutations: Final = Counter(
            "reconciler_mutations", "Calls that change an account.", ["server", "action"], registry=registry
        )
        self._requests: Final = Counter(
            "reconciler_api_requests",
            "Requests to the servers, by OCS code, else HTTP status, else none.",
            ["server", "operation", "code"],
            registry=registry,
        )
        self._request_seconds: Final = Histogram(
            "reconciler_api_request_duration_seconds",
            "How long the servers took to answer.",
            ["server", "operation"],
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        self._ambiguous: Final = Counter(
            "reconciler_api_ambiguous_results",
            "Changes whose effect the answer did not tell.",
            ["server", "operation"],
            registry=registry,
        )
        self._queue_seconds: Final = Histogram(
            "reconciler_workqueue_queue_duration_seconds",
            "How long services waited for a pass.",
            ["priority"],
            buckets=_WAIT_BUCKETS,
            registry=registry,
        )
        self._trips: Final = Counter(
            "reconciler_guard_trips", "Steps that a guard did not allow.", ["guard"], registry=registry
        )
        for kind in _KINDS:
            self._convergence.labels(kind)
        for priority in Priority:
            self._queue_seconds.labels(priority.name.lower())
        for guard in Guard:
            self._trips.labels(guard.value)
        ProcessCollector(registry=registry)
        registry.register(_Gauges(self, take_snapshot, count_waiting))

    def know_servers(self, servers: Iterable[CloudServer]) -> None:
        """Start the label values of servers that were not known before at 0."""
        for server in servers:
            if server.id in self._known_servers:
                continue
            self._known_servers.add(server.id)
            label = str(server.id)
            self._pass_seconds.labels(label)
            for result in RESULTS:
                self._passes.labels(label, result)
            for action in _MUTATIONS:
                self._mutations.labels(label, action)
                self._ambiguous.labels(label, _OPERATION_OF.get(action, action))
            for operation in OPERATIONS:
                self._request_seconds.labels(label, operation)
                for code in ("100", "200", "none"):
                    self._requests.labels(label, operation, code)

    def observe_call(self, server_id: int, call: ApiCall) -> None:
        """Count a request to a server."""
        label = str(server_id)
        code = call.code if call.code is not None else call.status
        self._requests.labels(label, call.operation, "none" if code is None else str(code)).inc()
        self._request_seconds.labels(label, call.operation).observe(call.duration_seconds)
        if call.is_ambiguous:
            self._ambiguous.labels(label, call.operation).inc()

    def observe_pass(self, result: PassResult, duration_seconds: float) -> None:
        """Count a pass and what it did."""
        label = ALL_SERVERS if result.server_id is None else str(result.server_id)
        self._passes.labels(label, name_result(result)).inc()
        self._pass_seconds.labels(label).observe(duration_seconds)
        for step in result.steps:
            if step.is_mutating:
                self._mutations.labels(label, step.value).inc()
        if result.guard is not None:
            self._trips.labels(result.guard.value).inc()
        if result.converged is not None:
            self._convergence.labels(result.converged[0]).observe(result.converged[1])
        if not result.is_busy:
            is_different = not result.state.is_stable
            self.drift.note(result.item_id, result.server_id, result.differences if is_different else ())

    def count_failure(self, server_id: int | None) -> None:
        """Count a pass that could not even begin: billing or the journal failed."""
        self._passes.labels(ALL_SERVERS if server_id is None else str(server_id), "error").inc()

    def observe_wait(self, priority: Priority, seconds: float) -> None:
        """Count a service that was taken out of the queue."""
        self._queue_seconds.labels(priority.name.lower()).observe(max(0.0, seconds))

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


_OPERATION_OF: Final = {
    "create": "create_account",
    "delete": "delete_account",
    "add_group": "add_to_group",
    "remove_group": "remove_from_group",
}
"""Steps whose request has another name."""


def name_result(result: PassResult) -> str:
    """How a pass ended, as one of `RESULTS`."""
    if result.is_busy:
        return "busy"
    if result.blocked_by is not None:
        return "blocked"
    if result.error is None:
        return "ok"
    return {ServiceState.BACKOFF: "backoff", ServiceState.QUARANTINED: "quarantined"}.get(
        result.state, "error"
    )


class _Gauges(Collector):
    """The gauges, made anew for every scrape."""

    def __init__(
        self,
        metrics: Metrics,
        take_snapshot: Callable[[], Snapshot],
        count_waiting: Callable[[], dict[Priority, int]],
    ) -> None:
        self._metrics: Final = metrics
        self._take_snapshot: Final = take_snapshot
        self._count_waiting: Final = count_waiting
        self._lock: Final = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._taken_at = 0.0

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: the registry need not ask what there is."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges."""
        snapshot = self._get_snapshot()
        yield _gauge(
            "build_info",
            "Which program this is.",
            {("version", "python"): {(version("bill-nextcloud"), platform.python_version()): 1}},
        )
        yield _gauge(
            "workqueue_depth",
            "Services that wait for a pass.",
            {
                ("priority",): {
                    (priority.name.lower(),): count for priority, count in self._count_waiting().items()
                }
            },
        )
        read_at = self._metrics.desired_read_at
        yield _gauge(
            "desired_snapshot_timestamp_seconds",
            "When billing was last read completely.",
            {(): {(): read_at.timestamp() if read_at else 0}},
        )
        if snapshot is not None:
            yield from _list_gauges(snapshot, self._metrics.drift)

    def _get_snapshot(self) -> Snapshot | None:
        with self._lock:
            if self._snapshot is None or time.monotonic() - self._taken_at > _FRESH_SECONDS:
                try:
                    self._snapshot = self._take_snapshot()
                except Exception:  # noqa: BLE001 - whoever scrapes gets what is known; readyz tells the cause
                    return self._snapshot
                self._taken_at = time.monotonic()
            return self._snapshot


_Samples = dict[tuple[str, ...], dict[tuple[str, ...], float]]
"""Label names to label values to the value."""


def _gauge(name: str, text: str, samples: _Samples) -> GaugeMetricFamily:
    ((labels, values),) = samples.items()
    family = GaugeMetricFamily(f"reconciler_{name}", text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _list_gauges(now: Snapshot, drift: DriftBoard) -> Iterator[GaugeMetricFamily]:
    servers = {server.id: str(server.id) for server in now.servers}
    records = {server_id: now.records.get(server_id, ServerRecord(server_id)) for server_id in servers}
    counts, differing = now.states, drift.count()

    def by_server(name: str, text: str, value: Callable[[int], float]) -> GaugeMetricFamily:
        return _gauge(name, text, {("server",): {(label,): value(key) for key, label in servers.items()}})

    yield _gauge(
        "server_info",
        "The servers that billing names.",
        {
            ("server", "name", "product", "version"): {
                (label, server.name, records[server.id].product or "", records[server.id].version or ""): 1
                for server in now.servers
                for label in (servers[server.id],)
            }
        },
    )
    yield _gauge(
        "services",
        "Services by state.",
        {
            ("server", "state"): {
                (label, state.value): counts.get((key, state.value), 0)
                for key, label in servers.items()
                for state in ServiceState
            }
        },
    )
    yield _gauge(
        "drifted_services",
        "Services in which a field is not as sold.",
        {
            ("server", "field"): {
                (label, name): differing.get((key, name), 0)
                for key, label in servers.items()
                for name in FIELDS
            }
        },
    )
    yield by_server(
        "oldest_unconverged_seconds",
        "How long the longest unconverged service has been so.",
        lambda key: max(0.0, (now.now - now.oldest[key]).total_seconds()) if key in now.oldest else 0.0,
    )
    yield _gauge(
        "guard_active", "Whether a guard keeps something from being done.", _read_guards(now, servers)
    )
    yield _gauge(
        "server_breaker_open",
        "Whether a server is left alone, and why.",
        {
            ("server", "cause"): {
                (servers[server.id], cause): int(server.stop_cause == cause)
                for server in now.servers
                for cause in STOP_CAUSES
            }
        },
    )
    yield by_server(
        "desired_services", "Services that billing has.", lambda key: records[key].seen_services or 0
    )
    yield by_server(
        "last_scan_timestamp_seconds",
        "When a server was last compared completely.",
        lambda key: scanned.timestamp() if (scanned := records[key].scanned_at) else 0,
    )
    yield by_server(
        "scan_rest_seconds",
        "How long a server rests after its last scan, to be observed for a quarter of the time at most.",
        lambda key: now.rests[key],
    )
    yield by_server(
        "orphans",
        "Accounts that look like ours and belong to no service.",
        lambda key: records[key].orphans or 0,
    )
    yield _gauge("held_services", "Services that an operator has paused.", {(): {(): now.held}})
    usage = {key: now.usage.get(key, ServerUsage()) for key in servers}
    yield by_server(
        "quota_bytes", "Storage sold, unlimited services left out.", lambda key: usage[key].quota_bytes
    )
    yield by_server("used_bytes", "Storage used.", lambda key: usage[key].used_bytes)
    yield _gauge(
        "services_near_quota",
        "Services that use so many percent of their quota or more.",
        {
            ("server", "threshold"): {
                (label, str(percent)): usage[key].near[place]
                for key, label in servers.items()
                for place, percent in enumerate(NEAR_PERCENT)
            }
        },
    )


def _read_guards(now: Snapshot, servers: dict[int, str]) -> _Samples:
    stopped = {server.id: server.stop_cause for server in now.servers}
    active: dict[tuple[str, ...], float] = {
        (guard.value, label): int(
            now.blocked.get((key, guard.value), 0) > 0
            or (guard is Guard.IDENTITY and stopped[key] == "identity")
        )
        for key, label in servers.items()
        for guard in Guard
        if guard not in _GLOBAL_GUARDS
    }
    active[Guard.DESIRED_READ.value, ALL_SERVERS] = int(now.read.is_suspicious)
    return {("guard", "server"): active}
