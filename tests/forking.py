"""Processes of their own that start at once: forked from one that has loaded what they need.

Used by tests that start hundreds of them, and kill them, where what a new interpreter does at its start shows
nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

RUN_SECONDS = 120.0
"""Far more than a run takes; a run that hangs is a failure."""


def open_fork_server(module: str) -> ForkServerContext:
    """Processes that have loaded a module already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def run_forked(context: ForkServerContext, target: Callable[..., None], *arguments: Any) -> bool:
    """Call a function in a process of its own; False when that was killed.

    Raises:
        AssertionError: it hangs, or ended with an error.
    """
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join(RUN_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"a run hangs: {arguments}")
    if process.exitcode == -signal.SIGKILL:
        return False
    assert process.exitcode == 0, f"exit code {process.exitcode}: {arguments}"
    return True


def die() -> None:
    """End this process as the kernel does: nothing is tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
