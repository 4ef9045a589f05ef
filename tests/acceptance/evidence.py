"""What a program that met bad input leaves behind: its words, the rows of databases, the accounts of servers.

Used by the tests of bad input and of the command line to show that nothing secret was said or kept in the
open, and that nothing changed that should not.
"""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from click.testing import CliRunner

from reconciler.cli import main
from reconciler.logs import ROOT
from reconciler.sandbox.emulator import CloudEmulator
from tests.acceptance.conftest import World

ADMIN_SECRET: Final = "Planted-Admin-Secret-71"
SERVICE_SECRET: Final = "Planted-Service-Secret-72"
DATABASE_SECRET: Final = "Planted-Database-Secret-73"
SECRETS: Final = (ADMIN_SECRET, SERVICE_SECRET, DATABASE_SECRET)

FORBIDDEN: Final = ("Traceback", 'File "', "Exception", "\x1b", "\x07", "\x00", "BEGIN RSA")
"""What no command may print where its output is no terminal."""


def make_clouds(*products: str) -> list[CloudEmulator]:
    """Emulators whose administrator has the planted password; by default one Nextcloud and one ownCloud."""
    return [
        CloudEmulator("owncloud" if product == "owncloud" else "nextcloud", admin_password=ADMIN_SECRET)
        for product in products or ("nextcloud", "owncloud")
    ]


def invoke(config_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command run in this process: its exit code and words, where a process of its own adds nothing."""
    logger = logging.getLogger(ROOT)
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    try:
        result = CliRunner().invoke(main, ["--config", str(config_path), *arguments])
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def check_failure(result: subprocess.CompletedProcess[str], pattern: str, *, exit_code: int = 1) -> None:
    """Be sure that a command failed with one clear line on standard error and nothing on standard output."""
    check_words(result)
    lines = [line for line in result.stderr.splitlines() if line.startswith("reconciler: ")]
    assert (result.returncode, len(lines), result.stdout) == (exit_code, 1, ""), result
    assert re.search(pattern, lines[0]), lines[0]
    assert len(lines[0]) < 500, lines[0]


def check_words(result: subprocess.CompletedProcess[str], *, secrets: Iterable[str] = ()) -> str:
    """All that a command said, once it is sure that none of it is secret, a traceback or a forged line."""
    said = result.stdout + result.stderr
    for word in (*FORBIDDEN, *SECRETS, *secrets):
        assert word not in said, f"{word!r} was printed:\n{said}"
    return said


def dump_rows(database_url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, by table."""
    engine = sa.create_engine(database_url)
    metadata = sa.MetaData()
    try:
        with engine.connect() as connection:
            metadata.reflect(connection)
            return {
                name: sorted((tuple(row) for row in connection.execute(table.select())), key=repr)
                for name, table in metadata.tables.items()
            }
    finally:
        engine.dispose()


def dump_accounts(cloud: CloudEmulator) -> dict[str, tuple[object, ...]]:
    """Everything that a server holds of each account."""
    with cloud.lock:
        return {
            userid: (
                account.userid,
                account.password,
                account.quota_definition,
                account.email,
                account.is_enabled,
                frozenset(account.groups),
            )
            for userid, account in cloud.accounts.items()
        }


def dump_world(world: World) -> dict[str, object]:
    """Billing's and the journal's rows and the servers' accounts."""
    journal = world.land.folder / "journal.db"
    return {
        "billing": dump_rows(world.land.database_url),
        "journal": dump_rows(f"sqlite:///{journal}") if journal.exists() else None,
        "accounts": [dump_accounts(cloud) for cloud in world.land.clouds],
    }


def check_journal(folder: Path, *, secrets: Iterable[str] = ()) -> None:
    """Be sure that no secret stands in the journal's files in the open."""
    for path in folder.glob("journal.db*"):
        with contextlib.suppress(FileNotFoundError):  # the write-ahead log comes and goes
            content = path.read_bytes()
            for secret in (*SECRETS, *secrets):
                assert secret.encode() not in content, f"{path} holds {secret!r}"
