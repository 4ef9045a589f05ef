"""What every program of ours asks of the machine for its own process. Called by the entry points."""

from __future__ import annotations

import gc
import resource


def forbid_core_files() -> None:
    """Leave no core file, which would hold passwords; the same for mgrctl, which inherits it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def collect_seldom() -> None:
    """Have Python look for garbage in cycles after 10,000 new objects, not after 700.

    Most of what is allocated while the program loads are its modules, and while it reads many rows what is
    thrown away a moment later without that search: it takes a tenth to a fifth of the time.
    """
    gc.set_threshold(10_000, 50, 50)
