"""The documents are held to the program."""

from __future__ import annotations

import re

from scripts.update_docs import PAGE, fill
from states import ServiceState


def test_the_state_diagram_in_the_architecture_page_is_the_one_that_the_program_draws() -> None:
    text = PAGE.read_text("utf-8")
    assert fill(text) == text, "run `make docs`"


def test_the_architecture_page_shows_every_state() -> None:
    text = PAGE.read_text("utf-8")
    assert [state for state in ServiceState if f"| {state} |" not in text] == []


def test_every_test_that_the_safety_page_names_is_there() -> None:
    root = PAGE.parent.parent
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", (root / "docs" / "safety.md").read_text("utf-8"))
    assert len(named) > 50
    missing = [
        f"{path}::{name}" for path, name in named if f"def {name}(" not in (root / path).read_text("utf-8")
    ]
    assert missing == []
