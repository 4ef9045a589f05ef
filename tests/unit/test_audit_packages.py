"""The offline audit of the pinned packages finds what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.audit_packages import ROOT, list_faults, read_pins


def write(folder: Path, *lines: str, name: str = "requirements.lock") -> Path:
    (folder / name).write_text("\n".join(["# by make lock", *lines]) + "\n")
    return folder


def test_what_is_installed_here_is_what_is_pinned() -> None:
    assert list_faults(read_pins(ROOT)) == []


def test_only_the_pins_for_this_python_count(tmp_path: Path) -> None:
    write(tmp_path, 'a==1 ; python_version < "3"', 'a==2.0 ; python_version >= "3"', "b-c==3")
    write(tmp_path, "d==4", name="requirements-dev.lock")
    write(tmp_path, "e==5", name="requirements-fuzz.lock")
    with pytest.raises(SystemExit, match="no exact version"):
        read_pins(tmp_path)  # "<" is nothing that make lock writes
    write(tmp_path, 'a==1 ; python_version == "2.7"', "b-c==3")
    assert read_pins(tmp_path) == {"b-c": "3", "d": "4"}


@pytest.mark.parametrize(
    "line",
    [
        "flask>=3",
        "flask",
        "flask==3.*",
        "flask @ https://example.net/flask.whl",
        "--index-url https://example.net/simple",
        "--extra-index-url=https://example.net",
        "-e .",
        "git+https://example.net/x.git",
        "flask==3.1.3 --hash=sha256:00",
        "Flask==3.1.3",
    ],
)
def test_a_line_that_is_no_exact_version_ends_it(tmp_path: Path, line: str) -> None:
    with pytest.raises(SystemExit, match=r"audit: requirements\.lock: "):
        read_pins(write(tmp_path, line))


def test_a_package_that_is_not_pinned_or_in_another_version_is_told() -> None:
    pins = read_pins(ROOT)
    pins["flask"] = "0.0.1"
    del pins["click"], pins["iniconfig"]  # one is needed by what is needed
    assert [fault.partition(" is ")[0] for fault in list_faults(pins)] == ["click", "flask", "iniconfig"]
