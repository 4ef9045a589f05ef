"""What BILLmanager's users are told when a command fails: the types of errors and their texts.

``deploy/billmanager/billmgr_mod_pmnextcloud.xml`` holds the same texts as ``msg_error_TYPE``, with
BILLmanager's own place-holders ``__object__`` and ``__value__``; a test holds them equal.
"""

from __future__ import annotations

from typing import Final, Literal

Language = Literal["ru", "en"]

TEXTS: Final[dict[str, dict[Language, str]]] = {
    "wrong_panel_info": {
        "ru": "Не удалось подключиться к Nextcloud или ownCloud с этими данными: __value__",
        "en": "Nextcloud or ownCloud cannot be used with these settings: __value__",
    },
    "could_not_create": {
        "ru": "Не удалось создать аккаунт услуги __object__: __value__",
        "en": "The account of service __object__ could not be created: __value__",
    },
    "could_not_close": {
        "ru": "Не удалось закрыть аккаунт услуги __object__: __value__",
        "en": "The account of service __object__ could not be closed: __value__",
    },
    "could_not_suspend": {
        "ru": "Не удалось приостановить аккаунт услуги __object__: __value__",
        "en": "The account of service __object__ could not be suspended: __value__",
    },
    "could_not_resume": {
        "ru": "Не удалось возобновить аккаунт услуги __object__: __value__",
        "en": "The account of service __object__ could not be resumed: __value__",
    },
    "could_not_change": {
        "ru": "Не удалось изменить аккаунт услуги __object__: __value__",
        "en": "The account of service __object__ could not be changed: __value__",
    },
    "could_not_set_password": {
        "ru": "Не удалось сменить пароль аккаунта услуги __object__: __value__",
        "en": "The password of service __object__'s account could not be changed: __value__",
    },
    "could_not_collect": {
        "ru": "Не удалось собрать статистику сервера __object__: __value__",
        "en": "The usage of server __object__ could not be collected: __value__",
    },
    "account_exists": {
        "ru": "Аккаунт услуги __object__ уже есть на сервере и не принадлежит ей: __value__",
        "en": "The server already has an account of service __object__'s name that is not its own: __value__",
    },
    "missing_service": {
        "ru": "Услуга __object__ не обслуживается этим модулем: __value__",
        "en": "Service __object__ is none of this module's: __value__",
    },
    "missing_server": {
        "ru": "Сервер __object__ не обслуживается этим модулем: __value__",
        "en": "Server __object__ is none of this module's: __value__",
    },
    "wrong_request": {
        "ru": "BILLmanager передал неверный запрос: __value__",
        "en": "BILLmanager's request cannot be understood: __value__",
    },
    "not_configured": {
        "ru": "Модуль не настроен: __value__",
        "en": "The module is not configured: __value__",
    },
    "failed": {
        "ru": "Внутренняя ошибка модуля: __value__",
        "en": "The module failed: __value__",
    },
}
"""Texts by the type of the error. ``__object__`` is what it is about, ``__value__`` why, in one line."""

RUSSIAN_CURES: Final[dict[str, str]] = {
    "app password refused": (
        "этот Nextcloud не принимает пароль приложения для изменений: укажите настоящий пароль учётной записи"
    ),
    "wrong password": (
        "проверьте имя пользователя и пароль; при двухфакторной аутентификации или token_auth_enforced "
        "сервер не принимает настоящий пароль: исключите учётную запись или создайте пароль приложения"
    ),
    "not an admin": "пользователь не администратор: добавьте его в группу admin на сервере",
    "write refused": "пользователю не разрешено изменять аккаунты: добавьте его в группу admin на сервере",
    "TLS": "проверьте сертификат и имя сервера; для собственного центра укажите [nextcloud.server.N] ca_file",
    "wrong address": "неверный адрес: укажите адрес, по которому открывается главная страница",
    "wrong path": (
        "по этому адресу не Nextcloud и не ownCloud: проверьте путь в адресе, прокси и страницы входа "
        "перед ним"
    ),
    "maintenance": "сервер на обслуживании: подождите или отключите режим: occ maintenance:mode --off",
    "rate-limited": (
        "сервер ограничивает запросы: подождите или исключите этот узел из защиты от подбора паролей"
    ),
    "no answer": "сервер не ответил вовремя: проверьте, что он работает и не перегружен",
    "unreachable": "сервер недоступен: проверьте имя и порт в адресе, DNS и межсетевые экраны",
    "another installation": "по этому адресу другая установка: проверьте адрес",
    "configuration": "исправьте параметры сервера в BILLmanager",
    "error": "подробности в журнале сервера",
}
"""What helps, by the cause that `reconciler.diagnosis` names."""


def choose_language(name: str | None) -> Language:
    """The language of ``--lang``; English for any other than Russian."""
    return "ru" if (name or "").lower().startswith("ru") else "en"


def get_text(kind: str, object_name: str, value: str, language: Language) -> str:
    """An error's text, its place-holders filled.

    Raises:
        KeyError: there is no such type.
    """
    parts = TEXTS[kind][language].split("__value__")
    return value.join(part.replace("__object__", object_name) for part in parts)
