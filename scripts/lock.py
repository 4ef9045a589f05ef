"""Writes requirements.lock, requirements-dev.lock and requirements-fuzz.lock; called by ``make lock``.

pip itself resolves the newest versions that pyproject.toml allows, once for every supported Python, each in
a scratch environment (``pip install --dry-run --report``: nothing is installed). Only names and versions are
kept: no index, no address, no hash, so that the files serve every mirror and every platform.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SUPPORTED: Final = ("3.11", "3.12", "3.13")

Pins = dict[str, str]
"""Package name (lower case, with hyphens) to version, for one Python."""


def find_interpreter(version: str) -> str:
    """A Python of that version from PATH or pyenv, or the end of the program with the reason."""
    candidates = [shutil.which(f"python{version}"), shutil.which(f"/usr/bin/python{version}")]
    candidates += [str(path) for path in sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for candidate in candidates:
        if candidate is None:
            continue
        answer = subprocess.run([candidate, "--version"], check=False, capture_output=True, text=True)
        if answer.stdout.startswith(f"Python {version}."):
            return candidate
    sys.exit(
        f"lock: Python {version} was not found; each of {', '.join(SUPPORTED)} is needed to resolve for it"
    )


def resolve(python: Path, requirements: list[str], folder: Path, constraints: Pins) -> Pins:
    """What pip would install for the requirements on that interpreter."""
    wanted, limits, report = folder / "wanted.txt", folder / "limits.txt", folder / "report.json"
    wanted.write_text("\n".join(requirements) + "\n")
    limits.write_text("".join(f"{name}=={version}\n" for name, version in constraints.items()))
    command = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--dry-run"]
    command += ["--ignore-installed", "--report", str(report), "-r", str(wanted), "-c", str(limits)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    pins: Pins = {}
    for entry in json.loads(report.read_text())["install"]:
        name = re.sub(r"[-_.]+", "-", entry["metadata"]["name"]).lower()
        pins[name] = entry["metadata"]["version"]
    return pins


def render(pins_by_python: dict[str, Pins]) -> list[str]:
    """One line a package, or one a version with a marker where the Pythons differ."""
    lines = []
    for name in sorted({name for pins in pins_by_python.values() for name in pins}):
        pythons_by_version: dict[str, list[str]] = {}
        for python, pins in pins_by_python.items():
            if name in pins:
                pythons_by_version.setdefault(pins[name], []).append(python)
        for version, pythons in sorted(pythons_by_version.items()):
            line = f"{name}=={version}"
            if len(pythons) < len(pins_by_python):
                line += " ; " + " or ".join(f'python_version == "{python}"' for python in pythons)
            lines.append(line)
    return lines


def main() -> None:
    """Resolve for every supported Python and write the files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = project["project"]["dependencies"] + project["build-system"]["requires"]
    extras = project["project"]["optional-dependencies"]
    dev, fuzz = extras["dev"], extras["fuzz"]
    runtime_pins: dict[str, Pins] = {}
    dev_pins: dict[str, Pins] = {}
    fuzz_pins: dict[str, Pins] = {}
    for version in SUPPORTED:
        interpreter = find_interpreter(version)
        print(f"lock: resolving for Python {version}")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            subprocess.run([interpreter, "-m", "venv", str(folder / "venv")], check=True)
            python = folder / "venv" / "bin" / "python"
            everything = resolve(python, runtime + dev, folder, {})
            runtime_pins[version] = resolve(python, runtime, folder, everything)
            dev_pins[version] = {
                name: pin for name, pin in everything.items() if name not in runtime_pins[version]
            }
            resolved = resolve(python, fuzz, folder, everything)
            fuzz_pins[version] = {name: pin for name, pin in resolved.items() if name not in everything}
    head = f"# Written by `make lock` for Python {SUPPORTED[0]} to {SUPPORTED[-1]}; not by hand.\n"
    runtime_note = "# What the program runs on, and setuptools, which installs the project itself.\n"
    dev_note = "# What tests and checks need besides requirements.lock.\n"
    (ROOT / "requirements.lock").write_text(head + runtime_note + "\n".join(render(runtime_pins)) + "\n")
    (ROOT / "requirements-dev.lock").write_text(head + dev_note + "\n".join(render(dev_pins)) + "\n")
    fuzz_note = "# What `make fuzz` needs besides requirements-dev.lock.\n"
    (ROOT / "requirements-fuzz.lock").write_text(head + fuzz_note + "\n".join(render(fuzz_pins)) + "\n")


if __name__ == "__main__":
    main()
