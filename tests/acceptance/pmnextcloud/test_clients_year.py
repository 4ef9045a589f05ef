"""A client's year, through BILLmanager's module and the daemon together, on both products."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from reconciler.sandbox.emulator import EmulatedAccount
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import make_settings, running
from tests.acceptance.panel import install_mgrctl, list_calls, read_calls
from tests.acceptance.pmnextcloud.calling import call

GB = 1024**3


class Year:
    """One client with one service, and BILLmanager's hand."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.small = world.billing.add_plan("Small", 5, group="basic")
        self.large = world.billing.add_plan("Large", 20, group="pro")
        self.item = world.sell(self.small, number, status=1)
        self.done: list[str] = []

    def operate(self, command: str, operation: str) -> None:
        """BILLmanager begins an operation, calls the module, and is told of the end exactly once."""
        running = self.world.billing.start_operation(self.item, operation)
        answer = call(self.world, command, item=self.item, runningoperation=running or 0)
        assert (answer.code, answer.error) == (0, {}), answer.log
        ended = [
            each
            for each in read_calls(self.world)
            if each.startswith("service.post") and each != "service.poststat"
        ]
        self.done.append(f"service.post{operation}")
        assert ended == self.done
        assert "runningoperation.edit" not in read_calls(self.world)

    def read_state(self) -> str | None:
        """What the card tells the client."""
        return self.world.billing.get_params(self.item).get("nextcloud_status")

    def get_account(self) -> EmulatedAccount:
        account = self.world.get_account(self.item)
        assert account is not None
        return account

    def read_usage(self) -> dict[str, int]:
        table = self.world.billing.table("itemstat")
        with self.world.billing.engine.connect() as connection:
            rows = connection.execute(select(table).where(table.c.item == self.item)).all()
        assert {row.statdate for row in rows} <= {datetime.now(UTC).astimezone().date()}
        return {row.param: row.value for row in rows}


@pytest.mark.parametrize(("number", "kind"), [(0, "mariadb"), (1, "mariadb"), (0, "sqlite")])
def test_a_clients_year(make_world: MakeWorld, number: int, kind: str) -> None:
    world = make_world(kind=kind)
    world.land.configure(make_settings(**install_mgrctl(world)))
    year = Year(world, number)
    with running(world):
        assert world.get_account(year.item) is None, "ordered, not paid"
        assert year.read_state() is None

        year.operate("open", "open")
        account = year.get_account()
        assert (account.is_enabled, account.quota_definition, account.groups) == (True, "5 GB", {"basic"})
        assert world.billing.get_status(year.item) == 2
        assert world.is_delivered(year.item)
        assert year.read_state() == "работает"

        world.billing.change_plan(year.item, year.large)
        year.operate("set_param", "setparam")
        account = year.get_account()
        assert (account.quota_definition, account.groups) == ("20 GB", {"pro"})

        year.operate("suspend", "suspend")
        assert not year.get_account().is_enabled
        assert world.billing.get_status(year.item) == 3
        assert year.read_state() == "приостановлен"

        year.operate("resume", "resume")
        assert year.get_account().is_enabled
        assert world.is_delivered(year.item), "with the password that the client knows"
        assert year.read_state() == "работает"

        world.billing.change_plan(year.item, year.small)
        year.operate("setparam", "setparam")
        assert year.get_account().quota_definition == "5 GB"

        account = year.get_account()
        account.used_bytes, account.has_logged_in = 3 * GB, True
        answer = call(world, "stat", module=world.land.server_ids[number])
        assert (answer.code, answer.error) == (0, {}), answer.log
        assert year.read_usage()
        told = [each for each in list_calls(world) if each[0] == "service.poststat"]
        assert [each[1] for each in told] == [f"elid={world.land.server_ids[number]}"]

        year.operate("close", "close")
        assert world.billing.get_status(year.item) == 4
        assert not year.get_account().is_enabled, "disabled at once, kept for its grace"
