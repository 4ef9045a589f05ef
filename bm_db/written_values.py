"""What may be written to BILLmanager. Called by both writers."""

from __future__ import annotations

from typing import Final

from bm_db.errors import ValueRefused

LONGEST_VALUE: Final = 4096


def check_written_value(name: str, value: str) -> None:
    """Let a value pass that is one line of text of a sensible length.

    Raises:
        ValueRefused: control characters (NUL and line ends among them), lone surrogates, or too long.
    """
    if len(value) > LONGEST_VALUE:
        raise ValueRefused(
            f"{name} of {len(value)} characters is not passed to BILLmanager: at most {LONGEST_VALUE}"
        )
    if any(
        ord(character) < 32 or 127 <= ord(character) < 160 or "\ud800" <= character <= "\udfff"
        for character in value
    ):
        raise ValueRefused(
            f"{name} holds control characters and is not passed to BILLmanager: choose another value"
        )
