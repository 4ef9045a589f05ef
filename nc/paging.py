"""How many accounts to ask for a page, from what earlier pages took; used by `nc.nextcloud`.

A server that looks each account up elsewhere (LDAP, slow storage) may need longer for a page than a request
may take: all its listings would fail for ever.
"""

from __future__ import annotations

from typing import Final

_LEAST: Final = 10
_GOOD_SHARE: Final = 0.25
"""A page should take at most this share of the time that it may take."""


class PageSize:
    """As many as are allowed while pages come quickly, fewer when they are slow."""

    def __init__(self, most: int, limit_seconds: float) -> None:
        """Begin with the most.

        Args:
            most: accounts a page at most.
            limit_seconds: what a page may take before it counts as never answered.
        """
        self._most: Final = max(1, most)
        self._least: Final = min(_LEAST, self._most)
        self._good_seconds: Final = _GOOD_SHARE * limit_seconds
        self.current = self._most

    def note(self, count: int, seconds: float) -> None:
        """A page of the current size brought so many accounts in so long.

        One that is not full says nothing of what a full one would take.
        """
        if seconds > self._good_seconds:
            self.current = max(self._least, int(self.current * self._good_seconds / seconds))
        elif count >= self.current and 2 * seconds <= self._good_seconds:
            self.current = min(self._most, 2 * self.current)

    def note_timeout(self) -> None:
        """A page of the current size did not come in time; the next listing asks for a quarter."""
        self.current = max(self._least, self.current // 4)
