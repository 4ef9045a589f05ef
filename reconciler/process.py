"""What every program of ours asks of the machine for its own process. Called by the entry points."""

from __future__ import annotations

import resource


def forbid_core_files() -> None:
    """Leave no core file, which would hold passwords; the same for mgrctl, which inherits it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
