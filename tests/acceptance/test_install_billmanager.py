"""`make install-billmanager` into a folder in place of BILLmanager's, over an earlier module of its name."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from defusedxml.ElementTree import fromstring

from tests.acceptance.test_install import make

ROOT = Path(__file__).parents[2]
HOUSE = "processing/.pmnextcloud"
VENV = f"{HOUSE}/venv"
COMMAND = "processing/pmnextcloud"
FORMS = "etc/xml/billmgr_mod_pmnextcloud.xml"
LOGO = "skins/common/plugin-logo/billmanager-plugin-pmnextcloud.png"
CALLS = "var/mgrctl.calls"
MODES = {COMMAND: 0o755, FORMS: 0o644, LOGO: 0o644}
# Like mgrctl, as far as its arguments and its failures go.
MGRCTL = """#!/bin/sh
var="$(dirname "$0")/../var"
echo "$*" >>"$var/mgrctl.calls"
[ ! -e "$var/refuse" ] || { echo "the licence has expired" >&2; exit 1; }
"""


class Machine:
    """Scratch folders in place of BILLmanager's, the configuration's and the journal's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = folder / "mgr5"
        self.config = folder / "etc" / "config.toml"
        self.state = folder / "state"

    def set_up(self) -> None:
        for name in ("processing", "etc/xml", "sbin", "var"):
            (self.prefix / name).mkdir(parents=True)
        mgrctl = self.prefix / "sbin" / "mgrctl"
        mgrctl.write_text(MGRCTL)
        mgrctl.chmod(0o755)

    def put_earlier_module(self) -> None:
        """As public modules install themselves: a link to the sources, and copies."""
        sources = self.folder / "sources"
        sources.mkdir()
        (sources / "module.py").write_text("#!/usr/bin/python3\n# the earlier module\n")
        (self.prefix / COMMAND).symlink_to(sources / "module.py")
        (self.prefix / FORMS).write_text("<mgrdata/>")
        (self.prefix / LOGO).parent.mkdir(parents=True)
        (self.prefix / LOGO).write_bytes(b"the earlier logo")

    def run(self, action: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return make(
            f"{action}-billmanager",
            f"PREFIX={self.prefix}",
            f"CONFIG={self.config}",
            f"STATE={self.state}",
            environment=environment,
        )

    def succeed(self, action: str) -> str:
        answer = self.run(action)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def list_calls(self) -> list[str]:
        return (self.prefix / CALLS).read_text().splitlines()

    def photograph(self) -> dict[str, str | bytes]:
        """What is below BILLmanager's folder, but for the venv's insides, the log and mgrctl's calls."""
        found: dict[str, str | bytes] = {}
        for path in self.prefix.rglob("*"):
            name = path.relative_to(self.prefix)
            if name.is_relative_to("var") or name.is_relative_to(VENV):
                continue
            if path.is_symlink():
                found[str(name)] = str(path.readlink())
            else:
                found[str(name)] = path.read_bytes() if path.is_file() else "folder"
        return found

    def copy(self, folder: Path) -> Machine:
        """The same without the packages, to be taken apart."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("lib"))
        return Machine(folder)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine on which it was installed over an earlier module."""
    machine = Machine(tmp_path_factory.mktemp("billmanager") / "a machine")
    machine.set_up()
    machine.put_earlier_module()
    said = machine.succeed("install")
    assert "is kept in" in said
    assert f"there was no configuration; {machine.config} was written" in said
    return machine


@pytest.fixture
def original(tmp_path: Path) -> dict[str, str | bytes]:
    """What such a machine holds before."""
    machine = Machine(tmp_path / "original")
    machine.set_up()
    machine.put_earlier_module()
    return machine.photograph()


def test_files_stand_where_billmanager_looks_for_them(installed: Machine) -> None:
    assert {name: stat.S_IMODE((installed.prefix / name).stat().st_mode) for name in MODES} == MODES
    deploy = ROOT / "deploy" / "billmanager"
    assert (installed.prefix / FORMS).read_bytes() == (deploy / "billmgr_mod_pmnextcloud.xml").read_bytes()
    assert (installed.prefix / LOGO).read_bytes() == (deploy / "pmnextcloud.png").read_bytes()
    assert not (installed.prefix / COMMAND).is_symlink()
    kept = {Path(name).name for name in MODES}
    assert {path.name for path in (installed.prefix / HOUSE).iterdir()} == {"venv", "earlier"}
    assert {path.name for path in (installed.prefix / HOUSE / "earlier").iterdir()} == kept


def test_billmanager_is_restarted_once(installed: Machine) -> None:
    assert installed.list_calls() == ["-m billmgr -R"]


def test_the_earlier_modules_sources_are_not_written_to(installed: Machine) -> None:
    assert (installed.folder / "sources/module.py").read_text().endswith("# the earlier module\n")


def test_the_installed_module_answers_by_itself(installed: Machine, tmp_path: Path) -> None:
    # What stands in the current folder or in PYTHONPATH is not what root wants to run.
    (tmp_path / "reconciler.py").write_text("raise SystemExit('the wrong program')\n")
    answer = subprocess.run(
        [installed.prefix / COMMAND, "--command", "features"],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={"PATH": os.defpath, "PYTHONPATH": str(tmp_path)},
    )
    assert (answer.returncode, answer.stderr) == (0, b"")
    params = fromstring(answer.stdout).findall("params/param")
    assert [param.get("name") for param in params] == ["base_url", "nc_username", "nc_password"]
    assert "features" in (installed.prefix / "var/pmnextcloud.log").read_text()


def test_the_program_is_compiled_where_it_stands(installed: Machine) -> None:
    """BILLmanager starts it anew for every command."""
    (packages,) = (installed.prefix / VENV / "lib").glob("python3*/site-packages")
    modules = [path for name in ("reconciler", "sqlalchemy") for path in (packages / name).rglob("*.py")]
    assert len(modules) > 200
    caches = [next((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"), None) for path in modules]
    assert None not in caches


def test_the_first_configuration_points_to_this_billmanager_and_enforces(installed: Machine) -> None:
    assert stat.S_IMODE(installed.config.stat().st_mode) == 0o600
    assert installed.config.stat().st_uid == os.geteuid()
    config = tomllib.loads(installed.config.read_text("utf-8"))
    example = tomllib.loads((ROOT / "config.example.toml").read_text("utf-8"))
    del example["billmanager"]["database_url"]
    example["billmanager"] |= {
        "db_conf": f"{installed.prefix}/etc/billmgr.conf.d/db.conf",
        "private_key_file": f"{installed.prefix}/etc/billmgr.pem",
        "mgrctl": f"{installed.prefix}/sbin/mgrctl",
        "writer": "mgrctl",
    }
    example["reconciler"] |= {
        "mode": "enforce",
        "journal_url": f"sqlite:///{installed.state}/journal.db",
        "journal_key_file": f"{installed.state}/journal.key",
    }
    assert config == example
    assert stat.S_IMODE(installed.state.stat().st_mode) == 0o750
    answer = subprocess.run(
        [sys.executable, "-m", "reconciler.cli", "--config", str(installed.config), "validate-config"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    # What is wrong with it are the two files that a BILLmanager would have.
    assert answer.returncode == 2
    assert [line.split(":")[1].strip() for line in answer.stderr.splitlines()] == [
        "billmanager.db_conf",
        "billmanager.private_key_file",
    ]


@pytest.mark.parametrize(
    ("given", "config", "log"),
    [
        ({}, "{0}/etc/config.toml", "{0}/mgr5/var/pmnextcloud.log"),
        ({"RECONCILER_CONFIG": "/my.toml", "PMNEXTCLOUD_LOG": "/my.log"}, "/my.toml", "/my.log"),
    ],
)
def test_the_module_is_told_its_configuration_and_its_log_unless_the_caller_says_others(
    installed: Machine, tmp_path: Path, given: dict[str, str], config: str, log: str
) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$RECONCILER_CONFIG" "$PMNEXTCLOUD_LOG" "$@"\n')
    program.chmod(0o755)
    text = (installed.prefix / COMMAND).read_text()
    launcher = tmp_path / "pmnextcloud"
    launcher.write_text(text.replace(f"{installed.prefix}/{VENV}/bin/python", str(program)))
    answer = subprocess.run(
        ["/bin/sh", launcher, "--command", "open", "--password", "a b"],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.defpath, **given},
    )
    words = [config.format(installed.folder), log.format(installed.folder), "-I", "-m", "reconciler.panel"]
    assert answer.stdout.splitlines() == [*words, "--command", "open", "--password", "a b"]


def test_uninstall_puts_the_earlier_module_back_and_leaves_nothing_of_ours(
    installed: Machine, tmp_path: Path, original: dict[str, str | bytes]
) -> None:
    machine = installed.copy(tmp_path / "another machine")
    original[COMMAND] = str(installed.folder / "sources/module.py")
    (machine.prefix / "var/pmnextcloud.log").write_text("what was done\n")
    (machine.state / "journal.db").write_text("the journal")
    (machine.prefix / HOUSE / "venv.old").mkdir()
    for _ in range(2):  # the second time there is nothing left to remove
        said = machine.succeed("uninstall")
        assert machine.photograph() == original
        assert not (machine.prefix / HOUSE).exists()
        assert "left as they are" in said
    assert machine.list_calls()[-2:] == ["-m billmgr -R"] * 2
    assert machine.config.read_bytes() == installed.config.read_bytes()
    assert (machine.prefix / "var/pmnextcloud.log").read_text() == "what was done\n"
    assert (machine.state / "journal.db").read_text() == "the journal"


def test_uninstall_without_an_earlier_module_leaves_billmanagers_own_folders(
    installed: Machine, tmp_path: Path
) -> None:
    machine = installed.copy(tmp_path / "another machine")
    shutil.rmtree(machine.prefix / HOUSE / "earlier")
    machine.succeed("uninstall")
    fresh = Machine(tmp_path / "fresh")
    fresh.set_up()
    assert machine.photograph() == fresh.photograph()


def test_uninstall_leaves_what_somebody_else_has_put_into_our_place(
    installed: Machine, tmp_path: Path
) -> None:
    machine = installed.copy(tmp_path / "another machine")
    (machine.prefix / COMMAND).unlink()
    (machine.prefix / COMMAND).write_text("a third module")
    said = machine.succeed("uninstall")
    assert f"{machine.prefix / COMMAND} is somebody else's" in said
    assert (machine.prefix / COMMAND).read_text() == "a third module"
    assert [path.name for path in (machine.prefix / HOUSE / "earlier").iterdir()] == ["pmnextcloud"]


def test_a_second_run_renews_the_program_and_keeps_everything_else(
    installed: Machine, original: dict[str, str | bytes]
) -> None:
    before = installed.photograph()
    (packages,) = (installed.prefix / VENV / "lib").glob("python3*/site-packages")
    left_over = packages / "reconciler" / "removed_module.py"
    left_over.write_text("")
    (installed.prefix / FORMS).write_text("<!-- Put here by bill-nextcloud: broken -->")
    installed.config.write_text('# mine\nmode = "observe"\n')
    (installed.prefix / "var/refuse").touch()
    answer = installed.run("install")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert installed.photograph() == before
    assert not left_over.exists()
    assert installed.config.read_text() == '# mine\nmode = "observe"\n'
    assert "no order of BILLmanager is carried out until it says mode" in answer.stdout
    # BILLmanager could not be restarted: said with the reason, and no failure.
    assert "the licence has expired" in answer.stderr
    assert f"when it suits you: {installed.prefix}/sbin/mgrctl -m billmgr -R" in answer.stdout
    kept = {name: before[f"{HOUSE}/earlier/{Path(name).name}"] for name in (FORMS, LOGO)}
    assert kept == {name: original[name] for name in (FORMS, LOGO)}


def test_a_failure_leaves_the_earlier_module_in_its_place(tmp_path: Path) -> None:
    """pip finds no packages."""
    machine = Machine(tmp_path)
    machine.set_up()
    machine.put_earlier_module()
    before = machine.photograph()
    answer = machine.run("install", PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert answer.returncode != 0
    assert "pip could not install: --requirement requirements.lock" in answer.stderr
    assert {**machine.photograph(), HOUSE: "folder"} == {**before, HOUSE: "folder"}
    assert not machine.config.exists()
    assert not (machine.prefix / CALLS).exists()


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_a_venv_of_somebody_else_is_left_alone(action: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.set_up()
    (machine.prefix / VENV).mkdir(parents=True)
    (machine.prefix / VENV / "theirs").write_text("precious")
    answer = machine.run(action)
    assert answer.returncode != 0
    assert "holds something else; choose another PREFIX" in answer.stderr
    assert (machine.prefix / VENV / "theirs").read_text() == "precious"


@pytest.mark.parametrize("action", ["install", "uninstall"])
@pytest.mark.parametrize("missing", [".", "processing", "etc/xml"])
def test_without_billmanagers_folders_one_line_names_the_cure(
    action: str, missing: str, tmp_path: Path
) -> None:
    machine = Machine(tmp_path)
    machine.set_up()
    shutil.rmtree(machine.prefix / missing)
    before = machine.photograph()
    answer = run_script(ROOT, machine, action)
    assert answer.returncode == 1
    assert answer.stderr == (
        f"install-billmanager: no BILLmanager here, {machine.prefix / missing} is missing; "
        f"name its folder: make {action}-billmanager PREFIX=/usr/local/mgr5\n"
    )
    assert machine.photograph() == before


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_write_there_is_told_so_in_one_line(open_folder: Path) -> None:
    (open_folder / "scripts").mkdir()
    for name in ("install-billmanager", "venv.sh"):
        shutil.copy(ROOT / "scripts" / name, open_folder / "scripts")
    machine = Machine(open_folder)
    machine.set_up()
    answer = run_script(open_folder, machine, "install", user=65534)
    assert answer.returncode == 1
    assert answer.stderr == (
        f"install-billmanager: {machine.prefix} cannot be written; "
        f"run it as root: sudo make install-billmanager PREFIX={machine.prefix}\n"
    )


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("PREFIX=relative", "PREFIX, CONFIG and STATE must begin with /: relative"),
        ("CONFIG=/etc/100%", "PREFIX, CONFIG and STATE must not hold"),
        ("STATE=/var/lib/a?b", "PREFIX, CONFIG and STATE must not hold"),
        ("CONFIG=/etc/$(x)", "PREFIX, CONFIG and STATE must not hold"),
    ],
)
def test_paths_that_cannot_work_are_refused(tmp_path: Path, variable: str, words: str) -> None:
    machine = Machine(tmp_path)
    machine.set_up()
    before = machine.photograph()
    name, _, value = variable.partition("=")
    answer = run_script(ROOT, machine, "install", variables={name: value})
    assert answer.returncode == 1
    assert words in answer.stderr
    assert machine.photograph() == before


def run_script(
    root: Path, machine: Machine, action: str, *, user: int | None = None, variables: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run the script itself, whose exit code make would replace."""
    names = {"PREFIX": machine.prefix, "CONFIG": machine.config, "STATE": machine.state}
    return subprocess.run(
        ["bash", root / "scripts" / "install-billmanager", action],
        env={**os.environ, "PYTHON": sys.executable, **{key: str(names[key]) for key in names}, **variables},
        cwd=machine.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        user=user,
    )
