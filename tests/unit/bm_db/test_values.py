"""Column values in every spelling that installations use."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from bm_db.values import (
    UnreadableValue,
    gather_parameters,
    get_single,
    is_on,
    read_filled_text,
    read_flag,
    read_integer,
    read_number,
    read_text,
    show,
)


@pytest.mark.parametrize("value", ["on", "ON", " on ", "true", "1", "yes", "t", True, 1, b"on"])
def test_every_spelling_of_on_is_on(value: object) -> None:
    assert read_flag(value) is True


@pytest.mark.parametrize("value", ["off", "OFF", "false", "0", "no", "f", False, 0, b"off"])
def test_every_spelling_of_off_is_off(value: object) -> None:
    assert read_flag(value) is False


@pytest.mark.parametrize("value", [None, "", "  "])
def test_blank_is_neither(value: object) -> None:
    assert read_flag(value) is None
    assert is_on(value, default=True) is True
    assert is_on(value, default=False) is False
    assert read_number(value) is None
    assert read_integer(value) is None
    assert read_filled_text(value) is None


def test_unreadable_boolean_takes_the_default() -> None:
    with pytest.raises(UnreadableValue, match="'perhaps' is neither on nor off"):
        read_flag("perhaps")
    assert is_on("perhaps", default=True) is True


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, Fraction(5)),
        (True, Fraction(1)),
        ("5", Fraction(5)),
        (" -5 ", Fraction(-5)),
        ("+1.50", Fraction(3, 2)),
        (b"1.44", Fraction(144, 100)),
        (1.44, Fraction(144, 100)),
        (1e22, Fraction(10**22)),
        (Decimal("1E+3"), Fraction(1000)),
        (Decimal("1.50"), Fraction(3, 2)),
        (memoryview(b"7"), Fraction(7)),
    ],
)
def test_numbers_are_exact_however_they_are_stored(value: object, number: Fraction) -> None:
    assert read_number(value) == number


@pytest.mark.parametrize(
    "value", ["x", "1e3", "1,5", "1 000", ".5", "5.", "0x1", "nan", float("inf"), "1/2", "٣", "1" * 41]
)
def test_what_is_no_plain_number_is_unreadable(value: object) -> None:
    with pytest.raises(UnreadableValue):
        read_number(value)


def test_whole_numbers_only() -> None:
    assert read_integer("2.0") == 2
    with pytest.raises(UnreadableValue, match="not a whole number"):
        read_integer("2.5")


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert read_text(b"\xffA") == "\ufffdA"
    assert read_text(Decimal("1E+3")) == "1000"
    assert read_text(7) == "7"


def test_shown_values_are_short_and_on_one_line() -> None:
    assert show(None) == "NULL"
    assert show("a\nb\x00'\u202e") == "'a\\nb\\x00\\'\\u202e'"
    assert show("x" * 1000) == "'" + "x" * 40 + "…'"


def test_parameters_are_gathered_without_blanks() -> None:
    rows = [
        ("Username", "anna"),
        ("username", "anna"),
        ("url", ""),
        ("url", None),
        (None, "x"),
        (b"quota_gb", b"5"),
    ]
    gathered = gather_parameters(rows)
    assert gathered == {"username": ["anna", "anna"], "quota_gb": ["5"]}
    assert get_single(gathered, "username") == "anna"
    assert get_single(gathered, "url") is None
    with pytest.raises(UnreadableValue, match="recorded 2 times"):
        get_single({"url": ["a", "b"]}, "url")
