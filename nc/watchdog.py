"""The total time-out that holds: one thread that cuts a connection at the request's deadline.

Socket time-outs only limit each silence; a server that sends one byte a second never trips them.
So every request registers the socket it uses here, and the watchdog shuts that socket down when the
time is over, which ends the blocked read or write at once. Used by `nc.sockets` and `nc.transport`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator


class Deadline:
    """The time limit of one request, and the socket that is to be cut when it is over."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self.is_expired = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    @property
    def remaining_seconds(self) -> float:
        """What is left; never negative."""
        return max(0.0, self.at - time.monotonic())

    def guard(self, used: socket.socket) -> None:
        """Cut this connection at the deadline, instead of the one named before.

        A duplicate of the socket is kept: TLS replaces the socket object during its handshake, the
        HTTP library lets go of it before the body is read, and a closed descriptor's number may
        be somebody else's by the time the deadline comes. All duplicates are one connection.
        """
        duplicate = socket.socket(fileno=os.dup(used.fileno()))  # a TLS socket has no dup() of its own
        with self._lock:
            previous, self._socket = self._socket, duplicate
            if self.is_expired:
                _cut(duplicate)
        if previous:
            previous.close()

    def expire(self) -> None:
        """The time is over."""
        with self._lock:
            self.is_expired = True
            if self._socket:
                _cut(self._socket)

    def release(self) -> None:
        """The request is over; nothing will be cut any more."""
        with self._lock:
            used, self._socket = self._socket, None
        if used:
            used.close()


def _cut(used: socket.socket) -> None:
    with contextlib.suppress(OSError):  # already closed by the other side
        used.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """Expires deadlines from one daemon thread, started at the first use."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._active: set[Deadline] = set()
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[Deadline]:
        """Give the block that many seconds; the deadline says whether it was cut."""
        deadline = Deadline(seconds)
        with self._changed:
            self._active.add(deadline)
            if self._thread is None or not self._thread.is_alive():  # first use, or after a fork
                self._thread = threading.Thread(target=self._run, name="nc-watchdog", daemon=True)
                self._thread.start()
            elif deadline.at < self._wakes_at:
                self._changed.notify()
        try:
            yield deadline
        finally:
            with self._changed:
                self._active.discard(deadline)
            deadline.release()

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for deadline in [one for one in self._active if one.at <= now]:
                    self._active.discard(deadline)
                    deadline.expire()
                self._wakes_at = min((one.at for one in self._active), default=float("inf"))
                pause = self._wakes_at - now
                self._changed.wait(None if pause == float("inf") else pause)


WATCHDOG = Watchdog()
"""The process's one."""
