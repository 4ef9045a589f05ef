"""The repository itself: it stands alone, its pins fit, its layers are held, its targets are told."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-fuzz.lock")
PYTHONS = ("3.11", "3.12", "3.13")

# In pieces, so that this file is not one of those that name them.
FORBIDDEN_TEXTS = [
    re.compile(r"(?<![\w.-])/" + "work/(main|shared)"),
    re.compile(r"\.\./" + "shared"),
    re.compile("/root/" + r"\.pyenv"),
    re.compile("/opt/" + "pypi"),
    re.compile("py" + r"pi\.org"),
    re.compile("python" + r"hosted\.org"),
]
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}


def list_files() -> list[Path]:
    """Every file that is, or would be, committed; relative to the root."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    try:
        listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository: which files belong to it is unknown")
    files = [Path(name) for name in listing.decode().split("\0") if name]
    return [path for path in files if (ROOT / path).is_file()]


def lock_lines() -> list[str]:
    lines = [line for name in LOCKS for line in (ROOT / name).read_text().splitlines()]
    return [line for line in lines if not line.startswith("#")]


def test_lock_holds_exact_versions_and_no_host() -> None:
    for line in lock_lines():
        assert re.fullmatch(r'[a-z0-9-]+==[0-9][0-9a-z.]*( ; [a-z_="0-9. ]+)?', line), line
    for name in LOCKS:
        assert not re.search(r"https?:|--[a-z-]+|@|[a-z]\.(org|com|net|io)\b", (ROOT / name).read_text())


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_what_the_project_asks_for(python: str) -> None:
    environment = {key: str(value) for key, value in default_environment().items()}
    environment.update(python_version=python, python_full_version=f"{python}.0")
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    extras = project["project"]["optional-dependencies"]
    pins: dict[str, str] = {}
    for name, requirements in zip(LOCKS, (wanted, extras["dev"], extras["fuzz"]), strict=True):
        lines = (ROOT / name).read_text().splitlines()
        for pin in [Requirement(line) for line in lines if not line.startswith("#")]:
            if pin.marker is None or pin.marker.evaluate(environment):
                assert pin.name not in pins
                pins[pin.name] = str(pin.specifier).removeprefix("==")
        for requirement in map(Requirement, requirements):
            version = pins.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} is not in {name}: run make lock"
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: run make lock"


def test_no_file_names_this_machine_or_a_package_index() -> None:
    found = []
    for path in list_files():
        text = (ROOT / path).read_bytes().decode(errors="replace")
        found += [f"{path}: {pattern.pattern}" for pattern in FORBIDDEN_TEXTS if pattern.search(text)]
    assert found == []


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    parts = {(part.split(".")[0].lower(), path) for path in list_files() for part in path.parts}
    assert [path for part, path in parts if part in FORBIDDEN_NAMES] == []


def test_every_module_says_what_it_owns() -> None:
    # An empty __init__.py below tests owns nothing; it only makes the folder a package.
    python_files = [
        path
        for path in list_files()
        if path.suffix == ".py" and not (path.parts[0] == "tests" and (ROOT / path).stat().st_size == 0)
    ]
    assert python_files
    assert [
        path for path in python_files if not ast.get_docstring(ast.parse((ROOT / path).read_bytes()))
    ] == []


def test_make_alone_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert targets == set(" ".join(phony).split()) != set()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    answer = subprocess.run(["make"], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert {line.split()[1] for line in answer.stdout.splitlines()} == targets


@pytest.mark.parametrize(
    "name", [".ci/run", "scripts/setup", "scripts/install", "scripts/install-billmanager"]
)
def test_scripts_can_be_run(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


def test_setup_refuses_a_stage_it_does_not_know() -> None:
    answer = subprocess.run(
        [str(ROOT / "scripts/setup"), "all"],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert (answer.returncode, answer.stderr) == (1, "setup: usage: scripts/setup demo|check|test\n")


# --- the layers ------------------------------------------------------------------------------------

PACKAGES = ("states", "bm_db", "nc", "reconciler")
ALLOWED = {
    "states.machine": ["transitions"],
    "bm_db.x": ["states", "sqlalchemy", "MySQLdb", "psycopg", "cryptography"],
    "nc.x": ["states", "requests"],
    "reconciler.x": ["states", "bm_db.x", "nc.x", "sqlalchemy", "cryptography", "click", "rich", "pydantic"],
}
FRAMEWORKS = ["apscheduler", "prometheus_client", "flask", "waitress", "click", "rich"]
FORBIDDEN = {
    "states": [
        *("bm_db", "nc", "reconciler", "requests", "sqlalchemy", "MySQLdb", "psycopg", "cryptography"),
        *("transitions", "defusedxml", *FRAMEWORKS),
    ],
    "bm_db": ["nc", "reconciler", "requests", "transitions", *FRAMEWORKS],
    "nc": [
        "bm_db",
        "reconciler",
        "sqlalchemy",
        "MySQLdb",
        "psycopg",
        "cryptography",
        "transitions",
        *FRAMEWORKS,
    ],
    "reconciler": ["requests", "transitions"],
}


def lint_layers(folder: Path, imports: dict[str, list[str]]) -> subprocess.CompletedProcess[str]:
    """The repository's contracts on packages that consist of these imports (module to imported names)."""
    for package in PACKAGES:
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    for module, imported in imports.items():
        path = folder / (module.replace(".", "/") + ".py")
        path.write_text("".join(f"import {name}\n" for name in imported))
    (folder / ".importlinter").write_text((ROOT / ".importlinter").read_text())
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
    )


def test_layers_allow_what_the_design_allows(tmp_path: Path) -> None:
    answer = lint_layers(tmp_path, ALLOWED)
    assert answer.returncode == 0, answer.stdout


def test_layers_refuse_each_import_that_the_design_forbids(tmp_path: Path) -> None:
    pairs = [(package, target) for package, targets in FORBIDDEN.items() for target in targets]
    imports = {f"{package}.bad_{target.lower()}": [target] for package, target in pairs}
    answer = lint_layers(tmp_path, imports)
    assert answer.returncode == 1
    told = set(re.findall(r"(\w+\.bad_\w+) -> (\w+)", answer.stdout))
    assert {(module, targets[0]) for module, targets in imports.items()} - told == set()
