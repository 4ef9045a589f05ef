"""Starts passes over the services that wait: many at once, few per server, none twice. Used by the daemon.

A slow or dead server delays no other: it has its own places, and passes that have waited long for a server
do not count against the number that may run altogether.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from bm_db.errors import BillingError
from reconciler.application import Application
from reconciler.journal import JournalError
from reconciler.logs import get_logger
from reconciler.metrics import Metrics
from reconciler.one_pass import PassResult
from reconciler.workqueue import Priority, Task, WorkQueue

SLOW_SECONDS: Final = 2.0
"""A pass that runs longer waits for its server, and leaves its place among all to another."""

_MOST_THREADS: Final = 4096
_BUSY_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
_LANELESS_PLACES: Final = 2

OnResult = Callable[[PassResult, list[int]], None]
"""Told of every pass that looked at its service: how it ended, and the requests that it answers."""

_log = get_logger("daemon")


@dataclass(slots=True)
class _Running:
    lane: int | None
    started: float
    requests: list[int] = field(default_factory=list)


class SharedApplication:
    """The parts that passes work with; a new configuration replaces them while old passes still run."""

    def __init__(self, app: Application) -> None:
        self._lock: Final = threading.Lock()
        self._app = app
        self._users: Counter[Application] = Counter({app: 1})

    def get(self) -> Application:
        """The current parts, for a look only."""
        return self._app

    def acquire(self) -> Application:
        """The current parts; they stay open until they are released."""
        with self._lock:
            self._users[self._app] += 1
            return self._app

    def release(self, app: Application) -> None:
        """Give parts back; whoever is last of those that were replaced closes them."""
        with self._lock:
            self._users[app] -= 1
            is_last = self._users[app] == 0
            if is_last:
                del self._users[app]
        if is_last:
            app.close()

    def replace(self, app: Application) -> None:
        """Use other parts from now on."""
        with self._lock:
            old, self._app = self._app, app
            self._users[app] = 1
        self.release(old)


class Dispatcher:
    """Takes services out of the queue and has passes made over them. `turn` is called by one thread only."""

    def __init__(
        self, queue: WorkQueue, shared: SharedApplication, metrics: Metrics, on_result: OnResult
    ) -> None:
        self._queue: Final = queue
        self._shared: Final = shared
        self._metrics: Final = metrics
        self._on_result: Final = on_result
        self._lock: Final = threading.Lock()
        self._running: dict[int, _Running] = {}
        self._requests: dict[int, list[int]] = {}
        self._pool: Final = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="pass")
        self._paused_until = 0.0
        self._failures = 0

    def ask(self, item_id: int, lane: int | None, request_id: int, actor: str) -> None:
        """Have a pass made because somebody asked for it, and answer the request with its end."""
        with self._lock:
            self._requests.setdefault(item_id, []).append(request_id)
        self._queue.add(item_id, lane, Priority.COMMAND, actor=actor)

    def turn(self) -> None:
        """Start as many passes as may be."""
        now = time.monotonic()
        if now < self._paused_until:
            return
        app = self._shared.get()
        with self._lock:
            by_lane = Counter(one.lane for one in self._running.values())
            active = sum(1 for one in self._running.values() if now - one.started < SLOW_SECONDS)

        def has_place(lane: int | None) -> bool:
            places = _LANELESS_PLACES if lane is None else app.config.for_server(lane).concurrency
            return by_lane[lane] < places

        while active < app.config.reconciler.workers:
            task = self._queue.take(has_place)
            if task is None:
                return
            by_lane[task.lane] += 1
            active += 1
            self._metrics.observe_wait(task.priority, now - task.ready_at)
            with self._lock:
                self._running[task.item_id] = _Running(task.lane, now, self._requests.pop(task.item_id, []))
            self._pool.submit(self._work, task)

    def count_running(self) -> int:
        """How many passes run."""
        with self._lock:
            return len(self._running)

    def get_pause_seconds(self) -> float:
        """How long no pass is started, because billing or the journal failed."""
        return max(0.0, self._paused_until - time.monotonic())

    def end(self) -> None:
        """Start no thread any more; those that work are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self, task: Task) -> None:
        started = time.monotonic()
        app = self._shared.acquire()
        result: PassResult | None = None
        try:
            result = app.reconciler.reconcile_service(task.item_id, actor=task.actor)
            self._failures = 0
        except (BillingError, JournalError) as error:
            self._pause(error)
        except Exception as error:  # noqa: BLE001 - one service's defect must not end the daemon
            _log.log("error", "pass failed", service=task.item_id, error=f"{type(error).__name__}: {error}")
        finally:
            self._shared.release(app)
            self._finish(task, result, time.monotonic() - started)

    def _finish(self, task: Task, result: PassResult | None, seconds: float) -> None:
        with self._lock:
            requests = self._running.pop(task.item_id).requests
        self._queue.done(task)
        if result is None:
            self._metrics.count_failure(task.lane)
            self._try_later(task, requests, max(_FIRST_PAUSE_SECONDS, self.get_pause_seconds()))
            return
        self._metrics.observe_pass(result, seconds)
        if result.is_busy:
            self._try_later(task, requests, _BUSY_SECONDS)
            return
        if result.is_server_stopped:
            self._queue.park(Task(task.item_id, result.server_id, task.priority, "daemon", 0.0))
        self._on_result(result, requests)

    def _try_later(self, task: Task, requests: list[int], seconds: float) -> None:
        with self._lock:
            if requests:
                self._requests.setdefault(task.item_id, []).extend(requests)
        self._queue.add(task.item_id, task.lane, task.priority, actor=task.actor, delay_seconds=seconds)

    def _pause(self, error: Exception) -> None:
        """Billing or the journal failed: whoever comes next would fail, too."""
        with self._lock:
            self._failures += 1
            pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10))
            is_news = time.monotonic() >= self._paused_until
            self._paused_until = max(self._paused_until, time.monotonic() + pause)
        if is_news:
            _log.log("error", "paused", seconds=pause, error=str(error))
