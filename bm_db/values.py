"""Reading BILLmanager's column values, whatever the installation stores them as.

The same column is an integer here and a string there; booleans are ``'on'``/``'off'`` (live) or real ones
(spec); some drivers hand out bytes. Called by the modules of ``bm_db`` that read rows. Nothing here does
I/O; a value that cannot be read raises `UnreadableValue`, which the callers turn into a fault of the one
service or server it belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from sqlalchemy import ColumnElement, func, literal_column

VALUE_LIMIT_CHARACTERS: Final = 8192
"""What is read of one text value; an RSA-16384 value in base64 has 2732 characters."""

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?", re.ASCII)
_TRUE: Final = frozenset({"on", "true", "yes", "1", "t", "y"})
_FALSE: Final = frozenset({"off", "false", "no", "0", "f", "n"})

ParameterValues = Mapping[str, "list[str]"]
"""Lower-case intname → every value on record for it that is not blank."""


class UnreadableValue(ValueError):
    """A value in billing cannot be understood; the text is a clause for a fault's message."""


def read_text(value: object) -> str | None:
    """The value as text; None for NULL. Bytes that are not UTF-8 come back with U+FFFD in them."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, (Decimal, float)):
        return format(Decimal(str(value)), "f")
    return str(value)


def read_filled_text(value: object) -> str | None:
    """The value as text without blanks at the ends; None for NULL or blank."""
    text = value if isinstance(value, str) else read_text(value)
    return (text.strip() or None) if text else None


def read_parameter(intname: object, value: object) -> tuple[str, str] | None:
    """A parameter's name, in lower case without blanks at the ends, and value; None when one is blank."""
    name, text = read_text(intname), read_text(value)
    key = None if name is None else _make_name(name)
    return None if key is None or text is None or not text.strip() else (key, text)


@lru_cache(1024)
def _make_name(text: str) -> str | None:
    return text.strip().lower() or None


def read_number(value: object) -> Fraction | None:
    """The value as an exact number; None for NULL or blank.

    Raises:
        UnreadableValue: neither an integer nor a plain decimal number.
    """
    if value is None:
        return None
    if isinstance(value, int):
        return Fraction(value)
    text = read_filled_text(value)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise UnreadableValue(f"{show(text)} is not a number")
    return Fraction(text)


def read_integer(value: object) -> int | None:
    """The value as an integer ("2.0" is one); None for NULL or blank.

    Raises:
        UnreadableValue: not an integer.
    """
    if type(value) is int:
        return value
    number = read_number(value)
    if number is None:
        return None
    if number.denominator != 1:
        raise UnreadableValue(f"{show(value)} is not a whole number")
    return number.numerator


def read_flag(value: object) -> bool | None:
    """A boolean in any of its spellings; None for NULL or blank.

    Raises:
        UnreadableValue: neither on nor off.
    """
    text = read_filled_text(value)
    if text is None:
        return None
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise UnreadableValue(f"{show(text)} is neither on nor off")


def is_on(value: object, *, default: bool) -> bool:
    """Whether a boolean is on; ``default`` for NULL, blank and what cannot be read."""
    text = read_text(value)
    flag = None if text is None else _try_flag(text)
    return default if flag is None else flag


@lru_cache(1024)
def _try_flag(text: str) -> bool | None:
    try:
        return read_flag(text)
    except UnreadableValue:
        return None


def show(value: object, limit: int = 40) -> str:
    """A value for a message: quoted, on one line, nothing unprintable, cut to ``limit`` characters."""
    text = read_text(value)
    if text is None:
        return "NULL"
    return "'" + make_one_line(text, limit).replace("'", "\\'") + "'"


def make_one_line(text: str, limit: int) -> str:
    """Text on one line without unprintable characters, cut to ``limit`` characters of the original."""
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text[:limit]
    )
    return shown + ("…" if len(text) > limit else "")


def first_characters(
    column: ColumnElement[object], limit: int = VALUE_LIMIT_CHARACTERS
) -> ColumnElement[object]:
    """SQL for the first characters of a text column, so that one absurd row cannot fill the memory."""
    return func.substr(column, literal_column("1"), literal_column(str(limit)))


def gather_parameters(rows: Iterable[tuple[object, object]]) -> dict[str, list[str]]:
    """(intname, value) rows as lower-case intname → values; NULL and blank values count as not there."""
    gathered: dict[str, list[str]] = {}
    for intname, value in rows:
        if (parameter := read_parameter(intname, value)) is not None:
            name, text = parameter
            gathered.setdefault(name, []).append(text)
    return gathered


def get_first(parameters: ParameterValues, name: str) -> str | None:
    """The first value of a parameter that decides nothing; None when there is none."""
    return next(iter(parameters.get(name, ())), None)


def get_single(parameters: ParameterValues, name: str) -> str | None:
    """The one value of a parameter; None when there is none.

    BILLmanager's parameter tables do not promise one row a name. Equal rows are one value.

    Raises:
        UnreadableValue: two rows say different things.
    """
    values = parameters.get(name, ())
    if not values:
        return None
    if any(value != values[0] for value in values):
        raise UnreadableValue(f"{name} is recorded {len(values)} times with different values")
    return values[0]
