"""A provider in the middle of its work, one of whose two servers is to suffer: what every row starts from.

On each server there is a service of every kind of work: one to be made, one to be suspended, one whose tariff
was changed, one to be deleted at once; and those whom nothing may happen to: a paid service that is as sold,
one that is not paid yet, and accounts that are not ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reconciler.cycle import CycleReport
from reconciler.journal import ServiceRecord
from reconciler.sandbox.emulator import Call, CloudEmulator
from tests.acceptance.conftest import World
from tests.acceptance.evidence import dump_accounts

STRANGERS: Final = ("stranger", "user_90001")
_NO_GRACE: Final[dict[str, dict[str, Any]]] = {"guards": {"deletion_grace": "0s"}}
_TIMEOUTS: Final = ("timeout", "total_timeout", "connect_timeout", "delete_timeout")


@dataclass(frozen=True)
class Services:
    """The services of one server, by what is to be done about them."""

    kept: int
    ordered: int
    fresh: int
    unpaid: int
    upgraded: int
    closed: int

    def __iter__(self) -> Iterator[int]:
        return iter((self.kept, self.ordered, self.fresh, self.unpaid, self.upgraded, self.closed))


def is_change(call: Call) -> bool:
    """Whether a request is to change something; for faults."""
    return call.is_mutating


class Stage:
    """One world; it can be put back to how it was, and begins anew with every row.

    Attributes:
        sick, well: the server that suffers, and the other one.
        mine, others: their services.
    """

    sick: CloudEmulator
    well: CloudEmulator
    mine: Services
    others: Services
    server_id: int

    def __init__(self, world: World, settings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Prepare everything; ``settings`` hold for all rows."""
        self.world = world
        self._settings: dict[str, Mapping[str, Any]] = {**_NO_GRACE, **(settings or {})}
        self.configure({})
        self._basic = world.billing.add_plan("Basic", 5, group="basic")
        pro = world.billing.add_plan("Pro", 50, group="pro")
        self._services = [self._sell(place) for place in (0, 1)]
        assert world.once().is_converged
        for cloud in world.land.clouds:
            for name in STRANGERS:
                cloud.add_account(name, password="Theirs-20-characters!", quota="1 GB", email="x@y.example")
        for each in self._services:
            for item, status in ((each.fresh, 2), (each.unpaid, 3), (each.closed, 4)):
                world.billing.set_status(item, status)
            world.billing.change_plan(each.upgraded, pro)
        self._now = world.now
        self._files = {path: path.read_bytes() for path in self._list_files()}
        self._snapshots = [cloud.snapshot() for cloud in world.land.clouds]
        self.begin(0)

    def begin(self, number: int) -> None:
        """Put everything back, and choose the server that is to suffer."""
        world, clouds = self.world, self.world.land.clouds
        world.billing.engine.dispose()  # a connection must not believe its cache
        for path in self._list_files():
            path.unlink()
        for path, content in self._files.items():
            path.write_bytes(content)
            path.chmod(0o600)
        for cloud, snapshot in zip(clouds, self._snapshots, strict=True):
            cloud.stop()  # whatever hangs
            cloud.restore(snapshot)
            cloud.faults.clear()
            cloud.maintenance, cloud.settings.before_page = False, None
            cloud.start()
            cloud.clear_calls()
            cloud.edits.reset()
        world.now = self._now
        self.sick, self.well = clouds[number], clouds[1 - number]
        self.mine, self.others = self._services[number], self._services[1 - number]
        self.server_id = world.land.server_ids[number]
        self._untouchable = {id(cloud): self._dump_untouchable(cloud) for cloud in clouds}

    def _list_files(self) -> list[Path]:
        return [path for path in self.world.land.folder.iterdir() if path.is_file()]

    def _sell(self, number: int) -> Services:
        statuses = {"kept": 2, "ordered": 1, "fresh": 1, "unpaid": 2, "upgraded": 2, "closed": 2}
        return Services(
            **{name: self.world.sell(self._basic, number, each) for name, each in statuses.items()}
        )

    def configure(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the configuration anew, with these settings over the stage's own."""
        self.world.land.configure({**self._settings, **settings})

    def be_hasty(self, *timeouts: str, seconds: float = 0.5) -> None:
        """Wait for the server that suffers only so long, until the configuration is written anew.

        Args:
            timeouts: which settings; all by default.
            seconds: more where its other requests are to be answered: on a busy machine half a second may
                be short for anything.
        """
        hasty = dict.fromkeys(timeouts or _TIMEOUTS, f"{seconds * 1000:.0f}ms")
        self.configure(
            {f"nextcloud.server.{self.server_id}": {**self._settings.get("nextcloud", {}), **hasty}}
        )

    # -- what must hold

    def check_nothing_wrong(self) -> None:
        """No account was made twice, no stranger touched, nothing deleted or disabled that should not be."""
        for cloud, services in ((self.sick, self.mine), (self.well, self.others)):
            accounts = dump_accounts(cloud)
            named = {name: f"user_{getattr(services, name)}" for name in Services.__dataclass_fields__}
            assert accounts.keys() <= {"admin", *STRANGERS, *named.values()} - {named["ordered"]}
            assert accounts.keys() >= {"admin", *STRANGERS, named["kept"], named["unpaid"], named["upgraded"]}
            assert self._dump_untouchable(cloud) == self._untouchable[id(cloud)]
            creates = Counter(
                call.userid for call in cloud.calls if call.operation == "create" and call.had_effect
            )
            assert not creates or creates == {named["fresh"]: 1}
            upgraded = cloud.accounts[named["upgraded"]]
            assert (upgraded.is_enabled, upgraded.quota_definition) in {(True, "5 GB"), (True, "50 GB")}
            assert cloud.accounts[named["unpaid"]].quota_definition == "5 GB"

    def _dump_untouchable(self, cloud: CloudEmulator) -> dict[str, tuple[object, ...]]:
        kept = f"user_{(self.mine if cloud is self.sick else self.others).kept}"
        return {name: row for name, row in dump_accounts(cloud).items() if name in {kept, *STRANGERS}}

    def check_served(self, services: Services) -> None:
        """Everything is as sold on one server."""
        world = self.world
        found = {name: world.get_account(getattr(services, name)) for name in Services.__dataclass_fields__}
        assert {
            name: account and (account.is_enabled, account.quota_definition, sorted(account.groups))
            for name, account in found.items()
        } == {
            "kept": (True, "5 GB", ["basic"]),
            "ordered": None,
            "fresh": (True, "5 GB", ["basic"]),
            "unpaid": (False, "5 GB", ["basic"]),
            "upgraded": (True, "50 GB", ["pro"]),
            "closed": None,
        }
        for item in (services.kept, services.fresh):
            account, params = world.get_account(item), world.billing.get_params(item)
            assert account is not None
            assert (params["username"], world.billing.get_password(item)) == (
                account.userid,
                account.password,
            )
            assert params["url"] == world.get_cloud(item).base_url

    # -- what happens

    def suffer(self, cause: str, *, cycles: int | None = None, is_passing: bool = False) -> CycleReport:
        """Run some cycles while the fault is there.

        Args:
            cause: a pattern of what it is to be called, in one line of the server or of a service that waits.
            cycles: how many, two minutes apart; by default two, or one when it is passing.
            is_passing: the fault has done its worst within one cycle: the history tells of it.

        Returns:
            What the last cycle said.
        """
        for number in range(cycles or (1 if is_passing else 2)):
            if number:
                self.world.wait(minutes=2)
            report = self.world.once()
            self.check_nothing_wrong()
        self.check_served(self.others)
        lines = self.read_history() if is_passing else self.read_troubles(report)
        assert any(re.search(cause, line) for line in lines), (cause, lines)
        assert is_passing or not report.is_converged
        return report

    def read_troubles(self, report: CycleReport) -> list[str]:
        """What is told of the server that suffers, and of its services that wait."""
        shown = [
            line for name, line in report.servers.items() if name.startswith(f"server {self.server_id} ")
        ]
        for record in self.read_records().values():
            shown += [line for line in (record.last_error, record.blocked_by) if line]
        return shown

    def read_records(self) -> dict[int, ServiceRecord]:
        """The journal's rows of the services that suffer."""
        with self.world.open() as app:
            return app.journal.services.load(list(self.mine))

    def read_history(self) -> list[str]:
        """Why things were done, and what became of them, on the server that suffers."""
        with self.world.open() as app:
            entries = [entry for item in self.mine for entry in app.journal.history.list_entries(item)]
        return [entry.why for entry in entries]

    def recover(self) -> None:
        """The fault is gone and time has passed: everything is as sold, and stays so."""
        self.configure({})
        self.sick.faults.clear()
        self.world.wait(hours=1)
        report = self.world.once()
        assert report.is_converged, report
        self.check_nothing_wrong()
        for services in (self.mine, self.others):
            self.check_served(services)
        self.world.once_quietly()
