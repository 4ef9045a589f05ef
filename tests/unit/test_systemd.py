"""The unit and what belongs to it: accepted by systemd's own tools, closed, at one with program and guide."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from reconciler.config_values import parse_duration
from reconciler.daemon import DRAIN_SECONDS

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
UNIT = "bill-nextcloud-reconciler.service"
HOUSEHOLD = "bill-nextcloud"
EXPOSURE = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20"]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


def read_settings() -> dict[str, list[str]]:
    """Every setting of the unit, all its values in order."""
    settings = defaultdict(list)
    for line in (SYSTEMD / UNIT).read_text("utf-8").splitlines():
        if re.match(r"[A-Z]", line):
            name, _, value = line.partition("=")
            settings[name].append(value)
    return settings


def read_seconds(name: str) -> float:
    (text,) = read_settings()[name]
    return parse_duration(text.replace("min", "m")).total_seconds()


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine on which the unit is installed."""
    for folder in ("etc", "usr/lib/systemd/system", f"etc/systemd/system/{UNIT}.d"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(SYSTEMD / UNIT, tmp_path / "usr/lib/systemd/system")
    return tmp_path


def test_the_unit_is_closed() -> None:
    answer = run(*EXPOSURE, SYSTEMD / UNIT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stderr == ""


def test_the_unit_lets_it_choose_its_core() -> None:
    assert read_settings()["SystemCallFilter"].index("sched_setaffinity") > 1, "after what forbids it"


def test_the_unit_is_closed_even_when_it_runs_as_root(machine: Path) -> None:
    shutil.copy(SYSTEMD / "run-as-root.conf", machine / f"etc/systemd/system/{UNIT}.d")
    answer = run(*EXPOSURE, f"--root={machine}", UNIT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert re.search(r"✗ User=", answer.stdout), "the drop-in was not looked at"


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    text = (SYSTEMD / UNIT).read_text("utf-8")
    launcher = ROOT / "scripts" / "launcher"
    (tmp_path / UNIT).write_text(text.replace("/opt/bill-nextcloud/bin/reconciler", str(launcher)), "utf-8")
    answer = run("systemd-analyze", "verify", tmp_path / UNIT)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users and give files away")
def test_the_user_and_the_folder_of_the_configuration_are_made(machine: Path) -> None:
    made = run("systemd-sysusers", f"--root={machine}", SYSTEMD / "bill-nextcloud.sysusers")
    assert made.returncode == 0, made.stderr
    user = (machine / "etc/passwd").read_text("utf-8").split(":")
    assert user[0] == HOUSEHOLD
    assert user[6].strip() == "/usr/sbin/nologin"
    made = run("systemd-tmpfiles", f"--root={machine}", "--create", SYSTEMD / "bill-nextcloud.tmpfiles")
    assert made.returncode == 0, made.stderr
    status = (machine / "etc/bill-nextcloud").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o750, 0, int(user[3]))


def test_unit_user_and_folders_have_one_name() -> None:
    settings = read_settings()
    folders = ("ConfigurationDirectory", "StateDirectory", "LogsDirectory", "RuntimeDirectory")
    assert {value for name in ("User", "Group", *folders) for value in settings[name]} == {HOUSEHOLD}


def test_the_daemon_has_time_to_end_before_it_is_killed() -> None:
    assert read_seconds("TimeoutStopSec") >= DRAIN_SECONDS + 10


def test_a_configuration_that_cannot_be_used_is_not_tried_again_and_a_billing_that_is_away_is() -> None:
    settings = read_settings()
    answer = run(
        sys.executable, "-m", "reconciler.cli", "--config", "/nowhere/config.toml", "validate-config"
    )
    assert settings["RestartPreventExitStatus"] == [str(answer.returncode)]
    assert settings["Restart"] == ["on-failure"]
    assert settings["StartLimitIntervalSec"] == ["0"]


def test_a_secret_whose_file_is_missing_does_not_keep_the_unit_from_starting() -> None:
    settings = read_settings()
    loaded = [value.partition(":")[0] for value in settings["LoadCredential"]]
    assert loaded == ["billmgr.pem", "db-password", "journal-password", "http-token"]
    assert settings["SetCredential"] == [rf"{name}:\n" for name in loaded]


def test_the_guide_names_credentials_that_the_unit_has() -> None:
    guide = (ROOT / "docs" / "install.md").read_text("utf-8")
    loaded = {value.partition(":")[0] for value in read_settings()["LoadCredential"]}
    named = set(re.findall(r'"credential:([^"]+)"', guide)) - {"NAME"}
    assert named
    assert named <= loaded


def test_no_process_of_another_user_looks_ended_to_the_daemon() -> None:
    """Leases ask /proc whether their holder still lives: what is hidden there would be taken over."""
    settings = read_settings()
    assert settings["ProtectProc"] == ["noaccess"]
    assert "ProcSubset" not in settings
