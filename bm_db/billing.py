"""`Billing`: everything ``reconciler`` reads from BILLmanager's database. Start reading here."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final, Literal

from sqlalchemy import Connection

from bm_db.cards import Card, read_cards
from bm_db.changes import RARE_EVERY_POLLS, ChangeTracker
from bm_db.crypt import Cipher
from bm_db.engine import CONNECT_TIMEOUT_SECONDS, STATEMENT_TIMEOUT_SECONDS, Database
from bm_db.errors import SchemaMismatch
from bm_db.operations import RunningOperation, read_operation
from bm_db.schema import Schema, inspect_schema
from bm_db.servers import BillingServer, read_servers
from bm_db.service_rows import count_services, is_one_of, select_services
from bm_db.services import ServiceReader
from bm_db.sold_quota import DEFAULT_QUOTA_SOURCES, QuotaSource, parse_quota_sources
from bm_db.tariffs import list_tariff_groups
from states.model import DesiredService

_IDS_A_QUERY: Final = 1000


class Billing:
    """BILLmanager's database as the reconciler sees it. Thread-safe; made by `open_billing`.

    It is connected, and its tables are looked at, when it is first used. Every method may raise a
    `bm_db.errors.BillingError`: unreachable, busy, access denied, or a schema that lacks something needed.
    """

    def __init__(
        self, database: Database, *, cipher: Cipher | None, module: str, sources: Sequence[QuotaSource]
    ) -> None:
        self.database = database
        self.cipher = cipher
        self._module = module
        self.quota_sources = sources
        self._schema: Schema | None = None
        self._schema_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Billing({self.database.address}, module={self._module!r})"

    @property
    def variant(self) -> Literal["live", "spec"]:
        """Which kind of database this is, by what it has; for people, nothing decides by it."""
        return self.get_schema().variant

    def get_schema(self) -> Schema:
        """The tables and columns that are there, looked at once (again after a `SchemaMismatch`)."""
        with self._schema_lock:
            if self._schema is None:
                with self.database.reading() as connection:
                    self._schema = inspect_schema(connection)
            return self._schema

    def list_servers(self) -> list[BillingServer]:
        """Every server of the module, by id, switched-off and faulty ones included."""
        with self.reading() as (connection, schema):
            return read_servers(connection, schema, self.cipher, self._module)

    def get_server(self, server_id: int) -> BillingServer | None:
        """One server of the module, None when there is no such row."""
        with self.reading() as (connection, schema):
            return next(iter(read_servers(connection, schema, self.cipher, self._module, server_id)), None)

    def list_services(
        self, *, chunk_size: int = 1000, with_passwords: bool = True, server_id: int | None = None
    ) -> Iterator[DesiredService]:
        """Every service of the module's servers, ordered by item id, as of one moment.

        Streams: at any time one chunk is in memory. A listing that ends without an exception is complete;
        a connection lost on the way raises. The transaction lasts until the iterator is used up or closed.

        Args:
            chunk_size: services a query.
            with_passwords: decrypt passwords (0.3 ms each). Without it ``password`` is None, and a password
                that cannot be decrypted is no fault; ``is_password_recorded`` is right all the same.
            server_id: only the services of this server; none when it is not one of the module's.
        """
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
        return self._stream(chunk_size, with_passwords, server_id)

    def get_service(self, item_id: int) -> DesiredService | None:
        """One service, freshly read, of whatever server or module; None only when the row is gone."""
        with self.reading() as (connection, schema):
            reader = ServiceReader(connection, schema, cipher=self.cipher, sources=self.quota_sources)
            return reader.get_service(item_id)

    def get_operation(self, item_id: int, operation_id: int) -> RunningOperation | None:
        """One running operation of a service; None when it has ended."""
        with self.reading() as (connection, schema):
            return read_operation(connection, schema, item_id, operation_id)

    def get_cards(self, item_ids: Collection[int]) -> dict[int, Card]:
        """What the cards of some services say of their accounts, by item id; a thousand ids at most."""
        with self.reading() as (connection, schema):
            return read_cards(connection, schema, item_ids)

    def count_services(self) -> dict[int, int]:
        """How many services each server of the module has, by server id; 0 for those without any."""
        with self.reading() as (connection, schema):
            return count_services(connection, schema, self._module)

    def list_server_ids(self, item_ids: Iterable[int]) -> dict[int, int | None]:
        """The server (of whatever module) of each of these services that is there; None without one."""
        found: dict[int, int | None] = {}
        rest = iter(item_ids)
        with self.reading() as (connection, schema):
            item = schema.table("item")
            query = select_services(schema).with_only_columns(item.c.id, item.c.processingmodule)
            while chunk := list(islice(rest, _IDS_A_QUERY)):
                rows = connection.execute(query.where(is_one_of(item.c.id, chunk)))
                found.update((item_id, server_id) for item_id, server_id in rows)
        return found

    def track_changes(self, *, rare_every: int = RARE_EVERY_POLLS) -> ChangeTracker:
        """A tracker that tells from poll to poll which services may have changed; nothing is read yet.

        Args:
            rare_every: after how many polls all of what changes rarely was looked at; 1: in each poll.
        """
        return ChangeTracker(self.reading, self._module, self.quota_sources, rare_every)

    def list_tariff_groups(self) -> frozenset[str]:
        """Every user group that any tariff names, without the administrators'."""
        with self.reading() as (connection, schema):
            return list_tariff_groups(connection, schema)

    def close(self) -> None:
        """Close the connections; using the object again opens new ones."""
        self.database.close()

    def _stream(
        self, chunk_size: int, with_passwords: bool, server_id: int | None
    ) -> Iterator[DesiredService]:
        with self.reading() as (connection, schema):
            reader = ServiceReader(
                connection,
                schema,
                cipher=self.cipher,
                sources=self.quota_sources,
                is_decrypting=with_passwords,
            )
            yield from reader.list_services(self._module, chunk_size, server_id)

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, Schema]]:
        """For the modules of ``bm_db``: a read-only transaction, and the tables that are there."""
        schema = self.get_schema()
        try:
            with self.database.reading() as connection:
                yield connection, schema
        except SchemaMismatch:
            with self._schema_lock:
                self._schema = None
            raise


def open_billing(
    database_url: str,
    *,
    password: str | None,
    private_key_pem: bytes | None,
    module: str = "pmnextcloud",
    quota_sources: Sequence[str] = DEFAULT_QUOTA_SOURCES,
    connect_timeout_seconds: int = CONNECT_TIMEOUT_SECONDS,
    statement_timeout_seconds: int = STATEMENT_TIMEOUT_SECONDS,
) -> Billing:
    """Prepare to read a billing database; nothing is connected yet.

    Args:
        database_url: mysql+mysqldb://, postgresql+psycopg:// or sqlite:/// URL.
        password: replaces the one in the URL; None leaves it.
        private_key_pem: content of billmgr.pem; None when there is none (encrypted values become faults).
        module: processingmodule.module of the servers that are ours.
        quota_sources: where a service's quota may stand, in order.
        connect_timeout_seconds: for making a connection (SQLite: for getting a lock).
        statement_timeout_seconds: for one statement, and for getting a lock.

    Raises:
        DatabaseUrlInvalid, PrivateKeyUnusable, QuotaSourceInvalid: a setting cannot be used.
    """
    return Billing(
        Database(
            database_url,
            password,
            connect_timeout_seconds=connect_timeout_seconds,
            statement_timeout_seconds=statement_timeout_seconds,
        ),
        cipher=None if private_key_pem is None else Cipher(private_key_pem),
        module=module,
        sources=parse_quota_sources(quota_sources),
    )
