"""Programs that tests make to stand in for others."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def write_python_program(path: Path, source: str, *, options: str = "") -> Path:
    """Make an executable of a Python source; works from folders whose names a #! line cannot hold.

    ``options`` of the interpreter: ``-S`` starts faster where only the standard library is needed.
    """
    script = path.with_name(f"{path.name}.py")
    script.write_text(source, "utf-8")
    command = f"{shlex.quote(sys.executable)} {options} {shlex.quote(str(script))}"
    # The shell puts PWD into the environment; the program is to see only what its caller gave it.
    path.write_text(f'#!/bin/sh\nexec env -u PWD {command} "$@"\n', "utf-8")
    path.chmod(0o755)
    return path
