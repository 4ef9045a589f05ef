"""The emulator's own quota arithmetic, on what the recordings do not hold."""

from __future__ import annotations

import pytest

from reconciler.sandbox.emulator_quota import format_size, read_size, store_quota, stored_bytes


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("1572864000", "1.5 GB"),
        ("999999999999", "931.3 GB"),
        ("1310720", "1.3 MB"),
        ("1127428915", "1.1 GB"),
        ("1048063", "1023 KB"),
        ("1048064", "1 MB"),
        ("2e3", "2 KB"),
        ("1.4", "1 B"),
        ("blob", "0 B"),
        (" 5 gb", "5 GB"),
        ("-5 GB", " B"),
        ("none", "none"),
        ("default", "default"),
    ],
)
def test_a_quota_is_kept_as_a_rounded_text(sent: str, text: str) -> None:
    assert store_quota(sent) == text


@pytest.mark.parametrize("sent", ["", "lots", "12 %", "NaN", "1 gigabyte"])
def test_a_text_without_a_size_is_refused(sent: str) -> None:
    assert store_quota(sent) is None


def test_halves_are_rounded_up_as_they_are_shown() -> None:
    assert format_size(1.25 * 1024**2) == "1.3 MB"
    assert format_size(1.05 * 1024**3) == "1.1 GB"


def test_what_is_kept_is_read_back_the_same() -> None:
    assert stored_bytes("931.3 GB") == 999975760691
    assert stored_bytes(" B") == 0
    assert stored_bytes("nothing") == 0
    assert stored_bytes("8192 PB") == -(2**63)


def test_sizes_beyond_the_largest_unit_stay_in_it() -> None:
    assert format_size(5000.0 * 1024**5) == "5000 PB"
    assert read_size("1e400") == float("inf")
    assert stored_bytes("1e400") == 0
    assert format_size(-1) == "?"
