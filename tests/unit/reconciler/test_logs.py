"""Log lines: their fields, and that no value can forge a line or steer a terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from reconciler.logs import ROOT, clean, get_logger, set_up_logging
from states import StepKind

HOSTILE = [
    "a\nb",
    "a\r\nforged line",
    "\x1b[2J\x1b[31mred",
    "\x9b31m",
    "\x07bell\x08\x7f",
    "\u202egnihton",
    "\u2028line",
    "\udcff",
    "\0",
]


@pytest.fixture(autouse=True)
def logger_as_before() -> Iterator[None]:
    logger = logging.getLogger(ROOT)
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


def log(capsys: pytest.CaptureFixture[str], *, is_json: bool = False, **fields: object) -> str:
    """The one line that an event gives."""
    set_up_logging(is_json=is_json, level="info")
    get_logger("test").log("info", "step", **fields)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.endswith("\n")
    line = output.err.removesuffix("\n")
    assert "\n" not in line
    return line


def test_text_line_has_time_level_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    line = log(capsys, service=7, server=3, step=StepKind.CREATE, is_new=True, duration=0.25)
    time, _, rest = line.partition(" ")
    assert rest == "info step service=7 server=3 step=create is_new=True duration=0.25"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()) < 60
    assert time.endswith("+00:00")


def test_json_line_has_the_same_with_its_types(capsys: pytest.CaptureFixture[str]) -> None:
    line = json.loads(log(capsys, is_json=True, service=7, step=StepKind.CREATE, is_new=True, quota="ü"))
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "info",
        "event": "step",
        "service": 7,
        "step": "create",
        "is_new": True,
        "quota": "ü",
    }


@pytest.mark.parametrize("is_json", [False, True])
def test_fields_that_are_none_are_left_out(capsys: pytest.CaptureFixture[str], is_json: bool) -> None:
    line = log(capsys, is_json=is_json, error=None, blocked_by=None, service=0, note=False)
    assert "error" not in line
    assert "blocked_by" not in line
    assert "service" in line
    assert "note" in line


def test_durations_are_rounded(capsys: pytest.CaptureFixture[str]) -> None:
    assert log(capsys, duration=1.23456789).endswith("duration=1.235")
    assert json.loads(log(capsys, is_json=True, duration=1.23456789))["duration"] == 1.235


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", '"two words"'),
        ("", '""'),
        ('say "no"', r'"say \"no\""'),
        ("a=b", '"a=b"'),
        ("слово", "слово"),
        (("a", 1), "\"('a', 1)\""),
    ],
)
def test_text_that_is_no_single_word_is_quoted(
    capsys: pytest.CaptureFixture[str], value: object, shown: str
) -> None:
    assert log(capsys, why=value).endswith(f" step why={shown}")


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("is_json", [False, True])
def test_nothing_that_a_terminal_obeys_gets_through(
    capsys: pytest.CaptureFixture[str], hostile: str, is_json: bool
) -> None:
    line = log(capsys, is_json=is_json, account=hostile)
    assert line.isprintable()
    if is_json:
        assert json.loads(line)["account"] == clean(hostile)


def test_event_itself_is_made_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    for is_json in (False, True):
        set_up_logging(is_json=is_json, level="info")
        get_logger("test").log("info", "bad\x1b[2J\x9b\nevent %s")
        line = capsys.readouterr().err.removesuffix("\n")
        assert line.isprintable()
        assert "event %s" in line


@pytest.mark.parametrize("hostile", HOSTILE)
def test_clean_text_keeps_what_can_be_read(hostile: str) -> None:
    assert clean(hostile).isprintable()
    assert clean("ordinary текст 😀 with 'quotes' and \\ slashes") == (
        "ordinary текст 😀 with 'quotes' and \\ slashes"
    )


def test_level_decides_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(is_json=False, level="warning")
    logger = get_logger("test")
    for level in ("debug", "info", "warning", "error"):
        logger.log(level, f"event-{level}")
    words = [line.split()[2] for line in capsys.readouterr().err.splitlines()]
    assert words == ["event-warning", "event-error"]


def test_setting_up_twice_does_not_write_twice(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(is_json=True, level="debug")
    log(capsys, service=7)


def test_line_of_another_library_under_our_name_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(is_json=False, level="info")
    logging.getLogger(f"{ROOT}.other").warning("plain %s", "line")
    assert capsys.readouterr().err.endswith(" warning plain line\n")
