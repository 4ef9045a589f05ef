"""Whose account is it: only ours is ever touched, and losing the journal loses nothing else."""

from __future__ import annotations

import pytest

from reconciler.sandbox.emulator import CloudEmulator
from states import ServiceState
from tests.acceptance.conftest import MakeWorld, World

NUMBERS = (0, 1)
"""The Nextcloud and the ownCloud of the usual world."""


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.usefixtures("fault_row")
def test_an_account_of_somebody_else_is_left_untouched_and_reported(world: World, number: int) -> None:
    plan = world.billing.add_plan("Basic", 5, group="basic")
    item, other = world.sell(plan, number), world.sell(plan, number)
    cloud = world.land.clouds[number]
    stranger = cloud.add_account(
        f"user_{item}", password="Theirs-20-characters!", quota="1 GB", email="x@y.z"
    )
    report = world.once()
    assert [record.item_id for record in report.attention] == [item]
    assert "collision" in report.attention[0].reason
    assert not report.is_converged
    assert cloud.accounts[stranger.userid] is stranger
    assert (stranger.quota_definition, stranger.email, stranger.groups) == ("1 GB", "x@y.z", set())
    assert stranger.password == "Theirs-20-characters!"
    shown = world.billing.get_params(item).keys()
    assert shown == {"nextcloud_status"}, "no credentials of a stranger's account are handed out"
    assert world.is_delivered(other), "everybody else is served"
    for status in (3, 4):
        world.billing.set_status(item, status)
        world.once()
        world.wait(hours=100)
        world.once()
    assert cloud.accounts[stranger.userid] is stranger
    assert stranger.is_enabled, "what was never ours is neither suspended nor deleted"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.usefixtures("fault_row")
def test_an_account_of_an_earlier_module_is_adopted_and_changed_in_nothing(world: World, number: int) -> None:
    item = world.sell(
        world.billing.add_plan("Basic", 5, group="basic"),
        number,
        username="Old.Name",
        userpassword="Known-to-the-client-1",
        url=world.land.clouds[number].base_url,
    )
    cloud = world.land.clouds[number]
    account = cloud.add_account(
        "old.name",
        password="Known-to-the-client-1",
        quota="5 GB",
        email="own@choice.example",
        groups=["basic"],
    )
    world.once_quietly()
    world.once_quietly()
    assert cloud.accounts["old.name"] is account
    assert account.email == "own@choice.example", "the client's own e-mail is left alone"
    account.quota_definition = "1 GB"
    world.once()
    assert account.quota_definition == "5 GB", "it is ours from now on"
    assert world.is_delivered(item)


def test_with_an_empty_journal_every_account_is_adopted_again(world: World) -> None:
    plan = world.billing.add_plan("Basic", 5, group="basic")
    items = [world.sell(plan, number % 2, status) for number, status in enumerate((2, 2, 3, 3, 1, 1))]
    world.once()
    closed = [world.sell(plan, number) for number in NUMBERS]
    world.once()
    for item in closed:
        world.billing.set_status(item, 4)
    world.once()
    for path in world.land.folder.glob("journal*"):
        path.unlink()
    world.once_quietly()
    world.once_quietly()
    for item in items[:2]:
        account = world.get_account(item)
        assert account is not None
        account.quota_definition = "none"
    world.once()
    assert [a.quota_definition for a in map(world.get_account, items[:2]) if a] == ["5 GB", "5 GB"]
    world.wait(hours=73)
    world.once()
    assert [world.get_account(item) for item in closed] == [None, None], "their grace began anew, and ended"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["admin", "subadmin", "api user"])
def test_administrators_are_never_touched_even_when_billing_names_them(
    world: World, number: int, kind: str
) -> None:
    cloud = world.land.clouds[number]
    name = cloud.admin_user if kind == "api user" else "boss"
    if kind == "admin":
        cloud.add_account(name, groups=["admin"], email="boss@host.example")
    elif kind == "subadmin":
        cloud.add_account(name, subadmin_of=["basic"], email="boss@host.example")
    account = cloud.accounts[name]
    before = (account.quota_definition, account.email, set(account.groups), account.password)
    item = world.sell(world.billing.add_plan("Basic", 5, group="basic"), number, username=name)
    for status in (2, 3, 4):
        world.billing.set_status(item, status)
        world.once()
        world.wait(hours=100)
        report = world.once()
        assert [record.item_id for record in report.attention] == [item]
    assert cloud.accounts[name] is account
    assert account.is_enabled
    assert (account.quota_definition, account.email, account.groups, account.password) == before


def test_two_services_that_name_one_account_are_both_left_alone(world: World) -> None:
    plan = world.billing.add_plan("Basic", 5)
    first, second = world.sell(plan, username="Bob"), world.sell(plan, username="bob")
    other_server = world.sell(plan, 1, username="bob")
    report = world.once()
    assert sorted(record.item_id for record in report.attention) == [first, second]
    assert "bob" not in world.nextcloud.accounts
    assert world.is_delivered(other_server), "the same name on another server is another account"
    world.billing.set_param(second, "username", "robert")
    assert world.once().is_converged
    assert {"bob", "robert"} <= set(world.nextcloud.accounts)


def test_a_tariff_never_makes_anybody_an_administrator(world: World) -> None:
    items = [world.sell(world.billing.add_plan("Root", 5, group="admin"), number) for number in NUMBERS]
    world.once()
    accounts = [world.get_account(item) for item in items]
    assert [account.groups for account in accounts if account] == [set(), set()]


def test_memberships_that_no_tariff_names_are_left_alone(world: World) -> None:
    basic, pro = (world.billing.add_plan(name, 5, group=name) for name in ("basic", "pro"))
    items = [world.sell(basic, number) for number in NUMBERS]
    world.once()
    for cloud in world.land.clouds:
        cloud.add_group("choir")
    for item in items:
        account = world.get_account(item)
        assert account is not None
        account.groups.add("choir")
    world.once_quietly()
    for item in items:
        world.billing.change_plan(item, pro)
    world.once()
    accounts = [world.get_account(item) for item in items]
    assert [account.groups for account in accounts if account] == [{"choir", "pro"}] * 2


def test_a_group_that_the_server_lacks_is_reported_and_the_account_made_all_the_same(world: World) -> None:
    items = [world.sell(world.billing.add_plan("Gold", 5, group="gold"), number) for number in NUMBERS]
    world.once()
    assert all(map(world.is_delivered, items))
    with world.open() as app:
        messages = [record.last_error or "" for record in app.journal.services.list_all()]
    assert all("gold" in message for message in messages)
    for cloud in world.land.clouds:
        cloud.add_group("gold")
    world.once()
    assert [account.groups for account in map(world.get_account, items) if account] == [{"gold"}] * 2


def test_missing_groups_are_made_when_the_operator_wants_it(make_world: MakeWorld) -> None:
    world = make_world(settings={"policy": {"create_missing_groups": True}})
    items = [world.sell(world.billing.add_plan("Gold", 5, group="gold"), number) for number in NUMBERS]
    world.once()
    assert [account.groups for account in map(world.get_account, items) if account] == [{"gold"}] * 2
    world.once_quietly()


def test_a_service_that_moved_waits_until_the_old_server_has_no_account_of_it(make_world: MakeWorld) -> None:
    clouds = [CloudEmulator("nextcloud"), CloudEmulator("nextcloud")]
    world = make_world(clouds=clouds)
    item = world.sell(world.billing.add_plan("Basic", 5))
    world.once()
    password = world.billing.get_password(item)
    world.billing.change("item", item, processingmodule=world.land.server_ids[1])
    report = world.once()
    assert [record.memory.state for record in report.attention] == [ServiceState.QUARANTINED]
    assert f"user_{item}" in clouds[0].accounts
    assert f"user_{item}" not in clouds[1].accounts
    clouds[0].remove_account(f"user_{item}")
    world.once()
    account = clouds[1].accounts[f"user_{item}"]
    assert account.password == password, "what the client knows stays true"


def test_a_service_that_vanished_from_billing_is_an_orphan_and_never_deleted(world: World) -> None:
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number % 2) for number in range(12)]
    world.once()
    world.billing.delete_service(items[0])
    world.billing.delete_service(items[1])
    for _ in range(3):
        world.wait(hours=100)
        report = world.once()
    assert [record.memory.state for record in report.attention] == [ServiceState.ORPHANED] * 2
    assert {f"user_{items[0]}", f"user_{items[1]}"} == {
        name for names in report.orphans.values() for name in names
    }
    assert f"user_{items[0]}" in world.nextcloud.accounts
    assert f"user_{items[1]}" in world.owncloud.accounts
