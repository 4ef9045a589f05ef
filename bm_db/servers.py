"""The connected Nextcloud/ownCloud servers: BILLmanager's processingmodule rows and their parameters.

Called by `bm_db.billing`. What is wrong with a server's row is a line in its ``faults``, never an exception:
the other servers go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, Select, select

from bm_db.crypt import Cipher
from bm_db.errors import ValueUndecryptable
from bm_db.schema import Schema
from bm_db.values import (
    ParameterValues,
    UnreadableValue,
    first_characters,
    gather_parameters,
    get_single,
    is_on,
    make_one_line,
    read_filled_text,
    read_flag,
    read_number,
    show,
)

_URL_NAMES: Final = ("base_url", "url")
_USERNAME_NAMES: Final = ("nc_username", "admin_username")
_PASSWORD_NAMES: Final = ("nc_password", "admin_password")
_NAMES: Final = (*_URL_NAMES, *_USERNAME_NAMES, *_PASSWORD_NAMES, "verify_ssl", "timeout")
_LONGEST_TIMEOUT_SECONDS: Final = 86400


@dataclass(frozen=True, slots=True)
class BillingServer:
    """One connected server.

    Attributes:
        id: processingmodule.id.
        name: its name in BILLmanager.
        is_active: switched on in BILLmanager.
        base_url: as entered, without blanks at the ends; "" with a fault.
        username: of the service account; "" with a fault.
        password: of the service account; "" with a fault. Never logged.
        verify_tls: whether its certificate is checked (True unless switched off).
        timeout_seconds: None when BILLmanager names none.
        faults: what is wrong, one line each; the server cannot be used as long as there are any.
    """

    id: int
    name: str
    is_active: bool
    base_url: str
    username: str
    password: str = field(repr=False)
    verify_tls: bool = True
    timeout_seconds: float | None = None
    faults: tuple[str, ...] = ()


def read_servers(
    connection: Connection, schema: Schema, cipher: Cipher | None, module: str, server_id: int | None = None
) -> list[BillingServer]:
    """The module's servers by id (or only the one with that id), in at most four queries."""
    table = schema.table("processingmodule")
    query = select(*schema.pick(table, "processingmodule", "id", "name", "active")).where(
        table.c.module == module
    )
    if server_id is not None:
        query = query.where(table.c.id == server_id)
    rows = connection.execute(query.order_by(table.c.id)).all()
    ids = [row.id for row in rows]
    is_switched = schema.has("processingmodule", "active")
    opened = _read_parameters(connection, schema, ("processingparam",), ids)
    crypted = _read_parameters(
        connection, schema, schema.present("processingcryptedparam", "processingcryptparam"), ids
    )
    return [
        _Reader(row.id, opened.get(row.id, {}), crypted.get(row.id, {}), cipher).build(
            row.name, is_active=is_on(row.active, default=not is_switched)
        )
        for row in rows
    ]


def select_server_ids(schema: Schema, module: str) -> Select[Any]:
    """A subquery: the ids of the module's servers."""
    table = schema.table("processingmodule")
    return select(table.c.id).where(table.c.module == module)


class _Reader:
    """Reads one server's parameters, collecting what is wrong with them."""

    def __init__(
        self, server_id: int, opened: ParameterValues, crypted: ParameterValues, cipher: Cipher | None
    ) -> None:
        self._id = server_id
        self._opened = opened
        self._crypted = crypted
        self._cipher = cipher
        self._faults: list[str] = []

    def build(self, name: object, *, is_active: bool) -> BillingServer:
        base_url, username = self._read_base_url(), self._read_credential(_USERNAME_NAMES, "user name")
        password = self._read_credential(_PASSWORD_NAMES, "password")
        verify_tls, timeout_seconds = self._read_verify_tls(), self._read_timeout()
        return BillingServer(
            id=self._id,
            name=make_one_line(read_filled_text(name) or f"server {self._id}", 100),
            is_active=is_active,
            base_url=base_url,
            username=username,
            password=password,
            verify_tls=verify_tls,
            timeout_seconds=timeout_seconds,
            faults=tuple(self._faults),
        )

    def _fault(self, message: str) -> None:
        self._faults.append(f"server {self._id}: {message}")

    def _get(self, parameters: ParameterValues, names: Iterable[str]) -> str | None:
        """The first of the names that is there."""
        for name in names:
            try:
                value = get_single(parameters, name)
            except UnreadableValue as exc:
                self._fault(f"{exc}: enter it again")
                return None
            if value is not None:
                return value
        return None

    def _read_base_url(self) -> str:
        entered = (self._get(self._opened, _URL_NAMES) or "").strip()
        cure = "enter the URL of its start page, for example https://my.panel.example"
        if not entered:
            self._fault(f"has no URL: {cure}")
            return ""
        try:
            parts = urlsplit(entered)
            is_complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_complete = False
        if not is_complete or any(
            character.isspace() or not character.isprintable() for character in entered
        ):
            self._fault(f"{show(entered, 80)} is not an http(s) URL: {cure}")
            return ""
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            self._fault(f"the URL holds more than scheme, host and path: {cure}")
            return ""
        return entered

    def _read_credential(self, names: tuple[str, ...], what: str) -> str:
        encrypted = self._get(self._crypted, names)
        if encrypted is None:
            plain = self._get(self._opened, names)
            if plain is None:
                self._fault(f"has no {what}: enter that of a Nextcloud or ownCloud administrator")
            return plain or ""
        if self._cipher is None:
            self._fault(f"its {what} is encrypted and no private key is configured: set private_key_file")
            return ""
        try:
            return self._cipher.decrypt(encrypted)
        except ValueUndecryptable as exc:
            self._fault(f"its {what} cannot be decrypted ({exc}): check private_key_file, or enter it again")
            return ""

    def _read_verify_tls(self) -> bool:
        text = self._get(self._opened, ("verify_ssl",))
        try:
            flag = read_flag(text)
        except UnreadableValue as exc:
            self._fault(f"verify_ssl: {exc}: write on or off")
            return True
        return True if flag is None else flag

    def _read_timeout(self) -> float | None:
        text = self._get(self._opened, ("timeout",))
        try:
            seconds = read_number(text)
        except UnreadableValue as exc:
            self._fault(f"timeout: {exc}: write a number of seconds")
            return None
        if seconds is None or seconds == 0:
            return None
        if not 0 < seconds <= _LONGEST_TIMEOUT_SECONDS:
            self._fault(f"timeout {show(text)} is out of range: write a number of seconds from 1 to 86400")
            return None
        return float(seconds)


def _read_parameters(
    connection: Connection, schema: Schema, table_names: Iterable[str], ids: list[int]
) -> Mapping[int, ParameterValues]:
    rows_by_server: dict[int, list[tuple[object, object]]] = {}
    for table_name in table_names:
        table = schema.table(table_name)
        rows = connection.execute(
            select(
                table.c.processingmodule, table.c.intname, first_characters(table.c.value).label("value")
            ).where(table.c.processingmodule.in_(ids), table.c.intname.in_(_NAMES))
        )
        for row in rows:
            rows_by_server.setdefault(row.processingmodule, []).append((row.intname, row.value))
    return {server_id: gather_parameters(rows) for server_id, rows in rows_by_server.items()}
