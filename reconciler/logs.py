"""Structured log lines: an event and its fields, as text or as JSON, on standard error.

Every value is made harmless first: control characters and line ends cannot forge a line or move a
terminal's cursor. Secrets are never handed to a logger.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

ROOT: Final = "reconciler"

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class EventLogger:
    """Writes one event with its fields; fields that are None are left out."""

    def __init__(self, name: str) -> None:
        self._logger: Final = logging.getLogger(f"{ROOT}.{name}")

    def log(self, level: str, event: str, **fields: object) -> None:
        """Write an event.

        Args:
            level: debug, info, warning or error.
            event: one word.
            fields: what belongs to it; durations in seconds.
        """
        number = _LEVELS[level]
        if self._logger.isEnabledFor(number):
            kept = {name: value for name, value in fields.items() if value is not None}
            self._logger.log(number, event, extra={"fields": kept})


def get_logger(name: str) -> EventLogger:
    """The logger of one part of the program."""
    return EventLogger(name)


def set_up_logging(*, is_json: bool, level: str, stream: TextIO | None = None) -> None:
    """Send the program's events to a stream, by default standard error. Called once, by an entry point."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if is_json else _TextFormatter())
    logger = logging.getLogger(ROOT)
    logger.handlers = [handler]
    logger.setLevel(_LEVELS[level])
    logger.propagate = False


def clean(text: str) -> str:
    """A text without anything that a terminal or a log reader would obey."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _get_fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float):
        return round(value, 3)
    return clean(str(value))


def _get_time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        words = [_get_time(record), record.levelname.lower(), clean(record.getMessage())]
        for name, value in _get_fields(record).items():
            text = str(value)
            is_word = text and not any(character in text for character in ' "=')
            words.append(f"{name}={text if is_word else json.dumps(text, ensure_ascii=False)}")
        return " ".join(words)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _get_time(record),
            "level": record.levelname.lower(),
            "event": clean(record.getMessage()),
        }
        return json.dumps({**line, **_get_fields(record)}, ensure_ascii=False)
