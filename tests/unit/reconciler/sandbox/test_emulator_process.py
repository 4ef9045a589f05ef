"""The emulator as a process: its one line, its options, and every way of ending it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.emulator import CloudEmulator
from reconciler.sandbox.emulator_process import build_parser, fill

ROOT = Path(__file__).parents[4]


@contextmanager
def run(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running process and the line it printed; ended by its id in any case."""
    command = [sys.executable, "-m", "reconciler.sandbox.emulator", *options]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_process_serves_and_ends_with_its_standard_input() -> None:
    options = ("--product", "owncloud", "--path", "/oc", "--accounts", "3", "--stop-with-stdin")
    with run(*options) as (process, ready):
        with urllib.request.urlopen(f"{ready['base_url']}/status.php", timeout=60) as response:
            assert json.load(response)["productname"] == "ownCloud"
            assert ready["instance_id"] in str(response.headers)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_ends_when_told_to(number: signal.Signals) -> None:
    with run("--version", "25.0.2") as (process, ready):
        assert set(ready) == {"base_url", "admin_user", "admin_password", "instance_id"}
        process.send_signal(number)
        assert process.wait(10) == 0


def test_options_name_the_limit_on_edits() -> None:
    parser = build_parser()
    limits = [parser.parse_args(["--edit-limit", text]).edit_limit for text in ("none", "7", "product")]
    assert limits == [None, 7, "product"]
    assert parser.parse_args([]).edit_limit == "product"


def test_accounts_to_begin_with_are_numbered() -> None:
    emulator = CloudEmulator("nextcloud")
    fill(emulator, 2, quota="1 GB", group="g")
    assert set(emulator.accounts) == {"admin", "user00000", "user00001"}
    assert emulator.accounts["user00001"].groups == {"g"}
    assert emulator.accounts["user00001"].quota_definition == "1 GB"
