"""Generates the passwords of new accounts."""

from __future__ import annotations

import secrets
import string
from typing import Final

PASSWORD_LENGTH: Final = 20

_CLASSES: Final = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "!#%+-.:=?@_")


def generate_password() -> str:
    """20 characters from a secure source, at least one lower-case, upper-case, digit and special one.

    The special characters are those that survive forms, URLs and shells of careless users.
    """
    characters = [secrets.choice(kind) for kind in _CLASSES]
    everything = "".join(_CLASSES)
    characters += [secrets.choice(everything) for _ in range(PASSWORD_LENGTH - len(characters))]
    secrets.SystemRandom().shuffle(characters)
    return "".join(characters)
