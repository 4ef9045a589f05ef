"""The documents are held to the program."""

from __future__ import annotations

from scripts.update_docs import PAGE, fill
from states import ServiceState


def test_the_state_diagram_in_the_architecture_page_is_the_one_that_the_program_draws() -> None:
    text = PAGE.read_text("utf-8")
    assert fill(text) == text, "run `make docs`"


def test_the_architecture_page_shows_every_state() -> None:
    text = PAGE.read_text("utf-8")
    assert [state for state in ServiceState if f"| {state} |" not in text] == []
