"""Fixtures for all tests: database servers that are started when a test first asks for them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.databases import DatabaseServer, SharedServers

# Two shared cores: how long an example takes says nothing about the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

MEASURING: dict[str, str] = {}
"""Environment variables by which coverage measures a process that a test starts."""
_SHARED = pytest.StashKey[SharedServers]()
_DIRECTORY = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker_input is None:
        directory, controller_id = Path(tempfile.mkdtemp(prefix="bill-nextcloud-tests-")), os.getpid()
        config.stash[_DIRECTORY] = directory
    else:
        directory, controller_id = Path(worker_input["servers_directory"]), worker_input["controller_id"]
    config.stash[_SHARED] = SharedServers(directory, controller_id)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: tell a worker where the run's servers are."""
    node.workerinput["servers_directory"] = str(node.config.stash[_DIRECTORY])
    node.workerinput["controller_id"] = os.getpid()


def pytest_unconfigure(config: pytest.Config) -> None:
    directory = config.stash.get(_DIRECTORY, None)
    if directory is not None:
        config.stash[_SHARED].stop()
        shutil.rmtree(directory, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Sum up what tests have counted with ``record_property``: crash points, rows of the fault matrix, …"""
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        counts.update({name: value for name, value in report.user_properties if isinstance(value, int)})
    for name, count in sorted(counts.items()):
        terminalreporter.write_line(f"{name}: {count}, all held")


@pytest.fixture(scope="session", autouse=True)
def _measured_environment() -> None:
    """Measure the coverage of daemons only, not of each of thousands of processes: it doubles their start."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS_")]:
        MEASURING[name] = os.environ.pop(name)


@pytest.fixture(scope="session")
def mariadb(request: pytest.FixtureRequest) -> DatabaseServer:
    """The run's MariaDB server."""
    return request.config.stash[_SHARED].get("mariadb")


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> DatabaseServer:
    """The run's PostgreSQL server."""
    return request.config.stash[_SHARED].get("postgres")


@pytest.fixture
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes an empty database ("sqlite", "mariadb", "postgres"), returns its URL, drops it afterwards."""
    made: list[tuple[DatabaseServer, str]] = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            path = tmp_path / f"billing{len(list(tmp_path.iterdir()))}.db"
            path.touch()
            return f"sqlite:///{path}"
        server: DatabaseServer = request.getfixturevalue(kind)
        name = server.create_database()
        made.append((server, name))
        return server.get_url(name)

    yield make
    for server, name in made:
        server.drop_database(name)
