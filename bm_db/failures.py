"""What a driver's exception means: the one place where SQLAlchemy's and the drivers' errors are named.

Called by `bm_db.engine` around every transaction. MySQL's and MariaDB's error numbers, PostgreSQL's
SQLSTATEs and SQLite's result codes are those of their manuals.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from bm_db import errors
from bm_db.values import make_one_line

_DETAIL_CHARACTERS: Final = 200

_MYSQL: Final[dict[int, type[errors.BillingError]]] = {
    **dict.fromkeys(
        (1044, 1045, 1142, 1143, 1227, 1290, 1698, 1820, 1792, 1862, 3118, 4151), errors.BillingAccessDenied
    ),
    **dict.fromkeys((1054, 1146), errors.SchemaMismatch),
    **dict.fromkeys((1205, 1213, 1317, 1969, 3024, 3572), errors.BillingBusy),
    **dict.fromkeys(
        (1040, 1049, 1053, 1129, 1130, 1152, 1158, 1159, 1160, 1161, 1203, 1226, 1927, 4031),
        errors.BillingUnreachable,
    ),
    **dict.fromkeys(range(2001, 2060), errors.BillingUnreachable),
}
_POSTGRES: Final[dict[str, type[errors.BillingError]]] = {
    "08": errors.BillingUnreachable,
    "28": errors.BillingAccessDenied,
    "3D": errors.BillingUnreachable,
    "40": errors.BillingBusy,
    "42501": errors.BillingAccessDenied,
    "42703": errors.SchemaMismatch,
    "42P01": errors.SchemaMismatch,
    "3F": errors.SchemaMismatch,
    "25006": errors.BillingAccessDenied,
    "53": errors.BillingUnreachable,
    "55P03": errors.BillingBusy,
    "57": errors.BillingUnreachable,
    "57014": errors.BillingBusy,
    "58": errors.BillingUnreachable,
}
_SQLITE: Final[dict[int, type[errors.BillingError]]] = {
    sqlite3.SQLITE_BUSY: errors.BillingBusy,
    sqlite3.SQLITE_LOCKED: errors.BillingBusy,
    sqlite3.SQLITE_PERM: errors.BillingAccessDenied,
    sqlite3.SQLITE_AUTH: errors.BillingAccessDenied,
    sqlite3.SQLITE_READONLY: errors.BillingAccessDenied,
    sqlite3.SQLITE_CANTOPEN: errors.BillingUnreachable,
    sqlite3.SQLITE_IOERR: errors.BillingUnreachable,
    sqlite3.SQLITE_CORRUPT: errors.BillingUnreachable,
    sqlite3.SQLITE_NOTADB: errors.BillingUnreachable,
}
_SQLITE_SCHEMA: Final = re.compile(r"no such (table|column)|has no column named")
_LIBPQ_UNSTATED: Final[tuple[tuple[str, type[errors.BillingError]], ...]] = (
    # libpq reports a refused log-in as a text without an SQLSTATE.
    ("password authentication failed", errors.BillingAccessDenied),
    ("no password supplied", errors.BillingAccessDenied),
    ("no pg_hba.conf entry", errors.BillingAccessDenied),
    ("authentication failed", errors.BillingAccessDenied),
    ("permission denied for database", errors.BillingAccessDenied),
    ("is not permitted to log in", errors.BillingAccessDenied),
)
_CURES: Final[dict[type[errors.BillingError], tuple[str, str]]] = {
    errors.BillingUnreachable: (
        "cannot be reached",
        "check that the server runs and that database_url is right",
    ),
    errors.BillingBusy: (
        "did not finish in time",
        "it is tried again; look for long transactions if it stays so",
    ),
    errors.BillingAccessDenied: (
        "refused access",
        'check user, password and GRANT SELECT (for writer = "sql" also INSERT and UPDATE, not read-only)',
    ),
    errors.BillingStatementFailed: (
        "refused a statement",
        "report this with the versions of BILLmanager and its database",
    ),
    errors.SchemaMismatch: (
        "lacks a table or column",
        "check that database_url names BILLmanager's database and that it is a supported version",
    ),
}


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """How messages name the database; keeps the password only to take it out of drivers' texts."""

    host: str
    database: str
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: URL) -> DatabaseAddress:
        """The address in an URL."""
        socket = url.query.get("unix_socket")
        if url.drivername == "sqlite":
            host = ""
        elif isinstance(socket, str):
            host = socket
        else:
            host = (url.host or "localhost") + (f":{url.port}" if url.port else "")
        return cls(host, url.database or "", str(url.password or ""))

    def __str__(self) -> str:
        on_host = f" on {self.host}" if self.host else ""
        return f"billing database {make_one_line(self.database, 200)}{on_host}"


@contextmanager
def translated_failures(address: DatabaseAddress) -> Iterator[None]:
    """Turn every exception of SQLAlchemy and its drivers into one of `bm_db.errors`, with its cause."""
    try:
        yield
    except SQLAlchemyError as exc:
        raise _translate(exc, address) from exc


def _translate(exc: SQLAlchemyError, address: DatabaseAddress) -> errors.BillingError:
    kind: type[errors.BillingError]
    if isinstance(exc, NoFreeConnection):
        kind, detail = errors.BillingBusy, "no free connection in the pool"
    elif isinstance(exc, DBAPIError) and exc.orig is not None:
        kind, detail = _classify(exc, exc.orig), str(exc.orig.args[-1] if exc.orig.args else "")
    else:
        kind, detail = errors.BillingStatementFailed, type(exc).__name__
    if address.password:
        detail = detail.replace(address.password, "***")
    situation, cure = _CURES[kind]
    detail = make_one_line(" ".join(detail.split()), _DETAIL_CHARACTERS)
    return kind(f"{address} {situation} ({detail}): {cure}")


def _classify(exc: DBAPIError, original: BaseException) -> type[errors.BillingError]:
    """The situation that a driver's exception stands for."""
    found: type[errors.BillingError] | None
    if isinstance(original, sqlite3.Error):
        found = _classify_sqlite(original)
    elif hasattr(original, "sqlstate"):
        found = _classify_postgres(original)
    else:
        code = original.args[0] if original.args else None
        found = _MYSQL.get(code) if isinstance(code, int) else None
    if found is None and exc.connection_invalidated:
        found = errors.BillingUnreachable
    return found or errors.BillingStatementFailed


def _classify_sqlite(original: sqlite3.Error) -> type[errors.BillingError] | None:
    if _SQLITE_SCHEMA.search(str(original)):
        return errors.SchemaMismatch
    # Extended result codes carry the primary one in their low byte.
    return _SQLITE.get((getattr(original, "sqlite_errorcode", None) or 0) & 0xFF)


def _classify_postgres(original: BaseException) -> type[errors.BillingError] | None:
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return _POSTGRES.get(state) or _POSTGRES.get(state[:2])
    if type(original).__name__ not in {"OperationalError", "ConnectionTimeout", "InterfaceError"}:
        return None
    text = str(original)
    return next((kind for phrase, kind in _LIBPQ_UNSTATED if phrase in text), errors.BillingUnreachable)
