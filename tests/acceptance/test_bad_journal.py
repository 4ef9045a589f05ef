"""A journal or a writer that cannot be used: what cannot be recorded is not done, and no password is lost."""

from __future__ import annotations

import re
import resource
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import (
    check_failure,
    check_journal,
    check_words,
    dump_accounts,
    dump_rows,
    invoke,
    make_clouds,
)


class Keeper:
    """A world whose journal is about to break, with work to do on both servers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.journal = world.land.folder / "journal.db"
        self.key = world.land.folder / "journal.key"
        plan = world.billing.add_plan("Basic", 5)
        self.items = [world.sell(plan, number) for number in (0, 1)]

    def check_refusal(self, pattern: str, *commands: list[str]) -> None:
        """Nothing is done, and one line says why."""
        world = self.world
        accounts = [dump_accounts(cloud) for cloud in world.land.clouds]
        billing = dump_rows(world.land.database_url)
        for arguments in (["once"], *commands):
            check_failure(invoke(world.land.config_path, *arguments), pattern)
        assert [dump_accounts(cloud) for cloud in world.land.clouds] == accounts
        assert dump_rows(world.land.database_url) == billing
        assert [cloud.mutating_calls() for cloud in world.land.clouds] == [[], []]


READING = (["plan"], ["status"], ["history", "1"])
WRITING = (["resync", "1"], ["hold", "1", "--reason", "x"])


@pytest.fixture
def keeper(make_world: MakeWorld) -> Keeper:
    return Keeper(make_world(clouds=make_clouds()))


def test_a_journal_in_a_folder_that_is_not_there(keeper: Keeper) -> None:
    url = f"sqlite:///{keeper.journal.parent / 'nowhere' / 'journal.db'}"
    keeper.world.land.configure({"reconciler": {"journal_url": url}})
    keeper.check_refusal(r"the journal .*nowhere/journal.db cannot be used: .*; check that", *WRITING)
    assert invoke(keeper.world.land.config_path, "plan").returncode == 2, "a plan needs none"


@pytest.mark.parametrize("content", [b"no database\n" * 500, b"SQLite format 3\0" + b"\xff" * 8192])
@pytest.mark.usefixtures("fault_row")
def test_a_journal_that_is_no_database(keeper: Keeper, content: bytes) -> None:
    keeper.key.touch(0o600)
    keeper.key.write_text("A" * 43 + "=\n")
    keeper.journal.write_bytes(content)
    keeper.check_refusal(r"the journal .*journal.db cannot be used: .*; check that", *READING, *WRITING)
    assert keeper.journal.read_bytes() == content, "what is left of it is kept"


@pytest.mark.usefixtures("fault_row")
def test_a_journal_of_a_newer_version(keeper: Keeper) -> None:
    world = keeper.world
    invoke(world.land.config_path, "hold", "1", "--reason", "makes the journal")
    engine = sa.create_engine(f"sqlite:///{keeper.journal}")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    keeper.check_refusal(r"written by a newer version .*: upgrade this program", *READING, *WRITING)


@pytest.mark.usefixtures("fault_row")
def test_a_disk_that_becomes_full_stops_the_cycle(keeper: Keeper) -> None:
    """Once nothing more can be recorded, nothing more is done: no account without an intent."""
    world = keeper.world
    plan = world.billing.add_plan("Pro", 50)
    items = keeper.items + [world.sell(plan, number % 2) for number in range(30)]
    for arguments in (["hold", "1", "--reason", "makes the journal"], ["release", "1"]):
        assert invoke(world.land.config_path, *arguments).returncode == 0
    limit = sum(path.stat().st_size for path in world.land.folder.glob("journal.db*")) + 250_000
    result = subprocess.run(
        world.get_command("once"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    check_failure(result, r"the journal .* cannot be used: .*; check that")
    made = [name for cloud in world.land.clouds for name in cloud.accounts if name != "admin"]
    assert len(made) < len(items)
    engine = sa.create_engine(f"sqlite:///{keeper.journal}")
    with engine.connect() as connection:
        intents = set(
            connection.execute(sa.text("SELECT userid FROM intent WHERE kind = 'create'")).scalars()
        )
    engine.dispose()
    assert set(made) <= intents
    assert invoke(world.land.config_path, "once").returncode == 0, "there is room again"
    assert all(world.is_delivered(item) for item in items)


def make_undelivered(keeper: Keeper) -> list[str]:
    """Accounts whose passwords only the journal has; the passwords."""
    world = keeper.world
    world.land.configure({"billmanager": {"writer": "none"}})
    world.once()
    world.land.configure({})
    for cloud in world.land.clouds:
        cloud.clear_calls()
    return [
        cloud.accounts[f"user_{item}"].password
        for cloud, item in zip(world.land.clouds, keeper.items, strict=True)
    ]


def test_a_lost_key_is_not_made_anew_while_passwords_wait_for_it(keeper: Keeper) -> None:
    passwords = make_undelivered(keeper)
    key = keeper.key.read_bytes()
    keeper.key.unlink()
    keeper.check_refusal(
        r"the journal key .*journal.key cannot be read: No such file.*; restore", *READING, *WRITING
    )
    assert not keeper.key.exists()
    keeper.key.touch(0o600)
    keeper.key.write_text("A" * 43 + "=\n")
    world = keeper.world
    result = invoke(world.land.config_path, "once")
    assert "journal.key does not fit the journal: restore the key file" in check_words(
        result, secrets=passwords
    )
    assert result.returncode == 1
    assert [cloud.mutating_calls() for cloud in world.land.clouds] == [[], []]
    keeper.key.write_text("nonsense\n")
    keeper.check_refusal(r"journal.key holds no journal key: restore the right file", *WRITING)
    keeper.key.write_bytes(key)
    assert invoke(world.land.config_path, "once").returncode == 0
    assert [world.billing.get_password(item) for item in keeper.items] == passwords


def test_a_lost_key_is_made_anew_when_nothing_waits_for_it(keeper: Keeper) -> None:
    world = keeper.world
    world.once()
    keeper.key.unlink()
    for arguments in (["plan"], ["status"]):
        assert invoke(world.land.config_path, *arguments).returncode == 0
    assert not keeper.key.exists(), "a command that only shows makes nothing"
    assert str(keeper.items[0]) in invoke(world.land.config_path, "status", str(keeper.items[0])).stdout
    assert invoke(world.land.config_path, "once").returncode == 0
    assert keeper.key.exists()


# -- the writer


def test_without_mgrctl_accounts_are_made_and_their_passwords_wait(keeper: Keeper, tmp_path: Path) -> None:
    world = keeper.world
    mgrctl = tmp_path / "sbin" / "mgrctl"
    world.land.configure({"billmanager": {"writer": "mgrctl", "mgrctl": str(mgrctl)}})
    check_failure(
        invoke(world.land.config_path, "validate-config"),
        r"billmanager.mgrctl: .*mgrctl is not there or cannot be run; give its path, or writer = \"sql\"",
        exit_code=2,
    )
    result = invoke(world.land.config_path, "once")
    said = check_words(result)
    assert result.returncode == 1
    passwords = [
        cloud.accounts[f"user_{item}"].password
        for cloud, item in zip(world.land.clouds, keeper.items, strict=True)
    ]
    for item in keeper.items:
        assert (
            f"service {item}\tbackoff\tmgrctl {mgrctl} cannot be run (No such file or directory): set" in said
        )
        assert world.billing.get_params(item) == {}
    check_words(result, secrets=passwords)
    check_journal(world.land.folder, secrets=passwords)

    world.land.configure({})
    for cloud in world.land.clouds:
        cloud.clear_calls()
    assert invoke(world.land.config_path, "once").returncode == 0
    assert all(world.is_delivered(item) for item in keeper.items)
    assert [world.billing.get_password(item) for item in keeper.items] == passwords
    assert [cloud.mutating_calls() for cloud in world.land.clouds] == [[], []]


def test_a_mgrctl_that_refuses_is_quoted_without_the_password(keeper: Keeper, tmp_path: Path) -> None:
    world = keeper.world
    mgrctl = tmp_path / "mgrctl"
    refusal = '{"doc": {"error": {"$type": "access", "msg": {"$": "no right to \'"$*"\'"}}}}'
    mgrctl.write_text(
        f"#!/bin/sh\ncase \"$*\" in *crypted=on*) echo '{refusal}'; exit 1;; esac\necho '{{}}'\n"
    )
    mgrctl.chmod(0o755)
    world.land.configure({"billmanager": {"writer": "mgrctl", "mgrctl": str(mgrctl)}})
    result = invoke(world.land.config_path, "once")
    passwords = [
        cloud.accounts[f"user_{item}"].password
        for cloud, item in zip(world.land.clouds, keeper.items, strict=True)
    ]
    said = check_words(result, secrets=passwords)
    assert result.returncode == 1
    assert re.search(
        r"service.saveparam for service 1 was refused \(no right to .*userpassword=\*\*\* ", said
    ), said
    assert "look into BILLmanager's log" in said
    check_journal(world.land.folder, secrets=passwords)
