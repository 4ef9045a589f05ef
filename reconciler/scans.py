"""Full scans of servers in the daemon: each in a thread of its own, suspects into the work queue.

A scan compares what billing and server say in bulk and decides nothing. One server is never scanned twice at
once; a scan that hangs holds up no other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from bm_db.errors import BillingError
from nc.errors import CloudError
from reconciler.application import Application
from reconciler.diagnosis import tell
from reconciler.dispatcher import SharedApplication
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.journal import JournalError
from reconciler.logs import get_logger
from reconciler.metrics import Metrics
from reconciler.one_pass import PassStopped
from reconciler.scan import DesiredRead, ServerScan, Suspect, find_vanished, read_desired, scan_server
from reconciler.usage import record_usage, refresh_cards
from reconciler.workqueue import WorkQueue

_MOST_AT_ONCE: Final = 4
_REST_FACTOR: Final = 3
"""A server rests so many times as long as its scan took: it is observed for a quarter of the time at most."""
_NO_REST: Final = (0.0, 0.0)
_SLOW_SECONDS: Final = 60.0
"""A scan that takes longer waits for its server, and leaves its place to another."""

_log = get_logger("scan")


class Scans:
    """Which servers are to be scanned, and the scans under way."""

    def __init__(
        self,
        queue: WorkQueue,
        shared: SharedApplication,
        metrics: Metrics,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_end`` is called when a scan has ended."""
        self._queue: Final = queue
        self._shared: Final = shared
        self._metrics: Final = metrics
        self._on_end: Final = on_end
        self._lock: Final = threading.Lock()
        self._wanted: dict[int, bool] = {}
        self._rests: dict[int, tuple[float, float]] = {}
        self._running: dict[int, float] = {}
        self._usage_at: dict[int, float] = {}
        self._cards_due: set[int] = set()
        self._writing_cards: Final = threading.Lock()

    def want(self, server_id: int, *, is_routine: bool = False) -> None:
        """Have a server scanned soon; one that is being scanned is scanned once more.

        Args:
            server_id: which one.
            is_routine: nothing has happened: a server that took long may rest first.
        """
        with self._lock:
            self._wanted[server_id] = is_routine and self._wanted.get(server_id, True)

    def turn(self) -> None:
        """Start the scans that may be started."""
        now = time.monotonic()
        with self._lock:
            active = sum(1 for started in self._running.values() if now - started < _SLOW_SECONDS)
            ready = [
                server_id
                for server_id, is_routine in self._wanted.items()
                if server_id not in self._running and not (is_routine and self._is_resting(server_id, now))
            ]
            chosen = ready[: max(0, _MOST_AT_ONCE - active)]
            for server_id in chosen:
                del self._wanted[server_id]
                self._running[server_id] = now
        for server_id in chosen:
            threading.Thread(
                target=self._run, args=(server_id,), name=f"scan-{server_id}", daemon=True
            ).start()

    def count_running(self) -> int:
        """How many scans run."""
        with self._lock:
            return len(self._running)

    def get_rest_seconds(self, server_id: int) -> float:
        """For how long a server rests after its last scan; 0 before the first."""
        with self._lock:
            return self._rests.get(server_id, _NO_REST)[1]

    def _is_resting(self, server_id: int, now: float) -> bool:
        began, seconds = self._rests.get(server_id, _NO_REST)
        return now < began + seconds

    def _run(self, server_id: int) -> None:
        app = self._shared.acquire()
        server = app.fleet.get(server_id)
        try:
            if server is not None and server.stop_cause not in {"unconfigured", "inactive"}:
                self._scan(app, server)
        except PassStopped:
            pass
        except (ServerStopped, CloudError) as error:
            message = tell(server, error) if server is not None else str(error)
            _log.log("warning", "scan failed", server=server_id, error=message)
        except (BillingError, JournalError) as error:
            _log.log("error", "scan failed", server=server_id, error=str(error))
        except Exception as error:  # noqa: BLE001 - a scan's defect must not end the daemon
            _log.log("error", "scan failed", server=server_id, error=f"{type(error).__name__}: {error}")
        finally:
            self._shared.release(app)
            with self._lock:
                del self._running[server_id]
            self._on_end()

    def _scan(self, app: Application, server: CloudServer) -> None:
        started = time.monotonic()
        try:
            # Who answers is looked at anew with every scan.
            server.ask_identity_again()
            read = None

            def get_read() -> DesiredRead:
                nonlocal read
                read = read or read_desired(app, server_id=server.id)
                return read

            scan = scan_server(app, server, get_read)
        except CloudError as error:
            server.note_trouble(tell(server, error))
            raise
        finally:
            ended = time.monotonic()
            with self._lock:
                self._rests[server.id] = ended, _REST_FACTOR * (ended - started)
        scan.suspects += find_vanished(app, get_read(), server_id=server.id)
        self._enqueue(app, server.id, scan.suspects)
        self._metrics.drift.replace(server.id, scan.differing)
        rows = self._record_usage(app, server.id, scan)
        self._refresh_cards(app, server.id, scan)
        duration = time.monotonic() - started
        _log.log("info", "scan", server=server.id, **scan.count(), usage=rows, duration=duration)

    def _enqueue(self, app: Application, server_id: int, suspects: list[Suspect]) -> None:
        now = app.clock()
        for suspect in suspects:
            if suspect.not_before is None or suspect.not_before <= now:
                self._queue.add(suspect.item_id, server_id, suspect.priority)

    def _record_usage(self, app: Application, server_id: int, scan: ServerScan) -> int | None:
        """Usage costs no request of its own: it is taken from the first scan after each usage_interval."""
        now, interval = time.monotonic(), app.config.reconciler.usage_interval
        last = self._usage_at.get(server_id)
        if last is not None and timedelta(seconds=now - last) < interval:
            return None
        self._usage_at[server_id] = now
        self._cards_due.add(server_id)
        try:
            return record_usage(app, server_id, scan.usage, app.clock().astimezone().date())
        except BillingError as error:
            _log.log("error", "usage not written", server=server_id, error=str(error))
            return None

    def _refresh_cards(self, app: Application, server_id: int, scan: ServerScan) -> None:
        """One server's cards at a time; whoever has to wait, or is not done, goes on with its next scan."""
        if server_id not in self._cards_due or not self._writing_cards.acquire(blocking=False):
            return
        try:
            if refresh_cards(app, scan.usage).is_done:
                self._cards_due.discard(server_id)
        except BillingError as error:
            _log.log("error", "cards not written", server=server_id, error=str(error))
        finally:
            self._writing_cards.release()
