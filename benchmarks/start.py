"""How long the programs need until they do something: `reconciler --help`, `pmnextcloud` to its first call.

``python -m benchmarks.start``. The baseline is Python itself, started with nothing to do.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import Report, read_options, take_turns
from reconciler.config import PATH_VARIABLE
from reconciler.sandbox.landscape import Landscape

_LIBRARIES = """from reconciler.process import collect_seldom
collect_seldom()
import sqlalchemy
from pydantic import BaseModel
"""
"""What no call of the module can do without before it asks billing: what is below its first call's time."""


def main() -> int:
    """Measure and print."""
    options = read_options(__doc__)
    report = Report("start")
    with tempfile.TemporaryDirectory(prefix="bench-") as name, socket.create_server(("127.0.0.1", 0)) as door:
        url = f"mysql+mysqldb://reconciler@127.0.0.1:{door.getsockname()[1]}/billmgr"
        with Landscape(Path(name), [], settings={"billmanager": {"database_url": url}}) as land:
            nothing, libraries, helping, calling, features = take_turns(
                options.rounds,
                lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
                lambda: subprocess.run([sys.executable, "-c", _LIBRARIES], check=True),
                lambda: subprocess.run(
                    [sys.executable, "-m", "reconciler.cli", "--help"], check=True, stdout=subprocess.DEVNULL
                ),
                lambda: wait_for_first_call(land.config_path, door),
                lambda: run_module(land.config_path, "features"),
            )
    report.add("Python with nothing to do", nothing, "s")
    report.add("Python loading SQLAlchemy and pydantic alone", libraries, "s")
    report.add("reconciler --help", helping, "s", most=0.25)
    report.add("pmnextcloud open, until it connects to the database", calling, "s", most=0.4)
    report.add("the same, against those libraries alone", calling, "s", baseline=libraries)
    report.add("pmnextcloud features, answered", features, "s")
    report.save(options.json)
    return 0


def wait_for_first_call(config_path: Path, door: socket.socket) -> None:
    """Start the module, and stop it when it knocks at the database's door."""
    command = [sys.executable, "-m", "reconciler.panel", "--command", "open", "--item", "1"]
    with subprocess.Popen(
        command,
        env={PATH_VARIABLE: str(config_path), "PATH": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        door.settimeout(60)
        connection, _ = door.accept()
        process.kill()
        connection.close()


def run_module(config_path: Path, command: str) -> None:
    """One command of BILLmanager's, to its end."""
    subprocess.run(
        [sys.executable, "-m", "reconciler.panel", "--command", command],
        env={PATH_VARIABLE: str(config_path), "PATH": ""},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    sys.exit(main())
