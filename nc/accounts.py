"""Accounts as the servers describe them, to `states.ObservedAccount`; used by the dialects.

Pure. What the server did not say, or said in a way that is no statement (a failed storage), comes
out as unknown, never as zero, empty or unlimited.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Final

from nc.errors import BadAnswer
from states.model import DEFAULT, UNKNOWN_QUOTA, UNLIMITED, ObservedAccount, ObservedQuota
from states.quota import parse_quota_text

_UNLIMITED_NUMBER: Final = -3
_UNKNOWN_NUMBER: Final = -2
_MAX_BYTES: Final = 2**63
_MAX_QUOTA_TEXT: Final = 40


def parse_nextcloud_account(data: object, *, fallback_id: str | None = None) -> ObservedAccount:
    """One account of ``users/{id}`` or one entry of ``users/details``.

    Args:
        data: the entry.
        fallback_id: the entry's key in a page, for an entry that names no id itself.

    Raises:
        BadAnswer: it names no id and there is no fallback.
    """
    entry = data if isinstance(data, dict) else {}
    userid = parse_id(entry.get("id")) or fallback_id
    if userid is None:
        raise BadAnswer("the server's answer describes an account without naming it")
    quota = entry.get("quota")
    return ObservedAccount(
        userid=userid,
        is_enabled=parse_flag(entry.get("enabled")),
        quota=_parse_nextcloud_quota(quota),
        used_bytes=_parse_used(quota),
        email=_parse_email(entry.get("email")),
        groups=share_groups(parse_ids(entry.get("groups"))),
        is_subadmin=parse_is_subadmin(entry.get("subadmin")),
        is_complete="enabled" in entry and "groups" in entry,
    )


def parse_owncloud_account(
    data: object,
    userid: str,
    *,
    groups: frozenset[str] | None = None,
    is_subadmin: bool | None = None,
) -> ObservedAccount:
    """One account of ``users/{id}``; ownCloud's answer does not name the id, groups or subadmins.

    Raises:
        BadAnswer: the answer is no description of an account.
    """
    if not isinstance(data, dict) or parse_flag(data.get("enabled")) is None:
        raise BadAnswer("the server's answer does not describe an account")
    quota = data.get("quota")
    return ObservedAccount(
        userid=userid,
        is_enabled=parse_flag(data.get("enabled")),
        quota=_parse_quota_value(quota.get("definition")) if isinstance(quota, dict) else UNKNOWN_QUOTA,
        used_bytes=_parse_used(quota),
        email=_parse_email(data.get("email")),
        groups=groups,
        is_subadmin=is_subadmin,
    )


def parse_id(value: object) -> str | None:
    """An id; ids of digits arrive as numbers. None when it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def parse_ids(value: object) -> frozenset[str] | None:
    """A list of ids (PHP makes a map of one with gaps); None when anything in it is no id."""
    items = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(items, list):
        return None
    ids = [parse_id(item) for item in items]
    return None if None in ids else frozenset(one for one in ids if one is not None)


@functools.lru_cache(256)
def share_groups(groups: frozenset[str] | None) -> frozenset[str] | None:
    """The same groups as an equal object seen before: most accounts of a server have the same few."""
    return groups


def parse_flag(value: object) -> bool | None:
    """A boolean, which ownCloud sends as a text; None when it is neither."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def parse_is_subadmin(value: object) -> bool | None:
    """Whether the list of groups somebody administers holds any; None when it is no list."""
    return bool(value) if isinstance(value, list | dict) else None


def _parse_email(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _parse_nextcloud_quota(quota: object) -> ObservedQuota:
    if not isinstance(quota, dict) or _is_failed_storage(quota):
        return UNKNOWN_QUOTA
    return _parse_quota_value(quota.get("quota"))


def _is_failed_storage(quota: dict[object, object]) -> bool:
    """Whether the numbers are those of a storage that could not be read.

    An unlimited account on object storage has no free space either, but once it is used its usage
    shows that the storage was read.
    """
    return quota.get("free") == _UNKNOWN_NUMBER and not quota.get("used")


def _parse_quota_value(value: object) -> ObservedQuota:
    if isinstance(value, str):
        return _parse_quota_words(value.strip())
    number = _parse_number(value)
    if number is None:
        return UNKNOWN_QUOTA
    if number == _UNLIMITED_NUMBER:
        return UNLIMITED
    return number if number >= 0 else UNKNOWN_QUOTA


def _parse_quota_words(text: str) -> ObservedQuota:
    if text == "none":
        return UNLIMITED
    if text == "default":
        return DEFAULT
    if len(text) > _MAX_QUOTA_TEXT or not re.fullmatch(r"[0-9.]*\s*[kmgtp]?b?", text, re.IGNORECASE):
        return UNKNOWN_QUOTA
    try:
        size = parse_quota_text(text)
    except (ValueError, ArithmeticError):
        return UNKNOWN_QUOTA
    return size


def _parse_used(quota: object) -> int | None:
    """Used bytes; None when the answer holds none."""
    if not isinstance(quota, dict) or _is_failed_storage(quota):
        return None
    used = _parse_number(quota.get("used"))
    return used if used is not None and used >= 0 else None


def _parse_number(value: object) -> int | None:
    """A whole number of a JSON number (PHP makes floats of large ones); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    number = round(value)
    return number if abs(number) <= _MAX_BYTES else None
