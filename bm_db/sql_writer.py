"""Writing into BILLmanager's tables, where the daemon may not call mgrctl (and in the sandbox).

Writes itemparam, the table for encrypted values and itemstat, never item.status: that is BILLmanager's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from sqlalchemy import Connection, select

from bm_db.billing import Billing
from bm_db.cards import Card, name_card_values
from bm_db.errors import PrivateKeyUnusable, ServiceMissing, ValueUndecryptable
from bm_db.schema import Schema
from bm_db.service_rows import PASSWORD, URL, USERNAME
from bm_db.usage_writer import Usage, write_usage
from bm_db.values import first_characters, read_text
from bm_db.written_values import check_written_value


class SqlWriter:
    """Saves credentials and usage by SQL, over the connections of a `Billing`. Thread-safe."""

    can_write = True

    def __init__(self, billing: Billing) -> None:
        self._billing = billing

    def __repr__(self) -> str:
        return f"SqlWriter({self._billing!r})"

    def write_credentials(
        self,
        item_id: int,
        *,
        username: str | None = None,
        password: str | None = None,
        url: str | None = None,
    ) -> None:
        """Save each given value, all of them or none; saving the same again changes nothing.

        Raises:
            ServiceMissing: there is no such service.
            ValueRefused: a value holds control characters, or is too long for the key.
            PrivateKeyUnusable: a password is to be saved and no key is configured.
            BillingError: the database did not accept it.
        """
        self._save(item_id, {USERNAME: username, URL: url, PASSWORD: password})

    def write_card(self, item_id: int, card: Card) -> None:
        """Save each text; saving the same again changes nothing.

        Raises:
            ServiceMissing: there is no such service.
            BillingError: the database did not accept it.
        """
        self._save(item_id, name_card_values(card))

    def _save(self, item_id: int, values: Mapping[str, str | None]) -> None:
        """Save each value that there is, all of them or none."""
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            check_written_value(name, value)
        schema = self._billing.get_schema()
        with self._billing.database.writing() as connection:
            self._lock_item(connection, schema, item_id)
            for name, value in given.items():
                if name == PASSWORD:
                    self._save_password(connection, schema, item_id, value)
                else:
                    _save(connection, schema, "itemparam", item_id, name, value)

    def write_operation_done(self, item_id: int, operation: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """False: the end of an operation moves item.status, which only BILLmanager may."""
        return False

    def write_usage(self, server_id: int, day: date, usage: Iterable[Usage]) -> int:
        """Record usage, see `bm_db.usage_writer.write_usage`."""
        return write_usage(self._billing, server_id, day, usage)

    def write_usage_complete(self, server_id: int, day: date) -> bool:  # noqa: ARG002 - the protocol's signature
        """False: only mgrctl can tell that."""
        return False

    def _lock_item(self, connection: Connection, schema: Schema, item_id: int) -> None:
        """Hold the service's row: nothing else keeps two writers from inserting the same parameter twice."""
        item = schema.table("item")
        query = select(item.c.id).where(item.c.id == item_id).with_for_update()
        if connection.execute(query).first() is None:
            raise ServiceMissing(f"service {item_id} is not in BILLmanager any more: nothing was saved")

    def _save_password(self, connection: Connection, schema: Schema, item_id: int, password: str) -> None:
        cipher = self._billing.cipher
        if cipher is None:
            raise PrivateKeyUnusable(
                "a password cannot be saved without BILLmanager's key: set private_key_file"
            )
        table_name = (*schema.present("itemcryptedparam", "itemcryptparam"), "itemparam")[0]
        for recorded in _read(connection, schema, table_name, item_id, PASSWORD):
            try:
                if recorded is not None and cipher.decrypt(recorded) == password:
                    return
            except ValueUndecryptable:
                continue
        _save(connection, schema, table_name, item_id, PASSWORD, cipher.encrypt(password))


def _read(
    connection: Connection, schema: Schema, table_name: str, item_id: int, name: str
) -> list[str | None]:
    table = schema.table(table_name)
    rows = connection.execute(
        select(first_characters(table.c.value).label("value")).where(
            table.c.item == item_id, table.c.intname == name
        )
    )
    return [read_text(row.value) for row in rows]


def _save(
    connection: Connection, schema: Schema, table_name: str, item_id: int, name: str, value: str
) -> None:
    table = schema.table(table_name)
    recorded = _read(connection, schema, table_name, item_id, name)
    if not recorded:
        connection.execute(table.insert().values(item=item_id, intname=name, value=value))
    elif any(each != value for each in recorded):
        connection.execute(
            table.update().where(table.c.item == item_id, table.c.intname == name).values(value=value)
        )
