"""The module's command line: whatever BILLmanager (or anybody else) hands it, an XML document comes back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from reconciler.panel.arguments import parse_arguments
from reconciler.panel.errors import PanelError
from tests.acceptance.conftest import World
from tests.acceptance.panel import install_mgrctl
from tests.acceptance.pmnextcloud.calling import call, start

ENTITIES = """<!DOCTYPE doc [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<doc><processingmodule><base_url>&b;</base_url></processingmodule></doc>"""
EXTERNAL = """<!DOCTYPE doc [<!ENTITY x SYSTEM "file:///etc/passwd">]><doc><base_url>&x;</base_url></doc>"""
READING = (
    "check_connection",
    "tune_connection",
    "pricelist_dynamic_settings",
    "pricelist_dynamic_settings_tune",
)


@pytest.fixture
def configured(world: World) -> World:
    world.land.configure(install_mgrctl(world))
    return world


def test_the_features_name_every_command_and_the_servers_parameters(configured: World) -> None:
    document = call(configured, "features").document
    assert [each.get("name") for each in document.findall("itemtypes/itemtype")] == ["backupservice"]
    assert [dict(each.attrib) for each in document.findall("params/param")] == [
        {"name": "base_url"},
        {"name": "nc_username"},
        {"name": "nc_password", "crypted": "yes"},
    ]
    assert {each.get("name") for each in document.findall("features/feature")} == {
        "features",
        "open",
        "close",
        "suspend",
        "resume",
        "setparam",
        "stat",
        "check_connection",
        "tune_connection",
        "get_server_config",
        "pricelist_dynamic_settings",
        "pricelist_dynamic_settings_tune",
        "sync_item",
        "changepassword",
    }


def test_the_features_are_told_without_any_configuration(tmp_path: Path) -> None:
    """BILLmanager asks at its every start, also before anybody has configured anything."""
    result = subprocess.run(
        [sys.executable, "-m", "reconciler.panel", "--command=features"],
        capture_output=True,
        timeout=120,
        check=False,
        env={"RECONCILER_CONFIG": str(tmp_path / "none"), "PMNEXTCLOUD_LOG": str(tmp_path / "log")},
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert ET.fromstring(result.stdout).find("features") is not None


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize(
    "form",
    [ENTITIES, EXTERNAL, "", "no xml", "<doc><base_url>", b"\x00\xff\xfe", "<doc>" * 100_000],
    ids=["entities", "external", "empty", "text", "cut", "bytes", "deep"],
)
def test_a_form_that_is_no_form_is_refused(configured: World, command: str, form: str | bytes) -> None:
    answer = call(configured, command, form=form, module=configured.land.server_ids[0])
    assert (answer.code, answer.error["type"]) == (1, "wrong_request")
    assert "root:" not in answer.error["value"] + answer.log


def test_a_form_of_50_megabytes_is_refused_without_reading_it_all(configured: World) -> None:
    answer = call(configured, "check_connection", form=b"<doc>" + b"a" * 50_000_000)
    assert (answer.code, answer.error["type"]) == (1, "wrong_request")
    assert "longer than" in answer.error["value"]


@pytest.mark.parametrize("lang", ["ru", "en", "de", ""])
def test_errors_are_in_the_language_that_was_asked_for(configured: World, lang: str) -> None:
    error = call(configured, "stat", module=999, lang=lang).error
    assert error["type"] == "missing_server"
    assert error["object"] == "999"
    assert error["msg"].startswith("Сервер 999" if lang == "ru" else "Server 999")


@pytest.mark.parametrize("words", [{}, {"item": "x"}, {"item": "-1"}, {"item": "9" * 40}, {"item": ""}])
def test_an_operation_without_a_service_is_refused(configured: World, words: dict[str, str]) -> None:
    assert call(configured, "open", **words).error["type"] == "wrong_request"


def test_a_command_that_does_not_exist_is_refused_and_no_argument_at_all_too(configured: World) -> None:
    assert call(configured, "drop_everything").error["type"] == "wrong_request"
    process = start(configured)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (1, b"")
    assert ET.fromstring(out).find("error") is not None


def test_a_service_in_a_hostile_argument_cannot_break_the_document_or_the_log(configured: World) -> None:
    answer = call(configured, 'open"><x>\x1b[2J\nforged line', item=1)
    assert answer.error["type"] == "wrong_request"
    assert answer.document.find(".//x") is None
    assert "\x1b" not in answer.log
    assert not any(line.startswith("forged") for line in answer.log.splitlines())


def test_both_spellings_mean_the_same_and_unknown_arguments_nothing() -> None:
    apart = parse_arguments(["--command", "open", "--item", "7", "--novelty", "x", "--flag", "--lang", "ru"])
    joined = parse_arguments(["--command=open", "--item=7", "--novelty=x", "--flag", "--lang=ru", "stray"])
    for arguments in (apart, joined):
        assert (arguments.get("command"), arguments.need_id("item")) == ("open", 7)
        assert arguments.get("lang") == "ru"
        assert arguments.get("novelty") is None


def test_an_argument_without_a_value_takes_none_from_the_next() -> None:
    arguments = parse_arguments(["--subcommand", "--item", "7", "--password=--item=8", "--addon"])
    assert (arguments.get("subcommand"), arguments.get_id("item")) == (None, 7)
    assert arguments.get("password") == "--item=8"


def test_a_password_is_not_in_the_arguments_repr() -> None:
    assert "secret" not in repr(parse_arguments(["--password", "secret"]))


def test_zero_and_nothing_are_no_id() -> None:
    arguments = parse_arguments(["--runningoperation", "0", "--item="])
    assert arguments.get_id("runningoperation") is None
    with pytest.raises(PanelError):
        arguments.need_id("item")
