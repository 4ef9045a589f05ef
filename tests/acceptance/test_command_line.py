"""Every command as a person, a script and a terminal see it: words, exit codes, JSON, log lines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import pytest

from reconciler import cli
from states.diagram import draw_diagram, draw_table
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import check_failure, check_words, invoke, make_clouds

COMMANDS: Final = [
    "run",
    "once",
    "plan",
    "status",
    "history",
    "usage",
    "orphans",
    "resync",
    "hold",
    "release",
    "approve",
    "adopt",
    "reset-password",
    "rotate-key",
    "check-connection",
    "validate-config",
    "draw-states",
    "demo",
]


def say(world: World, *arguments: str) -> str:
    """What a command answers on standard output; be sure that it ended well."""
    result = invoke(world.land.config_path, *arguments)
    check_words(result)
    assert result.returncode == 0, result
    return result.stdout


def say_json(world: World, *arguments: str, exit_code: int = 0) -> Any:
    result = invoke(world.land.config_path, *arguments, "--json")
    check_words(result)
    assert result.returncode == exit_code, result
    return json.loads(result.stdout)


@pytest.fixture
def shop(make_world: MakeWorld) -> World:
    """A world with a service on each server, not served yet: items 1 (Nextcloud) and 2 (ownCloud)."""
    world = make_world(clouds=make_clouds())
    plan = world.billing.add_plan("Basic", 5, group="basic")
    assert [world.sell(plan, number) for number in (0, 1)] == [1, 2]
    return world


def test_help_is_there_for_all_and_each_command_says_what_it_does(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    overview = invoke(path, "--help")
    assert overview.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z]", overview.stdout, re.MULTILINE), command
        result = invoke(path, command, "--help")
        assert (result.returncode, result.stderr) == (0, "")
        assert re.search(r"\n\n  [A-Z][^\n]+", result.stdout), command
    assert invoke(path, "--version").stdout.startswith("reconciler")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["plan", "--nonsense"],
        ["plan", "--item", "one"],
        ["plan", "--item", "0"],
        ["plan", "--item", "99999999999999999999"],
        ["status", "99999999999999999999"],
        ["status", "-1"],
        ["history", "1", "2"],
        ["usage", "--server", "0"],
        ["orphans", "--item", "1"],
        ["resync"],
        ["resync", "1", "--wait", "--timeout", "0"],
        ["hold", "1"],
        ["approve", "everything"],
        ["approve", "hot-loop"],
        ["approve", "identity"],
        ["approve", "desired-read", "--server", "1"],
        ["approve", "desired-read", "--services", "-1"],
        ["approve", "desired-read", "--instance", "ocabc"],
        ["approve", "deletions", "--services", "5"],
        ["adopt", "1"],
        ["adopt", "user_1", "1"],
        ["reset-password"],
        ["reset-password", "1", "On-The-Command-Line"],
        ["check-connection", "first"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_options_are_told_and_end_with_2(shop: World, arguments: list[str]) -> None:
    result = invoke(shop.land.config_path, *arguments)
    check_words(result)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: " in result.stderr
    assert not list(shop.land.folder.glob("journal*"))


def test_a_service_or_server_that_billing_does_not_have_is_one_clear_line(shop: World) -> None:
    path = shop.land.config_path
    for arguments, pattern in (
        (["plan", "--item", "77"], "billing has no service 77"),
        (["plan", "--server", "77"], "billing has no server 77 of our module"),
        (["status", "77"], "service 77 was never looked at: run `reconciler plan --item 77`"),
        (["hold", "77", "--reason", "x"], "billing has no service 77"),
        (["resync", "77"], "billing has no service 77"),
        (["resync", "1", "77", "--wait"], "billing has no service 77"),
        (["adopt", "77", "bob"], "billing has no service 77"),
        (["reset-password", "77"], "billing has no service 77"),
        (["usage", "--server", "77"], "billing has no server 77 of module pmnextcloud"),
        (["orphans", "--server", "77"], "billing has no server 77 of our module"),
        (["approve", "deletions", "--server", "77"], "billing has no server 77 of module pmnextcloud"),
        (["release", "77"], "service 77 is neither held nor quarantined"),
        (["release", "1"], "service 1 is neither held nor quarantined"),
        (["check-connection", "77"], "billing has no server 77 of module pmnextcloud"),
        (["approve", "identity", "--server", "77"], "billing has no server 77 of module pmnextcloud"),
    ):
        check_failure(invoke(path, *arguments), pattern)
    assert say(shop, "history", "77") == "nothing was ever done to service 77\n"


def test_a_service_of_another_module_is_none_of_ours_and_leaves_no_trace(shop: World) -> None:
    foreign = shop.billing.add_server("other", "https://example.net", "admin", "secret")
    shop.billing.change("processingmodule", foreign, module="pmother")
    homeless, item = (
        shop.billing.add_service(shop.billing.add_plan("Disk", 5), shop.billing.add_client("a@b.cc"), server)
        for server in (None, foreign)
    )
    pattern = "service {} is not on a server of module pmnextcloud"
    for each in (homeless, item):
        for arguments in (
            ["resync", str(each)],
            ["hold", str(each), "--reason", "x"],
            ["adopt", str(each), "bob"],
            ["reset-password", str(each)],
        ):
            check_failure(invoke(shop.land.config_path, *arguments), pattern.format(each))
    with shop.open() as app:
        app.fleet.refresh()
        result = app.reconciler.reconcile_service(item, actor="daemon")
        assert result.error == pattern.format(item)
        assert app.journal.services.list_all() == []


def test_a_service_that_we_knew_and_that_left_our_servers_is_quarantined(shop: World) -> None:
    invoke(shop.land.config_path, "once")
    shop.billing.change("item", 1, processingmodule=None)
    (result,) = say_json(shop, "resync", "1", exit_code=1)
    assert (result["state"], "data does not move by itself" in result["error"]) == ("quarantined", True)


def test_before_the_first_run_there_is_little_to_tell_and_nothing_is_made(shop: World) -> None:
    lines = say(shop, "status").splitlines()
    assert lines[:2] == ["no daemon runs", "guard desired_read: quiet (0 of 0 seen)"]
    assert len(lines) == 3
    assert lines[2].startswith("limits: deleted after 72 h")
    assert say_json(shop, "status")["servers"] == []
    assert say(shop, "history", "1") == "nothing was ever done to service 1\n"
    assert say_json(shop, "history", "1") == []
    assert say(shop, "history") == "nothing was ever done that concerned no single service\n"
    assert say(shop, "usage") == "no usage was seen yet: the daemon looks every usage_interval\n"
    assert say_json(shop, "usage") == {"servers": {}, "services": []}
    assert say(shop, "validate-config") == f"{shop.land.config_path} is in order\n"
    assert say_json(shop, "validate-config") == {"path": str(shop.land.config_path), "errors": []}
    assert [line.split("\t")[2] for line in say(shop, "check-connection").splitlines()] == ["ok", "ok"]
    assert not list(shop.land.folder.glob("journal*"))


# -- once, and what can be asked afterwards


def test_once_serves_and_logs_and_the_second_finds_nothing_to_do(shop: World) -> None:
    result = shop.run("once")
    check_words(result)
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == (
        "2 services, 2 looked at singly, done: 2 create, 1 set_email, 1 set_quota"
    )
    assert re.fullmatch(r"states: 2 active \(\d+\.\d s\)", result.stdout.splitlines()[1])
    steps = [parse_line(line) for line in result.stderr.splitlines() if " step " in line]
    told = {(line["service"], line["server"], line["step"], line["result"]) for line in steps}
    assert told == {("1", "1", "create", "done")} | {
        ("2", "2", step, "done") for step in ("create", "set_quota", "set_email")
    }
    assert all(float(line["duration"]) >= 0 for line in steps)

    again = say_json(shop, "once")
    assert (again["services"], again["passes"], again["steps"]) == (2, 0, {})
    assert again["states"] == {"active": 2}
    assert (again["attention"], again["blocked"], again["servers"], again["orphans"]) == ([], [], {}, {})


def parse_line(line: str) -> dict[str, str]:
    """A text log line's fields."""
    time, level, _event, *fields = line.split(" ")
    assert datetime.fromisoformat(time).tzinfo is not None
    assert level in {"info", "warning", "error"}
    return dict(field.split("=", 1) for field in fields if "=" in field)


def test_log_lines_are_json_when_wanted_one_a_line(shop: World) -> None:
    shop.land.configure({"logging": {"format": "json"}})
    shop.nextcloud.add_account("user_1")
    result = shop.run("once", "--json")
    check_words(result)
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    steps = [line for line in lines if line["event"] == "step"]
    assert [(line["service"], line["step"], line["result"]) for line in steps] == [
        (2, "create", "done"),
        (2, "set_quota", "done"),
        (2, "set_email", "done"),
    ]
    assert all(isinstance(line["duration"], float | int) for line in steps)
    (collision,) = (line for line in lines if line["event"] == "pass" and line["service"] == 1)
    assert (collision["level"], collision["server"], collision["state"]) == ("warning", 1, "quarantined")
    assert "collision" in collision["error"]
    report = json.loads(result.stdout)
    assert [(one["item_id"], one["memory"]["state"]) for one in report["attention"]] == [(1, "quarantined")]


def test_status_and_history_tell_what_was_done_in_lines_and_in_json(shop: World) -> None:
    invoke(shop.land.config_path, "once")
    lines = [line.split("\t") for line in say(shop, "status").splitlines()]
    assert [line[:3] + line[4:] for line in lines[:2]] == [
        ["1", "nextcloud", "27.1.0", "ok", "1 active", "-", "0", "-"],
        ["2", "owncloud", "10.7.0", "ok", "1 active", "-", "0", "-"],
    ]
    assert lines[2:-3] == [
        ["no daemon runs"],
        ["services: 2 active"],
        ["guard desired_read: quiet (2 of 2 seen)"],
    ]
    assert [line[:3] for line in lines[-3:-1]] == [
        ["used up", f"server {server}", "deletions 0 of 5 in 24 h"] for server in (1, 2)
    ]
    assert lines[-1][0].startswith("limits: ")
    status = say_json(shop, "status")
    assert [
        (one["server_id"], one["product"], one["scanned_at"] is not None) for one in status["servers"]
    ] == [
        (1, "nextcloud", True),
        (2, "owncloud", True),
    ]
    assert (status["states"], status["attention"], status["blocked"]) == ({"active": 2}, [], [])
    assert (status["attention_total"], status["blocked_total"], status["daemons"]) == (0, 0, [])
    assert (status["guards"], status["limits"]["max_deletions_percent"]) == ([], 1)

    facts = dict(line.split("\t") for line in say(shop, "status", "2").splitlines())
    assert (facts["service"], facts["server"], facts["account"]) == ("2", "2", "user_2")
    assert (facts["state"], facts["reason"], facts["ownership"]) == ("active", "as sold", "created")
    one = say_json(shop, "status", "2")
    assert (one["item_id"], one["userid"], one["memory"]["state"]) == (2, "user_2", "active")
    assert one["usage"] is None

    entries = say_json(shop, "history", "2")
    rows = [line.split("\t") for line in say(shop, "history", "2").splitlines()]
    assert [entry["action"] for entry in entries] == ["create", "set_quota", "set_email"]
    assert [row[2] for row in rows] == ["create", "set_quota", "set_email"]
    assert [(row[1], row[5]) for row in rows] == [("once", "done")] * 3
    assert all(entry["result"] == "done" and entry["why"] for entry in entries)


def test_a_hold_stops_everything_until_its_release(shop: World) -> None:
    assert say(shop, "hold", "1", "--reason", "moves\x1b[31m house") == "service 1 is held\n"
    assert invoke(shop.land.config_path, "once").returncode == 0
    assert "user_1" not in shop.nextcloud.accounts
    facts = dict(line.split("\t") for line in say(shop, "status", "1").splitlines())
    assert (facts["state"], facts["held"]) == ("held", r"moves\x1b[31m house")
    assert "held by an operator" in say(shop, "resync", "1")
    assert say_json(shop, "hold", "1", "--reason", "still")["item_id"] == 1
    assert say_json(shop, "release", "1")["item_id"] == 1
    (result,) = say_json(shop, "resync", "1")
    assert (result["state"], result["steps"]) == ("active", ["create"])
    assert say(shop, "resync", "1", "2") == (
        "service 1: active, nothing to do; as sold\nservice 2: active, nothing to do; as sold\n"
    )
    history = say_json(shop, "history", "1")
    assert [entry["action"] for entry in history] == ["hold", "hold", "release", "create"]
    assert all(entry["actor"].startswith("operator:") for entry in history)


def test_another_installation_is_not_touched_until_it_is_approved(shop: World) -> None:
    invoke(shop.land.config_path, "once")
    shop.nextcloud.set_instance_id("ocotherplace")
    shop.nextcloud.accounts["user_1"].quota_definition = "1 GB"
    shop.nextcloud.clear_calls()
    result = invoke(shop.land.config_path, "once")
    said = check_words(result)
    assert result.returncode == 1
    assert "left out: server 1 (nextcloud-1) answers as another installation" in said
    assert "`reconciler approve identity --server 1 --instance ocotherplace`" in said
    status = say(shop, "status")
    assert "answers as another installation" in status
    assert (
        "guard identity: 0 services wait on server 1: `reconciler approve identity --server 1 --i" in status
    )
    plan = invoke(shop.land.config_path, "plan")
    assert (plan.returncode, "another installation" in plan.stdout) == (1, True)
    assert shop.nextcloud.mutating_calls() == []
    (check,) = say_json(shop, "check-connection", "1", exit_code=1)
    assert check["cause"] == "another installation"
    assert "approve identity --server 1" in check["message"]
    assert shop.nextcloud.accounts["user_1"].quota_definition == "1 GB"

    words = say(shop, "approve", "identity", "--server", "1")
    assert words == "server 1: nextcloud ocotherplace is taken as the right installation\n"
    assert invoke(shop.land.config_path, "once").returncode == 0
    assert shop.nextcloud.accounts["user_1"].quota_definition == "5 GB"
    for server in ("1", "2"):
        check_failure(
            invoke(shop.land.config_path, "approve", "identity", "--server", server),
            "no other installation was seen there: there is nothing to approve",
        )
    (entry,) = say_json(shop, "history")
    assert (entry["action"], entry["server_id"]) == ("approve", 1)
    assert entry["why"] == "guard identity: nextcloud ocotherplace is the right installation"
    assert entry["actor"].startswith("operator:")


def test_a_shrunken_read_stops_deletions_until_it_is_approved(shop: World) -> None:
    plan = shop.billing.add_plan("Pro", 50)
    items = [shop.sell(plan, number % 2) for number in range(8)]
    assert invoke(shop.land.config_path, "once").returncode == 0
    for item in items[:3]:
        shop.billing.delete_service(item)
    shop.billing.set_status(items[7], 3)
    result = invoke(shop.land.config_path, "once")
    assert result.returncode == 1
    assert "guard desired_read: billing shows 7 services, 10 before" in check_words(result)
    assert "guard desired_read: active (7 of 10 seen)" in say(shop, "status")
    assert "`reconciler approve desired-read --services 7`" in say(shop, "status")
    assert shop.owncloud.accounts[f"user_{items[7]}"].is_enabled
    check_failure(
        invoke(shop.land.config_path, "approve", "desired-read", "--services", "8"),
        "billing shows 7 services now, fewer than the 8 you have seen: look again",
    )
    answer = say_json(shop, "approve", "desired-read", "--services", "7")
    assert (answer["guard"], answer["seen"]) == ("desired-read", 7)
    (approval,) = say_json(shop, "history")
    assert approval["why"] == "guard desired_read: 7 services are right, 10 were seen before"
    invoke(shop.land.config_path, "once")
    assert not shop.owncloud.accounts[f"user_{items[7]}"].is_enabled
    assert "quiet (7 of 7 seen)" in say(shop, "status")


# -- what needs no service


def test_the_state_machine_is_drawn_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert invoke(path, "draw-states").stdout == draw_diagram()
    assert invoke(path, "draw-states", "--table").stdout == draw_table()
    assert json.loads(invoke(path, "draw-states", "--json").stdout) == {"text": draw_diagram()}


def test_every_command_is_loaded_by_its_name_and_helps_as_the_list_says() -> None:
    context = click.Context(cli.main)
    for name, (_, help_line) in cli.COMMANDS.items():
        found = cli.main.get_command(context, name)
        assert found is not None
        assert found.name == name
        assert found.get_short_help_str(500) == help_line
    assert cli.main.get_command(context, "no-such-command") is None


def test_help_loads_neither_databases_nor_http() -> None:
    program = "import sys; from reconciler.cli import main; main(['--help'], standalone_mode=False); "
    program += "print('loaded', sorted({'sqlalchemy', 'requests', 'pydantic', 'flask'} & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "validate-config" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "loaded []"
