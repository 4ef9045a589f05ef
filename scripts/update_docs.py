"""Writes the generated parts of docs/architecture.md anew: the state diagram and the table of moves."""

from __future__ import annotations

import sys
from pathlib import Path

from states.diagram import draw_diagram, draw_table

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"


def fill(text: str) -> str:
    """A page with its generated parts as they should be."""
    parts = {"diagram": f"```mermaid\n{draw_diagram()}```\n", "table": draw_table()}
    for name, content in parts.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = before + begin + content + end + after
    return text


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text("utf-8")), "utf-8")
    sys.stdout.write(f"{PAGE} is up to date\n")
