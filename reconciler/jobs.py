"""When things are due: APScheduler's jobs, which only put services or scans on the daemon's lists.

APScheduler 3 reckons with the wall clock. When that is set back, its jobs would rest until the old time comes
again; `Jobs.restart` is called then.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from bm_db.errors import BillingError
from reconciler.journal import JournalError
from reconciler.logs import get_logger
from reconciler.one_pass import PassStopped

_TELL_AGAIN_SECONDS: Final = 60.0
_MOST_AT_ONCE: Final = 8

_log = get_logger("daemon")


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job ended last: by the monotonic clock, and why it failed (None: it did not)."""

    ended_at: float
    error: str | None


class Jobs:
    """Runs functions again and again. A failure is told, and does not end the job."""

    def __init__(self) -> None:
        # Overlapping runs are left out on purpose; APScheduler would warn of each.
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
        self._scheduler: Final = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(_MOST_AT_ONCE)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._lock: Final = threading.Lock()
        self._states: dict[str, JobState] = {}
        self._told: dict[str, tuple[str, float]] = {}
        self._intervals: dict[str, tuple[timedelta, float]] = {}

    def start(self) -> None:
        """Begin; harmless when it has begun."""
        if not self._scheduler.running:
            self._scheduler.start()

    def end(self) -> None:
        """Begin no job any more; those that run are not waited for."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def every(
        self,
        interval: timedelta,
        name: str,
        function: Callable[[], None],
        *,
        first_in: timedelta | None = None,
        jitter_share: float = 0.0,
    ) -> None:
        """Run a function at an interval; one of the same name is replaced.

        Args:
            interval: between two beginnings; a run that takes longer leaves the next ones out.
            name: of the job.
            function: may raise BillingError and JournalError.
            first_in: when it runs first; None: after one interval.
            jitter_share: by how much of the interval each run is moved at random.
        """
        self._intervals[name] = interval, jitter_share
        options: dict[str, Any] = {}
        if first_in is not None:
            options["next_run_time"] = datetime.now(UTC) + first_in
        self._scheduler.add_job(
            self._run,
            self._make_trigger(name),
            args=(name, function),
            id=name,
            replace_existing=True,
            **options,
        )

    def list(self) -> dict[str, timedelta]:
        """The jobs there are, with their intervals."""
        return {name: interval for name, (interval, _) in self._intervals.items()}

    def drop(self, name: str) -> None:
        """Run a job no more.

        Raises:
            KeyError: there is none of that name.
        """
        del self._intervals[name]
        self._scheduler.remove_job(name)

    def restart(self) -> None:
        """Reckon anew when each job is due: the clock was set."""
        for name in list(self._intervals):
            with contextlib.suppress(KeyError):  # it was dropped meanwhile
                self._scheduler.reschedule_job(name, trigger=self._make_trigger(name))

    def get_state(self, name: str) -> JobState | None:
        """How a job ended last; None before its first end."""
        with self._lock:
            return self._states.get(name)

    def _make_trigger(self, name: str) -> IntervalTrigger:
        interval, jitter_share = self._intervals[name]
        jitter = interval.total_seconds() * jitter_share
        return IntervalTrigger(seconds=interval.total_seconds(), jitter=jitter or None, timezone=UTC)

    def _run(self, name: str, function: Callable[[], None]) -> None:
        error: str | None = None
        try:
            function()
        except PassStopped:
            pass
        except (BillingError, JournalError) as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001 - a job's defect must not end the daemon
            error = f"{type(failure).__name__}: {failure}"
        with self._lock:
            self._states[name] = JobState(time.monotonic(), error)
        self._tell(name, error)

    def _tell(self, name: str, error: str | None) -> None:
        """Log a failure when it is new, and now and then while it lasts; and its end."""
        known, now = self._told.get(name), time.monotonic()
        if error is None:
            if known is not None:
                del self._told[name]
                _log.log("info", "works again", job=name)
        elif known is None or known[0] != error or now - known[1] > _TELL_AGAIN_SECONDS:
            self._told[name] = error, now
            _log.log("error", "job failed", job=name, error=error)
