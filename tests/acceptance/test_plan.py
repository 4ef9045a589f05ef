"""`plan` and the mode "observe": everything is computed and shown, and nothing is changed anywhere."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import check_words, dump_accounts, dump_rows, dump_world, invoke, make_clouds


def plan(world: World, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of a plan, once it is sure that the plain lines hold the same facts."""
    result = invoke(world.land.config_path, "plan", *arguments, "--json")
    check_words(result)
    found = json.loads(result.stdout)
    plain = invoke(world.land.config_path, "plan", *arguments)
    check_words(plain)
    assert plain.returncode == result.returncode
    *rows, summary = plain.stdout.splitlines()
    cells = [row.split("\t") for row in rows if "\t" in row]
    assert [(int(row[0]), int(row[1]), row[2], row[3]) for row in cells] == [
        (one["item_id"], one["server_id"], one["userid"], one["state"]) for one in found["planned"]
    ]
    for row, one in zip(cells, found["planned"], strict=True):
        assert row[5] == (", ".join(one["changes"]) or "nothing")
        for difference in one["differences"]:
            assert f"{difference['field']}: {difference['observed']} -> {difference['wanted']}" in row[4]
    changed = sum(1 for one in found["planned"] if one["changes"])
    assert summary == f"{found['services']} services compared, {changed} would be changed"
    return result.returncode, found


@pytest.fixture
def street(make_world: MakeWorld) -> World:
    """Items 1 to 8, served, every second one on ownCloud; then changed by hand and in billing."""
    world = make_world(clouds=make_clouds())
    basic = world.billing.add_plan("Basic", 5, group="basic")
    items = [world.sell(basic, number % 2) for number in range(8)]
    assert items == list(range(1, 9))
    assert invoke(world.land.config_path, "once").returncode == 0
    return world


def tamper(world: World) -> None:
    """One difference of each kind; 7 stays as sold, of 8 a scan has only to record that it is suspended."""
    world.nextcloud.accounts["user_1"].quota_definition = "1 GB"
    world.owncloud.remove_account("user_2")
    world.nextcloud.accounts["user_3"].groups.clear()
    world.owncloud.accounts["user_4"].is_enabled = False
    world.billing.set_status(5, 3)
    world.billing.set_status(6, 4)
    world.nextcloud.add_account("user_99")
    world.billing.set_status(8, 3)
    world.owncloud.accounts["user_8"].is_enabled = False


EXPECTED: Final = {
    1: ("drifted", ["quota"], ["set_quota: quota 5 GB"]),
    2: (
        "provisioning",
        ["existence"],
        ["create: present; quota 5 GB; e-mail client2@example.net; groups basic"],
    ),
    3: ("drifted", ["group"], ["add_group: in group basic"]),
    4: ("resuming", ["enabled"], ["enable: enabled"]),
    5: ("suspending", ["enabled"], ["disable: disabled"]),
    6: ("retiring", ["enabled"], ["disable: disabled"]),
}


def check_expected(found: dict[str, Any], *items: int) -> None:
    planned = {one["item_id"]: one for one in found["planned"]}
    assert planned.keys() == set(items)
    for item, one in planned.items():
        fields = [difference["field"] for difference in one["differences"]]
        assert (one["state"], fields, one["changes"]) == EXPECTED[item], item


def test_a_plan_shows_every_difference_and_changes_nothing(street: World) -> None:
    assert plan(street) == (0, {"services": 8, "planned": [], "errors": {}, "orphans": {}})
    tamper(street)
    before = dump_world(street)
    for cloud in street.land.clouds:
        cloud.clear_calls()

    code, found = plan(street)
    assert code == 2
    check_expected(found, *EXPECTED)
    assert found["orphans"] == {"1": ["user_99"]}
    code, found = plan(street, "--server", "2")
    assert (code, found["services"]) == (2, 4)
    check_expected(found, 2, 4, 6)
    for item in EXPECTED:
        code, found = plan(street, "--item", str(item))
        assert (code, found["services"]) == (2, 1)
        check_expected(found, item)
    assert plan(street, "--item", "7")[0] == 0

    result = street.run("plan")
    check_words(result)
    assert (result.returncode, result.stderr) == (2, "")
    assert [cloud.mutating_calls() for cloud in street.land.clouds] == [[], []]
    assert dump_world(street) == before

    invoke(street.land.config_path, "once")
    street.nextcloud.remove_account("user_99")
    code, found = plan(street)
    assert code == 0
    assert [(one["item_id"], one["state"], one["changes"]) for one in found["planned"]] == [
        (6, "retiring", [])
    ]


def test_a_plan_needs_no_journal_and_makes_none(street: World) -> None:
    for path in street.land.folder.glob("journal*"):
        path.unlink()
    tamper(street)
    before = dump_world(street)
    code, found = plan(street)
    assert code == 2
    # Without a journal an account that was deleted by hand is known by its credentials in billing.
    check_expected(found, *EXPECTED)
    assert dump_world(street) == before
    assert not list(street.land.folder.glob("journal*"))
    invoke(street.land.config_path, "once")
    assert [one["item_id"] for one in plan(street)[1]["planned"]] == [6]


def test_a_mode_that_observes_shows_everything_and_writes_to_no_server_and_not_to_billing(
    street: World,
) -> None:
    observer = street
    observer.land.configure({"reconciler": {"mode": "observe"}})
    tamper(observer)
    new = observer.sell(observer.billing.add_plan("Pro", 50), 0)
    observer.billing.start_operation(7, "setparam")
    accounts = [dump_accounts(cloud) for cloud in observer.land.clouds]
    billing = dump_rows(observer.land.database_url)
    for cloud in observer.land.clouds:
        cloud.clear_calls()
    for _ in range(2):
        result = invoke(observer.land.config_path, "once")
        said = check_words(result)
        assert result.returncode == 1, "something waits"
        for item in (*EXPECTED, new):
            assert f"service {item}\t" in said
        assert "mode observe: set_quota is not done" in said
    assert plan(observer)[0] == 2
    resync = invoke(observer.land.config_path, "resync", "1")
    assert (resync.returncode, "mode observe: set_quota is not done" in resync.stdout) == (1, True)
    assert [cloud.mutating_calls() for cloud in observer.land.clouds] == [[], []]
    assert [dump_accounts(cloud) for cloud in observer.land.clouds] == accounts
    assert dump_rows(observer.land.database_url) == billing

    observer.land.configure({})
    assert invoke(observer.land.config_path, "once").returncode == 0
    assert observer.is_delivered(new)


def test_a_mode_that_observes_delivers_no_credentials_and_adopts_in_the_journal_only(
    make_world: MakeWorld,
) -> None:
    world = make_world(clouds=make_clouds(), settings={"reconciler": {"mode": "observe"}})
    basic = world.billing.add_plan("Basic", 5)
    world.sell(basic, 0, username="old.name")
    world.nextcloud.add_account("old.name", quota="5 GB", email="client1@example.net")
    billing = dump_rows(world.land.database_url)
    assert invoke(world.land.config_path, "once").returncode == 0
    assert dump_rows(world.land.database_url) == billing, "its URL is not written"
    assert world.nextcloud.mutating_calls() == []
