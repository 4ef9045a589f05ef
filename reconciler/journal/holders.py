"""Names this process as the holder of leases, and tells whether another holder is surely gone.

A worker that was killed leaves its leases behind. On the same machine they need not be waited for:
the process that holds them is named so exactly that its end can be seen.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


def describe_this_process() -> str:
    """Host, boot, process namespace, process id and start time of this process, in one word."""
    return f"{socket.gethostname()}/{_get_scope()}/{os.getpid()}/{_get_start(os.getpid())}"


def is_gone(holder: str) -> bool:
    """Whether the holder was a process of this very system and has ended; False when in doubt."""
    parts = holder.rsplit("/", 3)
    if len(parts) != 4 or parts[1] != _get_scope() or parts[1] == "?" or not parts[2].isdecimal():
        return False
    start = _get_start(int(parts[2]))
    return start != parts[3] and "?" not in {start, parts[3]}


def _get_scope() -> str:
    """The boot and the process namespace: only within both of them do process ids mean anything."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return "?"
    return f"{boot}.{namespace}"


def _get_start(process_id: int) -> str:
    """When a process started (clock ticks since boot); "ended" when there is none, "?" when unknown."""
    try:
        stat = (_PROC / str(process_id) / "stat").read_text("utf-8", "replace")
    except FileNotFoundError:
        return "ended" if (_PROC / "self").exists() else "?"
    except OSError:
        return "?"
    fields = stat.rpartition(")")[2].split()
    # A process that is dead but not yet waited for works no more.
    return "ended" if fields[0] in {"Z", "X"} else fields[19]
