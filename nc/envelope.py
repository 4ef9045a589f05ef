"""The OCS envelope, in JSON and XML: bytes to code, message and data; used by `nc.exchange`.

Strict: whatever is not an envelope is `BadAnswer`, with a short cleaned piece of it, never all.
XML comes from Nextcloud for a refused login in spite of ``format=json``.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import quote, quote_plus
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from nc.errors import BadAnswer

SNIPPET_LENGTH: Final = 120
_MESSAGE_LENGTH: Final = 300
_MAX_XML_DEPTH: Final = 50
_MAX_XML_BYTES: Final = 256 * 1024
"""Only refused logins come in XML; a tree of it takes forty times its size."""
_BASIC: Final = re.compile(r"\b((?i:basic)[\s\\]+)(?=.[a-z]*[A-Z0-9+/=_-])[A-Za-z0-9+/=_-]{8,}")
"""A log-in in base64: more than a word after "Basic"."""
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One OCS answer.

    Attributes:
        code: ``meta.statuscode``.
        message: ``meta.message`` cleaned and cut; "" when there was none.
        data: ``data`` as JSON has it (XML: texts, lists and dicts; an empty element is an empty list).
    """

    code: int
    message: str
    data: object


def clean_text(text: str, limit: int = _MESSAGE_LENGTH, secrets: Collection[str] = ()) -> str:
    """One line fit for a log: control characters gone, blanks folded, secrets masked, cut to the limit."""
    for secret in secrets:
        if 0 < len(secret) <= len(text):  # no shape of it is shorter
            for shape in _list_shapes(secret):
                text = text.replace(shape, "***")
    text = _BASIC.sub(r"\1***", text)  # a header of ours
    # Cutting first keeps a hostile megabyte cheap; four times leaves room for what is dropped.
    text = text[: limit * 4]
    visible = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in text)
    folded = " ".join(visible.split())
    return folded if len(folded) <= limit else folded[: limit - 1] + "…"


def _list_shapes(secret: str) -> list[str]:
    """A secret as it stands in a form, a page or an answer that repeats the request; the longest first."""
    page = html.escape(secret)
    texts = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    shapes = {
        *(secret, quote_plus(secret), quote(secret), quote(secret, safe="")),
        # PHP writes ' and / in its own way.
        *(page, page.replace("&#x27;", "&#039;"), html.escape(secret, quote=False)),
        *(texts | {text.replace("/", "\\/") for text in texts}),
    }
    return sorted(shapes, key=len, reverse=True)


def describe_body(body: bytes, secrets: Collection[str] = ()) -> str:
    """A few words that let an operator recognise an answer that should not be there."""
    if not body.strip():
        return "an empty answer"
    text = body[: 8 * 1024].decode("utf-8", "replace").lstrip("\ufeff")
    is_html = re.match(r"\s*<(!doctype html|html|head|body)", text, re.IGNORECASE)
    if is_html:
        title = re.search(r"<title[^>]{0,200}>([^<]*)", text, re.IGNORECASE)
        text = title[1] if title and title[1].strip() else re.sub(r"<[^>]{0,500}>", " ", text)
    kind = "an HTML page" if is_html else "text"
    return f'{kind} "{clean_text(text, SNIPPET_LENGTH, secrets)}"'


def load_json(body: bytes, secrets: Collection[str] = ()) -> object:
    """The JSON value in an answer.

    Raises:
        BadAnswer: it is none, or holds text that cannot be written down again.
    """
    try:
        value: object = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    # RecursionError: a megabyte of "[" is short to send and deep to read.
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"the server answered {describe_body(body, secrets)} instead of JSON") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_envelope(body: bytes, secrets: Collection[str] = ()) -> Envelope:
    """Read an OCS answer, JSON or XML (told by its first sign, not by its content type).

    Raises:
        BadAnswer: it is no OCS envelope.
    """
    start = body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    meta, data = _split_xml(body, secrets) if start.startswith(b"<") else _split_json(body, secrets)
    code = _whole_number(meta.get("statuscode"))
    message = meta.get("message")
    if code is None or not isinstance(message, str | None):
        raise BadAnswer(f"the server's OCS answer has no valid status: {describe_body(body, secrets)}")
    return Envelope(code, clean_text(message or "", secrets=secrets), data)


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value) else None


def _split_json(body: bytes, secrets: Collection[str]) -> tuple[dict[str, object], object]:
    value = load_json(body, secrets)
    ocs = value.get("ocs") if isinstance(value, dict) else None
    meta = ocs.get("meta") if isinstance(ocs, dict) else None
    if not isinstance(ocs, dict) or not isinstance(meta, dict) or "data" not in ocs:
        raise BadAnswer(f"the server answered {describe_body(body, secrets)} instead of an OCS answer")
    return meta, ocs["data"]


def _split_xml(body: bytes, secrets: Collection[str]) -> tuple[dict[str, object], object]:
    problem = f"the server answered {describe_body(body, secrets)} instead of an OCS answer"
    if len(body) > _MAX_XML_BYTES:
        raise BadAnswer(problem)
    try:
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise BadAnswer(problem) from error
    meta, data = root.find("meta"), root.find("data")
    if root.tag != "ocs" or meta is None or data is None:
        raise BadAnswer(problem)
    return {child.tag: child.text for child in meta}, _xml_value(data, problem)


def _xml_value(element: Element, problem: str, depth: int = 0) -> object:
    """Text, a list (all children are ``element``, or there is nothing) or a dict."""
    if depth > _MAX_XML_DEPTH:
        raise BadAnswer(problem)
    children = list(element)
    if not children:
        return element.text if element.text and element.text.strip() else []
    values = [_xml_value(child, problem, depth + 1) for child in children]
    if all(child.tag == "element" for child in children):
        return values
    return {child.tag: value for child, value in zip(children, values, strict=True)}
