"""What the command line shows, on a terminal and in a pipe; values from outside stay values."""

from __future__ import annotations

import enum
import json
import os
import pty
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bm_db import BillingServer
from nc import ServerConnection
from reconciler.cycle import CycleReport
from reconciler.diagnosis import Diagnosis
from reconciler.output import Output, to_plain
from states import UNLIMITED, ServiceState, StepKind
from tests.unit.reconciler.samples import NOW, PASSWORD, make_desired

MARKUP = "[bold red]x[/bold red] [link=file:///etc]y[/link] :smile: [/]"
HOSTILE = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202e \r\n"
ROOT = Path(__file__).parents[3]


def show_in_terminal(code: str, width: int = 200) -> str:
    """What a program writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,  # what measures coverage stands there, too
        "TERM": "xterm-256color",
        "COLUMNS": str(width),
        "LINES": "50",
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
    }
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        pieces = []
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the program has gone
                break
            if not piece:
                break
            pieces.append(piece)
        os.close(ours)
    assert process.returncode == 0, b"".join(pieces)
    return b"".join(pieces).decode()


def strip_styles(text: str) -> str:
    return text.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\r\n", "\n")


# -- lines and tables


def test_table_is_tab_separated_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Output(is_json=False).table("title", ("a", "b", "c"), [(1, None, NOW), ("x", True, ServiceState.ACTIVE)])
    assert capsys.readouterr().out == "1\t-\t2026-01-15T12:00:00+00:00\nx\tTrue\tactive\n"


def test_table_without_rows_says_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Output(is_json=False).table("title", ("a",), [])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [MARKUP, "user:100:", "trailing\\", "[", "a\\[b]"])
def test_values_are_shown_as_they_are_in_a_pipe(capsys: pytest.CaptureFixture[str], value: str) -> None:
    output = Output(is_json=False)
    output.line(value)
    output.table("", ("a",), [(value,)])
    assert capsys.readouterr().out == f"{value}\n{value}\n"


def test_hostile_values_cannot_forge_lines_columns_or_steer_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = Output(is_json=False)
    output.line(HOSTILE)
    output.table("", ("a", "b"), [(HOSTILE, "one\ttwo")])
    lines = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert lines[0].isprintable()
    cells = lines[1].split("\t")
    assert len(cells) == 2
    assert all(cell.isprintable() for cell in cells)


def test_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    Output(is_json=False).line("word " * 100)
    assert capsys.readouterr().out == "word " * 100 + "\n"


def test_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output(is_json=False).line()
    assert capsys.readouterr().out == "\n"


def test_table_is_boxed_on_a_terminal() -> None:
    code = (
        "from reconciler.output import Output\n"
        "Output(is_json=False).table('services', ('id', 'state'), [(7, 'active'), (8, None)])"
    )
    text = strip_styles(show_in_terminal(code))
    assert "services" in text
    assert "┃ id ┃ state  ┃" in text
    assert "│ 7  │ active │" in text
    assert "│ 8  │ -      │" in text


@pytest.mark.parametrize("value", [MARKUP, "user:100:", "trailing\\", "a\\[b]"])
def test_values_are_shown_as_they_are_on_a_terminal(value: str) -> None:
    code = (
        "from reconciler.output import Output\n"
        f"output, value = Output(is_json=False), {value!r}\n"
        "output.line(value)\n"
        "output.table('', ('a',), [(value,)])"
    )
    text = strip_styles(show_in_terminal(code))
    assert text.startswith(f"{value}\n")
    assert f"│ {value} │" in text


def test_hostile_values_do_not_steer_the_terminal() -> None:
    code = (
        "from reconciler.output import Output\n"
        f"output, value = Output(is_json=False), {HOSTILE!r}\n"
        "output.line(value)\n"
        "output.table('', ('a',), [(value,)])"
    )
    text = strip_styles(show_in_terminal(code)).replace("\n", "")
    assert text.isprintable()


# -- progress


def test_progress_is_shown_on_a_terminal() -> None:
    code = (
        "from reconciler.output import Output\n"
        "with Output(is_json=False).progress('services') as progress:\n"
        "    progress(1, 3); progress(3, 3)"
    )
    text = show_in_terminal(code)
    assert "services" in text
    assert "3/3" in text


def test_progress_is_silent_for_json_and_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "from reconciler.output import Output\n"
        "with Output(is_json=True).progress('services') as progress:\n"
        "    progress(1, 3)"
    )
    assert show_in_terminal(code) == ""
    with Output(is_json=False).progress("services") as progress:
        progress(1, 3)
    assert capsys.readouterr() == ("", "")


# -- JSON


class _Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class _Inner:
    name: str
    token: str = field(repr=False)


@dataclass
class _Outer:
    inner: _Inner
    many: list[_Inner]
    by_kind: dict[_Colour, _Inner]


def test_fields_hidden_in_reprs_are_left_out_at_any_depth() -> None:
    inner = _Inner("name", PASSWORD)
    plain = to_plain(_Outer(inner, [inner], {_Colour.RED: inner}))
    assert plain == {
        "inner": {"name": "name"},
        "many": [{"name": "name"}],
        "by_kind": {"red": {"name": "name"}},
    }


@pytest.mark.parametrize(
    "value",
    [
        make_desired(7, password=PASSWORD),
        BillingServer(1, "one", True, "https://one.example", "admin", PASSWORD),
        ServerConnection("https://one.example", "admin", PASSWORD),
    ],
    ids=lambda value: type(value).__name__,
)
def test_passwords_of_our_own_values_are_not_printed(
    capsys: pytest.CaptureFixture[str], value: object
) -> None:
    Output(is_json=True).json({"value": value})
    text = capsys.readouterr().out
    assert PASSWORD not in text
    assert "password" not in json.loads(text)["value"]


def test_every_kind_of_value_becomes_plain() -> None:
    value = {
        1: ServiceState.ACTIVE,
        StepKind.CREATE: (UNLIMITED, None, True, 1.5),
        "times": datetime(2026, 1, 15, tzinfo=UTC),
        "set": {"b", "a"},
        "frozen": frozenset({2, 10}),
        "counter": Counter(a=2),
        "kind": _Colour,
    }
    plain = to_plain({name: item for name, item in value.items() if name != "kind"})
    assert plain == {
        "1": "active",
        "create": ["none", None, True, 1.5],
        "times": "2026-01-15T00:00:00+00:00",
        "set": ["a", "b"],
        "frozen": [10, 2],
        "counter": {"a": 2},
    }


def test_reports_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    report = CycleReport(services=2, steps=Counter({StepKind.CREATE: 1}), orphans={3: ["user_9"]})
    Output(is_json=True).json([report, Diagnosis("ok", "fine")])
    cycle, diagnosis = json.loads(capsys.readouterr().out)
    assert cycle["steps"] == {"create": 1}
    assert cycle["orphans"] == {"3": ["user_9"]}
    assert diagnosis == {"cause": "ok", "message": "fine", "cure": ""}


@pytest.mark.parametrize("hostile", [HOSTILE, "\udcff", "\x7f", "имя"])
def test_json_holds_the_value_exactly_and_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], hostile: str
) -> None:
    Output(is_json=True).json({"name": hostile})
    text = capsys.readouterr().out
    assert json.loads(text) == {"name": hostile}
    assert text.replace("\n", "").isprintable()
