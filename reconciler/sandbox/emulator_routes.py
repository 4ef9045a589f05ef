"""From an HTTP request to the operation it asks for, its account or group, and its parameters.

Used by `CloudEmulator` before anything else is looked at; knows paths and bodies, nothing of users.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, unquote_plus

Parameter = str | list[str]

_OCS: Final = re.compile(r"/ocs/v([12])\.php/(.*)\Z", re.DOTALL)
_EDITOR: Final = "apps/files/api/v1/openlocaleditor"

_ROUTES: Final[dict[tuple[str, ...], dict[str, str]]] = {
    ("capabilities",): {"GET": "capabilities"},
    ("user",): {"GET": "user"},
    ("users",): {"GET": "list", "POST": "create"},
    ("users", "*"): {"GET": "get", "PUT": "edit", "DELETE": "delete"},
    ("users", "*", "enable"): {"PUT": "enable"},
    ("users", "*", "disable"): {"PUT": "disable"},
    ("users", "*", "groups"): {"GET": "user_groups", "POST": "add_group", "DELETE": "remove_group"},
    ("users", "*", "subadmins"): {"GET": "subadmins", "POST": "add_subadmin", "DELETE": "remove_subadmin"},
    ("groups",): {"GET": "list_groups", "POST": "create_group"},
    ("groups", "*"): {"GET": "group_members", "DELETE": "delete_group"},
}


@dataclass(frozen=True)
class Request:
    """One HTTP request, understood.

    Attributes:
        operation: see `Call.operation`; "status", "unknown", "method_not_allowed" and "elsewhere"
            (outside the product's paths) besides.
        target: the account's or group's id out of the path, None without one.
        api_version: 1 or 2; 0 outside of OCS.
        headers: by lower-case name.
        parameters: the query's and the body's, the body's winning; values of names in ``[]`` are lists.
    """

    method: str
    path: str
    operation: str
    target: str | None = None
    api_version: int = 0
    parameters: dict[str, Parameter] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"

    @property
    def is_json(self) -> bool:
        """Whether ``format=json`` was asked for; XML is the servers' default."""
        return self.parameters.get("format") == "json"

    @property
    def is_mutating(self) -> bool:
        """Whether the method asks for a change of users or groups."""
        return self.api_version != 0 and self.method in {"POST", "PUT", "DELETE"}

    def text(self, name: str, default: str = "") -> str:
        """A parameter's text; the default when it is missing or a list."""
        value = self.parameters.get(name, default)
        return value if isinstance(value, str) else default

    def texts(self, name: str) -> list[str]:
        """A parameter's list; empty when it is missing."""
        value = self.parameters.get(name, [])
        return value if isinstance(value, list) else [value]

    def number(self, name: str) -> int | None:
        """A parameter's number; None when it is missing or no number."""
        text = self.text(name)
        return int(text) if text.isdecimal() else None


def read_request(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    prefix: str,
    is_nextcloud: bool,
    major: int,
    address: str = "127.0.0.1",
) -> Request:
    """Understand a request; `prefix` is the path under which the server lives."""
    raw_path, _, query = target.partition("?")
    path = unquote(raw_path)
    outside = Request(method, path, "elsewhere", headers=headers, address=address)
    if not raw_path.startswith(prefix + "/"):
        return outside
    inner = raw_path[len(prefix) :]
    parameters = _read_pairs(query)
    if inner == "/status.php":
        return Request(method, path, "status", None, 0, parameters, headers, address)
    matched = _OCS.match(inner)
    if matched is None:
        return outside
    parameters |= _read_body(method, headers.get("content-type", ""), body, is_nextcloud=is_nextcloud)
    operation, owner = _find_operation(method, matched.group(2), is_nextcloud=is_nextcloud, major=major)
    if operation == "edit":
        key = parameters.get("key", "")
        operation = f"edit:{key if isinstance(key, str) else ''}"
    return Request(method, path, operation, owner, int(matched.group(1)), parameters, headers, address)


def _find_operation(method: str, inner: str, *, is_nextcloud: bool, major: int) -> tuple[str, str | None]:
    if is_nextcloud and inner == _EDITOR:
        return "open_editor", None
    parts = [unquote(part) for part in inner.split("/")]
    if parts[0] != "cloud":
        return "unknown", None
    parts = parts[1:]
    if is_nextcloud and len(parts) == 2 and parts[0] == "users" and method == "GET":
        since = {"details": 0, "disabled": 28, "recent": 31}.get(parts[1])
        if since is not None and major >= since:
            return parts[1], None
    if is_nextcloud and len(parts) == 3 and parts[0] == "groups" and parts[2] == "users":
        parts = parts[:2]
    owner = parts[1] if len(parts) > 1 else None
    pattern = tuple("*" if place == 1 else part for place, part in enumerate(parts))
    methods = _ROUTES.get(pattern)
    if methods is None or owner == "":
        return "unknown", None
    return methods.get(method, "method_not_allowed"), owner


def _read_pairs(text: str) -> dict[str, Parameter]:
    """Form-encoded pairs as PHP reads them: the last one wins, names in ``[]`` collect."""
    parameters: dict[str, Parameter] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
        plain, bracket, _ = name.partition("[")
        if bracket:
            kept = parameters.get(plain)
            parameters[plain] = [*kept, value] if isinstance(kept, list) else [value]
        else:
            parameters[plain] = value
    return parameters


def _read_body(method: str, content_type: str, body: bytes, *, is_nextcloud: bool) -> dict[str, Parameter]:
    """A body's parameters. ownCloud does not read JSON where a form can be posted."""
    if content_type.startswith("application/json"):
        if not is_nextcloud and method == "POST":
            return {}
        try:
            content = json.loads(body)
        except ValueError:
            return {}
        pairs = content.items() if isinstance(content, dict) else ()
        return {
            name: [str(entry) for entry in value] if isinstance(value, list) else str(value)
            for name, value in pairs
            if value is not None
        }
    return _read_pairs(body.decode("utf-8", "replace"))


def read_cookies(header: str | None) -> dict[str, str]:
    """Cookies by name."""
    pairs = (part.strip().partition("=") for part in (header or "").split(";"))
    return {name: unquote_plus(value) for name, separator, value in pairs if separator}
