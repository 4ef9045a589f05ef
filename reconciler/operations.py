"""What operators ask for, the same from the command line and over HTTP: resync, hold, release, approve.

What needs more than the journal has rooms of its own: `reconciler.resync` (waiting for a daemon, or doing its
work), `reconciler.adoption`, `reconciler.passwords`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bm_db import Order
from reconciler.application import Application
from reconciler.fleet import CloudServer
from reconciler.guards import CAPS, Guard, ReadVerdict
from reconciler.journal import HistoryEntry, Lease, ServiceRecord, Waiting, describe_this_process
from reconciler.one_pass import PassResult, ServiceUnknown
from states import DesiredService

NO_SERVICE: Final = 0
"""The item id under which the history has what concerns no single service."""

POLL_SECONDS: Final = 0.2
"""How often is looked whether something that is waited for has happened."""

_LEASE_SECONDS: Final = 60.0
"""How long an operator's act waits for a pass over the service to end."""


class OperationRefused(Exception):
    """What the operator wants cannot be done; the message says why and what helps."""


def ask_resync(app: Application, item_ids: Sequence[int], actor: str) -> list[int]:
    """Ask the running daemon, on whatever host, for a pass over each service; the requests' ids.

    Raises:
        LookupError: the journal knows no such service, and billing has none on a server of ours.
        BillingError, JournalError: as they say.
    """
    for item_id in item_ids:
        find_service(app, item_id)
    return app.journal.requests.add(item_ids, actor, app.clock())


def ask_running_daemon(app: Application, item_ids: Sequence[int], actor: str) -> None:
    """Ask for a pass over each of these services, if a daemon runs."""
    if item_ids and app.journal.daemons.list_running(app.clock()):
        app.journal.requests.add(item_ids, actor, app.clock())


def lift_quarantine(app: Application, item_id: int) -> ServiceRecord | None:
    """Let a pass try a quarantined service again; one that is held stays so.

    Returns:
        The service's row as it was; None when it was never looked at.
    """
    record = app.journal.services.get(item_id)
    if record is not None and record.memory.hold_reason is None:
        app.journal.services.release(item_id)
        _count_anew(app, record)
    return record


def hold_service(app: Application, item_id: int, reason: str, actor: str) -> None:
    """Pause a service: nothing is done to its account until it is released.

    Raises:
        LookupError: as for `ask_resync`.
        BillingError, JournalError: as they say.
    """
    find_service(app, item_id)
    app.journal.services.hold(item_id, reason, actor, app.clock())
    note_by_hand(app, item_id, "hold", actor, reason)


def release_service(app: Application, item_id: int, actor: str) -> None:
    """End a service's hold or quarantine, and ask for a pass over it.

    Raises:
        LookupError: it is neither held nor quarantined.
        JournalError: as it says.
    """
    record = app.journal.services.get(item_id)
    if not app.journal.services.release(item_id):
        raise LookupError(f"service {item_id} is neither held nor quarantined by a guard")
    if record is not None:
        _count_anew(app, record)
    note_by_hand(app, item_id, "release", actor, "")
    ask_running_daemon(app, [item_id], actor)


def _count_anew(app: Application, record: ServiceRecord) -> None:
    """Let a service that went round in circles begin afresh: a person says that the cause is mended."""
    if record.memory.quarantine_reason is not None and record.blocked_guard == Guard.HOT_LOOP.value:
        app.journal.services.update(record.item_id, stable_at=app.clock(), blocked_guard=None)


def approve_cap(app: Application, guard: Guard, server_id: int | None, actor: str) -> list[Waiting]:
    """Let the services that a cap keeps waiting now pass it, each once and for a limited time.

    Each may do the very step that it waits for, no other. What begins to wait later is not covered. The
    approval stands in each service's history.

    Returns:
        The services, and what each may do.

    Raises:
        JournalError: it cannot be recorded.
    """
    if guard not in CAPS:
        raise ValueError(f"{guard} does not count steps")
    now = app.clock()
    expires_at = now + app.config.guards.approval_ttl
    given = app.journal.approvals.add(guard.value, server_id, actor, now, expires_at)
    ask_running_daemon(app, [each.item_id for each in given], actor)
    return given


def approve_identity(app: Application, server: CloudServer, actor: str, instance_id: str | None) -> str:
    """Take the other installation that was seen at the server's address as the right one, and no third one.

    Args:
        app: the parts.
        server: which server.
        actor: who says so.
        instance_id: the installation that is meant; None for the one that was seen last.

    Returns:
        The installation, as the journal names it: its product and its id.

    Raises:
        OperationRefused: no other installation was seen there, or not that one.
        JournalError: it cannot be recorded.
    """
    seen = server.strange_identity
    if seen is None:
        raise OperationRefused(
            f"{server}: no other installation was seen there: there is nothing to approve "
            f"(`reconciler check-connection {server.id}` looks again)"
        )
    if instance_id is not None and instance_id != seen.rpartition(" ")[2]:
        raise OperationRefused(f"{server}: {seen} was seen there last, not {instance_id}: look again")
    server.approve_identity(seen)
    why = f"guard identity: {seen} is the right installation"
    note_by_hand(app, NO_SERVICE, "approve", actor, why, server_id=server.id)
    return seen


def approve_read(app: Application, actor: str, at_least: int = 0) -> ReadVerdict:
    """Take the latest read of billing as good; services that wait for that are looked at at once.

    Args:
        app: the parts.
        actor: who says so.
        at_least: how many services he has seen: a read that has fewer is another one.

    Returns:
        What was said of the read before.

    Raises:
        OperationRefused: billing shows fewer services now.
        JournalError: it cannot be recorded.
    """
    read = app.reconciler.guards.accept_read(at_least)
    if read.seen < at_least:
        raise OperationRefused(
            f"billing shows {read.seen} services now, fewer than the {at_least} you have seen: look again"
        )
    why = f"guard desired_read: {read.seen} services are right, {read.good} were seen before"
    note_by_hand(app, NO_SERVICE, "approve", actor, why)
    waiting = app.journal.overview.list_blocked_by_guard(Guard.DESIRED_READ.value, None)
    ask_running_daemon(app, waiting, actor)
    return read


@contextmanager
def having_lease(app: Application, item_id: int) -> Iterator[Lease]:
    """Have a service to oneself; a pass that is under way is waited for.

    Raises:
        OperationRefused: another worker does not let go of it.
        JournalError: as it says.
    """
    holder, deadline = describe_this_process(), time.monotonic() + _LEASE_SECONDS
    while (lease := app.journal.leases.acquire(item_id, holder, app.clock())) is None:
        if time.monotonic() > deadline:
            raise OperationRefused(
                f"service {item_id}: another worker has it since {_LEASE_SECONDS:.0f} s: try again"
            )
        time.sleep(POLL_SECONDS)
    try:
        yield lease
    finally:
        app.journal.leases.release(lease, app.clock())


def reconcile_when_free(
    app: Application, item_id: int, actor: str, deadline: float, order: Order | None = None
) -> PassResult:
    """A pass; another worker's over the same service is waited for, and mostly leaves nothing to do.

    Args:
        app: the parts.
        item_id: the service.
        actor: who wants it.
        deadline: how long is waited, by the monotonic clock; then the result says that it is busy.
        order: as for `Reconciler.reconcile_service`.

    Raises:
        BillingError, JournalError: as they say.
    """
    while True:
        result = app.reconciler.reconcile_service(item_id, actor=actor, order=order)
        if not result.is_busy or time.monotonic() > deadline:
            return result
        time.sleep(POLL_SECONDS)


def find_place(app: Application, item_id: int) -> tuple[DesiredService, CloudServer]:
    """A service as billing has it now, and its server.

    Raises:
        ServiceUnknown: billing has no such service, or not on a server of ours.
        BillingError: it cannot be read.
    """
    desired = app.billing.get_service(item_id)
    if desired is None:
        raise ServiceUnknown(f"billing has no service {item_id}")
    server = app.fleet.get(desired.server_id)
    if server is None:
        app.fleet.refresh()  # it may be a new one
        server = app.fleet.get(desired.server_id)
    if server is None:
        raise ServiceUnknown(
            f"service {item_id} is not on a server of module {app.config.billmanager.module}"
        )
    return desired, server


def find_service(app: Application, item_id: int) -> ServiceRecord | None:
    """A service's row in the journal, None when it was never looked at.

    Raises:
        LookupError: the journal knows none of that id, and billing has none on a server of ours.
    """
    record = app.journal.services.get(item_id)
    if record is None:
        find_place(app, item_id)
    return record


def note_by_hand(
    app: Application, item_id: int, action: str, actor: str, why: str, *, server_id: int | None = None
) -> None:
    """Write what a person decided into a service's history, or that of `NO_SERVICE`."""
    app.journal.history.add(
        HistoryEntry(
            item_id=item_id,
            server_id=server_id,
            at=app.clock(),
            actor=actor,
            action=action,
            wanted="",
            observed="",
            result="done",
            why=why,
        )
    )
