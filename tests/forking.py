"""Processes of their own that start at once: forked from one that has loaded what they need.

Used by tests that start hundreds of them, and kill them, where what a new interpreter does at its start shows
nothing.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

_PRELOADED = [
    # The program loads these two only when a journal is to be made, which most tests begin with.
    "alembic.command",
    "alembic.context",
    "reconciler.cli",
    "reconciler.cli_operator",
    "reconciler.cli_program",
    "reconciler.cli_reports",
    "reconciler.panel.entry",
    "reconciler.panel.servers",
    "reconciler.panel.services",
    "tests.acceptance.crash.victim",
    "tests.acceptance.security.key_victim",
    "tests.acceptance.security.terminal",
]

RUN_SECONDS = 120.0
"""Far more than a run takes; a run that hangs is a failure."""


def open_fork_server() -> ForkServerContext:
    """Processes that have loaded the program already. There is one fork server, whoever asks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def run_program(
    *arguments: str,
    given: str | bytes = "",
    entry: str = "reconciler.cli",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The program with these arguments and this on its standard input, as a user starts it.

    Args:
        arguments: after the program's name.
        given: its standard input.
        entry: module whose ``main`` is the program: the command line, or BILLmanager's module.
        environment: over this process's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("in", "out", "err")]
        streams[0].write_bytes(given if isinstance(given, bytes) else given.encode())
        seen = {**os.environ, "COLUMNS": "200", **(environment or {})}
        code = _run(open_fork_server(), _become_program, (entry, arguments, streams, seen, Path.cwd()))
        out, err = (path.read_text("utf-8") for path in streams[1:])
        return subprocess.CompletedProcess([entry, *arguments], code, out, err)


def _become_program(
    entry: str, arguments: tuple[str, ...], streams: list[Path], environment: Mapping[str, str], folder: Path
) -> None:
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - multiprocessing has closed the usual one
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [entry, *arguments]
    main = importlib.import_module(entry).main
    sys.exit(main() if entry == "reconciler.cli" else main(arguments))


def run_forked(context: ForkServerContext, target: Callable[..., None], *arguments: Any) -> bool:
    """Call a function in a process of its own; False when that was killed.

    Raises:
        AssertionError: it hangs, or ended with an error.
    """
    code = _run(context, target, arguments)
    if code == -signal.SIGKILL:
        return False
    assert code == 0, f"exit code {code}: {arguments}"
    return True


def _run(context: ForkServerContext, target: Callable[..., None], arguments: tuple[Any, ...]) -> int:
    """The exit code of a process that calls a function."""
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join(RUN_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"a run hangs: {arguments}")
    return process.exitcode


def die() -> None:
    """End this process as the kernel does: nothing is tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
