"""What the journal remembers of each service: its row in ``service`` and its hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from reconciler.journal.history import HistoryEntry, insert_entries
from reconciler.journal.leases import Lease, extend
from reconciler.journal.store import Store
from reconciler.journal.tables import UtcTime, hold, intent, service
from states import DesiredService, Memory, Ownership, ServiceState, Wish

OPEN_OUTCOMES: Final = sa.or_(intent.c.outcome.is_(None), intent.c.outcome == "unknown")
"""An intent whose effect nobody knows yet."""

CONVERGING: Final = frozenset(
    {
        ServiceState.UNKNOWN,
        ServiceState.PROVISIONING,
        ServiceState.DRIFTED,
        ServiceState.SUSPENDING,
        ServiceState.RESUMING,
        ServiceState.DELETING,
        ServiceState.BACKOFF,
    }
)
"""States in which we still have something to do; in all others a service is as sold, or waits for a person or
for time to pass."""

_GRACE_GOES_ON: Final = (Wish.ABSENT.value, Wish.AS_IS.value)
_SETTLED: Final = tuple(
    state.value for state in ServiceState if state.is_stable or state is ServiceState.ORPHANED
)
_CHUNK: Final = 500
_WIDE_CHUNK: Final = 5000


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """One service's row, as tools show it.

    Times are aware; ``attempts`` counts the failures since the last success.
    """

    item_id: int
    server_id: int | None
    userid: str | None
    wish: str | None
    memory: Memory
    since: datetime
    reason: str
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None
    blocked_by: str | None
    blocked_guard: str | None
    unconverged_since: datetime | None
    unconverged_kind: str | None
    stable_at: datetime | None
    quarantine_mark: str | None
    version: int
    blocked_step: str | None = None


@dataclass(slots=True)
class Noted:
    """Services that the journal did not know, and those that billing wanted otherwise at the last look."""

    new: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A stable state that a bulk scan saw.

    Attributes:
        item_id, version: the row that was judged, and its version.
        state, reason: what it was judged to be.
        adopted_userid: the account that billing names and that is ours from now on; None for none.
        agreed_email: the e-mail that billing and account agree on, for an adopted account.
        quiet_mark: a mark of all that it was judged by: as long as it is the same, so is the verdict.
    """

    item_id: int
    version: int
    state: ServiceState
    reason: str
    adopted_userid: str | None = None
    agreed_email: str | None = None
    quiet_mark: str | None = None


class Services:
    """Reads and writes the services' rows."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def get(self, item_id: int) -> ServiceRecord | None:
        """One service's row; None before its first look."""
        with self._store.read() as connection:
            return _read_rows(connection, _OF_ONE, {"one": item_id}).get(item_id)

    def load(self, item_ids: Sequence[int]) -> dict[int, ServiceRecord]:
        """The rows of many services, by item id; unknown ones are left out."""
        records: dict[int, ServiceRecord] = {}
        with self._store.read() as connection:
            for start in range(0, len(item_ids), _CHUNK):
                chunk = item_ids[start : start + _CHUNK]
                records |= load_rows(connection, service.c.item_id.in_(chunk))
        return records

    def list_all(self) -> list[ServiceRecord]:
        """Every service's row, by item id."""
        return self._list(sa.true())

    def list_in_states(
        self, states: Iterable[ServiceState], *, limit: int | None = None
    ) -> list[ServiceRecord]:
        """The rows of all services in some states, by item id; at most so many."""
        return self._list(service.c.state.in_([state.value for state in states]), limit)

    def list_blocked(self, *, limit: int | None = None) -> list[ServiceRecord]:
        """The rows of all services whose next step waits for a guard or a server; at most so many."""
        return self._list(service.c.blocked_by.is_not(None), limit)

    def _list(self, condition: sa.ColumnElement[bool], limit: int | None = None) -> list[ServiceRecord]:
        with self._store.read() as connection:
            if limit is not None:  # in a query of its own: MariaDB takes no limit within another one
                query = sa.select(service.c.item_id).where(condition).order_by(service.c.item_id).limit(limit)
                condition = service.c.item_id.in_(list(connection.execute(query).scalars()))
            return [record for _, record in sorted(load_rows(connection, condition).items())]

    def list_accounts(self, server_id: int) -> dict[str, int]:
        """The accounts on a server that are known to be ours, by their keys, and whose they are."""
        query = sa.select(service.c.account_userid, service.c.item_id).where(
            service.c.account_server_id == server_id,
            service.c.account_userid.is_not(None),
            service.c.ownership != Ownership.NONE.value,
        )
        with self._store.read() as connection:
            return {make_key(row[0]): row[1] for row in connection.execute(query)}

    def list_remembered_ids(self, server_id: int | None = None) -> set[int]:
        """Services whose account is known to be ours; only those that billing last named on a server."""
        return self._list_ids(service.c.ownership != Ownership.NONE.value, server_id)

    def list_unsettled_ids(self, server_id: int | None = None) -> set[int]:
        """Services that wait for something; only those that billing last named on a server."""
        return self._list_ids(service.c.state.not_in(_SETTLED), server_id)

    def _list_ids(self, condition: sa.ColumnElement[bool], server_id: int | None) -> set[int]:
        query = sa.select(service.c.item_id).where(condition)
        if server_id is not None:
            query = query.where(service.c.desired_server_id == server_id)
        with self._store.read() as connection:
            return set(connection.execute(query).scalars())

    def count_by_state(self) -> dict[tuple[int | None, str], int]:
        """How many services each server has in each state."""
        query = sa.select(service.c.desired_server_id, service.c.state, sa.func.count()).group_by(
            service.c.desired_server_id, service.c.state
        )
        with self._store.read() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def count_on_server(self, server_id: int) -> int:
        """How many services billing has on a server, by the latest read."""
        with self._store.read() as connection:
            return int(connection.execute(_COUNT, {"server": server_id}).scalar_one())

    def note_desired(self, services: Iterable[DesiredService], now: datetime) -> Noted:
        """Record what billing names for each service (ordered by item id); unchanged rows are not written."""
        noted = Noted()
        chunk: list[DesiredService] = []
        for desired in services:
            chunk.append(desired)
            if len(chunk) == _WIDE_CHUNK:
                self._note_chunk(chunk, now, noted)
                chunk = []
        if chunk:
            self._note_chunk(chunk, now, noted)
        return noted

    def _note_chunk(self, chunk: list[DesiredService], now: datetime, noted: Noted) -> None:
        place = {"first": chunk[0].item_id, "last": chunk[-1].item_id}
        with self._store.read() as connection:
            known = {row[0]: tuple(row[1:]) for row in connection.execute(_DESIRED, place)}
        values = {
            desired.item_id: (desired.server_id, make_key(desired.username), desired.wish.value)
            for desired in chunk
        }
        new = [_first_row(item, *value, now) for item, value in values.items() if item not in known]
        changed = [
            {
                "key_item": item,
                "new_server": value[0],
                "new_key": value[1],
                "new_wish": value[2],
                "ends_grace": value[2] not in _GRACE_GOES_ON,
            }
            for item, value in values.items()
            if item in known and known[item] != value
        ]
        noted.new |= values.keys() - known.keys()
        noted.changed |= {item for item, value in values.items() if known.get(item, value) != value}
        if not (new or changed):
            return
        with self._store.write(is_lazy=True) as connection:
            if new:
                connection.execute(_insert_unless_there(connection.dialect.name), new)
            if changed:
                connection.execute(
                    sa.update(service)
                    .where(service.c.item_id == sa.bindparam("key_item"))
                    .values(
                        desired_server_id=sa.bindparam("new_server"),
                        desired_key=sa.bindparam("new_key"),
                        wish=sa.bindparam("new_wish"),
                        # Any read that wants the account back ends its grace, also one of many rows.
                        retired_since=sa.case(
                            (sa.bindparam("ends_grace", type_=sa.Boolean), sa.null()),
                            else_=service.c.retired_since,
                        ),
                        unconverged_since=sa.func.coalesce(
                            service.c.unconverged_since, sa.literal(now, UtcTime)
                        ),
                    ),
                    changed,
                )

    def find_namesake(self, desired: DesiredService) -> int | None:
        """Another service that billing gives the same account on the same server.

        Services that are unpaid and never had an account, and those whose account is deleted,
        compete for nothing.
        """
        place = {
            "server": desired.server_id,
            "key": make_key(desired.username),
            "one": desired.item_id,
        }
        with self._store.read() as connection:
            return connection.execute(_NAMESAKE, place).scalar()

    def record(
        self,
        held: Lease,
        now: datetime,
        values: Mapping[str, Any],
        *,
        entry: HistoryEntry | None = None,
        gives_lease_back: bool = False,
    ) -> None:
        """Change columns of the row of a service that a worker has.

        Args:
            held: the service.
            now: the time.
            values: by column.
            entry: what the history is to tell of it.
            gives_lease_back: the worker has it no more after this.

        Raises:
            LeaseLost: it has it no more; nothing was changed.
        """
        with self._store.write(is_lazy=True) as connection:
            extend(connection, held, now, gives_back=gives_lease_back)
            update_row(connection, held.item_id, **values)
            if entry is not None:
                insert_entries(connection, [entry])

    def update(self, item_id: int, **values: Any) -> None:
        """Change columns of one service's row, whoever has the service."""
        with self._store.write(is_lazy=True) as connection:
            update_row(connection, item_id, **values)

    def record_states(
        self,
        sightings: Sequence[Sighting],
        now: datetime,
    ) -> None:
        """Record the stable states that a bulk scan saw, and the accounts it adopts.

        A row that was changed since it was judged is left alone.
        """
        if not sightings:
            return
        states = [
            {
                "key_item": seen.item_id,
                "key_version": seen.version,
                "new_state": seen.state.value,
                "new_reason": seen.reason,
                "new_mark": seen.quiet_mark,
            }
            for seen in sightings
        ]
        adopted = [
            {
                "key_item": seen.item_id,
                "key_version": seen.version,
                "new_userid": seen.adopted_userid,
                "new_email": seen.agreed_email,
            }
            for seen in sightings
            if seen.adopted_userid is not None
        ]
        is_judged = sa.and_(
            service.c.item_id == sa.bindparam("key_item"), service.c.version == sa.bindparam("key_version")
        )
        with self._store.write(is_lazy=True) as connection:
            if adopted:  # first: it leaves the version, by which both statements find the judged rows
                connection.execute(
                    sa.update(service)
                    .where(is_judged)
                    .values(
                        ownership=Ownership.ADOPTED.value,
                        account_server_id=service.c.desired_server_id,
                        account_userid=sa.bindparam("new_userid"),
                        applied_email=sa.bindparam("new_email"),
                        is_provisioned=True,
                    ),
                    adopted,
                )
            connection.execute(
                sa.update(service)
                .where(is_judged)
                .values(
                    state=sa.bindparam("new_state"),
                    reason=sa.bindparam("new_reason"),
                    since=now,
                    stable_at=now,
                    attempts=0,
                    next_attempt_at=None,
                    last_error=None,
                    blocked_by=None,
                    blocked_guard=None,
                    blocked_step=None,
                    unconverged_since=None,
                    unconverged_kind=None,
                    quiet_mark=sa.bindparam("new_mark"),
                    version=service.c.version + 1,
                ),
                states,
            )

    def hasten_waits(self, now: datetime, by: timedelta) -> None:
        """Let what waits come so much earlier: the clock went back. Too early does no harm: it waits anew."""
        with self._store.write() as connection:
            connection.execute(
                sa.update(service)
                .where(service.c.next_attempt_at > now)
                .values(
                    next_attempt_at=sa.type_coerce(service.c.next_attempt_at, sa.Double) - by.total_seconds()
                )
            )

    def load_quiet_marks(self, server_id: int, first_id: int, last_id: int) -> dict[int, str]:
        """The marks of a server's services between two item ids that wait for nothing."""
        query = sa.select(service.c.item_id, service.c.quiet_mark).where(
            service.c.desired_server_id == server_id,
            service.c.item_id.between(first_id, last_id),
            service.c.quiet_mark.is_not(None),
            service.c.blocked_by.is_(None),
        )
        with self._store.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def record_quiet_marks(self, marks: Sequence[tuple[int, int, str]]) -> None:
        """Record marks (item id, version that was judged, mark); a row changed meanwhile is left alone."""
        if not marks:
            return
        with self._store.write(is_lazy=True) as connection:
            connection.execute(
                sa.update(service)
                .where(
                    service.c.item_id == sa.bindparam("key_item"),
                    service.c.version == sa.bindparam("key_version"),
                )
                .values(quiet_mark=sa.bindparam("new_mark")),
                [
                    {"key_item": item, "key_version": version, "new_mark": mark}
                    for item, version, mark in marks
                ],
            )

    def hold(self, item_id: int, reason: str, actor: str, now: datetime) -> None:
        """Pause a service; a second hold replaces the reason."""
        with self._store.write() as connection:
            connection.execute(sa.delete(hold).where(hold.c.item_id == item_id))
            connection.execute(sa.insert(hold).values(item_id=item_id, reason=reason, actor=actor, since=now))
            update_row(connection, item_id)

    def release(self, item_id: int) -> bool:
        """End a pause and a quarantine; False when there was neither."""
        with self._store.write() as connection:
            held = connection.execute(sa.delete(hold).where(hold.c.item_id == item_id)).rowcount
            freed = connection.execute(
                sa.update(service)
                .where(service.c.item_id == item_id, service.c.quarantine_reason.is_not(None))
                .values(quarantine_reason=None, quarantine_mark=None, version=service.c.version + 1)
            ).rowcount
            update_row(connection, item_id)
        return bool(held or freed)


def make_key(userid: str) -> str:
    """A user name as servers compare it: without case; cut to what the column holds."""
    return userid.lower()[:255]


def update_row(connection: sa.Connection, item_id: int, **values: Any) -> None:
    """Change columns of one service's row within a transaction."""
    changed = {"quiet_mark": None, **values}
    parameters = {f"new_{name}": value for name, value in changed.items()}
    connection.execute(_make_update(tuple(changed)), {"key_item": item_id, **parameters})


@lru_cache(256)
def _make_update(names: tuple[str, ...]) -> sa.Update:
    values = {name: sa.bindparam(f"new_{name}", type_=service.c[name].type) for name in names}
    return (
        sa.update(service)
        .where(service.c.item_id == sa.bindparam("key_item"))
        .values({"version": service.c.version + 1, **values})
    )


@lru_cache
def _insert_unless_there(dialect: str) -> sa.Insert:
    """Insert rows of services; one that another thread or process has made since we looked stays as it is."""
    if dialect == "postgresql":
        return postgresql.insert(service).on_conflict_do_nothing()
    if dialect == "sqlite":
        return sqlite.insert(service).on_conflict_do_nothing()
    return mysql.insert(service).on_duplicate_key_update(item_id=service.c.item_id)


def _first_row(item_id: int, server_id: int | None, key: str, wish: str, now: datetime) -> dict[str, object]:
    return {
        "item_id": item_id,
        "desired_server_id": server_id,
        "desired_key": key,
        "wish": wish,
        "state": ServiceState.UNKNOWN.value,
        "since": now,
        "reason": "not yet looked at",
        "unconverged_since": now,
        "attempts": 0,
        "ownership": Ownership.NONE.value,
        "is_provisioned": False,
        "version": 0,
    }


def load_rows(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> dict[int, ServiceRecord]:
    """The rows that a condition on the table ``service`` names, by item id."""
    return _read_rows(connection, _RowQueries.make(condition))


@dataclass(frozen=True, slots=True)
class _RowQueries:
    """What makes up rows of services: their own, the pauses, and the creates that were never answered."""

    holds: sa.Select[Any]
    open_creates: sa.Select[Any]
    rows: sa.Select[Any]

    @classmethod
    def make(cls, condition: sa.ColumnElement[bool]) -> _RowQueries:
        chosen = sa.select(service.c.item_id).where(condition)
        return cls(
            sa.select(hold.c.item_id, hold.c.reason).where(hold.c.item_id.in_(chosen)),
            sa.select(intent.c.item_id, intent.c.server_id, intent.c.userid).where(
                intent.c.item_id.in_(chosen), intent.c.kind == "create", OPEN_OUTCOMES
            ),
            sa.select(service).where(condition),
        )


# Made once: a pass reads its service's row again and again, and building a query costs more than running it.
_COUNT: Final = sa.select(sa.func.count()).where(service.c.desired_server_id == sa.bindparam("server"))
_DESIRED: Final = sa.select(
    service.c.item_id, service.c.desired_server_id, service.c.desired_key, service.c.wish
).where(service.c.item_id.between(sa.bindparam("first"), sa.bindparam("last")))
_OF_ONE: Final = _RowQueries.make(service.c.item_id == sa.bindparam("one"))
_NAMESAKE: Final = (
    sa.select(service.c.item_id)
    .where(
        service.c.desired_server_id == sa.bindparam("server"),
        service.c.desired_key == sa.bindparam("key"),
        service.c.item_id != sa.bindparam("one"),
        ~sa.and_(service.c.wish == "none", service.c.ownership == Ownership.NONE.value),
        ~sa.and_(service.c.wish == "absent", service.c.state == ServiceState.DELETED.value),
    )
    .order_by(service.c.item_id)
    .limit(1)
)


def _read_rows(
    connection: sa.Connection, queries: _RowQueries, parameters: dict[str, int] | None = None
) -> dict[int, ServiceRecord]:
    holds = {row.item_id: row.reason for row in connection.execute(queries.holds, parameters)}
    open_creates = {
        (row.item_id, row.server_id, make_key(row.userid))
        for row in connection.execute(queries.open_creates, parameters)
    }
    return {
        row.item_id: _to_record(row, holds.get(row.item_id), open_creates)
        for row in connection.execute(queries.rows, parameters)
    }


def _to_record(
    row: sa.Row[Any], hold_reason: str | None, open_creates: set[tuple[int, int, str]]
) -> ServiceRecord:
    memory = Memory(
        state=ServiceState(row.state),
        ownership=Ownership(row.ownership),
        server_id=row.account_server_id,
        userid=row.account_userid,
        is_provisioned=row.is_provisioned,
        applied_email=row.applied_email,
        has_open_create=(row.item_id, row.desired_server_id, row.desired_key) in open_creates,
        hold_reason=hold_reason,
        quarantine_reason=row.quarantine_reason,
        retired_since=row.retired_since,
    )
    return ServiceRecord(
        item_id=row.item_id,
        server_id=row.desired_server_id,
        userid=row.account_userid or row.desired_key,
        wish=row.wish,
        memory=memory,
        since=row.since,
        reason=row.reason,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
        blocked_by=row.blocked_by,
        blocked_guard=row.blocked_guard,
        unconverged_since=row.unconverged_since,
        unconverged_kind=row.unconverged_kind,
        stable_at=row.stable_at,
        quarantine_mark=row.quarantine_mark,
        version=row.version,
        blocked_step=row.blocked_step,
    )
