"""A server's way with quotas, written anew in whole numbers: what the tests hold `states.quota` against.

Used by test_quota.py and by the small server of cloud.py. Only the rounding told in the recordings is
built in: nothing is imported from the code under test.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
LARGEST_BYTES = 2**63


def divide(number: int, divisor: int) -> int:
    """Divide and round half up."""
    return (2 * number + divisor) // (2 * divisor)


def store(size_bytes: int) -> tuple[str, int]:
    """The text that a server keeps for a number of bytes, and the bytes it reads from that text."""
    if size_bytes < 1024:
        return f"{size_bytes} B", size_bytes
    kilobytes = divide(size_bytes, 1024)
    if kilobytes < 1024:
        return f"{kilobytes} KB", kilobytes * 1024
    tenths, unit = divide(kilobytes * 10, 1024), 2
    while tenths >= 10 * 1024 and unit < len(UNITS) - 1:
        tenths, unit = divide(tenths, 1024), unit + 1
    whole, rest = divmod(tenths, 10)
    return f"{whole}.{rest} {UNITS[unit]}".replace(".0 ", " "), divide(tenths * 1024**unit, 10)


@cache
def list_storable() -> tuple[int, ...]:
    """Every size a server can hold, in order."""
    tenths = range(10, 10 * 1024)
    petabytes = range(10, 10 * 8192 + 1)
    return (
        *range(1024),
        *(number * 1024 for number in range(1, 1024)),
        *(divide(number * 1024**unit, 10) for unit in (2, 3, 4) for number in tenths),
        *(divide(number * 1024**5, 10) for number in petabytes),
    )


def find_storable(size_bytes: int) -> int:
    """The smallest size a server can hold that is no less than the given one."""
    sizes = list_storable()
    return sizes[bisect_left(sizes, size_bytes)]
