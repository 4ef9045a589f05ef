"""What every program of ours asks of the machine for its own process. Called by the entry points."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path


def forbid_core_files() -> None:
    """Leave no core file, which would hold passwords; the same for mgrctl, which inherits it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def obey_signals(act: Callable[[int], None], *numbers: signal.Signals) -> None:
    """Have a thread call ``act`` with the number of each of these signals. Call it from the main thread.

    The handler itself interrupts the main thread, which may hold the very lock that ``act`` needs.
    """
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()

    def obey() -> None:
        while True:
            act(arrived.get())

    for number in numbers:
        signal.signal(number, lambda number, _: arrived.put(number))
    threading.Thread(target=obey, name="signals", daemon=True).start()


def collect_seldom() -> None:
    """Have Python look for garbage in cycles after 10,000 new objects, not after 700.

    Most of what is allocated while the program loads are its modules, and while it reads many rows what is
    thrown away a moment later without that search: it takes a tenth to a fifth of the time.
    """
    gc.set_threshold(10_000, 50, 50)


def stay_on_one_core() -> None:
    """Keep this thread, and all that it starts from now on, on the core that it is on, if that may be chosen.

    Python runs one thread at a time. With dozens of them on several cores a third of the time went into
    handing over from one core to another (docs/performance.md).
    """
    with contextlib.suppress(OSError):
        core = int(Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()[36])
        os.sched_setaffinity(0, {core})
