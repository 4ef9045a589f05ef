"""What the client reads of his account on the service's card: its state, and the used space.

Why something is wrong is for the administrator (`reconciler status`): here it only says what will be done.
"""

from __future__ import annotations

from typing import Final

from reconciler.panel.messages import Language
from states import ServiceState

_STATES: Final[dict[ServiceState, dict[Language, str]]] = {
    ServiceState.ACTIVE: {"ru": "работает", "en": "active"},
    ServiceState.SUSPENDED: {"ru": "приостановлен", "en": "suspended"},
    ServiceState.BACKOFF: {
        "ru": "ошибка: сервер пока не принимает изменения, попытки продолжаются",
        "en": "error: the server does not accept the change yet, it is tried again",
    },
    ServiceState.QUARANTINED: {
        "ru": "ошибка: требуется вмешательство администратора",
        "en": "error: an administrator must look at it",
    },
}
_UNITS: Final[dict[Language, tuple[str, str]]] = {"ru": ("МБ", "ГБ"), "en": ("MB", "GB")}
_LESS: Final[dict[Language, str]] = {"ru": "менее", "en": "less than"}
_FAILURES: Final = 3
"""After so many tries in a row it is said that something fails: most are over before anybody reads it."""


def describe_state(state: ServiceState, attempts: int, language: Language) -> str | None:
    """How the account stands; None while that is about to change, and the card is left as it is.

    Args:
        state: of the service.
        attempts: how many tries have failed in a row.
        language: of the card.
    """
    if state is ServiceState.BACKOFF and attempts < _FAILURES:
        return None
    texts = _STATES.get(state)
    return None if texts is None else texts[language]


def describe_used(used_bytes: int, language: Language) -> str:
    """The used space, so coarse that it need not be written with every file (1 GB is 1024³ bytes)."""
    megabytes, gigabytes = _UNITS[language]
    tens = round(used_bytes / 2**20, -1)
    if tens < 10:
        return f"{_LESS[language]} 10 {megabytes}"
    if tens < 1000:
        return f"{tens:.0f} {megabytes}"
    size = used_bytes / 2**30
    text = f"{size:.1f}" if size < 100 else f"{size:.0f}"
    return f"{text.replace('.', ',') if language == 'ru' else text} {gigabytes}"
