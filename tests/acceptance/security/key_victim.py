"""The process that changes the journal's key and is killed at one of its steps; run by `test_rotate_key`.

A step is whatever another process, or the next start, could see of it: a change of a file in the key's
folder, or a statement that the journal's database gets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from reconciler.application import get_journal_url
from reconciler.clock import system_clock
from reconciler.config import load_config
from reconciler.journal import rotate_key
from tests.forking import die


@dataclass
class Steps:
    """The steps of this process; it is killed before the one with the number ``last``."""

    last: int | None
    done: list[str] = field(default_factory=list)

    def come_to(self, name: str) -> None:
        if self.last == len(self.done):
            die()
        self.done.append(name)


def run(config_path: str, report_path: str, last: int | None) -> None:
    """Change the key; the report (the steps) is written unless the process is killed before its end."""
    steps = Steps(last)
    _watch_files(steps)
    _watch_statements(steps)
    config = load_config(config_path)
    rotate_key(get_journal_url(config), config.reconciler.journal_key_file, "operator:test", system_clock())
    steps.come_to("end")
    Path(report_path).write_text(json.dumps(steps.done), "utf-8")


def _watch_statements(steps: Steps) -> None:
    def note(statement: str) -> None:
        if not statement.startswith("--"):  # what a statement consists of
            steps.come_to(statement.split(None, 1)[0])

    sa.event.listen(sa.Engine, "connect", lambda connection, _: connection.set_trace_callback(note))


def _watch_files(steps: Steps) -> None:
    for owner, name in (
        (os, "fchmod"),
        (os, "write"),
        (os, "fsync"),
        (Path, "replace"),
        (Path, "unlink"),
    ):
        setattr(owner, name, _counted(getattr(owner, name), name, steps))


def _counted(act: Callable[..., Any], name: str, steps: Steps) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        steps.come_to(name)
        return act(*arguments, **options)

    return counted
