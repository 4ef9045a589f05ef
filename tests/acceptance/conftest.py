"""A whole provider for each test: a billing database, emulated servers, a clock, and the program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nc import CloudClient, ServerConnection
from reconciler.application import Application
from reconciler.config import load_config
from reconciler.cycle import CycleReport, run_cycle
from reconciler.planning import Plan, make_plan
from reconciler.sandbox.billing_data import SandboxBilling, generate_private_key_pem
from reconciler.sandbox.billing_schema import Variant
from reconciler.sandbox.emulator import CloudEmulator, EmulatedAccount
from reconciler.sandbox.landscape import Landscape
from reconciler.scan import read_desired
from tests.forking import run_program

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class World:
    """One test's provider.

    ``now`` is the time that everything run in this process sees; it moves only by `wait`.
    """

    def __init__(self, land: Landscape) -> None:
        self.land = land
        self.now = START

    @property
    def billing(self) -> SandboxBilling:
        return self.land.billing

    @property
    def nextcloud(self) -> CloudEmulator:
        return next(cloud for cloud in self.land.clouds if cloud.product == "nextcloud")

    @property
    def owncloud(self) -> CloudEmulator:
        return next(cloud for cloud in self.land.clouds if cloud.product == "owncloud")

    def wait(self, **span: float) -> None:
        self.now += timedelta(**span)

    def sell(self, plan_id: int, server_number: int = 0, status: int = 2, **params: str) -> int:
        """Sell a service to a client of its own, client<N>@example.net; its item id."""
        account_id = self.billing.add_client(None)
        self.billing.add_user(account_id, f"client{account_id}@example.net")
        return self.billing.add_service(
            plan_id, account_id, self.land.server_ids[server_number], status, **params
        )

    def open(self, *, is_dry_run: bool = False) -> Application:
        return Application(load_config(self.land.config_path), is_dry_run=is_dry_run, clock=lambda: self.now)

    def once(self) -> CycleReport:
        with self.open() as app:
            return run_cycle(app, actor="test")

    def once_quietly(self) -> None:
        """A cycle that must find nothing to do."""
        for cloud in self.land.clouds:
            cloud.clear_calls()
        report = self.once()
        assert [cloud.mutating_calls() for cloud in self.land.clouds] == [[] for _ in self.land.clouds]
        assert report.is_converged, report

    def plan(self) -> Plan:
        with self.open(is_dry_run=True) as app:
            return make_plan(app)

    def read_everything(self) -> None:
        with self.open() as app:
            read_desired(app)

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """The program as a user starts it: a process of its own, with the machine's clock."""
        return run_program("--config", str(self.land.config_path), *arguments, given=given)

    def get_command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "reconciler.cli", "--config", str(self.land.config_path), *arguments]

    def run_json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def get_cloud(self, item_id: int) -> CloudEmulator:
        with self.billing.engine.connect() as connection:
            item = self.billing.table("item")
            server_id = (
                connection.execute(item.select().where(item.c.id == item_id))
                .mappings()
                .one()["processingmodule"]
            )
        return self.land.clouds[self.land.server_ids.index(server_id)]

    def get_account(self, item_id: int) -> EmulatedAccount | None:
        """The account of a service, on its server, under the name on its card (or the usual one)."""
        name = self.billing.get_params(item_id).get("username") or f"user_{item_id}"
        return self.get_cloud(item_id).accounts.get(name.lower())

    def is_delivered(self, item_id: int) -> bool:
        """Whether the credentials on the service's card log in at the URL on it."""
        params = self.billing.get_params(item_id)
        cloud, password = self.get_cloud(item_id), self.billing.get_password(item_id)
        if not (params.get("username") and password) or params.get("url") != cloud.base_url:
            return False
        connection = ServerConnection(cloud.base_url, cloud.admin_user, cloud.admin_password)
        client = CloudClient(connection)
        try:
            return client.prove_password(str(params["username"]), password)
        finally:
            client.close()


@pytest.fixture
def fault_row(record_property: Callable[[str, object], None]) -> None:
    """Counts the test as a row of the fault matrix (docs/safety.md)."""
    record_property("fault matrix rows", 1)


@pytest.fixture(scope="session")
def private_key_pem() -> bytes:
    """One key for all worlds: making one takes long."""
    return generate_private_key_pem()


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(
    tmp_path: Path, make_database: Callable[[str], str], private_key_pem: bytes
) -> Iterator[MakeWorld]:
    """Makes a world: by default on SQLite with the live schema, one Nextcloud and one ownCloud."""
    made: list[Landscape] = []

    def make(
        *,
        kind: str = "sqlite",
        database_url: str | None = None,
        variant: Variant = "live",
        clouds: Sequence[CloudEmulator] | None = None,
        groups: Sequence[str] = ("basic", "pro"),
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> World:
        folder = tmp_path / f"world{len(made)}"
        folder.mkdir()
        if clouds is None:
            clouds = [CloudEmulator("nextcloud"), CloudEmulator("owncloud")]
        for cloud in clouds:
            for group in groups:
                cloud.add_group(group)
        land = Landscape(
            folder,
            clouds,
            database_url=database_url or make_database(kind),
            variant=variant,
            settings=settings,
            private_key_pem=private_key_pem,
        )
        made.append(land)
        return World(land)

    yield make
    for land in made:
        land.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """The usual world."""
    return make_world()
