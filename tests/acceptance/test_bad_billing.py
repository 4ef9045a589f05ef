"""A billing database that cannot be read: nothing is concluded from it, and nothing is done anywhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.sandbox.billing_data import generate_private_key_pem
from reconciler.sandbox.emulator import Call, Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import (
    DATABASE_SECRET,
    check_failure,
    check_journal,
    check_words,
    dump_accounts,
    dump_rows,
    invoke,
    make_clouds,
)
from tests.databases import DatabaseServer

SECTION = "billmanager"


@dataclass
class Provider:
    """A world that converged, with work to do, whose database has a user with a password."""

    world: World
    server: DatabaseServer
    user: str
    password_file: Path
    new_item: int

    @property
    def url(self) -> sa.URL:
        return sa.make_url(self.world.land.database_url).set(username=self.user)

    def configure(self, url: sa.URL) -> None:
        """Let the program use another database address, with the password file."""
        self.world.land.configure(
            {SECTION: {"database_url": str(url), "database_password_file": str(self.password_file)}}
        )

    def execute(self, statement: str) -> None:
        self.server.execute(statement, database=self.url.database)

    def cut_off(self) -> None:
        """End the program's connections and let it make no new one."""
        database = self.url.database
        if self.server.kind == "mariadb":
            who = f"{self.user}@'127.0.0.1'"
            self.server.execute(f"ALTER USER {who} ACCOUNT LOCK", f"KILL CONNECTION USER {who}")
        else:
            self.world.billing.engine.dispose()
            self.server.execute(
                f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
            )

    def let_in(self) -> None:
        """Undo it."""
        if self.server.kind == "mariadb":
            self.server.execute(f"ALTER USER {self.user}@'127.0.0.1' ACCOUNT UNLOCK")
        else:
            self.server.execute(f"ALTER DATABASE {self.url.database} WITH ALLOW_CONNECTIONS true")

    def check_refusal(self, pattern: str, *, is_process: bool = False) -> None:
        """Every command that needs billing says why it cannot be read, and nothing changes."""
        world = self.world
        before = [dump_accounts(cloud) for cloud in world.land.clouds]
        journal = dump_rows(f"sqlite:///{world.land.folder / 'journal.db'}")
        for cloud in world.land.clouds:
            cloud.clear_calls()
        if is_process:
            check_failure(world.run("once"), pattern)
        for arguments in (["once"], ["plan"], ["resync", "1"], ["check-connection"]):
            check_failure(invoke(world.land.config_path, *arguments), pattern)
        assert [cloud.mutating_calls() for cloud in world.land.clouds] == [[], []]
        assert [dump_accounts(cloud) for cloud in world.land.clouds] == before
        after = dump_rows(f"sqlite:///{world.land.folder / 'journal.db'}")
        del journal["lease"], after["lease"]  # a lease is taken before billing is read
        assert after == journal
        status = invoke(world.land.config_path, "status")
        assert (status.returncode, status.stdout.count("\tok\t")) == (0, 2), "what is known is shown"
        check_words(status)
        check_journal(world.land.folder)


@pytest.fixture(params=["mariadb", "postgres"])
def provider(request: pytest.FixtureRequest, make_world: MakeWorld, tmp_path: Path) -> Iterator[Provider]:
    server: DatabaseServer = request.getfixturevalue(request.param)
    world = make_world(kind=request.param, clouds=make_clouds())
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number % 2) for number in range(4)]
    world.once()
    new_item = world.sell(plan, 0)
    world.billing.set_status(items[1], 4)
    database = sa.make_url(world.land.database_url).database
    user = f"p_{database}"
    file = tmp_path / "database-password"
    file.write_text(DATABASE_SECRET, "utf-8")
    file.chmod(0o600)
    if server.kind == "mariadb":
        server.execute(
            f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY '{DATABASE_SECRET}'",
            f"GRANT SELECT, INSERT, UPDATE ON {database}.* TO {user}@'127.0.0.1'",
        )
    else:
        server.execute(
            "DO $$ BEGIN CREATE ROLE password_users;"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
            f"CREATE ROLE {user} LOGIN PASSWORD '{DATABASE_SECRET}' IN ROLE password_users",
        )
        server.execute(
            f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {user}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {user}",
            database=database,
        )
    provider = Provider(world, server, user, file, new_item)
    provider.configure(provider.url)
    yield provider
    provider.let_in()
    if server.kind == "postgres":
        server.execute(f"DROP OWNED BY {user}", database=database)
    server.execute(
        f"DROP {'USER' if server.kind == 'mariadb' else 'ROLE'} {user}"
        + ("@'127.0.0.1'" if server.kind == "mariadb" else "")
    )


@pytest.mark.usefixtures("fault_row")
def test_a_database_server_that_is_not_there(provider: Provider) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        provider.configure(provider.url.set(port=port))
        provider.check_refusal(
            rf"billing database \w+ on 127.0.0.1:{port} cannot be reached .*: check that the server runs",
            is_process=True,
        )


@pytest.mark.usefixtures("fault_row")
def test_a_wrong_password_of_the_database(provider: Provider) -> None:
    provider.password_file.write_text("Planted-Wrong-Secret-75", "utf-8")
    provider.check_refusal(r"billing database .* refused access .*: check user, password and GRANT")
    result = invoke(provider.world.land.config_path, "once")
    check_words(result, secrets=["Planted-Wrong-Secret-75"])


def test_a_database_that_does_not_exist(provider: Provider) -> None:
    provider.configure(provider.url.set(database="nowhere"))
    is_mariadb = provider.server.kind == "mariadb"
    # MariaDB tells a user without a right to it nothing of whether a database exists.
    provider.check_refusal(
        r"billing database nowhere on .* refused access" if is_mariadb else "nowhere on .* cannot be reached"
    )


def test_a_table_that_is_missing(provider: Provider) -> None:
    provider.execute("ALTER TABLE item RENAME TO item_gone")
    provider.check_refusal("the billing database has no table item: check that database_url names")
    provider.execute("ALTER TABLE item_gone RENAME TO item")


def test_a_column_that_is_missing(provider: Provider) -> None:
    provider.execute("ALTER TABLE item RENAME COLUMN status TO status_gone")
    provider.check_refusal(r"the billing database has no column item\.status: check that database_url names")
    provider.execute("ALTER TABLE item RENAME COLUMN status_gone TO status")


def test_another_private_key_leaves_the_servers_alone(provider: Provider) -> None:
    world = provider.world
    (world.land.folder / "billmgr.pem").write_bytes(generate_private_key_pem())
    before = [dump_accounts(cloud) for cloud in world.land.clouds]
    result = invoke(world.land.config_path, "once")
    said = check_words(result)
    assert result.returncode == 1
    for number, product in ((1, "nextcloud"), (2, "owncloud")):
        line = f"left out: server {number} ({product}-{number}): its user name cannot be decrypted "
        assert f"{line}(the value was not encrypted for this key): check private_key_file" in said
    assert [dump_accounts(cloud) for cloud in world.land.clouds] == before
    (world.land.folder / "billmgr.pem").write_text("no key")
    for arguments in (["once"], ["plan"], ["status"], ["validate-config"]):
        refusal = invoke(world.land.config_path, *arguments)
        check_failure(refusal, "BILLmanager's private key is not a PEM private key: .*file", exit_code=2)


def cut_off_at(provider: Provider, operation: str) -> Fault:
    """A fault that does nothing to the server: the database goes away when it is asked this."""
    seen: list[Call] = []

    def match(call: Call) -> bool:
        if call.operation == operation and not seen:
            seen.append(call)
            provider.cut_off()
        return False

    return Fault(match)


@pytest.mark.usefixtures("fault_row")
def test_a_database_that_goes_away_after_the_listing_ends_the_cycle(provider: Provider) -> None:
    world = provider.world
    world.nextcloud.clear_calls()
    world.nextcloud.faults.append(cut_off_at(provider, "details"))
    result = world.run("once")
    check_failure(result, "billing database .*: (check|look)")
    assert world.nextcloud.mutating_calls() == [], "no step without a fresh read of what is wanted"
    provider.let_in()
    world.nextcloud.faults.clear()
    assert invoke(world.land.config_path, "once").returncode == 0
    assert world.is_delivered(provider.new_item)


@pytest.mark.usefixtures("fault_row")
def test_a_database_that_goes_away_between_creation_and_delivery_loses_no_password(
    provider: Provider,
) -> None:
    world = provider.world
    world.nextcloud.faults.append(cut_off_at(provider, "create"))
    result = world.run("once")
    check_words(result)
    assert result.returncode == 1
    provider.let_in()
    account = world.nextcloud.accounts[f"user_{provider.new_item}"]
    password = account.password
    assert not world.is_delivered(provider.new_item)
    assert invoke(world.land.config_path, "once").returncode == 0
    assert world.is_delivered(provider.new_item)
    assert world.billing.get_password(provider.new_item) == password == account.password
    check_journal(world.land.folder, secrets=[password])
