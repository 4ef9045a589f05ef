"""BILLmanager's forms of a server and of a tariff, and a server's usage."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import pytest
from sqlalchemy import select

from reconciler.sandbox.emulator import CloudEmulator, Fault
from tests.acceptance.conftest import World
from tests.acceptance.panel import install_mgrctl, list_calls
from tests.acceptance.pmnextcloud.calling import Answer, call

DOWN = Fault("*", status=503, times=None)


@pytest.fixture(autouse=True)
def _mgrctl(world: World) -> None:
    world.land.configure(install_mgrctl(world))


def make_form(cloud: CloudEmulator, **fields: str) -> str:
    values = {
        "base_url": cloud.base_url,
        "nc_username": cloud.admin_user,
        "nc_password": cloud.admin_password,
        **fields,
    }
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items())


def check(world: World, cloud: CloudEmulator, lang: str = "en", **fields: str) -> Answer:
    form = f"<doc><processingmodule>{make_form(cloud, **fields)}</processingmodule></doc>"
    return call(world, "check_connection", form=form, lang=lang)


def list_choices(document: ET.Element) -> list[tuple[str | None, str | None]]:
    return [(each.get("key"), each.text) for each in document.findall("slist[@name='usergroup']/val")]


def test_a_server_that_can_be_used_passes(world: World) -> None:
    for cloud in world.land.clouds:
        answer = check(world, cloud)
        assert (answer.code, answer.error) == (0, {}), answer.log
        assert cloud.admin_password not in answer.log


def test_a_server_in_a_folder_is_tried_under_its_path(world: World) -> None:
    cloud = CloudEmulator("nextcloud", path="/cloud")
    cloud.start()
    try:
        assert check(world, cloud).error == {}
        without = check(world, cloud, base_url=cloud.base_url.removesuffix("/cloud"))
        assert without.error["type"] == "wrong_panel_info"
    finally:
        cloud.stop()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"nc_password": "wrong"}, "password"),
        ({"base_url": ""}, "base_url is empty"),
        ({"nc_username": "   "}, "nc_username is empty"),
        ({"nc_password": ""}, "nc_password is empty"),
        ({"base_url": "my.panel.example"}, "https://my.panel.example"),
        ({"base_url": "ftp://my.panel.example"}, "https://my.panel.example"),
        ({"base_url": "https://"}, "https://my.panel.example"),
        ({"base_url": "http://my.panel.example"}, "must begin with https://"),
        ({"base_url": "https://my.panel.example/" + "a" * 255}, "longer than 255"),
        ({"nc_username": "a" * 256}, "longer than 255"),
        ({"base_url": "https://127.0.0.1:9"}, "host name and port"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_cause(world: World, fields: dict[str, str], words: str) -> None:
    answer = check(world, world.nextcloud, **fields)
    assert (answer.code, answer.error["type"]) == (1, "wrong_panel_info")
    assert words in answer.error["msg"]


def test_a_refused_password_is_told_in_russian(world: World) -> None:
    error = check(world, world.nextcloud, "ru", nc_password="wrong").error
    assert "проверьте имя пользователя и пароль" in error["msg"]


def test_a_right_to_write_is_needed(world: World) -> None:
    world.nextcloud.faults.append(Fault("add-to-group", status=403, times=None))
    world.nextcloud.add_account("reader", password="Reader-Pass-1")
    answer = check(world, world.nextcloud, nc_username="reader", nc_password="Reader-Pass-1")
    assert answer.error["type"] == "wrong_panel_info"


def test_the_form_of_a_new_server_is_checked_and_comes_back(world: World) -> None:
    fields = make_form(world.nextcloud)
    form = f"<doc><func>processing.add.user</func>{fields}<other>kept</other></doc>"
    answer = call(world, "tune_connection", form=form)
    assert answer.error == {}
    assert answer.document.findtext("other") == "kept"
    wrong = make_form(world.nextcloud, nc_password="wrong")
    refused = call(world, "tune_connection", form=f"<doc><func>processing.add.user</func>{wrong}</doc>")
    assert refused.error["type"] == "wrong_panel_info"
    other = call(world, "tune_connection", form=f"<doc><func>processing.edit</func>{wrong}</doc>")
    assert (other.code, other.error) == (0, {})


@pytest.mark.parametrize("command", ["pricelist_dynamic_settings", "pricelist_dynamic_settings_tune"])
def test_the_tariff_form_offers_the_servers_groups_by_their_ids(world: World, command: str) -> None:
    world.nextcloud.add_group('tr<i>cky & "so"')
    answer = call(
        world,
        command,
        form="<doc><slist name='usergroup'><val key='0'>old</val></slist></doc>",
        module=world.land.server_ids[0],
    )
    choices = list_choices(answer.document)
    assert choices[0] == ("", None)
    assert choices[1:] == [(group, group) for group in ("admin", "basic", "pro", 'tr<i>cky & "so"')]


def test_without_a_server_the_groups_of_all_are_offered(world: World) -> None:
    world.owncloud.add_group("only there")
    answer = call(world, "pricelist_dynamic_settings", form="<doc/>")
    assert ("only there", "only there") in list_choices(answer.document)
    assert ("basic", "basic") in list_choices(answer.document)


def test_groups_are_remembered_for_the_time_when_the_server_is_away(world: World) -> None:
    server = world.land.server_ids[0]
    world.nextcloud.faults.append(DOWN)
    refused = call(world, "pricelist_dynamic_settings", form="<doc/>", module=server)
    assert refused.error["type"] == "wrong_panel_info"
    world.nextcloud.faults.clear()
    assert call(world, "get_server_config", module=server).error == {}
    world.nextcloud.faults.append(DOWN)
    answer = call(world, "pricelist_dynamic_settings", form="<doc/>", module=server)
    assert ("basic", "basic") in list_choices(answer.document)


def test_the_present_choice_stays_one_when_its_group_is_gone(world: World) -> None:
    form = "<doc><usergroup>vanished</usergroup></doc>"
    answer = call(world, "pricelist_dynamic_settings", form=form, module=world.land.server_ids[0])
    assert ("vanished", "vanished") in list_choices(answer.document)


def test_usage_is_collected_in_one_walk_and_twice_is_not_counted_twice(world: World) -> None:
    plan, items = world.billing.add_plan("Basic", 5), []
    for _ in range(12):
        items.append(world.sell(plan))
        assert call(world, "sync_item", item=items[-1]).error == {}
    for item in items:
        account = world.get_account(item)
        assert account is not None
        account.used_bytes, account.has_logged_in = 2 * 1024**3, True
    world.nextcloud.clear_calls()
    for _ in range(2):
        assert call(world, "stat", module=world.land.server_ids[0]).error == {}
    asked = {each.userid for each in world.nextcloud.calls if each.operation == "get"}
    assert asked <= {None, world.nextcloud.admin_user}, "no request an account"
    table = world.billing.table("itemstat")
    with world.billing.engine.connect() as connection:
        rows = connection.execute(select(table)).all()
    used = [row.value for row in rows if row.param == "disk"]
    assert used == [2] * len(items), "in the add-on's measure"
    today = datetime.now(UTC).astimezone().date().isoformat()
    told = [each for each in list_calls(world) if each[0] == "service.poststat"]
    assert told == [["service.poststat", f"elid={world.land.server_ids[0]}", f"date={today}"]] * 2


def test_usage_of_a_server_that_is_down_is_told_and_nothing_is_complete(world: World) -> None:
    world.nextcloud.faults.append(DOWN)
    answer = call(world, "stat", module=world.land.server_ids[0])
    assert (answer.code, answer.error["type"]) == (1, "could_not_collect")
    assert not [each for each in list_calls(world) if each[0] == "service.poststat"]


@pytest.mark.parametrize("command", ["stat", "get_server_config", "pricelist_dynamic_settings"])
def test_a_server_of_another_module_is_refused(world: World, command: str) -> None:
    other = world.billing.add_server("other", "https://other.example", "x", "y", module="pmvmmanager")
    assert call(world, command, form="<doc/>", module=other).error["type"] == "missing_server"
