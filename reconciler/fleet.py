"""The cloud servers that billing names: their clients, their identities, their breakers.

Owned by the composition root. Scan, pass and connection check reach a server only through
`CloudServer.ensure_ready` and `CloudServer.calling`, so that no call is made to a server that is
stopped, and every failure counts.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from bm_db import Billing, BillingServer
from nc import ApiCall, CloudClient, Product, ServerConnection, ServerIdentity
from nc import errors as nc_errors
from reconciler.clock import Clock
from reconciler.config import Config, ServerSettings
from reconciler.edits import NEXTCLOUD_LIMIT, WINDOW, EditBudget
from reconciler.journal import Journal
from states import StepKind

OnCall = Callable[[int, ApiCall], None]
"""Told of every request: the server's id and the request."""

_TRANSPORT_ERRORS: Final = (
    nc_errors.ServerUnreachable,
    nc_errors.ServerTimeout,
    nc_errors.BadAnswer,
    nc_errors.ServerError,
    nc_errors.OutcomeUnknown,
)
_CREDENTIAL_ERRORS: Final = (
    nc_errors.CredentialsRefused,
    nc_errors.PermissionRefused,
    nc_errors.NotAdministrator,
)
_ADDRESS_ERRORS: Final = (
    nc_errors.TlsFailure,
    nc_errors.AddressRefused,
    nc_errors.RedirectRefused,
    nc_errors.UnknownProduct,
)
SERVER_WIDE_ERRORS: Final = (*_CREDENTIAL_ERRORS, *_ADDRESS_ERRORS, nc_errors.Maintenance)
"""Errors that say something of the server, not of the service that met them."""

_SYSTEM_AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
"""Where Debian and Ubuntu keep the authorities that the machine's administrator trusts."""

EDIT_KINDS: Final = frozenset({StepKind.SET_QUOTA, StepKind.SET_EMAIL, StepKind.SET_PASSWORD})
"""Steps that Nextcloud counts against its limit of edits."""

_EDITS_LIMITED_FROM: Final = 27
"""Nextcloud's first version that limits them."""

_RATE_LIMIT_PAUSE: Final = timedelta(seconds=60)
"""How long a server is left alone after a 429 that does not say how long."""


_NO_INSTANCE: Final = "unknown"
"""What stands for the id of an installation that did not say it."""

STOP_CAUSES: Final = (
    "unconfigured",
    "inactive",
    "identity",
    "credentials",
    "address",
    "maintenance",
    "rate_limit",
    "transport",
)
"""Why a server can be left alone, as a word for metrics and status."""


class ServerStopped(Exception):
    """Nothing may be asked of the server now.

    Attributes:
        cause: one of `STOP_CAUSES`.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a breaker opens, and how often an open one lets a probe through."""

    failures: int
    probe_interval: timedelta
    credentials_probe_interval: timedelta


class CloudServer:
    """One server of the fleet. Safe for several threads."""

    def __init__(
        self,
        row: BillingServer,
        connection: ServerConnection,
        journal: Journal,
        limits: BreakerLimits,
        clock: Clock,
        on_call: OnCall | None = None,
    ) -> None:
        self.id: Final = row.id
        self.name: Final = row.name
        self.url: Final = row.base_url.rstrip("/")
        self.client: Final = CloudClient(
            connection, on_call=None if on_call is None else partial(on_call, row.id)
        )
        self.identity: ServerIdentity | None = None
        self.groups: frozenset[str] | None = None
        self._row: Final = row
        self._journal: Final = journal
        self._limits: Final = limits
        self._clock: Final = clock
        self._lock: Final = threading.RLock()
        self._failures = 0
        # Another installation answered: what is told until it is asked again, and when that is.
        self._strange: tuple[ServerStopped, datetime] | None = None
        self.edits: Final = EditBudget(clock)
        self._mark: Final = journal.mark(row.base_url, row.username, row.password)
        self._record = journal.servers.get(row.id)

    def __str__(self) -> str:
        return f"server {self.id} ({self.name})"

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with its settings in billing; it cannot be used as long as anything is."""
        return tuple(fault.removeprefix(f"server {self.id}: ") for fault in self._row.faults)

    @property
    def api_user(self) -> str:
        """The account we work with, as the server spells it once it was asked."""
        return self.identity.api_user if self.identity else self._row.username

    def ensure_ready(self) -> ServerIdentity:
        """Make sure that the server may be called; connect on the first call.

        Raises:
            ServerStopped: it may not; the message says why and what helps.
            JournalError: what was learned cannot be recorded.
        """
        with self._lock:
            self._check_breaker()
            if self.identity is None:
                with self.calling():
                    identity = self.client.connect()
                    groups = self.client.list_groups()
                self._check_identity(identity)
                self._begin_edits(identity)
                self.identity, self.groups = identity, groups
            return self.identity

    def _begin_edits(self, identity: ServerIdentity) -> None:
        is_limited = identity.product is Product.NEXTCLOUD and identity.major >= _EDITS_LIMITED_FROM
        spent = self._journal.intents.list_times(self._clock() - WINDOW, EDIT_KINDS, self.id)
        self.edits.begin(NEXTCLOUD_LIMIT if is_limited else None, spent)

    def refresh_groups(self) -> None:
        """Read the server's groups anew, after one was made or found missing."""
        with self.calling():
            self.groups = self.client.list_groups()

    @contextlib.contextmanager
    def calling(self, *, is_edit: bool = False) -> Iterator[None]:
        """Wrap calls to the client: their failures open the breaker, a success closes it.

        Args:
            is_edit: the call changes fields of an account, which Nextcloud 27 and later limit to 50
                in 600 s; a 429 then stops further edits only.

        Raises:
            ServerStopped: the failure is the server's, not the service's.
            CloudError: every other failure, as it came.
        """
        try:
            yield
        except nc_errors.RateLimited as error:
            if not is_edit:
                raise self._stop(error) from error
            self.edits.note_refused(None if error.retry_after_seconds is None else _get_pause(error))
            raise
        except nc_errors.InstanceChanged as error:
            raise self._meet_stranger(error) from error
        except SERVER_WIDE_ERRORS as error:
            raise self._stop(error) from error
        except _TRANSPORT_ERRORS as error:
            self._count_failure(error)
            raise
        except nc_errors.CloudError:
            self._succeed()
            if is_edit:
                self.edits.note_done()  # refused for another reason than the limit
            raise
        else:
            self._succeed()
            if is_edit:
                self.edits.note_done()

    @property
    def stop_cause(self) -> str | None:
        """Why it is left alone at the moment, as `ServerStopped.cause`; None when it may be called.

        Waits for nobody: to be asked at any time.
        """
        if self.faults:
            return "unconfigured"
        if not self._row.is_active:
            return "inactive"
        if self._strange is not None:
            return "identity"
        record = self._record
        return record.breaker_cause if record.credentials_mark == self._mark else None

    @property
    def is_probe_due(self) -> bool:
        """Whether it is left alone and the time has come to try it again."""
        probe_at = self._strange[1] if self._strange is not None else self._record.probe_at
        return self.stop_cause not in {None, "unconfigured", "inactive"} and (
            probe_at is None or self._clock() >= probe_at
        )

    def bound_wait(self, now: datetime) -> None:
        """Put off no probe longer than the longest pause there is: the clock may have gone back."""
        longest = now + max(self._limits.probe_interval, self._limits.credentials_probe_interval)
        with self._lock:
            if self._record.probe_at is not None and self._record.probe_at > longest:
                self._journal.servers.update(self.id, probe_at=longest)
                self._record = self._journal.servers.get(self.id)

    def ask_identity_again(self) -> None:
        """Have the next call connect anew and look who answers."""
        self.identity = None

    def note_trouble(self, message: str) -> None:
        """Record why it was left out, for `status`; an open breaker has said so already."""
        if self._record.breaker_cause is None:
            self._journal.servers.update(self.id, breaker_message=message)

    @property
    def strange_identity(self) -> str | None:
        """Product and instance id of another installation that was seen at the address; None without one."""
        return self._journal.servers.get(self.id).strange_identity

    def approve_identity(self, seen: str) -> None:
        """Take a strange identity as the right one; whoever else answers is strange, too."""
        product, _, instance_id = seen.partition(" ")
        self._journal.servers.update(
            self.id,
            product=product,
            instance_id=None if instance_id == _NO_INSTANCE else instance_id,
            strange_identity=None,
            breaker_message=None,
        )
        self._record = self._journal.servers.get(self.id)
        self._strange = None

    def close_breaker(self) -> None:
        """Let the next call through, whatever failed before: an operator asks."""
        with self._lock:
            self._close()
            self.identity = self._strange = None

    def _check_breaker(self) -> None:
        if self.faults:
            raise ServerStopped("unconfigured", f"{self}: {self.faults[0]}")
        if not self._row.is_active:
            raise ServerStopped("inactive", f"{self} is switched off in BILLmanager: nothing is done there")
        if self._strange is not None and self._clock() < self._strange[1]:
            raise ServerStopped("identity", str(self._strange[0]))
        record = self._record
        if record.breaker_cause is None or record.probe_at is None or record.credentials_mark != self._mark:
            return
        now = self._clock()
        if now < record.probe_at:
            wait = int((record.probe_at - now).total_seconds()) + 1
            raise ServerStopped(
                record.breaker_cause, f"{record.breaker_message}; tried again in {wait} s at the earliest"
            )

    def _check_identity(self, identity: ServerIdentity) -> None:
        # An operator may have approved another one meanwhile, in a process of his own.
        record = self._record = self._journal.servers.get(self.id)
        is_other_product = record.product not in {None, identity.product.value}
        is_other_instance = (
            record.instance_id is not None
            and identity.instance_id is not None
            and record.instance_id != identity.instance_id
        )
        if is_other_product or is_other_instance:
            strange = f"{identity.product.value} {identity.instance_id or _NO_INSTANCE}"
            stop = ServerStopped(
                "identity",
                f"{self} answers as another installation ({strange}, known is {record.product} "
                f"{record.instance_id}): nothing is changed there until you have looked and run "
                f"`reconciler approve identity --server {self.id}{name_instance(strange)}`",
            )
            self._note_stranger(strange, stop, self._limits.probe_interval)
            raise stop
        self._strange = None
        known = (record.product, record.version, record.instance_id, record.strange_identity)
        instance_id = identity.instance_id or record.instance_id
        if known != (identity.product.value, identity.version, instance_id, None):
            self._journal.servers.update(
                self.id,
                product=identity.product.value,
                version=identity.version,
                instance_id=instance_id,
                strange_identity=None,
            )
            self._record = self._journal.servers.get(self.id)

    def _meet_stranger(self, error: nc_errors.InstanceChanged) -> ServerStopped:
        """Whoever answers now is asked who he is before anything else is asked of him."""
        stop = ServerStopped("identity", f"{self}: {error}")
        self.identity = None
        product = self._record.product
        if product is not None and error.instance_id is not None:
            # Told at once, so that it can be approved; a probe, which is due now, finds out the rest.
            self._note_stranger(f"{product} {error.instance_id}", stop, timedelta())
        return stop

    def _note_stranger(self, strange_identity: str, stop: ServerStopped, pause: timedelta) -> None:
        self._journal.servers.update(self.id, strange_identity=strange_identity)
        self._record = self._journal.servers.get(self.id)
        self._strange = stop, self._clock() + pause

    def _stop(self, error: nc_errors.CloudError) -> ServerStopped:
        if isinstance(error, nc_errors.Maintenance):
            cause, pause = "maintenance", self._limits.probe_interval
        elif isinstance(error, nc_errors.RateLimited):
            cause, pause = "rate_limit", _get_pause(error)
        elif isinstance(error, _ADDRESS_ERRORS):
            cause, pause = "address", self._limits.probe_interval
        else:
            # A password that was refused is not tried again soon: brute-force protection would
            # lock the billing host out.
            cause, pause = "credentials", self._limits.credentials_probe_interval
        return self._open(cause, pause, error)

    def _count_failure(self, error: nc_errors.CloudError) -> None:
        with self._lock:
            self._failures += 1
            # A failed probe keeps a breaker open that was opened before this program was started.
            is_probe = self._record.breaker_cause == "transport"
            is_enough = is_probe or self._failures >= self._limits.failures
        if is_enough:
            self._open("transport", self._limits.probe_interval, error)

    def _open(self, cause: str, pause: timedelta, error: nc_errors.CloudError) -> ServerStopped:
        with self._lock:
            now = self._clock()
            message = f"{self}: {error}"
            self._journal.servers.update(
                self.id,
                breaker_cause=cause,
                breaker_message=message,
                breaker_since=now if self._record.breaker_cause != cause else self._record.breaker_since,
                probe_at=now + pause,
                credentials_mark=self._mark,
            )
            self._record = self._journal.servers.get(self.id)
            self.identity = None  # whoever answers next is asked who he is
            return ServerStopped(cause, message)

    def _succeed(self) -> None:
        if self._failures or self._record.breaker_cause is not None:
            with self._lock:
                self._close()

    def _close(self) -> None:
        self._failures = 0
        if self._record.breaker_cause is not None:
            self._journal.servers.update(
                self.id, breaker_cause=None, breaker_message=None, breaker_since=None, probe_at=None
            )
            self._record = self._journal.servers.get(self.id)


def name_instance(strange_identity: str) -> str:
    """The option by which `approve` names the installation that was seen."""
    instance_id = strange_identity.rpartition(" ")[2]
    return "" if instance_id == _NO_INSTANCE else f" --instance {instance_id}"


def _get_pause(error: nc_errors.RateLimited) -> timedelta:
    if error.retry_after_seconds is None:
        return _RATE_LIMIT_PAUSE
    return timedelta(seconds=max(1.0, error.retry_after_seconds))


class Fleet:
    """All servers, as billing names them. Safe for several threads."""

    def __init__(
        self,
        billing: Billing,
        journal: Journal,
        config: Config,
        clock: Clock,
        on_call: OnCall | None = None,
    ) -> None:
        self._billing: Final = billing
        self._journal: Final = journal
        self._config: Final = config
        self._clock: Final = clock
        self._on_call: Final = on_call
        self._lock: Final = threading.Lock()
        self._servers: dict[int, tuple[BillingServer, CloudServer]] = {}

    def refresh(self) -> list[CloudServer]:
        """Read the servers from billing; one whose row changed starts anew.

        Raises:
            BillingError: they cannot be read; the known ones stay.
        """
        rows = {row.id: row for row in self._billing.list_servers()}
        with self._lock:
            old, self._servers = self._servers, {}
            for server_id, row in rows.items():
                is_kept = server_id in old and old[server_id][0] == row
                self._servers[server_id] = old.pop(server_id) if is_kept else (row, self._open(row))
            for _, server in old.values():
                server.client.close()
            return [server for _, server in self._servers.values()]

    def get(self, server_id: int | None) -> CloudServer | None:
        """A server by its id; None when billing has no such server of our module."""
        with self._lock:
            known = self._servers.get(server_id) if server_id is not None else None
        return known[1] if known else None

    def list(self) -> list[CloudServer]:
        """The servers as billing named them last."""
        with self._lock:
            return [server for _, server in self._servers.values()]

    def close(self) -> None:
        """End all sessions."""
        with self._lock:
            for _, server in self._servers.values():
                server.client.close()

    def _open(self, row: BillingServer) -> CloudServer:
        guards = self._config.guards
        return CloudServer(
            row,
            make_connection(row, self._config.for_server(row.id)),
            self._journal,
            BreakerLimits(
                guards.breaker_failures, guards.breaker_probe_interval, guards.credentials_probe_interval
            ),
            self._clock,
            self._on_call,
        )


def _find_authorities(settings: ServerSettings) -> str | None:
    """The operator's own authorities, else the machine's; None for those that come with requests."""
    if settings.ca_file is not None:
        return str(settings.ca_file)
    return str(_SYSTEM_AUTHORITIES) if _SYSTEM_AUTHORITIES.exists() else None


def make_connection(row: BillingServer, settings: ServerSettings) -> ServerConnection:
    """How a server is reached: the operator's file first, then BILLmanager's row, then the defaults."""
    written = settings.model_fields_set
    timeout = settings.timeout.total_seconds()
    if "timeout" not in written and row.timeout_seconds is not None:
        timeout = row.timeout_seconds
    total = settings.total_timeout.total_seconds()
    return ServerConnection(
        base_url=row.base_url,
        username=row.username,
        password=row.password,
        verify_tls=settings.verify_tls if "verify_tls" in written else row.verify_tls,
        ca_file=_find_authorities(settings),
        connect_timeout_seconds=settings.connect_timeout.total_seconds(),
        read_timeout_seconds=timeout,
        total_timeout_seconds=max(total, timeout),
        delete_timeout_seconds=settings.delete_timeout.total_seconds(),
        page_size=settings.page_size,
        concurrency=settings.concurrency,
        requests_per_second=settings.requests_per_second,
        max_response_bytes=settings.max_response_bytes,
    )
