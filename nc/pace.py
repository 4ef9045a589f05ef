"""How fast a server is called: a token bucket that every request passes; used by `nc.transport`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """Lets a burst of one second's worth through, then the given number a second, first come first served."""

    def __init__(
        self,
        requests_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start with a full bucket.

        Args:
            requests_per_second: long-term rate; 0 or less is no limit.
            clock: seconds that never go back.
            sleep: waits the given seconds.
        """
        self._rate = requests_per_second
        self._burst = max(1.0, requests_per_second)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._tokens = self._burst
        self._counted_at = clock()

    def wait(self) -> None:
        """Return when the next request may be sent."""
        if self._rate <= 0:
            return
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._rate)
            self._counted_at = now
            self._tokens -= 1.0
            # A negative balance is the queue: each waiting caller has taken a token that comes later.
            wait_seconds = max(0.0, -self._tokens / self._rate)
        if wait_seconds:
            self._sleep(wait_seconds)
