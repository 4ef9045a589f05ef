"""Draws the transition table as text: a Mermaid state diagram and a table of every row.

Called by ``reconciler draw-states``; a test holds docs/architecture.md equal to it.
"""

from __future__ import annotations

from states.model import ServiceState
from states.table import TRANSITIONS


def draw_diagram() -> str:
    """The usual moves as a Mermaid ``stateDiagram-v2``."""
    lines = ["stateDiagram-v2", "    direction LR", "    [*] --> unknown"]
    for row in TRANSITIONS:
        if row.is_usual:
            label = row.reason.replace(":", " -")
            lines += [f"    {source} --> {row.target} : {label}" for source in sorted(row.sources)]
    lines += [f"    {state} --> [*]" for state in (ServiceState.ABSENT, ServiceState.DELETED)]
    return "\n".join(lines) + "\n"


def draw_table() -> str:
    """Every row of the table in Markdown, the exceptional ones too."""
    every = frozenset(ServiceState)
    lines = ["| from | to | because |", "| --- | --- | --- |"]
    for row in TRANSITIONS:
        missing = every - row.sources
        sources = "any other" if missing == {row.target} else ", ".join(sorted(row.sources))
        lines.append(f"| {sources} | {row.target} | {row.reason} |")
    return "\n".join(lines) + "\n"
