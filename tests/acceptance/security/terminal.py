"""Runs commands in a pseudo-terminal, in processes forked from one that has loaded the program."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import threading
from multiprocessing.context import ForkServerContext
from typing import Final

from reconciler.cli import main

OWN_SEQUENCES: Final = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r")
"""What rich itself sends: colours, the cursor hidden while a bar moves, a line cleared."""

_COMMAND_SECONDS: Final = 120.0


def show(tty: str, *arguments: str) -> None:
    """A command with this terminal for everything; run in a process of its own."""
    descriptor = os.open(tty, os.O_RDWR | os.O_NOCTTY)
    for number in (0, 1, 2):
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
    os.environ.update(TERM="xterm", COLUMNS="300", LINES="50")
    main(list(arguments))


def run_on_terminal(context: ForkServerContext, *arguments: str) -> str:
    """All that a command shows."""
    leader, follower = pty.openpty()
    process = context.Process(target=show, args=(os.ttyname(follower), *arguments))
    process.start()
    pieces: list[bytes] = []
    ended = threading.Event()
    reader = threading.Thread(target=_read, args=(leader, pieces, ended))
    reader.start()
    process.join(_COMMAND_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
    ended.set()
    reader.join()
    os.close(follower)
    os.close(leader)
    assert process.exitcode in {0, 1, 2}, f"{arguments} ended with {process.exitcode}"
    return b"".join(pieces).decode()


def _read(leader: int, pieces: list[bytes], ended: threading.Event) -> None:
    """Read until the program has ended and nothing more comes."""
    while True:
        was_ended = ended.is_set()
        ready, _, _ = select.select([leader], [], [], 0.02)
        if ready:
            pieces.append(os.read(leader, 65536))
        elif was_ended:
            return
