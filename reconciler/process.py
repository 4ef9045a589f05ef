"""What every program of ours asks of the machine for its own process. Called by the entry points."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from pathlib import Path


def forbid_core_files() -> None:
    """Leave no core file, which would hold passwords; the same for mgrctl, which inherits it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


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
