"""Before anything is opened: no secret may be open to everybody, and nobody else may change config.toml."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from reconciler.journal.keys import read_or_create_key
from reconciler.sandbox.landscape import find_free_port
from tests.acceptance.conftest import World
from tests.acceptance.daemon.running import RunningDaemon, make_settings, running
from tests.acceptance.evidence import DATABASE_SECRET, check_failure, check_words, dump_accounts, invoke

COMMANDS = (
    ["run"],
    ["once"],
    ["plan"],
    ["status"],
    ["resync", "1"],
    ["reset-password", "1"],
    ["rotate-key"],
    ["check-connection"],
    ["validate-config"],
)
TOKEN = "Planted-Token-74"
SECRETS = {
    "billmanager.database_password_file": "db-password",
    "billmanager.private_key_file": "billmgr.pem",
    "reconciler.journal_password_file": "journal-password",
    "reconciler.journal_key_file": "journal.key",
    "http.token_file": "http-token",
}


@pytest.fixture
def shop(world: World) -> World:
    """A world with every secret in a file of its own; nothing was done yet."""
    folder = world.land.folder
    read_or_create_key(folder / "journal.key", may_create=True).close()
    for name, content in (
        ("db-password", DATABASE_SECRET),
        ("journal-password", DATABASE_SECRET),
        ("http-token", TOKEN),
    ):
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    assert world.sell(world.billing.add_plan("Basic", 5)) == 1
    world.land.configure(make_settings())
    return world


def name_secrets(world: World) -> None:
    """SQLite takes no password: the files are named only where nothing is opened any more."""
    folder = world.land.folder
    world.land.configure(
        {
            "billmanager": {"database_password_file": str(folder / "db-password")},
            "reconciler": {"journal_password_file": str(folder / "journal-password")},
            "http": {"listen": f"127.0.0.1:{find_free_port()}", "token_file": str(folder / "http-token")},
        }
    )


@pytest.mark.parametrize("key", SECRETS)
def test_no_command_works_with_a_secret_that_is_open_to_everybody(shop: World, key: str) -> None:
    name_secrets(shop)
    path = shop.land.folder / SECRETS[key]
    before = [dump_accounts(cloud) for cloud in shop.land.clouds]
    for mode in (0o604, 0o602, 0o644, 0o777):
        path.chmod(mode)
        told = rf"{key}: {path} is open to everybody \(mode {mode:04o}\); run: chmod o-rwx {path}"
        for arguments in COMMANDS:
            result = invoke(shop.land.config_path, *arguments)
            check_failure(result, f"^reconciler: {told}$", exit_code=2)
            check_words(result, secrets=[TOKEN])
    assert [dump_accounts(cloud) for cloud in shop.land.clouds] == before
    assert [cloud.calls for cloud in shop.land.clouds] == [[], []]
    assert not list(shop.land.folder.glob("journal.db*"))


def test_all_of_them_are_told_at_once(shop: World) -> None:
    name_secrets(shop)
    for name in SECRETS.values():
        (shop.land.folder / name).chmod(0o644)
    shop.land.config_path.chmod(0o666)
    for arguments in COMMANDS:
        result = invoke(shop.land.config_path, *arguments)
        told = [line.partition(" is open")[0] for line in result.stderr.splitlines()]
        expected = {f"reconciler: {key}: {shop.land.folder / name}" for key, name in SECRETS.items()}
        assert set(told[1:]) == expected, arguments
        assert "config.toml can be changed by everybody (mode 0666); run: chmod o-w" in told[0]


def test_billmanagers_own_settings_are_a_secret_too(tmp_path: Path) -> None:
    conf, config = tmp_path / "db.conf", tmp_path / "config.toml"
    conf.write_text(f"DBHost localhost\nDBUser x\nDBName billmgr\nDBPassword {DATABASE_SECRET}\n")
    conf.chmod(0o644)
    config.write_text(f'[billmanager]\ndb_conf = "{conf}"\nprivate_key_file = ""\nwriter = "sql"\n')
    for arguments in (["run"], ["once"], ["plan"], ["validate-config"]):
        check_failure(
            invoke(config, *arguments),
            r"billmanager.db_conf: .*db.conf is open to everybody \(mode 0644\); run: chmod o-rwx",
            exit_code=2,
        )


def test_a_configuration_that_everybody_can_change_is_not_used(shop: World) -> None:
    path = shop.land.config_path
    for mode in (0o602, 0o646, 0o666):
        path.chmod(mode)
        told = rf"{path} can be changed by everybody \(mode {mode:04o}\); run: chmod o-w {path}"
        for arguments in COMMANDS:
            check_failure(invoke(path, *arguments), f"^reconciler: {told}$", exit_code=2)
    path.chmod(0o664)
    assert invoke(path, "validate-config").returncode == 0


def test_files_of_owner_and_group_are_fine_and_all_may_read_the_configuration(shop: World) -> None:
    path = shop.land.config_path
    path.chmod(0o644)
    for mode in (0o600, 0o640, 0o400, 0o440, 0o660):
        for name in ("billmgr.pem", "journal.key"):
            (shop.land.folder / name).chmod(mode)
        for arguments in (["validate-config"], ["status"], ["resync", "1"]):
            assert invoke(path, *arguments).returncode == 0, (mode, arguments)


def test_credentials_as_systemd_places_them_are_fine(shop: World) -> None:
    directory = shop.land.folder / "credentials"
    directory.mkdir()
    for name, content in (
        ("billmgr.pem", (shop.land.folder / "billmgr.pem").read_text()),
        ("http-token", TOKEN),
    ):
        (directory / name).write_text(content)
        (directory / name).chmod(0o440)
    directory.chmod(0o550)
    settings = make_settings(
        billmanager={"private_key_file": "credential:billmgr.pem"},
        http={"token_file": "credential:http-token"},
    )
    shop.land.configure(settings)
    with running(shop, environment={"CREDENTIALS_DIRECTORY": str(directory)}) as daemon:
        assert daemon.get("/healthz")[0] == 200
        # No core file: it would hold all of them.
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
        [core] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core.split()[4] == "0"


def test_the_daemon_ends_at_once_and_a_running_one_does_not_take_it_over(shop: World) -> None:
    key = shop.land.folder / "billmgr.pem"
    with running(shop) as daemon:
        key.chmod(0o644)
        daemon.signal(signal.SIGHUP)
        daemon.wait_for(lambda: "configuration not loaded, the old one stays" in daemon.log, "it is told")
        assert "billmgr.pem is open to everybody (mode 0644); run: chmod o-rwx" in daemon.log
        assert daemon.get("/healthz")[0] == 200
        assert daemon.terminate() == 0
    with RunningDaemon(shop, shop.land.folder / "second") as second:
        assert second.process.wait(60) == 2
        assert "billmgr.pem is open to everybody" in second.log
