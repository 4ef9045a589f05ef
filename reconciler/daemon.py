"""`reconciler run`: the long-running controller. Watches billing and servers, and keeps passes going.

One thread, `Daemon.run`, turns a loop: it starts what may be started and reports that it turned. Whatever
waits for somebody else (billing, servers, the journal) happens in other threads, so that a turn is short.
"""

from __future__ import annotations

import signal
import threading
import time
from datetime import timedelta
from typing import Any, Final

from bm_db.errors import BillingError
from nc import ApiCall
from nc.errors import CloudError
from reconciler.application import Application
from reconciler.clock import Clock, system_clock
from reconciler.config import (
    Config,
    ConfigInvalid,
    check_files,
    check_permissions,
    find_path,
    load_config,
    read_secret,
)
from reconciler.diagnosis import tell
from reconciler.dispatcher import Dispatcher, SharedApplication
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.journal import Answer, JournalError, describe_this_process
from reconciler.logs import get_logger, set_up_logging
from reconciler.metrics import Metrics, Snapshot
from reconciler.notify import Notifier
from reconciler.one_pass import PassResult
from reconciler.process import obey_signals
from reconciler.scans import Scans
from reconciler.watch import Watch
from reconciler.web import Check, WebServer
from reconciler.workqueue import WorkQueue

DRAIN_SECONDS: Final = 28.0
"""How long calls under way may take to finish once the program is to end; systemd is promised 30."""

_TURN_SECONDS: Final = 0.5
_HEALTHY_SECONDS: Final = 30.0
_SILENT_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = (1.0, 15.0)
_CLOCK_JUMP_SECONDS: Final = 5.0

_log = get_logger("daemon")


class Daemon:
    """The controller. `run` returns when it was told to end."""

    def __init__(
        self, config_path: str | None, *, clock: Clock = system_clock, notifier: Notifier | None = None
    ) -> None:
        """Open everything; nothing is called yet.

        Raises:
            ConfigInvalid, BillingError, JournalError: it cannot begin.
        """
        self._config_path: Final = config_path
        self._clock: Final = clock
        self._notifier: Final = notifier or Notifier()
        self._holder: Final = describe_this_process()
        self._stop: Final = threading.Event()
        self._wake: Final = threading.Event()
        self._is_reload_wanted = False
        self._is_ready = False
        self._config_error: str | None = None
        self._turned_at = time.monotonic()
        self._clock_offset = self._get_offset()
        config = self._load()
        self._shared: Final = SharedApplication(self._open(config))
        self._queue: Final = WorkQueue(on_ready=self._wake.set)
        self.metrics: Final = Metrics(self._take_snapshot, self._queue.count)
        self._dispatcher: Final = Dispatcher(self._queue, self._shared, self.metrics, self._on_result)
        self._scans: Final = Scans(self._queue, self._shared, self.metrics, self._wake.set)
        self._probing: set[int] = set()
        self._stopped_servers: set[int] = set()
        self._watch: Final = Watch(
            self._shared,
            self._queue,
            self._dispatcher,
            self._scans,
            self.metrics,
            clock,
            holder=self._holder,
            describe=self._describe,
            wake=self._wake.set,
            is_stopping=self._stop.is_set,
        )
        token = config.http.token_file
        self.web: Final = WebServer(
            config.http.host,
            config.http.port,
            token=None if token is None else read_secret(token),
            backend=self,
        )

    @property
    def _app(self) -> Application:
        return self._shared.get()

    # -- its life

    def run(self) -> bool:
        """Work until SIGTERM or SIGINT.

        Returns:
            Whether all that was under way has ended. If not, threads still wait for a server: a process that
            is to end must not wait for them. What they were at is settled by the next start.

        Raises:
            ConfigInvalid: the HTTP interface cannot listen where it should.
        """
        self.web.start()
        try:
            self._watch_signals()
            if self._begin():
                self._watch.start()
                self._is_ready = True
                self._notifier.ready("watching")
                _log.log("info", "ready", services=self._app.reconciler.guards.get_read_verdict().seen)
                while not self._stop.is_set():
                    self._turn()
        finally:
            is_done = self._end()
        return is_done

    def stop(self) -> None:
        """Have it end: what is under way is finished, nothing new is begun."""
        self._stop.set()
        self._wake.set()

    def reload(self) -> None:
        """Have it read its configuration anew at the next turn."""
        self._is_reload_wanted = True
        self._wake.set()

    def _watch_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            obey_signals(self._obey, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP:
            self.reload()
        else:
            self.stop()

    def _load(self) -> Config:
        config = load_config(self._config_path)
        faults = check_permissions(config, find_path(self._config_path)) or check_files(config)
        if faults:
            raise ConfigInvalid(faults)
        return config

    def _open(self, config: Config) -> Application:
        app = Application(config, clock=self._clock, on_call=self._on_call, is_stopping=self._stop.is_set)
        # Only now: a configuration that cannot be used must not change how the old one logs.
        set_up_logging(is_json=config.logging.format == "json", level=config.logging.level)
        return app

    def _begin(self) -> bool:
        """The first look at billing; tried until it succeeds. False when told to end before."""
        pause = _RETRY_SECONDS[0]
        while not self._stop.is_set():
            self._notifier.extend(pause + 120.0)
            try:
                self._watch.begin()
            except (BillingError, JournalError) as error:
                _log.log("error", "not ready", error=str(error), again_in=pause)
                self._notifier.status(f"waiting: {error}")
                self._stop.wait(pause)
                pause = min(2 * pause, _RETRY_SECONDS[1])
            else:
                return not self._stop.is_set()
        return False

    def _end(self) -> bool:
        self._notifier.stopping()
        self._stop.set()
        self._watch.jobs.end()
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline and self._count_working():
            self._wake.wait(0.1)
            self._wake.clear()
        left = self._count_working()
        _log.log("warning" if left else "info", "ended", still_working=left or None)
        self._dispatcher.end()
        self.web.stop()
        try:
            self._app.journal.daemons.leave(self._holder)
        except JournalError as error:
            _log.log("error", "journal", error=str(error))
        if not left:
            self._shared.release(self._app)
        return not left

    def _describe(self) -> dict[str, Any]:
        return {
            "queue": {priority.name.lower(): count for priority, count in self._queue.count().items()},
            "running": self._dispatcher.count_running(),
            "last_turn_seconds": round(time.monotonic() - self._turned_at, 3),
            "config_error": self._config_error,
        }

    def _count_working(self) -> int:
        return self._dispatcher.count_running() + self._scans.count_running()

    # -- the loop

    def _turn(self) -> None:
        self._wake.clear()
        if self._is_reload_wanted:
            self._is_reload_wanted = False
            self._reload()
        self._check_clock()
        self._dispatcher.turn()
        self._scans.turn()
        self._look_after_servers()
        self._turned_at = time.monotonic()
        self._notifier.watchdog()
        wait = _TURN_SECONDS
        for other in (self._queue.get_wait_seconds(), self._dispatcher.get_pause_seconds() or None):
            wait = wait if other is None else min(wait, max(other, 0.01))
        self._wake.wait(wait)

    def _check_clock(self) -> None:
        """Notice that the machine's clock was set, and let nothing wait for the old time to come again."""
        offset = self._get_offset()
        jump, self._clock_offset = offset - self._clock_offset, offset
        if abs(jump) < _CLOCK_JUMP_SECONDS:
            return
        _log.log("warning", "clock was set", seconds=jump)
        self._watch.jobs.restart()
        if jump < 0:
            try:
                self._app.journal.services.hasten_waits(self._clock(), timedelta(seconds=-jump))
                for server in self._app.fleet.list():
                    server.bound_wait(self._clock())
            except JournalError as error:
                _log.log("error", "journal", error=str(error))

    def _get_offset(self) -> float:
        return self._clock().timestamp() - time.monotonic()

    def _look_after_servers(self) -> None:
        """Try servers again whose time has come; let services go on whose server can be called again."""
        servers = self._app.fleet.list()
        for gone in self._stopped_servers - {server.id for server in servers}:
            self._stopped_servers.discard(gone)
            self._queue.release(gone)
        for server in servers:
            cause = server.stop_cause
            if cause is not None:
                self._stopped_servers.add(server.id)
            elif server.id in self._stopped_servers:
                self._stopped_servers.discard(server.id)
                self._queue.release(server.id)
            if server.is_probe_due and server.id not in self._probing:
                self._probing.add(server.id)
                threading.Thread(
                    target=self._probe, args=(server,), name=f"probe-{server.id}", daemon=True
                ).start()

    def _probe(self, server: CloudServer) -> None:
        try:
            server.ensure_ready()
            _log.log("info", "server", server=server.id, result="can be called again")
        except (ServerStopped, CloudError) as error:
            _log.log(
                "warning", "server", server=server.id, result="still left alone", error=tell(server, error)
            )
        except JournalError as error:
            _log.log("error", "journal", error=str(error))
        finally:
            self._probing.discard(server.id)
            self._wake.set()

    # -- a new configuration

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            app = self._open(self._load())
        except (ConfigInvalid, BillingError, JournalError) as error:
            self._config_error = "; ".join(str(error).splitlines())
            _log.log("error", "configuration not loaded, the old one stays", error=self._config_error)
            self._notifier.ready(f"old configuration: {self._config_error}")
            return
        old_http = self._app.config.http
        try:
            app.fleet.refresh()
        except (BillingError, JournalError) as error:
            _log.log("error", "servers not read", error=str(error))
        self._config_error = None
        if old_http != app.config.http:
            _log.log("info", "[http] is read at the start only: restart to change it")
        self._shared.replace(app)
        self._watch.renew()
        _log.log("info", "configuration loaded")
        self._notifier.ready("watching")

    # -- what passes and requests to servers tell

    def _on_call(self, server_id: int, call: ApiCall) -> None:
        self.metrics.observe_call(server_id, call)

    def _on_result(self, result: PassResult, requests: list[int]) -> None:
        if not requests or result.is_stopped:
            return
        answer = Answer(
            result.state.value,
            result.reason,
            tuple(step.value for step in result.steps),
            result.error,
            result.blocked_by,
        )
        try:
            self._app.journal.requests.finish(requests, answer, self._clock())
        except JournalError as error:
            _log.log("error", "request not answered", service=result.item_id, error=str(error))

    # -- what the HTTP interface asks (reconciler.web.Backend)

    def get_app(self) -> Application:
        """The current parts."""
        return self._app

    def render_metrics(self) -> bytes:
        """Everything for Prometheus."""
        return self.metrics.render()

    def get_health(self) -> Check:
        """Whether the loop turns."""
        age = time.monotonic() - self._turned_at
        if not self._is_ready:
            return Check("loop", True, "starting")
        return Check("loop", age < _HEALTHY_SECONDS, f"last completed turn {age:.1f} s ago")

    def list_readiness(self) -> list[Check]:
        """Whether it can do its work: billing, journal, and at least one server."""
        checks = [
            Check(
                "start",
                self._is_ready,
                "billing has answered" if self._is_ready else "no answer of billing yet",
            )
        ]
        # Three polls may be late before billing counts as silent, however seldom it is asked.
        poll_seconds = 3 * self._app.config.reconciler.poll_interval.total_seconds()
        for name, job, seconds in (("billing", "poll", poll_seconds), ("journal", "beat", 0.0)):
            state = self._watch.jobs.get_state(job)
            if state is None:
                continue
            age = time.monotonic() - state.ended_at
            is_silent = age > max(seconds, _SILENT_SECONDS)
            error = state.error or (f"no answer for {age:.0f} s" if is_silent else None)
            checks.append(Check(name, error is None, error or "ok"))
        servers = self._app.fleet.list()
        usable = sum(1 for server in servers if server.stop_cause is None)
        message = f"{usable} of {len(servers)} can be called"
        checks.append(Check("servers", usable > 0 or not servers, message))
        return checks

    def _take_snapshot(self) -> Snapshot:
        app = self._app
        journal, servers = app.journal, app.fleet.list()
        return Snapshot(
            servers=servers,
            records={record.server_id: record for record in journal.servers.list_all()},
            states=journal.services.count_by_state(),
            oldest=journal.overview.get_oldest_unconverged(),
            blocked=journal.overview.count_blocked(),
            read=app.reconciler.guards.get_read_verdict(),
            usage=journal.usage.sum_by_server(),
            held=journal.overview.count_held(),
            rests={server.id: self._scans.get_rest_seconds(server.id) for server in servers},
            now=self._clock(),
        )
