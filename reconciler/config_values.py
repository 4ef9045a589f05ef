"""The kinds of values a config.toml holds, each with the sentence that says what is wrong with it.

Used by `reconciler.config_sections` only. Every checker takes what TOML gave and returns the value that the
program works with, or raises ValueError whose text completes "the value …" for the operator. No text repeats
the value: whether it may be shown is decided where errors are rendered (`reconciler.config`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationInfo
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

CREDENTIAL_PREFIX: Final = "credential:"
"""``credential:NAME`` names a file that systemd placed (LoadCredential=) in $CREDENTIALS_DIRECTORY."""

_SECONDS_PER_UNIT: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", re.ASCII)
_LONGEST: Final = timedelta(days=3650)

_DRIVERS: Final = ("mysql+mysqldb", "mariadb+mysqldb", "postgresql+psycopg", "sqlite", "sqlite+pysqlite")
_PASSWORD_ARGUMENTS: Final = frozenset({"password", "passwd"})


def parse_duration(value: object) -> timedelta:
    """The length of time in a text like "5s", "10m", "72h", "2d", "500ms" or "1h30m"."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError('must be a text with a unit, such as "30s", "10m", "72h" or "2d"')
    text = value.strip()
    if not text or _DURATION_PART.sub("", text):
        raise ValueError(
            'is not a duration; write a number and a unit (ms, s, m, h, d), such as "30s" or "72h"'
        )
    parts = _DURATION_PART.findall(text)
    duration = timedelta(seconds=sum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in parts))
    if duration > _LONGEST:
        raise ValueError("is longer than 3650 days")
    return duration


def _checked_duration(shortest: timedelta, text: str) -> Callable[[object], timedelta]:
    def check(value: object) -> timedelta:
        duration = parse_duration(value)
        if duration < shortest:
            raise ValueError(f"must be at least {text}")
        return duration

    return check


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""A length of time that may be zero."""
Timeout = Annotated[timedelta, BeforeValidator(_checked_duration(timedelta(milliseconds=100), "100ms"))]
"""How long an answer is waited for."""
Interval = Annotated[timedelta, BeforeValidator(_checked_duration(timedelta(seconds=1), "1s"))]
"""How often something is done."""

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
PositiveCount = Annotated[int, Field(ge=1, le=1_000_000)]


def _check_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    if not value.strip():
        raise ValueError("must not be empty")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("must not hold control characters")
    return value


def _folder(info: ValidationInfo) -> Path:
    context: dict[str, Any] = info.context or {}
    folder: Path = context.get("folder", Path.cwd())
    return folder


def _resolve_path(value: object, info: ValidationInfo) -> Path:
    return _folder(info) / (value if isinstance(value, Path) else _check_text(value))


def _resolve_secret(value: object, info: ValidationInfo) -> Path:
    text = value if isinstance(value, Path) else _check_text(value)
    if isinstance(text, Path) or not text.startswith(CREDENTIAL_PREFIX):
        return _resolve_path(text, info)
    name = text.removeprefix(CREDENTIAL_PREFIX)
    if not re.fullmatch(r"[A-Za-z0-9_@:-][A-Za-z0-9_.@:-]{0,254}", name):
        raise ValueError('names no systemd credential; write "credential:NAME" as in LoadCredential=NAME:…')
    directory = (info.context or {}).get("credentials_directory")
    if not directory:
        raise ValueError(
            "needs systemd's credentials, and $CREDENTIALS_DIRECTORY is not set; "
            "run under the unit with LoadCredential=, or name a file"
        )
    return Path(directory) / name


def _resolve_optional_secret(value: object, info: ValidationInfo) -> Path | None:
    return None if value is None or value == "" else _resolve_secret(value, info)


FilePath = Annotated[Path, BeforeValidator(_resolve_path)]
"""A file; a relative name counts from the configuration file's folder."""
SecretFile = Annotated[Path, BeforeValidator(_resolve_secret)]
"""A file with a secret, or ``credential:NAME``."""
OptionalSecretFile = Annotated[Path | None, BeforeValidator(_resolve_optional_secret)]
"""The same; an empty text means that there is none."""


def _check_database_url(value: object, info: ValidationInfo) -> str:
    """A SQLAlchemy address without a password, a relative SQLite file made absolute."""
    text = _check_text(value)
    try:
        url = make_url(text)
        driver, has_password, arguments = url.drivername, url.password is not None, set(url.query)
    except (ArgumentError, ValueError) as error:
        raise ValueError(
            'is not a database address; write it like "mysql+mysqldb://USER@HOST/DATABASE"'
        ) from error
    if driver not in _DRIVERS:
        raise ValueError(
            "names no database driver that is here; "
            "begin it with mysql+mysqldb://, postgresql+psycopg:// or sqlite:///"
        )
    if has_password or arguments & _PASSWORD_ARGUMENTS:
        cure = str(info.field_name).removesuffix("_url") + "_password_file"
        raise ValueError(f'must not hold a password; put it into a file and name that as "{cure}"')
    if not driver.startswith("sqlite"):
        if not url.database:
            raise ValueError("names no database; end it with /DATABASE")
        return text
    if not url.database or url.database == ":memory:":
        raise ValueError("names no file; write it like sqlite:////var/lib/bill-nextcloud/journal.db")
    return url.set(database=str(_folder(info) / url.database)).render_as_string(hide_password=False)


DatabaseUrl = Annotated[str, BeforeValidator(_check_database_url)]
"""SQLAlchemy address of MariaDB/MySQL, PostgreSQL or SQLite; never with a password."""


def split_listen(text: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT" or "[IPV6]:PORT"; raises ValueError when it is neither."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+)):(\d{1,5})", text, re.ASCII)
    if match is None:
        raise ValueError('is not an address to listen on; write "HOST:PORT", such as "127.0.0.1:9645"')
    host, port = match[1] or match[2], int(match[3])
    if match[1]:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ValueError("holds no IPv6 address between the brackets") from error
    if not 1 <= port <= 65535:
        raise ValueError("must have a port from 1 to 65535")
    return host, port


def is_loopback_host(host: str) -> bool:
    """Whether only this machine can reach a socket that listens on the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_listen(value: object) -> str:
    text = _check_text(value)
    split_listen(text)
    return text


ListenAddress = Annotated[str, BeforeValidator(_check_listen)]


def _check_module(value: object) -> str:
    text = _check_text(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
        raise ValueError("is not a module's name (letters, digits, _ . - and at most 64 of them)")
    return text


ModuleName = Annotated[str, BeforeValidator(_check_module)]


def _check_quota_sources(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError('must be a list with at least one source, such as ["addon:disk"]')
    sources: list[str] = []
    for source in value:
        if not isinstance(source, str) or not re.fullmatch(
            r"(addon|itemparam|pricelistparam):[^\s:]{1,64}", source
        ):
            raise ValueError("must hold addon:NAME, itemparam:NAME or pricelistparam:NAME only")
        if source in sources:
            raise ValueError("names a source twice")
        sources.append(source)
    return tuple(sources)


QuotaSources = Annotated[tuple[str, ...], BeforeValidator(_check_quota_sources)]


def _check_server_id(value: object) -> int:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[1-9][0-9]{0,9}", text, re.ASCII):
        raise ValueError("is not a server's number; write [nextcloud.server.3] for processingmodule 3")
    return int(text)


ServerId = Annotated[int, BeforeValidator(_check_server_id)]
"""BILLmanager's processingmodule.id."""
