"""The one error that a command ends with; `reconciler.panel.documents` turns it into BILLmanager's XML."""

from __future__ import annotations

from typing import Final


class PanelError(Exception):
    """A command failed, and BILLmanager's users are told so.

    Attributes:
        kind: type of the error, a key of `reconciler.panel.messages.TEXTS`.
        object_name: what it is about: a service's or server's id, or a field.
        value: why, in one line; never a secret.
        is_final: trying again does not help: a person must do something.
    """

    def __init__(self, kind: str, object_name: str, value: str, *, is_final: bool = False) -> None:
        super().__init__(f"{kind} {object_name}: {value}")
        self.kind: Final = kind
        self.object_name: Final = object_name
        self.value: Final = value
        self.is_final: Final = is_final
