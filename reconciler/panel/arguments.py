"""The arguments of BILLmanager's call, in both spellings; those that nobody knows are left out.

``--command open --item 7`` and ``--command=open --item=7``. Later versions of BILLmanager may add arguments,
so an unknown one is no error; argparse would refuse it, and take a value that begins with "-" for an option.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from reconciler.panel.errors import PanelError
from reconciler.panel.messages import Language, choose_language

_NAMES: Final = frozenset(
    {
        "command",
        "subcommand",
        "id",
        "item",
        "lang",
        "module",
        "itemtype",
        "intname",
        "param",
        "value",
        "runningoperation",
        "level",
        "addon",
        "userid",
        "password",
    }
)
_LARGEST_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Arguments:
    """What BILLmanager has said, "" for an argument without a value. May hold a password: never shown."""

    values: dict[str, str] = field(default_factory=dict, repr=False)

    def get(self, name: str) -> str | None:
        """An argument's value; None when it was not given or is empty."""
        return self.values.get(name) or None

    @property
    def language(self) -> Language:
        """The language in which errors are told."""
        return choose_language(self.get("lang"))

    def get_id(self, name: str) -> int | None:
        """An id; None when it was not given (BILLmanager also writes that as 0 or as nothing).

        Raises:
            PanelError: it is no number.
        """
        text = self.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > _LARGEST_ID:
            raise PanelError("wrong_request", name, f"--{name} {text[:40]!r} is not an id")
        return int(text) or None

    def need_id(self, name: str) -> int:
        """The same, when it is needed.

        Raises:
            PanelError: it is missing or no number.
        """
        number = self.get_id(name)
        if number is None:
            raise PanelError("wrong_request", name, f"--{name} is missing")
        return number


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Read a command line; of an argument that is given twice the last one counts."""
    values: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        # Without "=" the next word is the value, unless it is the next argument.
        if not equals and rest and not _is_argument(rest[0]):
            value = rest.pop(0)
        if name in _NAMES:
            values[name] = value
    return Arguments(values)


def _is_argument(word: str) -> bool:
    """Whether a word begins an argument; a password may well begin with "--"."""
    name = word[2:].partition("=")[0]
    return word.startswith("--") and name.replace("_", "").replace("-", "").isalpha()
