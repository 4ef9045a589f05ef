"""Counts what a process does to the world, and ends the process at one of these effects.

An effect is one request to a cloud server, one transaction of the journal, one write into BILLmanager. They
are counted where they leave the program: in requests' adapter, in the journal's store, in the writers.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import requests
import sqlalchemy as sa

from bm_db.engine import Database
from bm_db.mgrctl_writer import MgrctlWriter
from reconciler.journal.store import Store
from tests.forking import die

When = Literal["before", "after", "lost", "late", "overtaken"]
"""What goes wrong: killed before the effect, or killed after it (which is before the next one: in between
nothing leaves the program); or it happens and its answer is lost; or there is no answer, and it happens late:
only after the process has ended, or ("overtaken") after it has looked once and has seen nothing of it."""


@dataclass(frozen=True)
class Fate:
    """What happens at which effect (numbered from 0)."""

    number: int
    when: When


@dataclass
class Effects:
    """The effects of this process, in order, and the one that is its last or goes wrong."""

    fate: Fate | None
    done: list[str] = field(default_factory=list)
    late: list[list[str]] = field(default_factory=list)
    """Command lines that are to be carried out after the process has ended."""

    def run(self, name: str, act: Callable[[], Any], lose: Callable[[], Any] | None = None) -> Any:
        """Carry out an effect, or what its fate is.

        Args:
            name: of the effect.
            act: carries it out.
            lose: raises what its caller sees when the answer is lost.
        """
        fate = self.fate if self.fate and self.fate.number == len(self.done) else None
        self.done.append(name)
        if fate and fate.when == "before":
            die()
        result = act()
        if fate and fate.when == "after":
            die()
        if fate and fate.when == "lost" and lose:
            lose()
        return result


def count_effects(fate: Fate | None) -> Effects:
    """From now on count this process's effects."""
    effects = Effects(fate)
    _count_requests(effects)
    _count_transactions(effects, Store, "write", "journal")
    _count_transactions(effects, Database, "writing", "billing")
    _count_mgrctl(effects)
    return effects


def _count_requests(effects: Effects) -> None:
    send = requests.adapters.HTTPAdapter.send

    def counted(self: Any, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        # A lost answer is the emulator's doing: it breaks the connection.
        answer: requests.Response = effects.run(
            f"http {request.method}", lambda: send(self, request, **options)
        )
        return answer

    requests.adapters.HTTPAdapter.send = counted  # type: ignore[method-assign, assignment]


def _count_transactions(effects: Effects, owner: type, method: str, name: str) -> None:
    write = getattr(owner, method)

    @contextlib.contextmanager
    def counted(self: Any, **options: Any) -> Iterator[sa.Connection]:
        transaction = write(self, **options)
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(transaction)
            yield connection  # when the block fails there is no effect: it is rolled back
            committed = stack.pop_all()
        effects.run(name, committed.close, lambda: _lose_commit(self))

    setattr(owner, method, counted)


def _lose_commit(owner: Any) -> None:
    """Raise what the program sees when the database's connection breaks after the commit."""
    error = sa.exc.OperationalError("COMMIT", None, Exception("connection lost"))
    if isinstance(owner, Store):
        with owner._translated():
            raise error
    from bm_db.failures import translated_failures

    with translated_failures(owner.address):
        raise error


def _count_mgrctl(effects: Effects) -> None:
    run = MgrctlWriter._run

    def counted(self: Any, argv: Sequence[str], what: str) -> Any:
        fate = effects.fate
        if fate and (fate.number, fate.when) == (len(effects.done), "late"):
            effects.late.append(list(argv))
            return effects.run("mgrctl", lambda: _time_out(self, what))
        return effects.run("mgrctl", lambda: run(self, list(argv), what), lambda: _time_out(self, what))

    MgrctlWriter._run = counted  # type: ignore[method-assign]


def _time_out(writer: Any, what: str) -> None:
    from bm_db.errors import WriteTimedOut

    raise WriteTimedOut(f"{what} had no answer") from subprocess.TimeoutExpired(str(writer), 60)
