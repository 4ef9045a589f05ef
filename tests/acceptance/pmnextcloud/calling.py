"""Calls `pmnextcloud` as BILLmanager does: a process, arguments, a form on standard input, XML back."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.acceptance.conftest import World
from tests.forking import run_program


@dataclass(frozen=True)
class Answer:
    """What a call has answered.

    Attributes:
        code: its exit code.
        document: its standard output.
        log: what it wrote into its log.
    """

    code: int
    document: ET.Element
    log: str

    @property
    def error(self) -> dict[str, str]:
        """Attributes of the error, with its text as ``msg``; empty without one."""
        found = self.document.find("error")
        return {} if found is None else {**found.attrib, "msg": found.findtext("msg") or ""}


def get_log(world: World) -> Path:
    return world.land.folder / "pmnextcloud.log"


def get_environment(world: World) -> dict[str, str]:
    return {"RECONCILER_CONFIG": str(world.land.config_path), "PMNEXTCLOUD_LOG": str(get_log(world))}


def call(world: World, command: str, *, form: str | bytes = "", **arguments: object) -> Answer:
    """One call, forked from a process that has loaded the program."""
    words = ["--command", command]
    for name, value in arguments.items():
        words += [f"--{name}", str(value)]
    seen = get_log(world).stat().st_size if get_log(world).exists() else 0
    result = run_program(
        *words, given=form, entry="reconciler.panel.entry", environment=get_environment(world)
    )
    assert result.stderr == ""
    with get_log(world).open() as file:
        file.seek(seen)
        log = file.read()
    return Answer(result.returncode, ET.fromstring(result.stdout), log)


def start(world: World, *words: str) -> subprocess.Popen[bytes]:
    """The same as a process of its own, from its very start; its end is the caller's to wait for."""
    return subprocess.Popen(
        [sys.executable, "-m", "reconciler.panel", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **get_environment(world)},
    )
