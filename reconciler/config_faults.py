"""How a fault of config.toml is told: one line with the key's full path, the value and the cure.

Used by the other ``config`` modules; the command line catches `ConfigInvalid`, prints its lines and
exits with 2. A value is repeated only when it cannot be a secret.
"""

from __future__ import annotations

import difflib
import json
import re
from datetime import date, time
from pathlib import Path
from typing import Final

from pydantic_core import ErrorDetails

from reconciler.config_sections import Config, Section, ServerSettings

_MAX_SHOWN: Final = 60
_SECRET_KEY: Final = re.compile(r"password|passwd|secret|token|key|url", re.IGNORECASE)


class ConfigInvalid(Exception):
    """The configuration cannot be used.

    Attributes:
        errors: every fault, one line each: full path of the key, the value (unless it may be
            a secret), what is wrong and the cure.
    """

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


_SECTIONS: Final[dict[str, type[Section]]] = {
    name: type(value) for name, value in Config() if isinstance(value, Section)
}

_MESSAGES: Final = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_type": "must be a text",
    "model_type": "must be a table: write its keys below [{path}]",
    "dict_type": "must be a table: write its keys below [{path}]",
}


def describe(detail: ErrorDetails) -> str:
    """The operator's line for one fault that pydantic found."""
    location = [part for part in detail["loc"] if part != "[key]"]
    path = _dotted(location)
    kind, facts = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{path}: unknown key{_suggestion(location)}"
    if kind == "value_error":
        message = str(facts["error"])
    else:
        message = _MESSAGES[kind].format(path=path, **facts) if kind in _MESSAGES else detail["msg"]
    value = "" if any(_SECRET_KEY.search(str(part)) for part in location[1:]) else _shown(detail["input"])
    return f"{path} = {value}: {message}" if value else f"{path}: {message}"


def _dotted(location: list[int | str]) -> str:
    """``nextcloud.server.3.timeout``; a key with odd characters is quoted and cut: a line stays a line."""
    texts = [str(part) for part in location]
    return ".".join(text if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", text) else _shown(text) for text in texts)


def _suggestion(location: list[int | str]) -> str:
    key = str(location[-1])
    section: type[Section] = Config
    if len(location) > 1:
        section = _SECTIONS[str(location[0])] if len(location) == 2 else ServerSettings
    known = list(section.model_fields)
    close = difflib.get_close_matches(key[:_MAX_SHOWN], known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    elsewhere = [name for name, other in _SECTIONS.items() if key in other.model_fields]
    return f"; it belongs below [{elsewhere[0]}]" if elsewhere else ""


def _shown(value: object) -> str:
    """The value as TOML would write it, short and on one line; "" for what is better not repeated."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to write out integers of thousands of digits.
        return str(value) if abs(value) < 10**_MAX_SHOWN else "(a huge number)"
    if isinstance(value, float | date | time):
        return str(value)
    if isinstance(value, str):
        return json.dumps(_cut(value))
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return _cut(json.dumps([_cut(item) for item in value[:_MAX_SHOWN]]))
    return ""


def shown_path(path: Path) -> str:
    """A file's name on one line, whatever characters it holds."""
    text = str(path)
    return text if text.isprintable() and len(text) <= 1000 else _shown(text)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def one_line(text: str) -> str:
    """Somebody else's message, cut and without line breaks."""
    return " ".join(text.split())[:200]
