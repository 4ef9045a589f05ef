"""The drawn table: every row is in it, and nothing else."""

from __future__ import annotations

import re

from states import ServiceState
from states.diagram import draw_diagram, draw_table
from states.table import TRANSITIONS

S = ServiceState


def test_the_diagram_has_each_usual_move_with_its_reason_and_no_other() -> None:
    lines = draw_diagram().splitlines()
    assert lines[:3] == ["stateDiagram-v2", "    direction LR", "    [*] --> unknown"]
    assert lines[-2:] == ["    absent --> [*]", "    deleted --> [*]"]
    drawn = []
    for line in lines[3:-2]:
        match = re.fullmatch(r"    ([a-z]+) --> ([a-z]+) : (.+)", line)
        assert match, line
        drawn.append((match[1], match[2], match[3]))
    usual = [
        (source.value, row.target.value, row.reason.replace(":", " -"))
        for row in TRANSITIONS
        if row.is_usual
        for source in row.sources
    ]
    assert sorted(drawn) == sorted(usual)


def test_a_label_holds_no_colon_which_would_end_it() -> None:
    assert all(line.count(":") <= 1 for line in draw_diagram().splitlines())


def test_the_table_lists_each_row_in_its_order() -> None:
    lines = draw_table().splitlines()
    assert lines[:2] == ["| from | to | because |", "| --- | --- | --- |"]
    assert len(lines) == 2 + len(TRANSITIONS)
    for line, row in zip(lines[2:], TRANSITIONS, strict=True):
        sources, target, reason = line.strip("| ").split(" | ")
        assert (target, reason) == (row.target.value, row.reason)
        others = set(S) - {row.target}
        if sources == "any other":
            assert row.sources == others
        else:
            assert sources.split(", ") == sorted(source.value for source in row.sources)
            assert row.sources != others


def test_drawings_end_with_a_line_break_and_are_always_the_same() -> None:
    for draw in (draw_diagram, draw_table):
        assert draw().endswith("\n")
        assert draw() == draw()
