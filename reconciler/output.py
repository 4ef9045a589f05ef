"""How the command line shows things: tables on a terminal, plain lines otherwise, JSON when asked.

Every value from outside (user names, messages of servers) is made harmless before it is shown.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from reconciler.logs import clean


class Output:
    """Where a command writes its answer; errors go to standard error."""

    def __init__(self, *, is_json: bool) -> None:
        self.is_json = is_json
        self._console = Console(highlight=False, emoji=False, soft_wrap=True)

    def json(self, value: object) -> None:
        """Print a value as one JSON document, in ASCII: exact, and harmless to any terminal."""
        print(json.dumps(to_plain(value), indent=2))  # noqa: T201

    def line(self, text: str = "") -> None:
        """Print one line."""
        self._console.print(clean(text), markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows under their columns: boxed on a terminal, separated by tabs otherwise."""
        if not self._console.is_terminal:
            for row in rows:
                print("\t".join(clean(_to_text(value)) for value in row))  # noqa: T201
            return
        table = Table(title=title or None, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")  # nothing is cut off that somebody may have to type
        for row in rows:
            table.add_row(*[Text(clean(_to_text(value))) for value in row])
        Console(highlight=False).print(table)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar, on a terminal only: gives what is called with done and total."""
        if self.is_json or not sys.stderr.isatty():
            yield _show_nothing
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def _show_nothing(_done: int, _total: int) -> None:
    """The progress of whoever does not look."""


def _to_text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return str(value)


def to_plain(value: Any) -> Any:
    """A value of ours as JSON can hold it; fields that are hidden in reprs (secrets) are left out."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value) if item.repr
        }
    if isinstance(value, Mapping):
        return {_to_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [to_plain(item) for item in value]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _to_key(key: object) -> str:
    return str(key.value if isinstance(key, enum.Enum) else key)
