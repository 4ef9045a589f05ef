"""What the HTTP interface asks of whoever it is the interface of (the daemon)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from reconciler.application import Application


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: its name, whether it is in order, and one line without secrets."""

    name: str
    is_ok: bool
    message: str


class Backend(Protocol):
    """Called from several threads at once; nothing here may wait for a cloud server."""

    def get_app(self) -> Application:
        """The parts of now; a new configuration replaces them, so they are asked for every time."""

    def render_metrics(self) -> bytes:
        """Everything for Prometheus, in its text format 0.0.4."""

    def get_health(self) -> Check:
        """Whether the program still turns."""

    def list_readiness(self) -> list[Check]:
        """Whether it can do its work, part by part."""
