"""What a terminal gets: tables, a progress bar, and never a character that it would obey."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest

from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import invoke, make_clouds


@pytest.fixture
def shop(make_world: MakeWorld) -> World:
    """A world with a service on each server, not served yet: items 1 (Nextcloud) and 2 (ownCloud)."""
    world = make_world(clouds=make_clouds())
    plan = world.billing.add_plan("Basic", 5)
    assert [world.sell(plan, number) for number in (0, 1)] == [1, 2]
    return world


def test_on_a_terminal_there_are_tables_and_a_progress_bar_and_otherwise_lines(shop: World) -> None:
    shop.billing.set_param(1, "username", "../\x1b[31m[red]x")
    plain = invoke(shop.land.config_path, "plan").stdout
    assert all(line.count("\t") == 5 for line in plain.splitlines()[:-1])
    code, shown = run_on_terminal(shop.get_command("plan"))
    assert code == 2
    assert "┃ service ┃ server" in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert r"../\x1b[31m[red]x" in shown, "a name is shown as it is, and obeyed by nothing"
    assert "\x1b[31m" not in shown
    for line in plain.splitlines()[:-1]:
        assert line.split("\t")[3] in shown
    code, shown = run_on_terminal(shop.get_command("once"))
    assert code == 1
    assert re.search(r"services .*2/2", shown), "the progress bar"


def run_on_terminal(command: list[str]) -> tuple[int, str]:
    """Run a command in a pseudo-terminal; its exit code and all that it showed."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "400", "LINES": "50"}
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, close_fds=True
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # Linux says EIO once the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    return process.wait(60), shown.decode()


def test_a_terminal_that_knows_few_characters_breaks_nothing(shop: World) -> None:
    shop.billing.set_param(1, "username", "Œuvre-用户")
    for arguments in (["plan"], ["plan", "--json"]):
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "COLUMNS": "200"}
        result = subprocess.run(
            shop.get_command(*arguments), capture_output=True, env=environment, timeout=60, check=False
        )
        assert (result.returncode, result.stderr) == (2, b"")
    entries = json.loads(result.stdout.decode("latin-1"))["planned"]
    assert "'Œuvre-用户'" in entries[0]["reason"]


def test_json_holds_nothing_that_a_terminal_obeys(shop: World) -> None:
    path, reason = shop.land.config_path, "x\x9b31m\x7f\u202e用户"
    assert invoke(path, "hold", "1", "--reason", reason).returncode == 0
    assert invoke(path, "once").returncode == 0
    for arguments in (["status", "1"], ["history", "1"], ["plan"]):
        shown = invoke(path, *arguments, "--json").stdout
        assert shown.isascii()
        assert shown.replace("\n", "").isprintable()
    assert json.loads(invoke(path, "status", "1", "--json").stdout)["memory"]["hold_reason"] == reason
