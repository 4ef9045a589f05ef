"""The module's XML file is held to BILLmanager's forms, to the errors of the program and to its guide."""

from __future__ import annotations

import re
import struct
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import parse

from reconciler.panel.entry import make_features
from reconciler.panel.messages import TEXTS, Language
from scripts.draw_logo import LOGO, draw

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "billmanager" / "billmgr_mod_pmnextcloud.xml"
LANGUAGES: tuple[Language, ...] = ("ru", "en")
FIELDS = {
    "processing.edit.pmnextcloud": ["base_url", "nc_username", "nc_password"],
    "pricelist.pmnextcloud": ["usergroup"],
}
CARD = {"url", "username", "userpassword", "nextcloud_status", "nextcloud_used"}
GUIDES = {"en": ROOT / "docs" / "billmanager.md", "ru": ROOT / "docs" / "billmanager.ru.md"}


@pytest.fixture(scope="module")
def document() -> Element:
    root = parse(FILE).getroot()
    assert root is not None
    return root


def read_messages(document: Element, language: str, group: str) -> dict[str, str]:
    found = document.findall(f"lang[@name='{language}']/messages[@name='{group}']/msg")
    names = Counter(message.get("name") for message in found)
    assert [name for name, count in names.items() if count > 1] == []
    return {message.get("name", ""): message.text or "" for message in found}


def find_input(document: Element, name: str) -> Element:
    (found,) = [element for element in document.iter("input") if element.get("name") == name]
    return found


def test_the_plugin_is_a_processing_module_for_what_the_program_offers(document: Element) -> None:
    assert document.tag == "mgrdata"
    (plugin,) = document.findall("plugin")
    assert (plugin.get("name"), plugin.findtext("group")) == ("pmnextcloud", "processing_module")
    types = [element.get("name") for element in plugin.findall("params/type")]
    assert types == [element.get("name") for element in make_features().findall("itemtypes/itemtype")]


def test_the_forms_have_the_fields_that_they_should_have(document: Element) -> None:
    forms = {
        form.get("name"): [field.get("name") for field in form.iter("field")]
        for form in document.findall("metadata[@type='form']")
    }
    assert forms == FIELDS
    params = [param.get("name") for param in make_features().findall("params/param")]
    assert params == FIELDS["processing.edit.pmnextcloud"]
    for field in document.iter("field"):
        assert [element.get("name") for element in field] == [field.get("name")]
    assert document.find("metadata[@name='processing.edit.pmnextcloud']/form/page[@name='methodprops']")


def test_every_field_has_a_label_and_a_hint_in_both_languages(document: Element) -> None:
    for language in LANGUAGES:
        for form, fields in FIELDS.items():
            wanted = {word for field in fields for word in (field, f"hint_{field}")}
            messages = read_messages(document, language, form)
            messages.pop("placeholder_base_url", None)
            assert messages.keys() == wanted
            assert all(messages.values())


def test_every_field_of_a_server_is_required_and_short_enough_to_be_stored(document: Element) -> None:
    for name in FIELDS["processing.edit.pmnextcloud"]:
        field = find_input(document, name)
        assert (field.get("required"), field.get("maxlength")) == ("yes", "255")


def test_the_password_is_not_shown_and_the_url_is_checked(document: Element) -> None:
    assert find_input(document, "nc_password").get("type") == "password"
    url = find_input(document, "base_url")
    assert (url.get("type"), url.get("check")) == ("text", "url")
    for language in LANGUAGES:
        messages = read_messages(document, language, "processing.edit.pmnextcloud")
        assert messages["placeholder_base_url"] == "https://my.panel.example"


def test_everything_that_the_card_shows_has_a_label_in_both_languages(document: Element) -> None:
    for language in LANGUAGES:
        labels = read_messages(document, language, "backupservice.edit")
        assert labels.keys() == CARD
        assert all(labels.values())


def test_the_module_has_a_name_and_a_description_in_both_languages(document: Element) -> None:
    for language in LANGUAGES:
        names = read_messages(document, language, "label_processing_modules")
        assert names.keys() == {"pmnextcloud", "module_pmnextcloud"}
        described = read_messages(document, language, "plugin")
        assert described.keys() == {f"{kind}_pmnextcloud" for kind in ("desc_short", "desc_full", "price")}
        assert all([*names.values(), *described.values()])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_error_has_the_programs_own_text_and_there_is_no_other(
    document: Element, language: Language
) -> None:
    texts = {f"msg_error_{kind}": texts[language] for kind, texts in TEXTS.items()}
    assert read_messages(document, language, "msgerror") == texts


def test_both_languages_have_the_same_messages(document: Element) -> None:
    names = [
        [
            (group.get("name"), message.get("name"))
            for group in document.findall(f"lang[@name='{language}']/messages")
            for message in group.findall("msg")
        ]
        for language in LANGUAGES
    ]
    assert names[0] == names[1] != []
    assert [element.get("name") for element in document.findall("lang")] == list(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_guide_explains_every_type_of_error_and_no_other(language: Language) -> None:
    text = GUIDES[language].read_text("utf-8")
    assert re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE) == list(TEXTS)


def test_the_installer_knows_the_files_as_ours() -> None:
    mark = b"Put here by bill-nextcloud"
    assert f'MARK="{mark.decode()}"' in (ROOT / "scripts" / "install-billmanager").read_text("utf-8")
    for path in (FILE, LOGO, ROOT / "scripts" / "launcher-billmanager"):
        assert mark in path.read_bytes(), path


def test_the_logo_is_what_its_script_draws_and_small_enough() -> None:
    content = LOGO.read_bytes()
    assert content == draw(), "run `python -m scripts.draw_logo`"
    width, height = struct.unpack(">II", content[16:24])
    assert 0 < width == height <= 128
