"""A configuration that cannot be used: every fault is told, the exit code is 2, and nothing is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import World
from tests.acceptance.evidence import (
    DATABASE_SECRET,
    check_failure,
    check_words,
    invoke,
)

COMMANDS = (["once"], ["plan"], ["status"], ["check-connection"], ["validate-config"], ["history", "1"])


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    """A configuration that can be used, as far as its file goes."""
    path = tmp_path / "config.toml"
    path.write_text('[billmanager]\ndatabase_url = "sqlite:///billmgr.db"\nprivate_key_file = ""\n')
    return path


def check_everywhere(path: Path, pattern: str) -> None:
    """Every command refuses the configuration with one line and exit code 2."""
    for arguments in COMMANDS:
        check_failure(invoke(path, *arguments), pattern, exit_code=2)


def test_a_configuration_that_is_missing(tmp_path: Path) -> None:
    check_everywhere(tmp_path / "nowhere.toml", "nowhere.toml: no such file; name one with --config")


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (b"[billmanager\ndatabase_url = 1", r"not valid TOML: .*line 1"),
        (b"\xff\xfe\x00", r"not UTF-8 text \(line 1\)"),
        (b"a = " + b"[" * 5000, "not valid TOML"),
        (b"#" * 2_000_000, "larger than 1 MiB"),
        (b"", "billmanager: database_url or db_conf is needed"),
    ],
    ids=["malformed", "binary", "deep", "huge", "empty"],
)
def test_a_configuration_that_is_no_configuration(config_path: Path, content: bytes, pattern: str) -> None:
    config_path.write_bytes(content)
    check_everywhere(config_path, pattern)


def test_all_faults_of_a_configuration_are_told_at_once(world: World) -> None:
    world.land.configure(
        {
            "billmanager": {"writer": "carrier pigeon", "privat_key_file": "x"},
            "reconciler": {"workers": 0, "journal_password": DATABASE_SECRET},
            "nextcloud.server.two": {"timeout": "30s"},
            "nextcloud.server.3": {"verify_tls": "perhaps"},
            "guards": {"deletion_grace": "three days"},
            "storage": {"kind": "tape"},
        }
    )
    result = world.run("once")
    check_words(result)
    assert (result.returncode, result.stdout) == (2, "")
    for words in (
        'billmanager.writer = "carrier pigeon": must be',
        "billmanager.privat_key_file: unknown key; did you mean private_key_file?",
        "reconciler.workers = 0: must be at least 1",
        "reconciler.journal_password: unknown key; did you mean journal_password_file?",
        "nextcloud.server.two",
        'nextcloud.server.3.verify_tls = "perhaps": must be true or false',
        'guards.deletion_grace = "three days": is not a duration; write a number and a unit',
        "storage: unknown key",
    ):
        assert f"reconciler: {words}" in result.stderr
    assert len(result.stderr.splitlines()) == 8
    assert not list(world.land.folder.glob("journal*"))


def test_a_secret_that_cannot_be_read(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    world.land.configure({"billmanager": {"database_password_file": str(secret)}})

    def empty() -> None:
        secret.rmdir()
        secret.touch(0o600)

    stages: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: None, "No such file or directory"),
        (secret.mkdir, "Is a directory"),
        (empty, "is empty"),
    )
    for make, reason in stages:
        make()
        for arguments in (["once"], ["plan"], ["validate-config"]):
            check_failure(invoke(world.land.config_path, *arguments), f"password.*{reason}", exit_code=2)
    assert not list(world.land.folder.glob("journal*"))


def test_a_private_key_that_is_not_there(world: World) -> None:
    (world.land.folder / "billmgr.pem").unlink()
    for arguments in (["once"], ["validate-config"]):
        check_failure(
            invoke(world.land.config_path, *arguments),
            "billmanager.private_key_file: .*billmgr.pem.* cannot be read: No such file",
            exit_code=2,
        )


def test_secrets_that_everybody_can_read_are_told_by_validate_config(world: World) -> None:
    path = world.land.config_path
    assert invoke(path, "validate-config").returncode == 0
    key = world.land.folder / "billmgr.pem"
    key.chmod(0o644)
    check_failure(
        invoke(path, "validate-config"),
        r"private_key_file: .*billmgr.pem is open to everybody \(mode 0644\); run: chmod o-rwx",
        exit_code=2,
    )


def test_a_db_conf_that_cannot_be_used(config_path: Path, tmp_path: Path) -> None:
    conf = tmp_path / "db.conf"
    config_path.write_text(f'[billmanager]\ndb_conf = "{conf}"\nprivate_key_file = ""\nwriter = "sql"\n')
    for content, pattern in (
        (None, "db.conf.*No such file"),
        (f"DBPassword {DATABASE_SECRET}\n", "db.conf.*DBName"),
    ):
        if content is not None:
            conf.write_text(content)
            conf.chmod(0o600)
        for arguments in (["once"], ["plan"], ["validate-config"]):
            check_failure(invoke(config_path, *arguments), pattern, exit_code=2)
