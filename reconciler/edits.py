"""The edits of accounts that a server allows in a time, and who may have the next one.

Nextcloud from 27 on allows 50 edits (quota, e-mail, password) in 600 seconds per calling account, failed
ones included, and answers the 51st with 429 (measured on a real 27.1.0). An administrator may have raised the
limit or switched it off: that is found out by one try at a time, never by a storm. Kept for each server by
`reconciler.fleet`, asked by `reconciler.changes`.
"""

from __future__ import annotations

import enum
import threading
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from reconciler.clock import Clock

NEXTCLOUD_LIMIT: Final = 50
WINDOW: Final = timedelta(seconds=605)
"""600 s, and a little more: the server counts from when it got the request."""

_REFUSED_PAUSE: Final = timedelta(seconds=60)
"""How long nothing is edited after a 429 that says neither when nor can be explained by our own edits."""
_PROBE_PAUSE: Final = timedelta(seconds=2)
"""How long the others wait while one tries whether the limit is higher than was thought."""
_PROBE_TIMEOUT: Final = timedelta(seconds=90)
"""After which a try whose end was never told (a crash, a time-out) holds up nobody any more."""
_FORGOTTEN_AFTER: Final = timedelta(seconds=120)
"""A waiting service that did not come back so long after its turn wants no edit any more."""
_FORGET_INTERVAL: Final = timedelta(seconds=10)


class EditRank(enum.IntEnum):
    """Who comes first when edits are scarce."""

    PROMPT = 0
    """Somebody waits for it: a new account's quota, a password."""
    LACK = 1
    """The customer has less than he bought."""
    REST = 2
    """The customer has more than he bought, or another e-mail."""


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a waiting service stands in line."""

    rank: EditRank
    since: datetime
    item_id: int


@dataclass(slots=True)
class _Waiting:
    place: _Place
    until: datetime


class EditBudget:
    """One server's edits. Thread-safe.

    Attributes:
        limit: edits in a window; None: none is known.
    """

    def __init__(self, clock: Clock) -> None:
        self.limit: int | None = None
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._spent: list[datetime] = []
        self._waiting: dict[int, _Waiting] = {}
        self._line: list[_Place] = []
        self._is_limit_sure = False
        self._is_doubtful = False
        """The server refused an edit for a reason that we do not know, and has allowed none since."""
        self._probe_until: datetime | None = None
        self._paused_until: datetime | None = None
        self._latest: datetime = clock()
        self._forget_at: datetime = self._latest

    def __str__(self) -> str:
        return f"{self.limit} in 10 minutes" if self.limit is not None else "no limit known"

    def begin(self, limit: int | None, spent: Iterable[datetime]) -> None:
        """Take what the server is known to allow, and what was spent already.

        Args:
            limit: by the server's product and version; what was found out by trying is kept.
            spent: by the journal: before this run and by other processes, too. An edit of ours that stands
                there with the time for which it was admitted counts once.
        """
        with self._lock:
            now = self._begin_turn()
            if limit is None or self.limit is None:
                self.limit, self._is_limit_sure = limit, False
            # What lies in the future was written before the clock went back.
            known = Counter(moment for moment in spent if moment <= now)
            self._spent = sorted((Counter(self._spent) | known).elements())

    def admit(self, item_id: int, rank: EditRank, at: datetime | None = None) -> datetime | None:
        """Let a service have an edit, or tell it when to come again; then it keeps its place in line.

        Args:
            item_id: the service.
            rank: how urgent its edit is.
            at: the time that the edit has in the journal; by default now.

        Returns:
            None when it may edit now, which counts; else when to come again.
        """
        with self._lock:
            now = self._begin_turn()
            place = self._stand_in_line(item_id, rank, now)
            retry_at = self._get_wait(bisect_left(self._line, place), now)
            if retry_at is None:
                self._leave_line(item_id)
                insort(self._spent, at or now)
            else:
                self._waiting[item_id].until = retry_at
            return retry_at

    def note_done(self) -> None:
        """The server let an edit through, whatever it answered."""
        with self._lock:
            self._paused_until, self._is_doubtful = None, False
            if self._probe_until is not None:
                self._probe_until = None
                if self.limit is not None and len(self._spent) > self.limit:
                    self.limit = max(2 * self.limit, len(self._spent))

    def note_refused(self, pause: timedelta | None) -> None:
        """The server answered 429: an edit that does not count.

        Args:
            pause: how long to wait by the server's own words; None when it said nothing.
        """
        with self._lock:
            now = self._begin_turn()
            self._probe_until = None
            if self._spent:
                self._spent.pop()
            self._paused_until, self._is_doubtful = now + (pause or _REFUSED_PAUSE), True
            if pause is None and self.limit is not None:
                spent = len(self._spent)
                self.limit, self._is_doubtful = max(spent, 1), False
                # As many edits of ours explain it. Fewer: somebody else edits, too, or the limit was lowered.
                self._is_limit_sure = spent >= NEXTCLOUD_LIMIT
                if self._is_limit_sure:
                    self._paused_until = None

    def _stand_in_line(self, item_id: int, rank: EditRank, now: datetime) -> _Place:
        known = self._waiting.get(item_id)
        place = _Place(rank, known.place.since if known is not None else now, item_id)
        if known is None or known.place != place:
            self._leave_line(item_id)
            insort(self._line, place)
            self._waiting[item_id] = _Waiting(place, now)
        return place

    def _leave_line(self, item_id: int) -> None:
        known = self._waiting.pop(item_id, None)
        if known is not None:
            del self._line[bisect_left(self._line, known.place)]

    def _get_wait(self, place: int, now: datetime) -> datetime | None:
        """When whoever has so many others before him may edit; None: now."""
        if self._paused_until is not None and now < self._paused_until:
            return self._paused_until + self._count_windows(place) * WINDOW
        free = None if self.limit is None else self.limit - len(self._spent)
        if free is None or place < free:
            return self._get_probe_wait(place, now) if self._is_doubtful else None
        if not self._is_limit_sure:
            windows = self._count_windows(place)
            if (self.limit or 0) >= NEXTCLOUD_LIMIT:
                # Nothing was refused yet. Whoever is near and asks first tries, lest all be told to come in
                # ten minutes; a long line asks seldom.
                return now + _PROBE_PAUSE * 2 ** min(windows, 7) if windows else self._get_probe_wait(0, now)
            if place == 0 or (self._is_probing(now) and not windows):
                return self._get_probe_wait(place, now)
        # The place-th slot that comes free, each edit leaving the window after its time.
        slot = place - free
        offset = slot % max(self.limit or 0, 1)
        frees_at = self._spent[min(offset, len(self._spent) - 1)] + WINDOW if self._spent else now + WINDOW
        return frees_at + self._count_windows(slot) * WINDOW

    def _get_probe_wait(self, place: int, now: datetime) -> datetime | None:
        """One tries, and the others wait for what comes of it."""
        if place > 0 or self._is_probing(now):
            return now + _PROBE_PAUSE
        self._probe_until = now + _PROBE_TIMEOUT
        return None

    def _is_probing(self, now: datetime) -> bool:
        return self._probe_until is not None and now < self._probe_until

    def _count_windows(self, place: int) -> int:
        return place // self.limit if self.limit else 0

    def _begin_turn(self) -> datetime:
        """The time, and everything brought up to it."""
        now = self._clock()
        if now < self._latest:
            self._shift(self._latest - now)
        self._latest = now
        while self._spent and self._spent[0] <= now - WINDOW:
            del self._spent[0]
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_INTERVAL
            for item_id, waiting in list(self._waiting.items()):
                if now > waiting.until + _FORGOTTEN_AFTER:
                    self._leave_line(item_id)
        return now

    def _shift(self, back: timedelta) -> None:
        """The clock went back: let everything be as long ago, and as far ahead, as it was."""
        self._spent = [moment - back for moment in self._spent]
        self._forget_at -= back
        if self._paused_until is not None:
            self._paused_until -= back
        if self._probe_until is not None:
            self._probe_until -= back
        for waiting in self._waiting.values():
            waiting.place = replace(waiting.place, since=waiting.place.since - back)
            waiting.until -= back
        self._line = sorted(waiting.place for waiting in self._waiting.values())
