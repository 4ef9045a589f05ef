"""What makes the daemon look at a service: changed rows, due tries, requests, scans. All of it only enqueues.

Owned by `reconciler.daemon`. Nothing here changes an account or decides anything; whatever is put on a list
is looked at freshly by a pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from bm_db import ChangeTracker
from reconciler.application import Application
from reconciler.clock import Clock
from reconciler.dispatcher import Dispatcher, SharedApplication
from reconciler.jobs import Jobs
from reconciler.journal import Due, Journal, Request
from reconciler.journal.daemons import BEAT_SECONDS
from reconciler.logs import get_logger
from reconciler.metrics import Metrics
from reconciler.one_pass import PassStopped
from reconciler.operations import lift_quarantine
from reconciler.scans import Scans
from reconciler.workqueue import Priority, WorkQueue
from states import DesiredService, Wish

_REQUESTS_INTERVAL: Final = timedelta(milliseconds=500)
_DUE_INTERVAL: Final = timedelta(seconds=1)
_HOUSEKEEPING_INTERVAL: Final = timedelta(hours=1)
_TAKE_OVER_INTERVAL: Final = timedelta(seconds=30)
_JITTER_SHARE: Final = 0.1
_KEPT_REQUESTS: Final = timedelta(days=7)
_CATCH_UP: Final = "catch_up"
_CATCH_UP_INTERVAL: Final = timedelta(seconds=15)
"""How long after a failed beginning the next one; there is one at a time."""
_CHUNK: Final = 1000

_log = get_logger("daemon")


class Watch:
    """Puts services on the work queue and servers on the list of scans."""

    def __init__(
        self,
        shared: SharedApplication,
        queue: WorkQueue,
        dispatcher: Dispatcher,
        scans: Scans,
        metrics: Metrics,
        clock: Clock,
        *,
        holder: str,
        describe: Callable[[], dict[str, Any]],
        wake: Callable[[], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        """Take the parts; nothing is begun.

        Args:
            shared, queue, dispatcher, scans, metrics, clock: the daemon's.
            holder: this process, as other hosts know it.
            describe: what only this process knows, for `reconciler status`.
            wake: has the loop turn at once.
            is_stopping: whether the daemon is about to end.
        """
        self._shared: Final = shared
        self._queue: Final = queue
        self._dispatcher: Final = dispatcher
        self._scans: Final = scans
        self._metrics: Final = metrics
        self._clock: Final = clock
        self._holder: Final = holder
        self._describe: Final = describe
        self._wake: Final = wake
        self._is_stopping: Final = is_stopping
        self._started_at: Final = clock()
        self._tracker: ChangeTracker = self._app.billing.track_changes()
        self.jobs: Final = Jobs()
        self._is_caught_up = False

    @property
    def _app(self) -> Application:
        return self._shared.get()

    # -- the start

    def begin(self) -> None:
        """Find out whether work can begin, how many services there are, and what the last run left.

        Raises:
            BillingError, JournalError: it could not be found out; to be tried again.
        """
        app = self._app
        self._metrics.know_servers(app.fleet.refresh())
        app.reconciler.refresh_tariffs()
        # The measure for all later polls; what changes from now on is seen by them.
        found = self._tracker.poll()
        app.reconciler.guards.record_read(found.counts)
        self._metrics.desired_read_at = self._clock()
        self._add_due(app.journal.overview.list_unfinished())
        undelivered = app.journal.services.load(sorted(app.journal.intents.list_undelivered()))
        for item_id, record in undelivered.items():
            self._queue.add(item_id, record.server_id, Priority.CHANGE)
        self._take(app.journal.requests.take_over(self._holder))

    def _catch_up(self) -> None:
        """Read all of billing, once, for what has changed while no daemon ran.

        It takes a minute where there are a million services: what changes meanwhile, or is asked for, is
        worked on beside it.
        """
        started, count = time.monotonic(), 0
        app = self._shared.acquire()
        try:
            chunk: list[DesiredService] = []
            for desired in app.billing.list_services(with_passwords=False):
                if self._is_stopping():
                    raise PassStopped
                count += 1
                if desired.server_id is not None:
                    chunk.append(desired)
                if len(chunk) == _CHUNK:
                    self._note_changed(chunk)
                    chunk = []
            self._note_changed(chunk)
        finally:
            self._shared.release(app)
        self._is_caught_up = True
        self.jobs.drop(_CATCH_UP)
        _log.log("info", "billing read", services=count, duration=time.monotonic() - started)

    def _note_changed(self, services: list[DesiredService]) -> None:
        """Have passes made over services that billing wants otherwise than when we looked last.

        New ones whose account an earlier module made, or that nobody has paid for, are left to the scan.
        """
        noted = self._app.journal.services.note_desired(services, self._clock())
        for desired in services:
            is_made = desired.is_username_recorded and desired.is_url_recorded
            is_sale = desired.item_id in noted.new and desired.wish is not Wish.NONE and not is_made
            if is_sale or desired.item_id in noted.changed or desired.operation is not None:
                self._queue.add(desired.item_id, desired.server_id, Priority.CHANGE)

    # -- the jobs

    def start(self) -> None:
        """Begin the jobs, or begin them anew with the intervals of a new configuration."""
        section = self._app.config.reconciler
        every = self.jobs.every
        every(section.poll_interval, "poll", self._poll, first_in=timedelta(0))
        every(_REQUESTS_INTERVAL, "requests", self._take_requests, first_in=timedelta(0))
        every(_DUE_INTERVAL, "due", self._add_all_due, first_in=timedelta(0))
        every(timedelta(seconds=BEAT_SECONDS), "beat", self._beat, first_in=timedelta(0))
        every(_TAKE_OVER_INTERVAL, "take_over", self._take_over)
        every(_HOUSEKEEPING_INTERVAL, "housekeeping", self._keep_house, first_in=timedelta(minutes=1))
        if not self._is_caught_up:
            every(_CATCH_UP_INTERVAL, _CATCH_UP, self._catch_up, first_in=timedelta(0))
        self._schedule_scans()
        self.jobs.start()

    def _schedule_scans(self) -> None:
        """A scan of each server an interval after its last one; at once where there was none.

        Servers that are due together are spread over the interval, so that a start causes no burst.
        """
        app = self._app
        interval = app.config.reconciler.resync_interval
        servers = app.fleet.list()
        names = {f"scan-{server.id}": server for server in servers}
        known = {name: each for name, each in self.jobs.list().items() if name.startswith("scan-")}
        for name in known.keys() - names.keys():
            self.jobs.drop(name)
        for number, (name, server) in enumerate(names.items()):
            if known.get(name) == interval:
                continue
            scanned_at = app.journal.servers.get(server.id).scanned_at
            first_in = timedelta(0)
            if scanned_at is not None:
                rest = scanned_at + interval - app.clock()
                is_overdue = not timedelta(0) < rest <= interval
                first_in = interval * number / len(servers) if is_overdue else rest
            self.jobs.every(
                interval,
                name,
                partial(self._want_scan, server.id, is_routine=True),
                first_in=first_in,
                jitter_share=_JITTER_SHARE,
            )

    def _want_scan(self, server_id: int, *, is_routine: bool = False) -> None:
        self._scans.want(server_id, is_routine=is_routine)
        self._wake()

    def _poll(self) -> None:
        """Changed rows in billing."""
        app = self._app
        changes = self._tracker.poll()
        app.reconciler.guards.record_read(changes.counts, is_measure=False)
        self._metrics.desired_read_at = self._clock()
        if changes.is_server_change:
            self._metrics.know_servers(app.fleet.refresh())
            self._schedule_scans()
        if changes.is_tariff_change:
            app.reconciler.refresh_tariffs()
        if changes.is_tariff_change or changes.is_first:
            for server in app.fleet.list():
                self._want_scan(server.id)
        if changes.items:
            lanes = app.billing.list_server_ids(changes.items)
            for item_id in sorted(changes.items):
                self._queue.add(item_id, lanes.get(item_id), Priority.CHANGE)

    def _take_requests(self) -> None:
        """What operators ask for."""
        self._take(self._app.journal.requests.take(self._holder))

    def _take_over(self) -> None:
        """What operators asked of a daemon that has ended."""
        self._take(self._app.journal.requests.take_over(self._holder))

    def _take(self, requests: list[Request]) -> None:
        app = self._app
        for request in requests:
            item_id = request.item_id
            record = lift_quarantine(app, item_id)
            lane = record.server_id if record else app.billing.list_server_ids([item_id]).get(item_id)
            self._dispatcher.ask(item_id, lane, request.id, request.actor)

    def _add_all_due(self) -> None:
        """Services whose next try is due, and those whose grace has run out."""
        app = self._app
        wait = app.reconciler.get_circumstances(None).deletion_wait
        self._add_due(app.journal.overview.list_due(self._clock(), wait))

    def _add_due(self, due: list[Due]) -> None:
        for one in due:
            priority = {"drifted": Priority.DRIFT, "deleting": Priority.DELETION}.get(
                one.kind or "", Priority.CHANGE
            )
            if one.item_id not in self._queue:
                self._queue.add(one.item_id, one.server_id, priority)

    def _beat(self) -> None:
        """Tell the command line, on whatever host, that and how we run."""
        self._app.journal.daemons.beat(self._holder, self._started_at, self._clock(), self._describe())

    def _keep_house(self) -> None:
        """Take the measure for the next reads of billing, and delete what nobody needs any more."""
        app, now = self._app, self._clock()
        app.reconciler.guards.record_read(app.billing.count_services())
        journal: Journal = app.journal
        kept = app.config.reconciler.history_retention
        journal.history.forget(now - kept)
        journal.intents.forget(now - kept)
        journal.requests.forget(now - _KEPT_REQUESTS)
        journal.approvals.end_expired(now)
        journal.approvals.forget(now - kept)
        journal.daemons.forget(now - _KEPT_REQUESTS)
        journal.usage.forget(now - _KEPT_REQUESTS)

    def renew(self) -> None:
        """The parts were replaced: look for changes in the new ones from now on."""
        self._tracker = self._app.billing.track_changes()
        self.start()
