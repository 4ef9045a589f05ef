"""A small BILLmanager, played on a real database: sells, changes, suspends and closes services.

`SandboxBilling` changes the tables as BILLmanager would (and, for the tests, as it never should). Called by
the demo, the benchmarks and the tests; the reconciler itself never does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import Engine, MetaData, Table, create_engine, delete, func, insert, make_url, select, update

from bm_db.crypt import Cipher
from reconciler.sandbox.billing_schema import MEASURES, Variant, create_schema, describe_schema

MODULE: Final = "pmnextcloud"
GIB: Final = "gib"
_OPERATION_STATUS: Final = {"open": 2, "suspend": 3, "resume": 2, "setparam": 2, "close": 4}
_BULK_ROWS: Final = 5000
_CLIENT_LEVEL: Final = 16
_TODAY: Final = dt.date(2026, 1, 15)


def generate_private_key_pem(bits: int = 2048) -> bytes:
    """A new RSA key as BILLmanager keeps it in billmgr.pem."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def open_sandbox_engine(database_url: str) -> Engine:
    """An engine that may create and change everything (`bm_db` itself opens only what exists)."""
    url = make_url(database_url)
    if url.get_backend_name() in {"mysql", "mariadb"}:
        url = url.update_query_dict({"charset": "utf8mb4"})
    return create_engine(url)


class SandboxBilling:
    """One sandbox database. Not thread-safe; every call is a transaction of its own."""

    def __init__(
        self,
        engine: Engine,
        variant: Variant = "live",
        private_key_pem: bytes | None = None,
        *,
        create: bool = True,
    ) -> None:
        """Create tables, measures and item types (or, with ``create=False``, use those there are)."""
        self.engine = engine
        self.variant: Variant = variant
        self.private_key_pem = private_key_pem or generate_private_key_pem()
        self.cipher = Cipher(self.private_key_pem)
        self._metadata: MetaData = create_schema(engine, variant) if create else describe_schema(variant)
        self._measures: dict[str, int] = {}
        self._itemtypes: dict[str, int] = {}
        if create:
            self._add_measures_and_types()
        else:
            measure, itemtype = self.table("measure"), self.table("itemtype")
            with engine.connect() as connection:
                self._measures = {row.intname: row.id for row in connection.execute(select(measure))}
                self._itemtypes = {row.intname: row.id for row in connection.execute(select(itemtype))}

    def table(self, name: str) -> Table:
        """A table, for statements of one's own."""
        return self._metadata.tables[name]

    @property
    def crypted_table(self) -> str:
        """Where encrypted service values stand."""
        return "itemcryptedparam" if self.variant == "live" else "itemparam"

    def get_measure(self, intname: str) -> int:
        """The id of a measure in this installation."""
        return self._measures[intname]

    def get_itemtype(self, intname: str) -> int:
        """The id of an item type in this installation."""
        return self._itemtypes[intname]

    # -- what a provider sets up

    def add_server(
        self,
        name: str,
        base_url: str,
        username: str,
        password: str,
        *,
        module: str = MODULE,
        is_active: bool = True,
        verify_tls: bool | None = None,
        timeout_seconds: int | None = None,
    ) -> int:
        """Connect a server; its id. The parameters have the variant's names."""
        is_live = self.variant == "live"
        server_id = self.insert("processingmodule", name=name, module=module, active=self._flag(is_active))
        opened = {"base_url" if is_live else "url": base_url}
        if verify_tls is not None:
            opened["verify_ssl"] = "on" if verify_tls else "off"
        if timeout_seconds is not None:
            opened["timeout"] = str(timeout_seconds)
        crypted = {
            "nc_username" if is_live else "admin_username": self.cipher.encrypt(username),
            "nc_password" if is_live else "admin_password": self.cipher.encrypt(password),
        }
        for table, values in (
            ("processingparam", opened),
            ("processingcryptedparam" if is_live else "processingcryptparam", crypted),
        ):
            for intname, value in values.items():
                self.insert(table, processingmodule=server_id, intname=intname, value=value)
        return server_id

    def add_plan(
        self, name: str, quota: object = None, *, measure: str = GIB, group: str | None = None, **line: Any
    ) -> int:
        """Add a tariff plan; its id.

        Args:
            name: of the plan.
            quota: live: addonlimit of its disk line; spec: quota_gb. None: neither.
            measure: live: unit of the disk line.
            group: user group of the tariff.
            line: live: further columns of the disk line.
        """
        plan_type = "backupservice" if self.variant == "live" else "nextcloud"
        plan_id = self.insert(
            "pricelist", name=name, itemtype=self._itemtypes[plan_type], active=self._flag(is_on=True)
        )
        if group is not None:
            self.insert("pricelistparam", pricelist=plan_id, intname="usergroup", value=group)
        if self.variant == "live" and (quota is not None or line):
            self.add_line(plan_id, addonlimit=quota, measure=measure, **line)
        elif quota is not None:
            self.insert("pricelistparam", pricelist=plan_id, intname="quota_gb", value=str(quota))
        return plan_id

    def add_line(
        self, plan_id: int, *, itemtype: str | None = "disk", measure: str | int | None = GIB, **columns: Any
    ) -> int:
        """Add an add-on line to a plan (live); its id. Active, of disk, integer unless columns differ."""
        values: dict[str, Any] = {
            "name": "Disk space",
            "active": "on",
            "addontype": 2,
            "billtype": 0,
            "itemtype": None if itemtype is None else self._itemtypes[itemtype],
            "measure": self._measures[measure] if isinstance(measure, str) else measure,
        }
        return self.insert("pricelist", parent=plan_id, **{**values, **columns})

    def get_line(self, plan_id: int) -> int:
        """The id of a plan's first add-on line."""
        table = self.table("pricelist")
        with self.engine.connect() as connection:
            return int(
                connection.execute(select(func.min(table.c.id)).where(table.c.parent == plan_id)).scalar_one()
            )

    # -- what a client does

    def add_client(self, email: str | None, *, name: str = "client", is_enabled: bool = True) -> int:
        """Add a client with one user; the account's id."""
        account_id = self.insert("account", name=name, level=_CLIENT_LEVEL, registration_date=_TODAY)
        self.add_user(account_id, email, is_enabled=is_enabled)
        self.insert("subaccount", account=account_id, balance=0, active=self._flag(is_on=True))
        return account_id

    def add_user(self, account_id: int, email: str | None, *, is_enabled: bool = True) -> int:
        """Add a further user to a client; its id."""
        return self.insert(
            "user",
            account=account_id,
            name=(email or "")[:64],
            email=email,
            level=_CLIENT_LEVEL,
            enabled=self._flag(is_enabled),
        )

    def add_service(
        self,
        plan_id: int | None,
        account_id: int | None,
        server_id: int | None,
        status: object = 2,
        **params: str,
    ) -> int:
        """Sell a service; its item id. ``params``: itemparam rows; ``userpassword`` is encrypted."""
        item_id = self.insert(
            "item",
            pricelist=plan_id,
            account=account_id,
            processingmodule=server_id,
            status=status,
            createdate=_TODAY,
            name=f"Cloud storage of {account_id}",
        )
        for name, value in params.items():
            self.set_param(item_id, name, value)
        return item_id

    def buy_addon(
        self, item_id: int, intvalue: int | None = None, *, line_id: int | None = None, **columns: Any
    ) -> int:
        """Buy an add-on of the service's plan (its first line, or a given one); its item id."""
        item = self._get("item", item_id)
        return self.insert(
            "item",
            **{
                "parent": item_id,
                "pricelist": line_id or self.get_line(item["pricelist"]),
                "account": item["account"],
                "status": 2,
                "intvalue": intvalue,
                **columns,
            },
        )

    # -- what BILLmanager does

    def set_status(self, item_id: int, status: object) -> None:
        """Change item.status, as the end of an operation does."""
        self.change("item", item_id, status=status)

    def start_operation(self, item_id: int, intname: str) -> int | None:
        """Begin an operation: status 5, and (live) its running operation; that one's id."""
        self.set_status(item_id, 5)
        if self.variant != "live":
            return None
        return self.insert("runningoperation", item=item_id, intname=intname, trycount=0)

    def finish_operation(self, item_id: int, intname: str | None = None) -> None:
        """End an operation as service.post… does: the status it leads to, no running operation any more.

        Args:
            item_id: the service.
            intname: which operation; live: None takes it from the running one.
        """
        if self.variant == "live":
            table = self.table("runningoperation")
            with self.engine.begin() as connection:
                running = (
                    connection.execute(select(table.c.intname).where(table.c.item == item_id)).scalars().all()
                )
                connection.execute(delete(table).where(table.c.item == item_id))
            intname = intname or next(iter(running), None)
        self.set_status(item_id, _OPERATION_STATUS[intname or "setparam"])

    def change_plan(self, item_id: int, plan_id: int) -> None:
        """Move a service to another tariff."""
        columns: dict[str, Any] = {"pricelist": plan_id}
        if self.variant == "live":
            columns["lastpricelist"] = self._get("item", item_id)["pricelist"]
        self.change("item", item_id, **columns)

    def set_param(self, item_id: int, name: str, value: str | None) -> None:
        """Set (with None: remove) a parameter of a service; ``userpassword`` is encrypted."""
        is_secret = name == "userpassword"
        table = self.table(self.crypted_table if is_secret else "itemparam")
        with self.engine.begin() as connection:
            connection.execute(delete(table).where(table.c.item == item_id, table.c.intname == name))
            if value is not None:
                stored = self.cipher.encrypt(value) if is_secret else value
                connection.execute(insert(table).values(item=item_id, intname=name, value=stored))

    def get_params(self, item_id: int) -> dict[str, str | None]:
        """The open parameters of a service."""
        table = self.table("itemparam")
        with self.engine.connect() as connection:
            rows = connection.execute(select(table.c.intname, table.c.value).where(table.c.item == item_id))
            return {row.intname: row.value for row in rows if row.intname != "userpassword"}

    def get_password(self, item_id: int) -> str | None:
        """The password on record for a service, in the clear."""
        table = self.table(self.crypted_table)
        with self.engine.connect() as connection:
            value = connection.execute(
                select(table.c.value).where(table.c.item == item_id, table.c.intname == "userpassword")
            ).scalar()
        return None if value is None else self.cipher.decrypt(value)

    def get_status(self, item_id: int) -> int | None:
        """item.status."""
        status: int | None = self._get("item", item_id)["status"]
        return status

    def delete_service(self, item_id: int) -> None:
        """Remove a service's row and all that hangs on it (what BILLmanager never does by itself)."""
        item = self.table("item")
        with self.engine.begin() as connection:
            ids = [item_id, *connection.execute(select(item.c.id).where(item.c.parent == item_id)).scalars()]
            for name in ("itemparam", "itemcryptedparam", "runningoperation", "itemstat"):
                if name in self._metadata.tables:
                    connection.execute(delete(self.table(name)).where(self.table(name).c.item.in_(ids)))
            connection.execute(delete(item).where(item.c.parent == item_id))
            connection.execute(delete(item).where(item.c.id == item_id))

    # -- rows, and many of them

    def insert(self, table_name: str, **columns: Any) -> int:
        """Insert one row; its id. A column that the variant does not have is left out."""
        table = self.table(table_name)
        known = {name: value for name, value in columns.items() if name in table.c}
        with self.engine.begin() as connection:
            result = connection.execute(insert(table).values(**known))
            return int(result.inserted_primary_key[0]) if result.inserted_primary_key else 0

    def change(self, table_name: str, row_id: int, **columns: Any) -> None:
        """Change one row by its id."""
        table = self.table(table_name)
        with self.engine.begin() as connection:
            connection.execute(update(table).where(table.c.id == row_id).values(**columns))

    def delete_row(self, table_name: str, row_id: int) -> None:
        """Delete one row by its id."""
        table = self.table(table_name)
        with self.engine.begin() as connection:
            connection.execute(delete(table).where(table.c.id == row_id))

    def insert_many(self, table_name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Insert rows of equal shape, thousands a statement."""
        table = self.table(table_name)
        with self.engine.begin() as connection:
            batch: list[dict[str, Any]] = []
            for row in rows:
                batch.append({name: value for name, value in row.items() if name in table.c})
                if len(batch) == _BULK_ROWS:
                    connection.execute(insert(table), batch)
                    batch = []
            if batch:
                connection.execute(insert(table), batch)

    def add_many_services(
        self,
        count: int,
        *,
        plan_ids: Sequence[int],
        server_ids: Sequence[int],
        status: int = 2,
        password: str | None = None,
        is_recorded: bool = False,
    ) -> range:
        """Sell many services at once, each to a client of its own; their item ids.

        Plans and servers are taken in turn. ``is_recorded``: with user name and URL on record;
        ``password``: the same for all (encrypted once, for speed).
        """
        item_ids, account_ids = self._next_ids("item", count), self._next_ids("account", count)
        self.insert_many(
            "account",
            ({"id": each, "name": f"client {each}", "level": _CLIENT_LEVEL} for each in account_ids),
        )
        self.insert_many(
            "user",
            (
                {
                    "id": row_id,
                    "account": each,
                    "email": f"client{each}@example.net",
                    "enabled": self._flag(is_on=True),
                }
                for row_id, each in zip(self._next_ids("user", count), account_ids, strict=True)
            ),
        )
        self.insert_many(
            "item",
            (
                {
                    "id": item_id,
                    "account": account_id,
                    "pricelist": plan_ids[index % len(plan_ids)],
                    "processingmodule": server_ids[index % len(server_ids)],
                    "status": status,
                }
                for index, (item_id, account_id) in enumerate(zip(item_ids, account_ids, strict=True))
            ),
        )
        if is_recorded:
            for name, text in (("username", "user_{}"), ("url", "https://cloud.example.net/")):
                self.insert_many(
                    "itemparam",
                    (
                        {"item": item_id, "intname": name, "value": text.format(item_id)}
                        for item_id in item_ids
                    ),
                )
        if password is not None:
            value = self.cipher.encrypt(password)
            self.insert_many(
                self.crypted_table,
                ({"item": item_id, "intname": "userpassword", "value": value} for item_id in item_ids),
            )
        self._restart_ids("item", "account", "user")
        return item_ids

    def _next_ids(self, table_name: str, count: int) -> range:
        with self.engine.connect() as connection:
            last = connection.execute(select(func.max(self.table(table_name).c.id))).scalar() or 0
        return range(last + 1, last + 1 + count)

    def _restart_ids(self, *table_names: str) -> None:
        """PostgreSQL's sequences do not notice ids that were given by hand."""
        if self.engine.dialect.name == "postgresql":
            with self.engine.begin() as connection:
                for name in table_names:
                    table = self.table(name)
                    sequence = func.pg_get_serial_sequence(f'"{name}"', "id")
                    connection.execute(
                        select(func.setval(sequence, select(func.max(table.c.id)).scalar_subquery()))
                    )

    def _get(self, table_name: str, row_id: int) -> dict[str, Any]:
        table = self.table(table_name)
        with self.engine.connect() as connection:
            return dict(connection.execute(select(table).where(table.c.id == row_id)).one()._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it

    def _flag(self, is_on: bool) -> Any:
        return ("on" if is_on else "off") if self.variant == "live" else is_on

    def _add_measures_and_types(self) -> None:
        less: int | None = None
        for intname, relation in MEASURES:
            less = self.insert(
                "measure", intname=intname, lessmeasure=less, relation=relation if less is not None else None
            )
            self._measures[intname] = less
        for intname in ("backupservice", "nextcloud", "disk", "disc", "traffic"):
            self._itemtypes[intname] = self.insert("itemtype", name=intname.title(), intname=intname)
        if self.variant == "spec":
            self.insert(
                "itemtypeparam",
                itemtype=self._itemtypes["nextcloud"],
                intname="quota_gb",
                name="Storage Quota (GB)",
                inputtype="integer",
            )
