"""One provider that everything can happen to: its billing, its servers, and whoever meddles with them.

What the program itself and its operators do is in `program`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from reconciler.sandbox.billing_data import generate_private_key_pem
from reconciler.sandbox.emulator import EmulatedAccount, Fault, FaultKind
from reconciler.sandbox.landscape import Landscape
from tests.acceptance.conftest import World
from tests.acceptance.model.billed import TARIFFS, Billed, Place, read_billed
from tests.acceptance.model.book import Book, Limits
from tests.acceptance.model.watched import Facts, WatchedCloud, Witness

_KEY: Final = generate_private_key_pem(1024)
"""Small, and one for all: making a real one takes long."""
_ROWS: Final = ("item", "itemparam", "itemcryptedparam", "runningoperation")

Tampering = Literal[
    "cut quota",
    "lift quota",
    "disable",
    "enable",
    "delete",
    "stranger",
    "make admin",
    "make subadmin",
    "take admin away",
    "own e-mail",
    "no e-mail",
    "wrong group",
    "no group",
]
Sickness = Literal["maintenance", "password", "identity", "down"]


@dataclass(frozen=True)
class Breakage:
    """Something that a server does wrong; see `Fault`."""

    match: str = "*"
    kind: FaultKind = "status"
    status: int = 500
    times: int | None = 1
    after_effect: bool = False
    partial: bool = False
    late_after: int | None = None

    def make(self) -> Fault:
        return Fault(
            self.match,
            self.kind,
            self.times,
            self.status,
            seconds=0.001,
            after_effect=self.after_effect,
            partial=self.partial,
            late_after=self.late_after,
            size_bytes=1_200_000,
        )


class Provider:
    """A billing database, one Nextcloud, one ownCloud, and the model's book.

    Attributes:
        items: every service that was ever ordered.
        troubled_at: when a server was last seen not to be healthy.
    """

    def __init__(self, limits: Limits, policy: Mapping[str, Any]) -> None:
        self.limits: Final = limits
        self.folder: Final = Path(tempfile.mkdtemp(prefix="model-"))
        self.witness: Final = Witness(lambda: self.world.now)
        self.clouds: Final = [
            WatchedCloud("nextcloud", 0, self.witness, clock=self._read_seconds),
            WatchedCloud("owncloud", 1, self.witness, clock=self._read_seconds),
        ]
        for cloud in self.clouds:
            cloud.add_group("basic")
            cloud.add_account("guest", quota="3 GB", email="guest@home.example", groups=["basic"])
            cloud.add_account("boss", groups=["admin", "pro"])
        self.world: Final = World(
            Landscape(self.folder, self.clouds, settings=self._make_settings(policy), private_key_pem=_KEY)
        )
        for cloud, server_id in zip(self.clouds, self.world.land.server_ids, strict=True):
            cloud.server_id = server_id
        self.billing: Final = self.world.billing
        self.plans: Final = {
            name: self.billing.add_plan(name, tariff.limit, measure=tariff.measure, group=tariff.group)
            for name, tariff in TARIFFS.items()
        }
        self.items: Final[list[int]] = []
        self.book: Final = Book(self.limits)
        self.troubled_at: Final = {cloud.number: self.world.now.timestamp() - 1e6 for cloud in self.clouds}
        self._instance_ids: Final = [cloud.instance_id for cloud in self.clouds]
        self._vanished: Final[dict[int, dict[str, list[dict[str, Any]]]]] = {}
        self.witness.read_billed = self.read_billed
        self.witness.read_card = self.billing.get_password
        self.witness.journal_path = self.journal_path
        self.accept_everything()

    def close(self) -> None:
        self.world.land.close()
        shutil.rmtree(self.folder)

    def _read_seconds(self) -> float:
        return self.world.now.timestamp()

    def _make_settings(self, policy: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        limits = self.limits
        return {
            "guards": {
                "deletion_grace": f"{int(limits.grace.total_seconds())}s",
                "min_deletions": limits.deletions,
                "min_disables": limits.disables,
                "min_recreations": limits.recreations,
                "min_quota_decreases": limits.decreases,
            },
            "nextcloud": {"concurrency": 1, "max_response_mib": 1},
            "policy": dict(policy),
        }

    # -- what is there

    @property
    def journal_path(self) -> Path:
        return self.folder / "journal.db"

    def read_billed(self) -> dict[int, Billed]:
        return read_billed(self.folder / "billmgr.db", self.world.land.server_ids)

    def list_accounts(self) -> dict[Place, Facts]:
        found = {}
        for cloud in self.clouds:
            with cloud.lock:
                for key, account in cloud.accounts.items():
                    found[cloud.number, key] = Facts.of(account)
        return found

    def accept_everything(self) -> None:
        """Somebody has changed accounts, rightly or not: that is how they are now."""
        self.witness.ledger.clear()
        self.witness.ledger.update(self.list_accounts())

    def get_place(self, item: int) -> Place | None:
        """Where billing has the account of a service; where it was, for one that vanished."""
        billed = self.read_billed().get(item)
        return billed.place if billed else self.book.homes.get(item)

    def get_account(self, item: int) -> EmulatedAccount | None:
        place = self.get_place(item)
        return None if place is None else self.clouds[place[0]].accounts.get(place[1])

    # -- BILLmanager and its clients

    def order(self, tariff: str, server: int, status: int) -> int:
        item = self.world.sell(self.plans[tariff], server, status)
        self.items.append(item)
        return item

    def set_status(self, item: int, status: int) -> None:
        if self.read_billed()[item].status == 5:
            self.finish_operation(item)
        self.billing.set_status(item, status)

    def start_operation(self, item: int, operation: str | None) -> None:
        self.set_status(item, 5)
        if operation is not None:
            self.billing.start_operation(item, operation)

    def finish_operation(self, item: int) -> None:
        is_usual = self.read_billed()[item].wish != "as is"
        self.billing.finish_operation(item, None if is_usual else "setparam")

    def change_tariff(self, item: int, tariff: str) -> None:
        self.billing.change_plan(item, self.plans[tariff])

    def change_email(self, item: int, email: str) -> None:
        users, items = self.billing.table("user"), self.billing.table("item")
        with self.billing.engine.begin() as connection:
            account = connection.execute(items.select().where(items.c.id == item)).mappings().one()["account"]
            chosen = users.c.account == account, users.c.email.is_not(None)
            connection.execute(users.update().where(*chosen).values(email=email))

    def rename(self, item: int, name: str | None) -> None:
        self.billing.set_param(item, "username", name)

    def move(self, item: int, server: int) -> None:
        self.billing.change("item", item, processingmodule=self.world.land.server_ids[server])

    def vanish(self, item: int) -> None:
        """The service's rows go, as when a database is restored in part; `come_back` puts them back."""
        found: dict[str, list[dict[str, Any]]] = {}
        with self.billing.engine.connect() as connection:
            for name in _ROWS:
                table = self.billing.table(name)
                chosen = (table.c.id if name == "item" else table.c.item) == item
                rows = connection.execute(table.select().where(chosen)).mappings()
                found[name] = [dict(row) for row in rows]
        self._vanished[item] = found
        self.billing.delete_service(item)

    def come_back(self, item: int) -> None:
        for table, rows in self._vanished.pop(item).items():
            for row in rows:
                values = row if table == "item" else {**row, "id": None}
                self.billing.insert(table, **values)

    # -- somebody on the server

    def tamper(self, item: int, what: Tampering) -> None:
        place, account = self.get_place(item), self.get_account(item)
        if place is None:
            return
        cloud = self.clouds[place[0]]
        with cloud.lock:
            if what == "stranger":
                # Somebody else has our name.
                cloud.accounts.pop(place[1], None)
                cloud.add_account(place[1], quota="3 GB", email="stranger@home.example", groups=["basic"])
            elif account is not None:
                self._change(cloud, account, what)
        self.accept_everything()

    def _change(self, cloud: WatchedCloud, account: EmulatedAccount, what: Tampering) -> None:
        if what == "delete":
            cloud.remove_account(account.userid)
        elif what in {"cut quota", "lift quota"}:
            account.quota_definition = "1 GB" if what == "cut quota" else "none"
        elif what in {"enable", "disable"}:
            account.is_enabled = what == "enable"
        elif what == "make admin":
            account.groups = account.groups | {"admin"}
        elif what == "make subadmin":
            account.subadmin_of = {"basic"}
        elif what == "take admin away":
            account.groups, account.subadmin_of = account.groups - {"admin"}, set()
        elif what in {"own e-mail", "no e-mail"}:
            account.email = "own@home.example" if what == "own e-mail" else None
            self.book.free_emails.add((cloud.number, account.created_serial))
        elif what == "wrong group":
            kept = account.groups - {"basic", "pro"}
            other = "pro" if "basic" in account.groups else "basic"
            cloud.add_group(other)
            account.groups = kept | {other}
        elif what == "no group":
            account.groups = account.groups & {"admin"}

    def lose_group(self, server: int, group: str) -> None:
        if group in self.clouds[server].groups:
            self.clouds[server].remove_group(group)
        self.accept_everything()

    def add_group(self, server: int, group: str) -> None:
        self.clouds[server].add_group(group)

    # -- servers go wrong, and right again

    def break_server(self, server: int, breakage: Breakage) -> None:
        self.clouds[server].faults.append(breakage.make())

    def make_sick(self, server: int, what: Sickness) -> None:
        cloud = self.clouds[server]
        if what == "maintenance":
            cloud.maintenance = True
        elif what == "password":
            cloud.accounts[cloud.admin_user].password = "Another-one"
            cloud.logins.forget_sessions()
            self.accept_everything()
        elif what == "identity":
            cloud.set_instance_id("ocanother1234"[:12])
        else:
            cloud.stop()

    def heal(self, server: int) -> None:
        """Whatever was wrong is right again, and late effects come now."""
        cloud = self.clouds[server]
        cloud.faults.clear()
        cloud.maintenance = False
        cloud.accounts[cloud.admin_user].password = cloud.admin_password
        if cloud.instance_id != self._instance_ids[server]:
            cloud.set_instance_id(self._instance_ids[server])
        self.witness.replace_ledger((server, cloud.admin_user), cloud.find(cloud.admin_user))
        cloud.carry_out_late()
        if not cloud.is_listening:
            cloud.start()

    def is_healthy(self, server: int) -> bool:
        cloud = self.clouds[server]
        return (
            not (any(fault.times != 0 for fault in cloud.faults) or cloud.maintenance or cloud.has_late)
            and cloud.is_listening
            and cloud.accounts[cloud.admin_user].password == cloud.admin_password
            and cloud.instance_id == self._instance_ids[server]
        )
