"""Which services wait for a pass: each once, by priority, per server; used by `reconciler.dispatcher`.

Pure but for its lock and the clock that is handed in: starts nothing, reads nothing. A *lane* is a server's
id (None: a service without one). While a service is worked on it cannot be taken again; what is added
meanwhile is remembered, and it is taken once more.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

OLDEST_EVERY: Final = 8
"""Each so many-th take goes to whoever has waited longest, so that no priority is ever starved."""


class Priority(enum.IntEnum):
    """In which order services are worked on; the names in lower case are metric labels."""

    COMMAND = 0
    """An operator or BILLmanager asks, and waits."""
    CHANGE = 1
    """Somebody waits for it: provisioning, suspension, resumption, credentials."""
    DRIFT = 2
    """Repairs."""
    DELETION = 3


@dataclass(slots=True)
class Task:
    """A service that waits, or is worked on.

    Attributes:
        item_id: the service.
        lane: its server.
        priority: the best of all that it was added with.
        actor: who asked for it (with that priority).
        ready_at: since when it may be taken, by the queue's clock.
        is_delayed, is_parked: it may not be taken yet.
    """

    item_id: int
    lane: int | None
    priority: Priority
    actor: str
    ready_at: float
    is_delayed: bool = False
    is_parked: bool = False

    def absorb(self, other: Task) -> None:
        """Become what serves both."""
        if other.priority < self.priority:
            self.priority, self.actor = other.priority, other.actor
        self.lane = other.lane


@dataclass(slots=True)
class _Lane:
    """One server's waiting services: for each priority in the order in which they came."""

    waiting: dict[Priority, dict[int, Task]] = field(default_factory=lambda: {each: {} for each in Priority})

    def get_first(self) -> Task | None:
        for tasks in self.waiting.values():
            if tasks:
                return next(iter(tasks.values()))
        return None

    def get_oldest(self) -> Task | None:
        firsts = [next(iter(tasks.values())) for tasks in self.waiting.values() if tasks]
        return min(firsts, key=lambda task: task.ready_at, default=None)


class WorkQueue:
    """Deduplicated, prioritised, per server. Thread-safe."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        """Start empty.

        Args:
            clock: seconds that never go back.
            on_ready: called (without the lock) when something can be taken that could not before.
        """
        self._clock: Final = clock
        self._on_ready: Final = on_ready
        self._lock: Final = threading.Lock()
        self._waiting: dict[int, Task] = {}
        self._running: dict[int, Task | None] = {}
        self._lanes: dict[int | None, _Lane] = {}
        self._delayed: list[tuple[float, int, Task]] = []
        self._order: Final = itertools.count()
        self._takes = 0

    def add(
        self,
        item_id: int,
        lane: int | None,
        priority: Priority,
        *,
        actor: str = "daemon",
        delay_seconds: float = 0.0,
    ) -> None:
        """Let a service be taken, from now on or after a delay; one that waits already keeps its place.

        One that waits with a delay, or parked, waits no longer once it is added without.
        """
        now = self._clock()
        task = Task(item_id, lane, priority, actor, now + delay_seconds, is_delayed=delay_seconds > 0)
        with self._lock:
            self._add(task)
        self._on_ready()

    def take(self, has_place: Callable[[int | None], bool]) -> Task | None:
        """The next service to work on, of a lane that has a place; `done` must follow.

        Returns:
            None when nothing can be taken now. ``ready_at`` tells since when it could have been.
        """
        with self._lock:
            self._ripen()
            takes = self._takes + 1
            is_oldest = takes % OLDEST_EVERY == 0
            candidates = []
            for name, lane in self._lanes.items():
                task = lane.get_oldest() if is_oldest else lane.get_first()
                if task is not None and has_place(name):
                    candidates.append(task)
            if not candidates:
                return None
            chosen = min(candidates, key=lambda task: (0 if is_oldest else task.priority, task.ready_at))
            self._takes = takes
            self._remove(chosen)
            del self._waiting[chosen.item_id]
            self._running[chosen.item_id] = None
            return chosen

    def done(self, task: Task) -> None:
        """A service is no longer worked on."""
        with self._lock:
            again = self._running.pop(task.item_id, None)
            if again is not None:
                again.ready_at = max(again.ready_at, self._clock()) if again.is_delayed else self._clock()
                self._add(again)
        self._on_ready()

    def park(self, task: Task) -> None:
        """Keep a service aside until its lane is released, or it is added again."""
        with self._lock:
            if task.item_id not in self._waiting and self._running.get(task.item_id) is None:
                task.is_parked, task.is_delayed = True, False
                self._add(task)

    def release(self, lane: int | None) -> int:
        """Let all parked services of a lane be taken; how many there were."""
        now = self._clock()
        with self._lock:
            parked = [task for task in self._waiting.values() if task.is_parked and task.lane == lane]
            for task in parked:
                task.is_parked, task.ready_at = False, now
                self._insert(task)
        if parked:
            self._on_ready()
        return len(parked)

    def count(self) -> dict[Priority, int]:
        """How many services wait, by priority; delayed and parked ones included."""
        counts = dict.fromkeys(Priority, 0)
        with self._lock:
            for task in self._waiting.values():
                counts[task.priority] += 1
        return counts

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, item_id: int) -> bool:
        with self._lock:
            return item_id in self._waiting or item_id in self._running

    def get_wait_seconds(self) -> float | None:
        """How long until a delayed service ripens; None when none is delayed."""
        with self._lock:
            return max(0.0, self._delayed[0][0] - self._clock()) if self._delayed else None

    def _add(self, task: Task) -> None:
        item_id = task.item_id
        if item_id in self._running and not task.is_parked:
            again = self._running[item_id]
            if again is None:
                self._running[item_id] = task
            else:
                again.absorb(task)
                again.is_delayed = again.is_delayed and task.is_delayed
                again.ready_at = min(again.ready_at, task.ready_at)
            return
        known = self._waiting.get(item_id)
        if known is None:
            self._waiting[item_id] = task
        else:
            self._remove(known)
            known.absorb(task)
            if known.is_parked or (known.is_delayed and task.ready_at < known.ready_at):
                known.ready_at = task.ready_at
                known.is_delayed = task.is_delayed
            known.is_parked = False
            task = known
        self._insert(task)

    def _insert(self, task: Task) -> None:
        if task.is_parked:
            return
        if task.is_delayed:
            heapq.heappush(self._delayed, (task.ready_at, next(self._order), task))
            return
        self._lanes.setdefault(task.lane, _Lane()).waiting[task.priority][task.item_id] = task

    def _remove(self, task: Task) -> None:
        """Take a task out of its lane; one that is delayed stays in the heap and is skipped there."""
        lane = self._lanes.get(task.lane)
        if lane is not None:
            lane.waiting[task.priority].pop(task.item_id, None)

    def _ripen(self) -> None:
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            ready_at, _, task = heapq.heappop(self._delayed)
            # It may have been taken, parked or made ready meanwhile, or delayed anew.
            is_current = self._waiting.get(task.item_id) is task and task.is_delayed
            if is_current and task.ready_at == ready_at:
                task.is_delayed = False
                self._insert(task)
