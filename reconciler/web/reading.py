"""Reads what a request says, and refuses what cannot be meant. Used by `reconciler.web.app`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Final

from flask import Request

from reconciler.logs import clean
from states import ServiceState

LARGEST_BODY_BYTES: Final = 64 * 1024
LARGEST_ID: Final = 2**63 - 1
LARGEST_PAGE: Final = 1_000_000
LARGEST_PAGE_SIZE: Final = 500
PAGE_SIZE: Final = 100
LONGEST_WAIT_SECONDS: Final = 60
LONGEST_QUERY: Final = 255
LONGEST_REASON: Final = 500

QUERY_PATTERN: Final = r"^[^\x00-\x1f\x7f]*$"
"""No control characters: no account is named so, and PostgreSQL takes no NUL."""
REASON_PATTERN: Final = r"^[^\x00]*[^\s\x00][^\x00]*$"
"""Something to read, and no NUL."""

_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_JSON: Final = "application/json"
_SHOWN: Final = 60


class Refused(Exception):
    """A request is not served: ``status`` is HTTP's, the message is one line that names thing and cure."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status: Final = status


def show(text: str) -> str:
    """Somebody else's text, short and harmless."""
    return clean(text[:_SHOWN])


def parse_number(name: str, text: str, *, least: int = 1, most: int) -> int:
    """A whole number in plain digits.

    Raises:
        Refused: it is none, or out of bounds.
    """
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise Refused(400, f"{name} must be a whole number from {least} to {most}, not {show(text)!r}")
    return int(text)


def parse_state(text: str) -> ServiceState:
    """A state by its name.

    Raises:
        Refused: there is no such state.
    """
    if text not in list(ServiceState):
        raise Refused(400, f"state must be one of {', '.join(ServiceState)}, not {show(text)!r}")
    return ServiceState(text)


def parse_text(text: str) -> str:
    """What is searched for.

    Raises:
        Refused: too long, or with control characters.
    """
    if len(text) > LONGEST_QUERY or not re.fullmatch(QUERY_PATTERN, text):
        raise Refused(400, f"q must have at most {LONGEST_QUERY} characters and no control characters")
    return text


def read_query(request: Request, known: Collection[str]) -> dict[str, str]:
    """The query's parameters.

    Raises:
        Refused: one is unknown (a typing error would select everything), or is given twice.
    """
    for name, values in request.args.lists():
        if name not in known:
            raise Refused(400, f"unknown parameter {show(name)!r}: known are {', '.join(known)}")
        if len(values) > 1:
            raise Refused(400, f"parameter {name} is given {len(values)} times: give it once")
    return dict(request.args.items())


def read_members(request: Request, known: Collection[str]) -> dict[str, object]:
    """The members of the JSON object in the body; an empty body is an empty object.

    Raises:
        Refused: it is not JSON by its type (so that no HTML form can send it) or by its content, or has
            members that are not known.
        RequestEntityTooLarge: larger than `LARGEST_BODY_BYTES`.
    """
    is_typed = bool(request.content_type)
    if is_typed and request.mimetype != _JSON:
        raise Refused(415, f"the body's type is {show(request.mimetype)!r}: send it as {_JSON}")
    body = request.get_data(cache=False)
    if not body:
        return {}
    if not is_typed:
        raise Refused(415, f"the body has no type: send it as {_JSON}")
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON: send one JSON object") from None
    if not isinstance(members, dict):
        raise Refused(400, "the body is not a JSON object: send one, such as {}")
    for name in members:
        if name not in known:
            raise Refused(
                400, f"unknown member {show(name)!r} in the body: known are {', '.join(known) or 'none'}"
            )
    return members


def read_reason(request: Request) -> str:
    """Why a service is to be held: the member ``reason`` of the body.

    Raises:
        Refused: it is missing, not a text, blank, too long, or cannot be stored.
        RequestEntityTooLarge: the body is larger than `LARGEST_BODY_BYTES`.
    """
    reason = read_members(request, ["reason"]).get("reason")
    if reason is None:
        raise Refused(400, 'reason is missing: send a body such as {"reason": "moving house"}')
    if not isinstance(reason, str) or not 1 <= len(reason) <= LONGEST_REASON or not _is_storable(reason):
        raise Refused(
            400, f"reason must be a text of 1 to {LONGEST_REASON} characters, not blank, without NUL"
        )
    return reason


def _is_storable(text: str) -> bool:
    # JSON can escape half a character; no database takes it.
    has_half_characters = any("\ud800" <= character <= "\udfff" for character in text)
    return bool(re.fullmatch(REASON_PATTERN, text)) and not has_half_characters
