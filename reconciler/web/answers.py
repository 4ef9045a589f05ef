"""What the HTTP interface answers: the shapes of its JSON, how they are written, and the headers around them.

The OpenAPI document is made from the same shapes (`reconciler.web.openapi`), so that it cannot differ.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from reconciler.journal import Answer, HistoryEntry, ServiceRecord, ServiceUsage
from reconciler.output import to_plain
from reconciler.web.backend import Check

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Go with every answer. Nothing here is meant for a page of somebody else, so there is no CORS header."""

_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """Why a request was not served: one line that names the thing and the cure."""

    error: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the daemon can do its work, and what was looked at."""

    is_ready: bool
    checks: list[Check]


@dataclass(frozen=True, slots=True)
class ServicePage:
    """One page of the services that were asked for; ``total`` and ``pages`` count all of them."""

    items: list[ServiceRecord]
    total: int
    page: int
    page_size: int
    pages: int


@dataclass(frozen=True, slots=True)
class ServiceDetail:
    """One service: its row, its latest usage (None: never seen), its latest history, oldest line first."""

    service: ServiceRecord
    usage: ServiceUsage | None
    history: list[HistoryEntry]


@dataclass(frozen=True, slots=True)
class ResyncAnswer:
    """A request for a pass; ``answer`` is None until the pass was made."""

    request_id: int
    item_id: int
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class HoldAnswer:
    """Whether a service is paused by an operator; ``hold_reason`` is None when it is not."""

    item_id: int
    hold_reason: str | None


def render_json(value: object) -> str:
    """A value of ours as JSON in ASCII, in which nothing can be taken for HTML."""
    text = json.dumps(to_plain(value))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text + "\n"
