"""XML between BILLmanager and the module: forms in, answers and errors out.

What comes in is read by defusedxml: no entities, no external references, no more than a form is long.
"""

from __future__ import annotations

import re
from typing import BinaryIO, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from reconciler.panel.errors import PanelError
from reconciler.panel.messages import Language, get_text

MAX_BYTES: Final = 1024 * 1024
"""A form has some dozens of short fields."""
_FORBIDDEN: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_form(stream: BinaryIO) -> Element:
    """The document on standard input.

    Raises:
        PanelError: it is missing, too long, not XML, or uses what no form needs (a DOCTYPE, entities).
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PanelError("wrong_request", "stdin", f"the form is longer than {MAX_BYTES} bytes")
    try:
        form: Element = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError) as error:
        # The parser's own message could hold a piece of the form, which has a password in it.
        reason = "it is empty" if not content.strip() else type(error).__name__
        raise PanelError("wrong_request", "stdin", f"the form is not plain XML ({reason})") from None
    return form


def get_field(form: Element, name: str) -> str:
    """A field's text, without blanks at the ends; "" when it is not there."""
    return (form.findtext(name) or "").strip()


def find_function(form: Element) -> str:
    """Which form it is: BILLmanager says so in a field, or on the document."""
    return get_field(form, "func") or form.get("func", "")


def fill_select(form: Element, name: str, keys: list[str]) -> None:
    """Fill a select with these keys, after an empty first choice; what filled it before is replaced."""
    for old in [child for child in form.findall("slist") if child.get("name") == name]:
        form.remove(old)
    choices = SubElement(form, "slist", name=name)
    for key in ("", *keys):
        SubElement(choices, "val", key=_clean(key)).text = _clean(key)


def render(document: Element) -> bytes:
    """A document as it goes to standard output."""
    content: bytes = tostring(document, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def make_error(error: PanelError, language: Language) -> Element:
    """The document that tells an error."""
    document = Element("doc", lang=language)
    found = SubElement(
        document,
        "error",
        type=error.kind,
        object=_clean(error.object_name),
        value=_clean(error.value),
        lang=language,
    )
    text = get_text(error.kind, error.object_name, error.value, language)
    SubElement(found, "msg").text = _clean(text)
    return document


def _clean(text: str) -> str:
    """A text without the characters that no XML document may hold."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
