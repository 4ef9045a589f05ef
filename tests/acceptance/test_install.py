"""`make install` into folders with blanks in their names, and what was installed at work."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PREFIX = "opt/bill nextcloud"
PACKAGES = ("states", "bm_db", "nc", "reconciler")
CONFIG = "etc/bill-nextcloud/config.toml"
UNIT = "usr/lib/systemd/system/bill-nextcloud-reconciler.service"
LINK = "usr/local/bin/reconciler"
MODES = {
    CONFIG: 0o640,
    UNIT: 0o644,
    "usr/lib/sysusers.d/bill-nextcloud.conf": 0o644,
    "usr/lib/tmpfiles.d/bill-nextcloud.conf": 0o644,
    f"{PREFIX}/bin/reconciler": 0o755,
    f"{PREFIX}/share/bill-nextcloud/README.md": 0o644,
    f"{PREFIX}/share/bill-nextcloud/config.example.toml": 0o644,
    f"{PREFIX}/share/bill-nextcloud/docs/install.md": 0o644,
    f"{PREFIX}/share/bill-nextcloud/deploy/prometheus/alerts.yml": 0o644,
    f"{PREFIX}/share/bill-nextcloud/systemd/run-as-root.conf": 0o644,
}


def make(*arguments: str, environment: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run make as an administrator with a careful umask does; the tests' environment counts as set up."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--assume-old=.venv/.ready-demo", *arguments],
        cwd=ROOT,
        env={**inherited, "PYTHON": sys.executable, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        umask=0o077,
    )


def install(target: Path) -> str:
    answer = make("install", f"DESTDIR={target}", f"PREFIX=/{PREFIX}")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def list_files(target: Path) -> set[str]:
    """Everything but the insides of the virtual environment."""
    files = {path.relative_to(target) for path in target.rglob("*") if path.is_symlink() or path.is_file()}
    return {str(path) for path in files if "venv" not in path.parts}


def hash_modules(folder: Path) -> dict[str, str]:
    """What belongs to the program's packages, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for package in PACKAGES
        for path in (folder / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def run_installed(target: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [target / PREFIX / "bin" / "reconciler", *arguments],
        check=False,
        capture_output=True,
        text=True,
        **options,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which it was installed."""
    target = tmp_path_factory.mktemp("installed") / "a machine"
    before = set(ROOT.iterdir())
    install(target)
    assert {path.name for path in set(ROOT.iterdir()) - before}.isdisjoint(
        {"build", "bill_nextcloud.egg-info"}
    )
    return target


def test_files_stand_where_they_belong_with_the_right_modes(installed: Path) -> None:
    assert {name: stat.S_IMODE((installed / name).stat().st_mode) for name in MODES} == MODES
    assert (installed / LINK).readlink() == Path(f"/{PREFIX}/bin/reconciler")
    others = list_files(installed) - set(MODES) - {LINK}
    assert [name for name in others if not name.startswith(f"{PREFIX}/share/bill-nextcloud/")] == []


def test_the_daemons_user_can_read_the_whole_program(installed: Path) -> None:
    paths = [path for path in (installed / PREFIX).rglob("*") if not path.is_symlink()]
    assert len(paths) > 1000
    for path in paths:
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        assert path.stat().st_mode & wanted == wanted, path
        assert not path.stat().st_mode & stat.S_IWOTH, path


def test_every_part_of_the_program_is_installed_and_only_what_it_needs(installed: Path) -> None:
    (packages,) = (installed / PREFIX / "venv/lib").glob("python3*/site-packages")
    assert hash_modules(packages) == hash_modules(ROOT)
    names = {path.name for path in packages.iterdir()}
    assert {"sqlalchemy", "MySQLdb", "psycopg", "waitress"} <= names
    assert names.isdisjoint({"pip", "pytest", "mypy", "hypothesis", "tests", "benchmarks", "scripts"})
    programs = {path.name for path in (installed / PREFIX / "venv/bin").iterdir()}
    assert {name for name in programs if not name.startswith("python")} == {"reconciler"}


def test_the_installed_command_runs_by_itself(installed: Path, tmp_path: Path) -> None:
    # What stands in the current folder or in PYTHONPATH is not what root wants to run.
    (tmp_path / "reconciler.py").write_text("raise SystemExit('the wrong program')\n")
    environment = {"PATH": os.defpath, "PYTHONPATH": str(tmp_path)}
    for arguments in (["--version"], ["--help"], ["draw-states"]):
        answer = run_installed(installed, *arguments, cwd=tmp_path, env=environment)
        assert (answer.returncode, answer.stderr) == (0, ""), answer
    assert run_installed(installed, "--help").stdout.startswith("Usage: reconciler [OPTIONS]")
    drawn = run_installed(installed, "draw-states").stdout
    own = subprocess.run(
        [sys.executable, "-m", "reconciler.cli", "draw-states"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert drawn == own.stdout
    assert drawn.startswith("stateDiagram-v2")


def test_the_command_works_through_its_link(installed: Path, tmp_path: Path) -> None:
    link = tmp_path / "reconciler"
    link.symlink_to(installed / PREFIX / "bin" / "reconciler")
    answer = subprocess.run([link, "--version"], check=True, capture_output=True, text=True)
    assert answer.stdout.startswith("reconciler, version ")


def test_the_first_configuration_is_in_order_and_only_observes(installed: Path) -> None:
    config = tomllib.loads((installed / CONFIG).read_text("utf-8"))
    example = tomllib.loads((ROOT / "config.example.toml").read_text("utf-8"))
    example["reconciler"]["mode"] = "observe"
    example["reconciler"]["journal_key_file"] = "/var/lib/bill-nextcloud/journal.key"
    assert config == example
    answer = run_installed(installed, "--config", str(installed / CONFIG), "validate-config")
    # What is wrong with it are the files that this machine lacks.
    assert answer.returncode == 2
    assert {line.split(":")[1].split(".")[0].strip() for line in answer.stderr.splitlines()} <= {
        "billmanager"
    }


def test_the_unit_starts_the_command_that_was_installed(installed: Path) -> None:
    lines = (installed / UNIT).read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("ExecStart=")] == [
        f'ExecStart="/{PREFIX}/bin/reconciler" run'
    ]


def test_a_second_run_renews_the_program_and_keeps_the_configuration(installed: Path) -> None:
    before = list_files(installed)
    (packages,) = (installed / PREFIX / "venv/lib").glob("python3*/site-packages")
    left_over = packages / "reconciler" / "removed_module.py"
    left_over.write_text("")
    (installed / UNIT).write_text("broken")
    (installed / CONFIG).write_text("# mine\n")
    said = install(installed)
    assert "installed under" in said
    assert list_files(installed) == before
    assert not left_over.exists()
    assert (installed / UNIT).read_text("utf-8").startswith("# The daemon.")
    assert (installed / CONFIG).read_text("utf-8") == "# mine\n"
    assert run_installed(installed, "--version").returncode == 0


def test_uninstall_leaves_configuration_and_journal_only(installed: Path, tmp_path: Path) -> None:
    target = tmp_path / "another machine"
    shutil.copytree(installed, target, symlinks=True)
    journal = target / "var/lib/bill-nextcloud/journal.db"
    journal.parent.mkdir(parents=True)
    journal.write_text("what was done")
    for _ in range(2):  # the second time there is nothing left to remove
        answer = make("uninstall", f"DESTDIR={target}", f"PREFIX=/{PREFIX}")
        assert answer.returncode == 0, answer.stderr
        assert list_files(target) == {CONFIG, "var/lib/bill-nextcloud/journal.db"}
        assert not (target / PREFIX).exists()


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_a_folder_of_somebody_else_is_left_alone(action: str, tmp_path: Path) -> None:
    theirs = tmp_path / "opt/bill-nextcloud/venv/bin/theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    answer = make(action, f"DESTDIR={tmp_path}")
    assert answer.returncode != 0
    assert "holds something else; choose another PREFIX" in answer.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [theirs]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (["DESTDIR=relative"], "DESTDIR must begin with /: relative"),
        (["DESTDIR={folder}", "PREFIX=opt"], "PREFIX and BINDIR must begin with /: opt"),
        (["DESTDIR={folder}", 'PREFIX=/opt/"x"'], "PREFIX and BINDIR must not hold"),
        (["DESTDIR={folder}", "BINDIR=/opt/100%"], "PREFIX and BINDIR must not hold"),
    ],
)
def test_paths_that_cannot_work_are_refused(tmp_path: Path, variables: list[str], words: str) -> None:
    answer = make("install", *(variable.format(folder=tmp_path) for variable in variables))
    assert answer.returncode != 0
    assert words in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_program_as_it_was(tmp_path: Path) -> None:
    """pip finds no packages, in the middle of an upgrade."""
    old = tmp_path / "opt/bill-nextcloud/venv/.bill-nextcloud"
    old.parent.mkdir(parents=True)
    old.write_text("")
    nothing = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    answer = make("install", f"DESTDIR={tmp_path}", environment=nothing)
    assert answer.returncode != 0
    assert "pip could not install: --requirement requirements.lock" in answer.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [old]
