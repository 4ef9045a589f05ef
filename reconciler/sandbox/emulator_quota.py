"""How the emulated servers read, round and store a quota.

Written on its own from the recorded exchanges (tests/recordings/*-quota.jsonl) and deliberately not
shared with the code under test: an emulator that used the same arithmetic would agree with any
mistake in it. Called by the two product modules and by `emulator_state`.
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

_STEPS: Final = (("KB", 0), ("MB", 1), ("GB", 1), ("TB", 1), ("PB", 1))
_POWERS: Final = {"b": 0, "k": 1, "kb": 1, "m": 2, "mb": 2, "g": 3, "gb": 3, "t": 4, "tb": 4, "p": 5, "pb": 5}
_NUMERIC: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*\Z", re.IGNORECASE)
_LEADING_NUMBER: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.IGNORECASE)
_UNIT: Final = re.compile(r"[kmgtp]?b?\Z")
_WORD: Final = 1 << 64


def _round_half_up(number: float, places: int) -> float:
    """Round as the servers' language does: halves away from zero, on the decimal that is shown.

    From 10**15 on it leaves a number alone (what is behind the point is beyond its precision).
    """
    if not math.isfinite(number) or abs(number) * 10**places >= 1e15:
        return number
    return float(Decimal(repr(number)).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP))


def _as_shown(number: float) -> str:
    """A number without a fraction is shown without a decimal point."""
    return str(int(number)) if number == math.floor(number) and abs(number) < 1e15 else repr(number)


def format_size(size: float) -> str:
    """Bytes as the text that a server keeps, for example ``1.4 GB``; ``?`` below zero."""
    if size < 0:
        return "?"
    if size < 1024:
        return f"{_as_shown(size)} B"
    rounded = size
    for unit, places in _STEPS:
        rounded = _round_half_up(rounded / 1024, places)
        if rounded < 1024 or unit == "PB":
            return f"{_as_shown(rounded)} {unit}"
    raise AssertionError("unreachable: the last step always returns")


def read_size(text: str) -> float | None:
    """Bytes named by a text such as ``1.5 GB``; None where the servers find no size in it.

    Any text that ends in a unit passes, with whatever number it starts with (else 0).
    """
    lowered = text.lower()
    if _NUMERIC.match(lowered):
        return float(lowered)
    unit = _UNIT.search(lowered)
    if unit is None or unit.group() not in _POWERS:
        return None
    leading = _LEADING_NUMBER.match(lowered)
    number = float(leading.group(1)) if leading else 0.0
    return _round_half_up(number * 1024 ** _POWERS[unit.group()], 0)


def store_quota(sent: str) -> str | None:
    """The text that a server keeps after a quota was sent; None when it refuses the value.

    A number is written as a text and that text is read and written once more, which is how ``-1``
    becomes `` B`` (no bytes at all).
    """
    if sent in {"none", "default"}:
        return sent
    size = read_size(sent)
    if size is None:
        return None
    reread = read_size(format_size(size))
    return " B" if reread is None else format_size(reread)


def stored_bytes(definition: str) -> int:
    """Bytes of a kept text, cut to a signed 64-bit number as Nextcloud does when it answers."""
    size = read_size(definition)
    number = 0 if size is None or not math.isfinite(size) else int(size)
    return (number + _WORD // 2) % _WORD - _WORD // 2
