"""What befalls services that a cap is to hold up, and how one sees whether it was held up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pytest

from reconciler.journal import HistoryEntry, ServiceRecord
from reconciler.sandbox.emulator import CloudEmulator
from tests.acceptance.conftest import World

HOUR: Final = timedelta(hours=1)
MOMENT: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Mishap:
    """Something that a cap counts.

    Attributes:
        guard: the cap's name.
        minimum, percent: the keys of its limit.
        window: in which it counts.
        step: what waits, as an operator reads it, but for the account and its server.
    """

    guard: str
    minimum: str
    percent: str
    window: timedelta
    step: tuple[str, str]

    @property
    def option(self) -> str:
        """What `approve` calls the guard."""
        return self.guard.replace("_", "-")

    def limit(self, count: int, **more: Any) -> dict[str, dict[str, Any]]:
        """Settings under which so many may pass; a closed service is deleted at once."""
        guards = {self.minimum: count, self.percent: 0, "max_desired_shrink_percent": 100}
        return {"guards": {**guards, "deletion_grace": "0s", **more}}

    def strike(self, world: World, *items: int) -> None:
        """Have it befall services that are as sold."""
        for item in items:
            if self.guard == "deletions":
                world.billing.set_status(item, 4)
            elif self.guard == "disables":
                world.billing.set_status(item, 3)
            elif self.guard == "recreations":
                world.get_cloud(item).remove_account(f"user_{item}")
            else:
                resize(world, item, 1)

    def is_done(self, world: World, item: int) -> bool:
        """Whether it has taken its course."""
        account = world.get_account(item)
        if self.guard in {"deletions", "recreations"}:
            return (account is None) is (self.guard == "deletions")
        assert account is not None
        return not account.is_enabled if self.guard == "disables" else account.quota_definition == "1 GB"

    def list_done(self, world: World, items: Iterable[int]) -> list[int]:
        """Those of some services for which it has taken its course."""
        return [item for item in items if self.is_done(world, item)]

    def name_step(self, item: int, server_id: int) -> str:
        """The step that waits for a service."""
        kind, end = self.step
        return f"{kind} user_{item} on server {server_id}: {end.format(server_id=server_id, item=item)}"


MISHAPS: Final = (
    Mishap("deletions", "min_deletions", "max_deletions_percent", 24 * HOUR, ("delete", "absent")),
    Mishap("disables", "min_disables", "max_disables_percent", HOUR, ("disable", "disabled")),
    Mishap(
        "recreations",
        "min_recreations",
        "max_recreations_percent",
        HOUR,
        ("create", "present; quota 5 GB; e-mail client{item}@example.net; groups basic"),
    ),
    Mishap(
        "quota_decreases",
        "min_quota_decreases",
        "max_quota_decreases_percent",
        HOUR,
        ("set_quota", "quota 1 GB"),
    ),
)
DELETIONS, DISABLES, RECREATIONS, QUOTA_DECREASES = MISHAPS
each_mishap = pytest.mark.parametrize("mishap", MISHAPS, ids=[mishap.guard for mishap in MISHAPS])


def make_both() -> list[CloudEmulator]:
    """A server of each product."""
    return [CloudEmulator("nextcloud"), CloudEmulator("owncloud")]


def sell(world: World, number: int = 0) -> int:
    """Sell 5 GB; client N has service N as long as nothing else is sold."""
    return world.sell(world.billing.add_plan("Basic", 5, group="basic"), number)


def resize(world: World, item: int, gib: int) -> None:
    """Have the tariff of one service changed."""
    world.billing.change_plan(item, world.billing.add_plan(f"{gib} GB", gib, group="basic"))


def get_record(world: World, item: int) -> ServiceRecord:
    with world.open() as app:
        record = app.journal.services.get(item)
    assert record is not None
    return record


def read_history(world: World, item: int = 0) -> list[HistoryEntry]:
    """What stands in a service's history, or of what concerns no single one."""
    with world.open() as app:
        return app.journal.history.list_entries(item)


def list_approvals(world: World, item: int) -> list[str]:
    """How the approvals of a service were given and ended."""
    entries = read_history(world, item)
    return [entry.result for entry in entries if entry.action == "approve" or entry.result == "approved"]
