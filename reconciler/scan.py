"""Compares everything that was sold with everything that exists, in bulk. Yields suspicion only.

Called by the full cycle and by ``plan``. A scan never changes an account: what looks different is
handed on, and the pass looks again before it does anything.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Final

from nc import Product
from reconciler.application import Application
from reconciler.fleet import CloudServer
from reconciler.guards import ReadVerdict
from reconciler.journal import ServiceRecord, ServiceUsage, Sighting, make_key
from reconciler.one_pass import PassStopped
from reconciler.remembering import get_agreed_email, recall
from reconciler.workqueue import Priority
from states import (
    SOLD_WISHES,
    UNLIMITED,
    Circumstances,
    DesiredService,
    Memory,
    ObservedAccount,
    Ownership,
    ServiceState,
    Step,
    StepKind,
    Verdict,
    Wish,
    advance,
    classify,
    is_same_place,
    plan_steps,
)

_CHUNK: Final = 1000
_OUR_NAME: Final = re.compile(r"user_[0-9]+")

_RECORDABLE: Final = frozenset({ServiceState.ACTIVE, ServiceState.SUSPENDED, ServiceState.ABSENT})
"""States that a scan may record by itself: being told that nothing is to be done decides nothing."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A service that a pass must look at.

    Attributes:
        item_id: the service.
        priority: when.
        verdict: what the scan makes of it; None when it was not compared.
        steps: what would be done, as far as can be foreseen.
        desired: what billing wants; None for a vanished service.
        is_surely_seen: the account was in the listing (or was never made): a fresh look would not
            surprise.
        not_before: until when a pass would only wait (a failed try, a guard); None when it would not.
    """

    item_id: int
    priority: Priority
    verdict: Verdict | None = None
    steps: tuple[Step, ...] = ()
    desired: DesiredService | None = None
    is_surely_seen: bool = True
    not_before: datetime | None = None


@dataclass(slots=True)
class DesiredRead:
    """A complete read of billing, or of one server's services.

    Attributes:
        services: by server id, ordered by item id.
        namesakes: by item id, another service that names the same account.
        verdict: what the desired-read guard says of it.
    """

    services: dict[int, list[DesiredService]]
    namesakes: dict[int, int]
    verdict: ReadVerdict | None = None

    def get_keys(self, server_id: int) -> set[str]:
        """The user names that a server's services have, without case."""
        return {make_key(desired.username) for desired in self.services.get(server_id, [])}

    def count(self) -> int:
        """How many services there are."""
        return sum(len(services) for services in self.services.values())


@dataclass(slots=True)
class ServerScan:
    """What a scan of one server found.

    Attributes:
        services: how many services billing has there.
        accounts: how many accounts the server listed.
        suspects: what a pass must look at.
        orphans: accounts that look like ours and belong to no service.
        differing: which fields differ, by item id; only services in which some do.
        usage: what the services use of their quotas, as far as the server said.
    """

    services: int = 0
    accounts: int = 0
    suspects: list[Suspect] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    differing: dict[int, tuple[str, ...]] = field(default_factory=dict)
    usage: list[ServiceUsage] = field(default_factory=list)

    def count(self) -> dict[str, int]:
        """How many there were of each, for the log."""
        return {
            "accounts": self.accounts,
            "services": self.services,
            "suspects": len(self.suspects),
            "orphans": len(self.orphans),
        }


def read_desired(app: Application, *, server_id: int | None = None, is_dry_run: bool = False) -> DesiredRead:
    """Read all services of all servers, or of one, completely.

    Args:
        app: the parts.
        server_id: only this server's; then nothing is recorded, as with ``is_dry_run``.
        is_dry_run: do not record how many there are.

    Raises:
        BillingError: not everything could be read: then nothing may be concluded from what was.
        JournalError: it cannot be recorded.
    """
    services: dict[int, list[DesiredService]] = {}
    names: dict[tuple[int, str], int] = {}
    namesakes: dict[int, int] = {}
    for desired in app.billing.list_services(with_passwords=False, server_id=server_id):
        if app.is_stopping():
            raise PassStopped
        if desired.server_id is None:
            continue
        services.setdefault(desired.server_id, []).append(desired)
        if desired.username and not (desired.wish is Wish.NONE and not desired.is_username_recorded):
            place = desired.server_id, make_key(desired.username)
            first = names.setdefault(place, desired.item_id)
            if first != desired.item_id:
                namesakes[desired.item_id], namesakes[first] = first, desired.item_id
    read = DesiredRead(services, namesakes)
    if not is_dry_run and server_id is None:
        read.verdict = app.reconciler.guards.record_read(
            {server_id: len(group) for server_id, group in services.items()}
        )
    return read


def is_our_name(key: str) -> bool:
    """Whether an account's name (without case) is one that we would have given it."""
    return _OUR_NAME.fullmatch(key) is not None


def find_vanished(app: Application, read: DesiredRead, *, server_id: int | None = None) -> list[Suspect]:
    """Services that billing no longer has on any server of ours, or on this one, and whose account is ours.

    Those without an account, too, that were last seen to wait for something and are gone altogether: they
    wait no longer.
    """
    present = {desired.item_id for group in read.services.values() for desired in group}
    services = app.journal.services
    unsettled = services.list_unsettled_ids(server_id) - present
    if unsettled:
        unsettled.difference_update(app.billing.list_server_ids(unsettled))
    gone = sorted((services.list_remembered_ids(server_id) - present) | unsettled)
    records = services.load(gone)
    return [
        Suspect(item_id, Priority.DRIFT)
        for item_id in gone
        if records[item_id].memory.state is not ServiceState.ORPHANED
    ]


def scan_server(
    app: Application,
    server: CloudServer,
    get_read: Callable[[], DesiredRead],
    *,
    is_dry_run: bool = False,
) -> ServerScan:
    """Compare one server's services with its accounts.

    Args:
        app: the parts.
        server: which one.
        get_read: gives the read of billing; may wait for it. Nextcloud is listed meanwhile, ownCloud's
            listing asks only for accounts that are sold.
        is_dry_run: record nothing.

    Raises:
        ServerStopped, CloudError: the server could not be listed to the end.
        PassStopped: the program is about to end.
        BillingError, JournalError: as they say.
    """
    identity = server.ensure_ready()
    circumstances = app.reconciler.get_circumstances(server)
    wanted: set[str] = set()
    if identity.product is Product.OWNCLOUD:
        wanted = get_read().get_keys(server.id)
    with server.calling():
        listing = server.client.list_accounts(
            groups=circumstances.managed_groups, only=lambda userid: make_key(userid) in wanted
        )
        observed = {}
        for account in listing:
            if app.is_stopping():
                raise PassStopped
            observed[make_key(account.userid)] = account
    with app.comparing:
        return _compare(app, server, observed, get_read(), circumstances, is_dry_run=is_dry_run)


def _compare(
    app: Application,
    server: CloudServer,
    observed: dict[str, ObservedAccount],
    read: DesiredRead,
    circumstances: Circumstances,
    *,
    is_dry_run: bool,
) -> ServerScan:
    services = read.services.get(server.id, [])
    strangers = observed.keys() - read.get_keys(server.id)
    orphans = sorted(observed[key].userid for key in strangers if is_our_name(key))
    scan = ServerScan(services=len(services), accounts=len(observed), orphans=orphans)
    undelivered = app.journal.intents.list_undelivered() if app.writer.can_write else set()
    comparison = _Comparison(
        app, scan, observed, circumstances, undelivered, read.namesakes, is_dry_run=is_dry_run
    )
    for chunk in _in_chunks(services):
        comparison.compare(chunk)
    if not is_dry_run:
        app.journal.servers.update(
            server.id, scanned_at=circumstances.now, breaker_message=None, orphans=len(orphans)
        )
    scan.suspects.sort(key=lambda suspect: (suspect.priority, suspect.item_id))
    return scan


@dataclass(slots=True)
class _Comparison:
    """The comparison of one server's services, chunk by chunk."""

    app: Application
    scan: ServerScan
    observed: dict[str, ObservedAccount]
    circumstances: Circumstances
    undelivered: set[int]
    namesakes: dict[int, int]
    is_dry_run: bool
    sightings: list[Sighting] = field(default_factory=list)
    marks: list[tuple[int, int, str]] = field(default_factory=list)

    def compare(self, services: Sequence[DesiredService]) -> None:
        """Judge some services of one server, ordered by item id; suspects go into the scan.

        What looks as it did when nothing was to be done is not judged again: its mark stands in the
        journal, and goes with every change of the service's row.
        """
        journal = self.app.journal.services
        server_id = services[0].server_id or 0
        known = journal.load_quiet_marks(server_id, services[0].item_id, services[-1].item_id)
        seen = [(desired, self.observed.get(make_key(desired.username))) for desired in services]
        self.scan.usage += [
            ServiceUsage(
                desired.item_id, server_id, account.used_bytes, _get_limit(desired), self.circumstances.now
            )
            for desired, account in seen
            if account is not None and account.used_bytes is not None
        ]
        rest = []
        context = self._describe_context()
        for desired, account in seen:
            mark = _make_quiet_mark(desired, account, self.namesakes.get(desired.item_id), context)
            if known.get(desired.item_id) != mark or desired.item_id in self.undelivered:
                rest.append((desired, account, mark))
        if not self.is_dry_run:
            journal.note_desired([desired for desired, _, _ in rest], self.circumstances.now)
        records = journal.load([desired.item_id for desired, _, _ in rest])
        for desired, account, mark in rest:
            record = records.get(desired.item_id) or make_first_record(desired, self.circumstances.now)
            self._judge(desired, account, record, mark)
        if not self.is_dry_run:
            journal.record_states(self.sightings, self.circumstances.now)
            journal.record_quiet_marks(self.marks)
        self.sightings, self.marks = [], []

    def _describe_context(self) -> str:
        """What all verdicts of this scan depend on besides service and account."""
        around = self.circumstances
        groups = sorted(around.managed_groups), sorted(around.server_groups or ())
        return f"{around.policy}{groups}{around.api_user}{self.app.writer.can_write}"

    def _judge(
        self, desired: DesiredService, account: ObservedAccount | None, record: ServiceRecord, mark: str
    ) -> None:
        memory = recall(desired, record)
        circumstances = self.circumstances
        if desired.item_id in self.namesakes:
            circumstances = _with_namesake(circumstances, self.namesakes[desired.item_id])
        verdict = classify(desired, account, memory, circumstances)
        steps = plan_steps(verdict, desired, account, memory, circumstances)
        if verdict.differences:
            self.scan.differing[desired.item_id] = tuple(item.field for item in verdict.differences)
        is_adopted = [step.kind for step in steps] == [StepKind.ADOPT]
        is_settled = (not steps or is_adopted) and not self._needs_a_pass(desired, record, memory)
        # The grace of an account begins with a pass.
        is_graceless = verdict.state is ServiceState.RETIRING and memory.retired_since is None
        is_as_remembered = memory == record.memory and not is_graceless
        is_known = (
            verdict.state is record.memory.state
            and is_as_remembered
            and record.blocked_by is None
            and not is_adopted
        )
        # A dry run shows all that is not as it should be, also what a pass could not tell anew.
        if is_settled and is_known and (verdict.state.is_stable or not self.is_dry_run):
            if verdict.state.is_stable and not verdict.differences:
                self.marks.append((desired.item_id, record.version, mark))
            return
        is_recordable = verdict.state in _RECORDABLE and is_as_remembered
        if is_settled and is_recordable and record.attempts == 0:
            advance(record.memory.state, verdict.state)
            sighting = Sighting(
                desired.item_id,
                record.version,
                verdict.state,
                verdict.reason,
                adopted_userid=account.userid if account and is_adopted else None,
                agreed_email=get_agreed_email(desired, account),
                quiet_mark=None if is_adopted or verdict.differences else mark,
            )
            self.sightings.append(sighting)
            return
        suspect = _make_suspect(desired, verdict, steps, account, memory)
        if is_as_remembered and record.memory.state in {verdict.state, ServiceState.BACKOFF}:
            suspect = dataclasses.replace(suspect, not_before=record.next_attempt_at)
        self.scan.suspects.append(suspect)

    def _needs_a_pass(self, desired: DesiredService, record: ServiceRecord, memory: Memory) -> bool:
        """Whether only a pass can tell: something failed, was not delivered, or is on another server."""
        if record.memory.state is ServiceState.BACKOFF or desired.item_id in self.undelivered:
            return True
        if not is_same_place(desired, memory):
            return True
        if not self.app.writer.can_write:
            return False
        is_operation = (
            desired.status == 5 and desired.operation is not None and desired.wish is not Wish.AS_IS
        )
        lacks_name = not (desired.is_username_recorded and desired.is_url_recorded)
        is_ours = memory.ownership is not Ownership.NONE or desired.is_username_recorded
        return is_operation or (lacks_name and is_ours and desired.wish in SOLD_WISHES)


def _make_quiet_mark(
    desired: DesiredService, account: ObservedAccount | None, namesake: int | None, context: str
) -> str:
    """A mark of everything that a verdict without a date in it depends on."""
    seen = account and (
        account.userid,
        account.is_enabled,
        account.quota,
        account.email,
        account.groups and sorted(account.groups),
        account.is_subadmin,
        account.is_complete,
    )
    wanted = (
        desired.wish.value,
        desired.username,
        desired.quota,
        desired.group,
        desired.email,
        desired.status,
        desired.operation,
        desired.is_username_recorded,
        desired.is_url_recorded,
        desired.is_password_recorded,
        desired.faults,
    )
    return blake2b(f"{wanted}{seen}{namesake}{context}".encode(), digest_size=16).hexdigest()


def make_first_record(desired: DesiredService, now: datetime) -> ServiceRecord:
    """The row of a service that was never looked at."""
    return ServiceRecord(
        item_id=desired.item_id,
        server_id=desired.server_id,
        userid=desired.username,
        wish=desired.wish.value,
        memory=Memory(),
        since=now,
        reason="not yet looked at",
        attempts=0,
        next_attempt_at=None,
        last_error=None,
        blocked_by=None,
        blocked_guard=None,
        unconverged_since=now,
        unconverged_kind=None,
        stable_at=None,
        quarantine_mark=None,
        version=0,
    )


def _make_suspect(
    desired: DesiredService,
    verdict: Verdict,
    steps: Sequence[Step],
    account: ObservedAccount | None,
    memory: Memory,
) -> Suspect:
    if verdict.state is ServiceState.DELETING:
        priority = Priority.DELETION
    elif verdict.state is ServiceState.DRIFTED:
        priority = Priority.DRIFT
    else:
        priority = Priority.CHANGE
    is_surely_seen = (
        account.is_conclusive if account else not (memory.is_provisioned or desired.is_username_recorded)
    )
    return Suspect(desired.item_id, priority, verdict, tuple(steps), desired, is_surely_seen)


def _get_limit(desired: DesiredService) -> int | None:
    """What a service may use; None when unlimited or unknown."""
    return None if desired.quota is UNLIMITED else desired.quota


def _with_namesake(circumstances: Circumstances, namesake: int) -> Circumstances:
    return dataclasses.replace(circumstances, namesake=namesake)


def _in_chunks(services: Sequence[DesiredService]) -> Iterator[Sequence[DesiredService]]:
    for start in range(0, len(services), _CHUNK):
        yield services[start : start + _CHUNK]
