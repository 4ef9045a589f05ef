"""One full cycle: read everything, compare everything, work on what differs. `reconciler once`.

Every server has its own threads, so that a slow or dead one delays no other.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from nc.errors import CloudError
from reconciler.application import Application
from reconciler.diagnosis import tell
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.guards import ReadVerdict
from reconciler.journal import ServiceRecord
from reconciler.logs import get_logger
from reconciler.one_pass import PassResult
from reconciler.scan import DesiredRead, Suspect, find_vanished, read_desired, scan_server
from reconciler.status import ATTENTION
from states import StepKind

Progress = Callable[[int, int], None]
"""Called with the number of services done and the number there are to do."""

_log = get_logger("cycle")


@dataclass(slots=True)
class CycleReport:
    """What one full cycle did and what it leaves.

    Attributes:
        services: how many services billing has.
        passes: how many of them were looked at singly.
        steps: what was done, by kind.
        states: how many services are in which state now.
        attention: services that a person should know of.
        blocked: services whose next step waits for a guard or a server.
        busy: services that another process is working on; they were left to it.
        servers: why a server was left out, by its name.
        inactive: names of the servers that are switched off in BILLmanager.
        orphans: accounts that look like ours and belong to no service, by server id.
        read: what the desired-read guard says.
        duration_seconds: of the whole cycle.
    """

    services: int = 0
    passes: int = 0
    steps: Counter[StepKind] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    attention: list[ServiceRecord] = field(default_factory=list)
    blocked: list[ServiceRecord] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)
    servers: dict[str, str] = field(default_factory=dict)
    inactive: list[str] = field(default_factory=list)
    orphans: dict[int, list[str]] = field(default_factory=dict)
    read: ReadVerdict | None = None
    duration_seconds: float = 0.0

    @property
    def is_converged(self) -> bool:
        """Whether everything is as sold, or only waits for time to pass."""
        is_suspicious = self.read is not None and self.read.is_suspicious
        return not (self.attention or self.blocked or self.busy or self.servers or is_suspicious)


def run_cycle(app: Application, *, actor: str = "once", progress: Progress | None = None) -> CycleReport:
    """Run one full cycle.

    Raises:
        BillingError: billing could not be read completely: nothing was done, or no more is done.
        JournalError: the journal cannot be written: nothing was done, or no more is done.
    """
    return _Cycle(app, actor, progress).run()


class _Cycle:
    def __init__(self, app: Application, actor: str, progress: Progress | None) -> None:
        self._app: Final = app
        self._actor: Final = actor
        self._progress: Final = progress
        self._report: Final = CycleReport()
        self._lock: Final = threading.Lock()
        self._failure: BaseException | None = None
        self._done = 0
        self._known = 0

    def run(self) -> CycleReport:
        started = time.monotonic()
        servers = self._app.fleet.refresh()
        self._app.reconciler.refresh_tariffs()
        try:
            self._run_all(servers)
        except KeyboardInterrupt as stop:
            self._failure = stop  # the workers finish the step they are at and begin no other
            raise
        if self._failure is not None:
            raise self._failure
        self._app.journal.approvals.end_expired(self._app.clock())
        self._sum_up()
        self._report.duration_seconds = time.monotonic() - started
        _log.log(
            "info",
            "cycle",
            services=self._report.services,
            passes=self._report.passes,
            steps=sum(self._report.steps.values()),
            attention=len(self._report.attention),
            blocked=len(self._report.blocked),
            converged=self._report.is_converged,
            duration=self._report.duration_seconds,
        )
        return self._report

    def _run_all(self, servers: list[CloudServer]) -> None:
        """Read billing here and list the servers' accounts meanwhile, each in a thread of its own."""
        reading: Future[DesiredRead] = Future()
        with ThreadPoolExecutor(len(servers) or 1, thread_name_prefix="server") as pool:
            for server in servers:
                pool.submit(self._guarded, self._run_server, server, reading)
            self._guarded(self._read, reading)
            # When something failed before, it was not read: nobody must wait for it for ever.
            reading.cancel()

    def _read(self, reading: Future[DesiredRead]) -> None:
        try:
            read = read_desired(self._app)
        except BaseException as error:
            reading.set_exception(error)  # whoever waits for it must not wait for ever
            raise
        reading.set_result(read)
        self._report.services, self._report.read = read.count(), read.verdict
        self._work_on(find_vanished(self._app, read), None, 1)

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Keep the first failure that ends the whole cycle; the other workers stop at it."""
        try:
            if self._failure is None:
                work(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised again by run(), in the caller's thread
            with self._lock:
                self._failure = self._failure or error

    def _run_server(self, server: CloudServer, reading: Future[DesiredRead]) -> None:
        started = time.monotonic()
        try:
            scan = scan_server(self._app, server, reading.result)
        except (ServerStopped, CloudError) as error:
            if isinstance(error, ServerStopped) and error.cause == "inactive":
                self._report.inactive.append(str(server))
            else:
                self._leave_out(server, tell(server, error))
            services = reading.result().services.get(server.id, [])
            self._app.journal.services.note_desired(services, self._app.clock())
            return
        _log.log("info", "scan", server=server.id, **scan.count(), duration=time.monotonic() - started)
        with self._lock:
            if scan.orphans:
                self._report.orphans[server.id] = scan.orphans
        self._work_on(scan.suspects, server, self._app.config.for_server(server.id).concurrency)

    def _work_on(self, suspects: list[Suspect], server: CloudServer | None, workers: int) -> None:
        with self._lock:
            self._known += len(suspects)
        if not suspects:
            return
        with ThreadPoolExecutor(min(workers, len(suspects)), thread_name_prefix="pass") as pool:
            for suspect in suspects:
                pool.submit(self._guarded, self._work, suspect, server)

    def _work(self, suspect: Suspect, server: CloudServer | None) -> None:
        if server is not None:
            try:
                server.ensure_ready()
            except (ServerStopped, CloudError) as error:
                self._leave_out(server, tell(server, error))
                return
        result = self._app.reconciler.reconcile_service(suspect.item_id, actor=self._actor)
        if server is not None and result.is_server_stopped:
            self._leave_out(server, result.blocked_by or "")
        self._count(result)

    def _leave_out(self, server: CloudServer, message: str) -> None:
        with self._lock:
            is_new = str(server) not in self._report.servers
            self._report.servers.setdefault(str(server), message)
        if is_new:
            server.note_trouble(message)
            _log.log("warning", "server", server=server.id, result="left out", error=message)

    def _count(self, result: PassResult) -> None:
        with self._lock:
            self._report.passes += 1
            self._report.steps.update(result.steps)
            if result.is_busy:
                self._report.busy.append(result.item_id)
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._known)

    def _sum_up(self) -> None:
        services = self._app.journal.services
        for (_, state), count in services.count_by_state().items():
            self._report.states[state] += count
        self._report.attention = services.list_in_states(ATTENTION)
        self._report.blocked = services.list_blocked()
