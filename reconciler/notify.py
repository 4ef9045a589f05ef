"""What systemd is told (sd_notify): ready, alive, reloading, stopping, and one line of status.

Used by the daemon. Outside systemd, where $NOTIFY_SOCKET is not set, nothing is sent. The variables of the
protocol are taken out of the environment, so that programs that we start cannot speak in our name.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Final

from reconciler.logs import clean

_SEND_SECONDS: Final = 5.0
_LONGEST_STATUS: Final = 1000


class Notifier:
    """Tells systemd how the program is. No method raises, whatever became of the socket."""

    def __init__(
        self, environ: MutableMapping[str, str] | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Take systemd's variables.

        Args:
            environ: they are removed from it; ``os.environ`` when None.
            monotonic: gives seconds that are never set back.
        """
        environment = os.environ if environ is None else environ
        self._address: Final = _parse_address(environment.pop("NOTIFY_SOCKET", ""))
        wanted_usec = environment.pop("WATCHDOG_USEC", "")
        process_id = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
        is_watched = wanted_usec.isdecimal() and int(wanted_usec) > 0 and process_id == str(os.getpid())
        # A quarter: one message that is lost or late does no harm.
        self._watchdog_seconds: Final = int(wanted_usec) / 4e6 if is_watched else None
        self._monotonic: Final = monotonic
        self._fed_at = float("-inf")

    def ready(self, status: str = "") -> None:
        """It has started, or has reloaded its configuration; ``status`` is for a person."""
        self._send("READY=1", *_make_status(status))

    def reloading(self) -> None:
        """It reads its configuration anew; `ready` must follow."""
        now_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_usec}")

    def stopping(self) -> None:
        """It is about to end."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """It is alive. May be called at any pace: one message goes out per quarter of the watchdog's time."""
        if self._watchdog_seconds is None:
            return
        now = self._monotonic()
        if now - self._fed_at >= self._watchdog_seconds:
            self._fed_at = now
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for a person, shown by ``systemctl status``."""
        self._send(*_make_status(text))

    def extend(self, seconds: float) -> None:
        """Starting or stopping takes that much longer from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, *lines: str) -> None:
        if self._address is None or not lines:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            # A manager that does not read must not hold us up for ever.
            connection.settimeout(_SEND_SECONDS)
            connection.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)


def _parse_address(text: str) -> str | None:
    """The socket's address as Python wants it; None when there is none of a kind we can reach."""
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _make_status(text: str) -> tuple[str, ...]:
    """The line that sets a status. A line end in the text would begin another assignment."""
    return (f"STATUS={clean(text)[:_LONGEST_STATUS]}",) if text else ()
