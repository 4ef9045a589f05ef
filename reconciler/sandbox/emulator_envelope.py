"""The OCS envelope as both products write it: meta, data, JSON and XML, API versions 1 and 2.

The product modules answer with an `OcsReply` in version 1's codes, or raise `OcsFailure`; `render`
turns it into what goes over the wire. Source: recorded exchanges (tests/recordings).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

JSON_TYPE: Final = "application/json; charset=utf-8"
_XML_TYPE: Final = "application/xml; charset=utf-8"
_REFUSAL_XML_TYPE: Final = "text/xml; charset=UTF-8"
_BASIC: Final = (("WWW-Authenticate", 'Basic realm="Authorisation Required"'),)
_XML_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_OWNCLOUD_V2: Final = {100: 200, 101: 400, 102: 400, 103: 400, 104: 403, 998: 404, 999: 500}


class OcsFailure(Exception):
    """The server refuses: its code (version 1), its message and, if it insists, its HTTP status."""

    def __init__(self, code: int, message: str | None = None, *, status: int | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class OcsReply:
    """What the server has to say.

    Attributes:
        code: version 1's status code; 100 is success.
        message: None for the product's usual one.
        data: what goes into ``data`` (dict, list, texts, numbers, booleans, None).
        data_json: the same, serialised beforehand; wins over `data` in JSON.
        status: HTTP status that wins over the mapping.
        has_totals: whether meta has the two empty paging fields; None for the product's habit.
    """

    code: int = 100
    message: str | None = None
    data: object = ()
    data_json: bytes | None = None
    status: int | None = None
    has_totals: bool | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, ready to be sent; `code` is the OCS code in it, None without an envelope."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    code: int | None = None


def render(reply: OcsReply, *, is_nextcloud: bool, api_version: int, is_json: bool) -> Answer:
    """Write a reply as this product and API version do."""
    status, code = _map_codes(reply, is_nextcloud=is_nextcloud, api_version=api_version)
    is_ok = code in {100, 200}
    message = reply.message
    if message is None and is_nextcloud:
        message = "OK" if is_ok else ""
    meta: dict[str, object] = {
        "status": "ok" if is_ok else "failure",
        "statuscode": code,
        "message": message,
    }
    has_totals = is_nextcloud and api_version == 1 if reply.has_totals is None else reply.has_totals
    if has_totals:
        meta |= {"totalitems": "", "itemsperpage": ""}
    is_challenge = status == 401 and not is_nextcloud and not has_totals
    headers = _BASIC if is_challenge else ()
    if is_json:
        data = reply.data_json if reply.data_json is not None else _dump(reply.data)
        return Answer(
            status, JSON_TYPE, b'{"ocs":{"meta":' + _dump(meta) + b',"data":' + data + b"}}", headers, code
        )
    plain = reply.data if reply.data_json is None else json.loads(reply.data_json)
    return Answer(status, _XML_TYPE, _write_xml({"meta": meta, "data": plain}), headers, code)


def render_refused_login(*, is_nextcloud: bool, is_json: bool, status: int = 401) -> Answer:
    """Refuse a name and password; Nextcloud does so in XML whatever was asked for."""
    meta = {"status": "failure", "statuscode": 997, "message": "Unauthorised"}
    if is_json and not is_nextcloud:
        return Answer(status, JSON_TYPE, _dump({"ocs": {"meta": meta, "data": []}}), _BASIC, 997)
    return Answer(status, _REFUSAL_XML_TYPE, _write_xml({"meta": meta, "data": ()}), _BASIC, 997)


def as_php_key(userid: str) -> str | int:
    """An id that was an array key in PHP: made of digits, it comes back as a number."""
    return int(userid) if re.fullmatch(r"0|[1-9][0-9]{0,17}", userid) else userid


def dump_json(value: object) -> bytes:
    """Compact JSON, non-ASCII characters escaped as PHP does."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


_dump = dump_json


def _map_codes(reply: OcsReply, *, is_nextcloud: bool, api_version: int) -> tuple[int, int]:
    """HTTP status and meta code of a reply."""
    code = reply.code
    if api_version == 1:
        status = 401 if code == 997 else 200
    elif is_nextcloud:
        status, code = _map_nextcloud_v2(code)
    else:
        code = _OWNCLOUD_V2.get(code, code if code >= 200 else 400)
        status = 401 if code == 997 else code
    return (reply.status or status, code)


def _map_nextcloud_v2(code: int) -> tuple[int, int]:
    if code == 100:
        return 200, 200
    if code in {997, 998, 999}:
        return {997: 401, 998: 404, 999: 500}[code], code
    return (code if 200 <= code <= 600 else 400), code


def _write_xml(root: dict[str, object]) -> bytes:
    lines = ['<?xml version="1.0"?>', "<ocs>"]
    for name, value in root.items():
        _write_element(lines, name, value, 1)
    lines.append("</ocs>")
    return ("\n".join(lines) + "\n").encode()


def _write_element(lines: list[str], name: str, value: object, depth: int) -> None:
    indent = " " * depth
    tag = name if _XML_NAME.match(name) else "element"
    if isinstance(value, dict | list | tuple):
        entries = (
            [(str(key), entry) for key, entry in value.items()]
            if isinstance(value, dict)
            else [("element", entry) for entry in value]
        )
        if not entries:
            lines.append(f"{indent}<{tag}/>")
            return
        lines.append(f"{indent}<{tag}>")
        for key, entry in entries:
            _write_element(lines, key, entry, depth + 1)
        lines.append(f"{indent}</{tag}>")
    elif value is None or value is False:
        lines.append(f"{indent}<{tag}></{tag}>")
    else:
        lines.append(f"{indent}<{tag}>{'1' if value is True else escape(str(value))}</{tag}>")
