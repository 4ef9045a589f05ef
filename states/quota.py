"""Quota arithmetic of Nextcloud and ownCloud: what a server will hold when it is sent a number.

Both products, in every version looked at, store a quota as a short text with one decimal
("1.4 GB") and read it back from there, so that what comes back is rarely what was sent. Used by
``nc`` (what to send, how to read a definition) and by `states.classify` (what counts as equal).
Source: exchanges recorded from Nextcloud 25.0.2 and ownCloud 10.7.0 (tests/recordings/*-quota.jsonl).
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final

_UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB")
_TENTH: Final = Decimal("0.1")
_QUOTA_TEXT: Final = re.compile(
    r"\s*(?:([0-9]+(?:\.[0-9]*)?|\.[0-9]+).*?)?([kmgtp]?b?)\s*", re.IGNORECASE | re.DOTALL
)


def _round(value: Decimal, step: Decimal) -> Decimal:
    """Round half away from zero, as PHP's round() does for the non-negative numbers met here."""
    return value.quantize(step, rounding=ROUND_HALF_UP)


def _human(size_bytes: int) -> tuple[Decimal, int]:
    """The number and the index of its unit that a server shows for a size."""
    value = Decimal(size_bytes)
    unit = 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        unit += 1
        value = _round(value / 1024, Decimal(1) if unit == 1 else _TENTH)
    return value, unit


def format_quota(size_bytes: int) -> str:
    """The text a server stores for a number of bytes ("1.4 GB" for 1500000000).

    Raises:
        ValueError: the number is negative.
    """
    if size_bytes < 0:
        raise ValueError(f"a quota of {size_bytes} bytes is negative")
    value, unit = _human(size_bytes)
    text = format(value, "f")
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {_UNITS[unit]}"


def _computer(value: Decimal, unit: int) -> int:
    """The bytes a server makes of a number and its unit."""
    return int(_round(value * 1024**unit, Decimal(1)))


def parse_quota_text(text: str) -> int:
    """The bytes a server reads from a stored definition ("1.4 GB" is 1503238554).

    The server's own rules are followed, its oddities too: the leading number counts (none is 0, as
    in the " B" that ownCloud stores for -1), the unit is what the text ends with, and an unknown
    unit is bytes ("1.5 GiB" is 2).

    Raises:
        ValueError: the text holds neither a leading number nor only a unit, or a number that no size has.
    """
    match = _QUOTA_TEXT.fullmatch(text)
    number, unit = (match[1], match[2].upper()) if match else (None, "")
    if number is None and not unit:
        raise ValueError("no quota can be read from the text")
    index = 0 if unit in {"", "B"} else "BKMGTP".index(unit[0])
    try:
        return _computer(Decimal(number or 0), index)
    except InvalidOperation as error:
        raise ValueError("the text's number is no size") from error


def to_canonical_bytes(sent_bytes: int) -> int:
    """What a server holds after it was sent a number of bytes; often not that number."""
    return _computer(*_human(sent_bytes))


def to_storable_bytes(sold_bytes: int) -> int:
    """The smallest size a server can hold that is no less than what was sold: the number to send.

    It is a fixed point of the server's rounding, so it comes back as it was sent, and a customer
    never gets less than he bought.

    Raises:
        ValueError: the number is negative.
    """
    if sold_bytes < 0:
        raise ValueError(f"a quota of {sold_bytes} bytes is negative")
    value, unit = _human(sold_bytes)
    step = Decimal(1) if unit <= 1 else _TENTH
    while _computer(value, unit) < sold_bytes:
        value += step
    return to_canonical_bytes(_computer(value, unit))
