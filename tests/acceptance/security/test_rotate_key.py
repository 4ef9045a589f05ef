"""`reconciler rotate-key`: killed at any moment it loses no password, and never runs beside a daemon."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from multiprocessing.context import ForkServerContext

import pytest

from reconciler.sandbox.emulator import Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import make_settings, running
from tests.acceptance.evidence import check_failure, check_journal, check_words, invoke, make_clouds
from tests.acceptance.saved_world import SavedWorld
from tests.acceptance.security import key_victim
from tests.forking import open_fork_server, run_forked

NOT_TOLD = {"billmanager": {"writer": "none"}}


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Forked from one that has loaded the program."""
    return open_fork_server()


class Vault:
    """A world whose journal keeps three passwords: two that billing lacks, one of a create never answered."""

    def __init__(self, world: World, processes: ForkServerContext) -> None:
        self.world = world
        self._processes = processes
        plan = world.billing.add_plan("Basic", 5)
        world.land.configure(NOT_TOLD)
        self.items = [world.sell(plan, number) for number in (0, 1)]
        world.once()
        self.items.append(world.sell(plan))
        cloud = world.nextcloud
        cloud.clear_calls()
        cloud.faults[:] = [
            Fault("create", "drop", after_effect=True),
            # Nobody can look what became of it.
            Fault(lambda _: cloud.call_counts["create"] > 0, times=None),
        ]
        world.once()
        world.nextcloud.faults.clear()
        world.wait(hours=1)
        world.land.configure({})
        assert self.count_kept() == len(self.items)
        self.key_file = world.land.folder / "journal.key"
        self.saved = SavedWorld(world)

    def count_kept(self) -> int:
        with closing(sqlite3.connect(self.world.land.folder / "journal.db")) as journal:
            query = "SELECT count(*) FROM intent WHERE password IS NOT NULL"
            return int(journal.execute(query).fetchone()[0])

    def rotate(self, last: int | None) -> list[str] | None:
        """Change the key in a process of its own; its steps, None when it was killed before step ``last``."""
        report = self.world.land.folder / "steps.json"
        report.unlink(missing_ok=True)
        arguments = (str(self.world.land.config_path), str(report), last)
        if not run_forked(self._processes, key_victim.run, *arguments):
            return None
        steps: list[str] = json.loads(report.read_text("utf-8"))
        return steps

    def list_keys(self) -> list[str]:
        assert stat.S_IMODE(self.key_file.stat().st_mode) == 0o600
        return self.key_file.read_text().split()


@pytest.fixture
def vault(make_world: MakeWorld, processes: ForkServerContext) -> Vault:
    return Vault(make_world(clouds=make_clouds()), processes)


def test_killed_at_any_step_it_loses_no_password(vault: Vault) -> None:
    world = vault.world
    [old] = vault.list_keys()
    steps = vault.rotate(None)
    assert steps is not None
    assert vault.list_keys() != [old]
    # The key's file is replaced before and after the one transaction that changes the journal.
    changes = [step for step in steps if step in {"replace", "UPDATE", "INSERT", "COMMIT", "VACUUM"}]
    assert changes == ["replace", *["UPDATE"] * 3, "INSERT", "COMMIT", "replace", "VACUUM"], steps
    first = steps.index("unlink")  # before it, it only reads
    assert first > 0
    for number in range(first, len(steps)):
        vault.saved.restore()
        assert vault.rotate(number) is None, f"step {number} is not reached any more"
        where = f"killed before step {number} ({steps[number]})"
        assert vault.count_kept() == len(vault.items), where
        keys = vault.list_keys()
        assert len(set(keys)) in {1, 2}, where
        if number % 2:  # finished by another change, or left as it is
            result = invoke(world.land.config_path, "rotate-key", "--json")
            assert result.returncode == 0, (where, result)
            assert json.loads(result.stdout)["was_unfinished"] is (len(keys) == 2), where
            assert len(vault.list_keys()) == 1, where
            assert not list(world.land.folder.glob(".journal*")), where
        world.once()
        assert all(map(world.is_delivered, vault.items)), where
        assert vault.count_kept() == 0, where


def test_it_says_what_it_did_and_the_passwords_are_delivered_with_the_new_key(vault: Vault) -> None:
    world, path = vault.world, vault.world.land.config_path
    [old] = vault.list_keys()
    result = invoke(path, "rotate-key")
    said = check_words(result, secrets=[old, *vault.list_keys()])
    assert (result.returncode, result.stderr) == (0, "")
    assert said == f"{vault.key_file} holds a new key, 3 kept passwords were encrypted with it\n"
    [new] = vault.list_keys()
    answer = json.loads(invoke(path, "rotate-key", "--json").stdout)
    assert answer == {"key_file": str(vault.key_file), "passwords": 3, "was_unfinished": False}
    history = json.loads(invoke(path, "history", "--json").stdout)
    assert [(entry["action"], entry["result"]) for entry in history] == [("rotate-key", "done")] * 2
    assert all(entry["actor"].startswith("operator:") for entry in history)
    check_journal(world.land.folder, secrets=[old, new])
    world.once()
    assert all(map(world.is_delivered, vault.items))
    world.once_quietly()


def test_it_is_refused_while_the_daemon_runs_and_the_daemon_goes_on(make_world: MakeWorld) -> None:
    world = make_world(clouds=make_clouds(), settings=make_settings())
    item = world.sell(world.billing.add_plan("Basic", 5))
    with running(world) as daemon:
        key = (world.land.folder / "journal.key").read_text()
        check_failure(
            invoke(world.land.config_path, "rotate-key"), "the journal key .* is in use: end the daemon"
        )
        assert (world.land.folder / "journal.key").read_text() == key
        daemon.wait_for(lambda: world.is_delivered(item), "it works on")
        assert daemon.terminate() == 0
    assert invoke(world.land.config_path, "rotate-key").returncode == 0
    assert (world.land.folder / "journal.key").read_text() != key


def test_before_the_first_start_there_is_no_key_to_change(world: World) -> None:
    check_failure(
        invoke(world.land.config_path, "rotate-key"), "journal.key cannot be read: No such file or directory"
    )
    assert not list(world.land.folder.glob("journal*"))
