"""Lists of accounts that leave some out, name some twice, or say next to nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from reconciler.sandbox.emulator import MISSING, Call, Fault, Page
from tests.acceptance.faults.stage import Stage

PAGE = 3
"""Accounts a page: there are nine, so that there are several."""


def list_ids(stage: Stage) -> list[str]:
    return sorted(stage.sick.accounts)


def skip(stage: Stage, page: Page) -> Sequence[str]:
    """Every other account is in none of the pages."""
    limit = page.limit or 100
    return list_ids(stage)[::2][page.offset : page.offset + limit]


def skip_all(stage: Stage, page: Page) -> Sequence[str]:
    return ()


def repeat(stage: Stage, page: Page) -> Sequence[str]:
    """Each page begins with what the one before it has ended with, and names the first account twice."""
    limit = page.limit or 100
    ids = list_ids(stage)[max(0, page.offset - 2) : page.offset + limit]
    return [*ids, *ids[:1]] if len(list_ids(stage)) > page.offset else ()


def overfill(stage: Stage, page: Page) -> Sequence[str]:
    limit = page.limit or 100
    return list_ids(stage)[page.offset : page.offset + 2 * limit]


LISTS = {
    "skips half of them": skip,
    "names nobody": skip_all,
    "repeats some": repeat,
    "holds more than asked": overfill,
}


def check_all_are_served(stage: Stage) -> None:
    """Two cycles do nothing wrong, and serve everybody on both servers."""
    for _ in range(2):
        stage.world.once()
        stage.check_nothing_wrong()
        stage.world.wait(minutes=2)
    for services in (stage.mine, stage.others):
        stage.check_served(services)


@pytest.mark.parametrize("select", LISTS.values(), ids=LISTS)
def test_a_list_that_is_not_right(stage: Stage, select: Callable[[Stage, Page], Sequence[str]]) -> None:
    """A list is suspicion, never evidence: nothing is made, and nothing is deleted, because of it."""

    def spoil(page: Page) -> None:
        page.ids = select(stage, page)

    stage.configure({f"nextcloud.server.{stage.server_id}": {"page_size": PAGE}})
    stage.sick.settings.before_page = spoil
    check_all_are_served(stage)
    stage.sick.settings.before_page = None
    stage.recover()


@pytest.mark.parametrize("stage", [0], indirect=True, ids=["nextcloud"])
def test_entries_of_a_list_that_are_only_ids(stage: Stage) -> None:
    """ownCloud's lists are always so."""

    def strip(call: Call) -> bool:
        fields = ("enabled", "groups", "quota", "email", "subadmin") if call.operation == "details" else ()
        for userid, account in stage.sick.accounts.items():
            if userid != "admin":
                account.field_overrides = dict.fromkeys(fields, MISSING)
        return False

    stage.sick.faults.append(Fault(strip))
    check_all_are_served(stage)
    stage.recover()


@pytest.mark.parametrize(
    "quota", [[], MISSING, {"free": -2, "used": 0, "total": -2}], ids=["empty", "missing", "failed storage"]
)
def test_a_quota_that_is_not_told(stage: Stage, quota: object) -> None:
    """Nothing is repaired that was not seen to differ; it is told, and repaired once it is seen."""
    for item in (stage.mine.upgraded, stage.mine.unpaid):
        stage.sick.accounts[f"user_{item}"].field_overrides = {"quota": quota}
    for _ in range(2):
        report = stage.world.once()
        stage.check_nothing_wrong()
        stage.world.wait(minutes=2)
    stage.check_served(stage.others)
    upgraded = stage.sick.accounts[f"user_{stage.mine.upgraded}"]
    assert (upgraded.quota_definition, upgraded.groups) == ("5 GB", {"pro"}), "the group is known"
    assert not stage.sick.accounts[f"user_{stage.mine.unpaid}"].is_enabled
    assert "the server does not say the account's quota" in stage.read_troubles(report)
    for account in stage.sick.accounts.values():
        account.field_overrides = {}
    stage.recover()
