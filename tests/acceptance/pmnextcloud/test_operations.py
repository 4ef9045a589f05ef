"""BILLmanager's operations on a service: done once, failures told in full, nothing half-reported."""

from __future__ import annotations

import contextlib
import sqlite3
from xml.etree import ElementTree as ET

import pytest
from sqlalchemy import select

from reconciler.sandbox.emulator import Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import wait_until
from tests.acceptance.panel import install_mgrctl, list_calls, misbehave, read_calls
from tests.acceptance.pmnextcloud.calling import Answer, call, start

OPERATIONS = ("open", "suspend", "resume", "setparam", "close")
DOWN = Fault("*", status=503, times=None)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    world = make_world()
    world.land.configure(install_mgrctl(world))
    return world


def serve(world: World, number: int = 0, *, status: int = 2) -> int:
    """A service as sold, its account and card included."""
    item = world.sell(world.billing.add_plan("Basic", 5), number, status=2)
    assert call(world, "sync_item", item=item).code == 0
    if status == 3:
        operate(world, item, "suspend")
    (world.land.folder / "mgrctl.log").unlink(missing_ok=True)
    return item


def operate(world: World, item: int, operation: str, *, tries: int = 0, lang: str = "en") -> Answer:
    """BILLmanager begins an operation and calls the module."""
    running = world.billing.start_operation(item, operation)
    if running is not None:
        world.billing.change("runningoperation", running, trycount=tries)
    return call(world, operation, item=item, runningoperation=running or 77, lang=lang)


def read_error(world: World, item: int) -> ET.Element | None:
    """The error of an operation as BILLmanager's administrators see it."""
    table = world.billing.table("runningoperation")
    with world.billing.engine.connect() as connection:
        text = connection.execute(select(table.c.errorxml).where(table.c.item == item)).scalar()
    return None if text is None else ET.fromstring(text).find("error")


def prepare(world: World, operation: str, number: int = 0) -> int:
    """A service for which an operation makes sense."""
    if operation == "open":
        return world.sell(world.billing.add_plan("Basic", 5), number, status=1)
    return serve(world, number, status=3 if operation == "resume" else 2)


@pytest.mark.parametrize("number", [0, 1], ids=["nextcloud", "owncloud"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_done_and_told_once_however_often_it_is_called(
    world: World, operation: str, number: int
) -> None:
    item = prepare(world, operation, number)
    assert operate(world, item, operation).error == {}
    ended = world.billing.get_status(item)
    assert ended == {"suspend": 3, "close": 4}.get(operation, 2)
    for cloud in world.land.clouds:
        cloud.clear_calls()
    again = call(world, operation, item=item, runningoperation=1)
    assert (again.code, again.error) == (0, {}), again.log
    ends = [each for each in read_calls(world) if each.startswith("service.post")]
    assert ends == [f"service.post{operation}"]
    assert [cloud.mutating_calls() for cloud in world.land.clouds] == [[], []]
    assert world.billing.get_status(item) == ended


def test_an_installation_of_the_specifications_schema_has_no_running_operation(make_world: MakeWorld) -> None:
    world = make_world(kind="mariadb", variant="spec")
    world.land.configure(install_mgrctl(world))
    item = world.sell(world.billing.add_plan("Basic", 5), status=1)
    assert operate(world, item, "open").error == {}
    assert world.billing.get_status(item) == 2
    assert world.is_delivered(item)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_is_down_leaves_the_operation_running_with_its_error(
    world: World, operation: str
) -> None:
    item = prepare(world, operation)
    world.nextcloud.faults.append(DOWN)
    answer = operate(world, item, operation, lang="ru")
    kinds = {"open": "create", "setparam": "change"}
    assert answer.code == 1
    assert answer.error["type"] == f"could_not_{kinds.get(operation, operation)}"
    assert answer.error["object"] == str(item)
    assert answer.error["msg"].startswith("Не удалось ")
    told = read_error(world, item)
    assert told is not None
    assert told.findtext("msg") == answer.error["msg"]
    assert read_calls(world) == ["runningoperation.edit"]
    assert world.billing.get_status(item) == 5


def test_after_the_last_try_a_person_gets_a_task(world: World) -> None:
    item = prepare(world, "suspend")
    world.nextcloud.faults.append(DOWN)
    assert operate(world, item, "suspend", tries=2).code == 1
    assert read_calls(world) == ["runningoperation.edit"]
    assert operate(world, item, "suspend", tries=3).code == 1
    calls = list_calls(world)[1:]
    assert [each[0] for each in calls] == [
        "runningoperation.edit",
        "runningoperation.setmanual",
        "task.gettype",
        "task.edit",
    ]
    assert f"item={item}" in calls[3]
    assert "type=task_suspend" in calls[3]


def test_what_no_try_can_mend_goes_to_a_person_at_once(world: World) -> None:
    item = prepare(world, "open")
    world.nextcloud.add_account(f"user_{item}")
    answer = operate(world, item, "open")
    assert answer.error["type"] == "account_exists"
    assert "task.edit" in read_calls(world)
    assert world.nextcloud.mutating_calls() == []
    assert world.billing.get_status(item) == 5


def test_a_change_of_tariff_that_cannot_be_applied_is_rolled_back(world: World) -> None:
    item = serve(world)
    world.billing.change_plan(item, world.billing.add_plan("Huge", 500))
    world.nextcloud.faults.append(DOWN)
    assert operate(world, item, "setparam", tries=3).code == 1
    assert read_calls(world) == ["runningoperation.edit", "service.changepricelist.rollback"]
    assert world.billing.get_status(item) == 2


def test_an_account_that_is_gone_already_can_be_closed(world: World) -> None:
    item = serve(world)
    del world.nextcloud.accounts[f"user_{item}"]
    assert operate(world, item, "close").error == {}
    assert world.billing.get_status(item) == 4


def test_without_a_grace_closing_deletes_at_once(world: World) -> None:
    settings = {**install_mgrctl(world), "guards": {"deletion_grace": "0s"}}
    world.land.configure(settings)
    item = serve(world)
    assert operate(world, item, "close").error == {}
    assert world.get_account(item) is None


def test_an_operation_that_billing_no_longer_wants_changes_nothing(world: World) -> None:
    item = serve(world, status=3)
    answer = call(world, "open", item=item, runningoperation=5)
    assert answer.error["type"] == "could_not_create"
    account = world.get_account(item)
    assert account is not None
    assert not account.is_enabled


def test_an_unpaid_service_is_not_opened_by_hand(world: World) -> None:
    item = prepare(world, "open")
    assert call(world, "open", item=item).error["type"] == "could_not_create"
    assert world.get_account(item) is None
    assert world.billing.get_status(item) == 1


@pytest.mark.parametrize("command", [*OPERATIONS, "sync_item", "changepassword"])
def test_a_service_that_is_not_there_or_anothers_is_refused(world: World, command: str) -> None:
    other = world.billing.add_server("other", "https://other.example", "x", "y", module="pmvmmanager")
    item = world.billing.add_service(
        world.billing.add_plan("Basic", 5), world.billing.add_client("a@example.net"), other, 2
    )
    for each in (item, 4711):
        answer = call(world, command, item=each)
        assert (answer.code, answer.error["type"]) == (1, "missing_service"), answer.log


def test_ten_calls_at_once_make_one_account_and_tell_it_once(world: World) -> None:
    item = prepare(world, "open")
    running = world.billing.start_operation(item, "open")
    words = ("--command=open", f"--item={item}", f"--runningoperation={running}")
    processes = [start(world, *words) for _ in range(10)]
    results = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0] * 10, results
    assert {ET.fromstring(out).tag for out, _ in results} == {"doc"}
    assert read_calls(world).count("service.postopen") == 1
    creates = [each for each in world.nextcloud.mutating_calls() if each.operation == "create"]
    assert len(creates) == 1
    assert world.is_delivered(item)


@pytest.mark.parametrize("wrong", [{"fail": "no such element"}, {"answer": "<html>"}])
def test_a_post_command_that_fails_is_told_and_made_up_for(world: World, wrong: dict[str, str]) -> None:
    item = prepare(world, "open")
    misbehave(world, service_postopen=wrong)
    answer = operate(world, item, "open")
    assert answer.error["type"] == "could_not_create"
    misbehave(world)
    assert call(world, "open", item=item, runningoperation=1).error == {}
    assert world.billing.get_status(item) == 2
    assert world.is_delivered(item)


def test_a_failure_that_cannot_be_told_is_in_the_log_and_in_the_answer(world: World) -> None:
    item = prepare(world, "open")
    world.nextcloud.faults.append(DOWN)
    misbehave(world, runningoperation_edit={"fail": "locked"})
    answer = operate(world, item, "open")
    assert answer.code == 1
    assert "runningoperation.edit" in answer.log
    assert "locked" in answer.log


def test_a_password_is_changed_and_put_on_the_card(world: World) -> None:
    item = serve(world)
    old = world.billing.get_password(item)
    assert call(world, "changepassword", item=item, userid=3).error == {}
    assert world.billing.get_password(item) != old
    assert world.is_delivered(item)
    given = "--Given.Pass-Word-19--"
    answer = call(world, "changepassword", item=item, userid=3, password=given)
    assert answer.error == {}
    assert world.billing.get_password(item) == given
    assert world.is_delivered(item)
    assert given not in answer.log


def test_a_password_that_the_server_refuses_leaves_the_old_one(world: World) -> None:
    item = serve(world)
    old = world.billing.get_password(item)
    world.nextcloud.faults.append(DOWN)
    assert call(world, "changepassword", item=item).error["type"] == "could_not_set_password"
    world.nextcloud.faults.clear()
    assert world.billing.get_password(item) == old
    assert world.is_delivered(item)


def test_a_wrong_password_of_ours_is_told_and_tried_once(world: World) -> None:
    item = prepare(world, "open")
    world.nextcloud.accounts["admin"].password = "changed by hand"
    refused = world.nextcloud.logins.refused_count
    for _ in range(3):
        assert "password" in operate(world, item, "open").error["value"]
    assert world.nextcloud.logins.refused_count == refused + 1


def test_a_configuration_that_cannot_be_used_is_told(world: World) -> None:
    world.land.config_path.write_text("[nonsense]\n")
    answer = call(world, "open", item=1, runningoperation=1)
    assert (answer.code, answer.error["type"]) == (1, "not_configured")
    assert "nonsense" in answer.error["value"]


def test_a_billing_database_that_is_away_is_told(world: World) -> None:
    settings = install_mgrctl(world)
    settings["billmanager"]["database_url"] = "mysql+mysqldb://nobody@127.0.0.1:9/none"
    world.land.configure(settings)
    answer = call(world, "suspend", item=1, runningoperation=1)
    assert answer.error["type"] == "could_not_suspend"


def test_a_call_that_is_killed_before_it_has_told_the_end_is_told_by_the_next(world: World) -> None:
    item = prepare(world, "open")
    misbehave(world, service_postopen={"hang": 600})
    running = world.billing.start_operation(item, "open")
    process = start(world, "--command", "open", "--item", str(item), "--runningoperation", str(running))
    wait_until(lambda: "service.postopen" in read_calls(world), "the account is there and the end is told")
    process.kill()
    process.communicate()
    misbehave(world)
    let_leases_end(world)
    assert call(world, "open", item=item, runningoperation=running).error == {}
    assert world.billing.get_status(item) == 2
    assert world.is_delivered(item)
    assert len(world.nextcloud.accounts) == 2, "the administrator's and the client's"


def let_leases_end(world: World) -> None:
    """What time does, when the one who had them is dead."""
    with contextlib.closing(sqlite3.connect(world.land.folder / "journal.db")) as journal, journal:
        journal.execute("DELETE FROM lease")
