"""Cloud servers that cannot be used: each is left alone and named with its cure, the others are served."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from reconciler.sandbox.emulator import CloudEmulator, Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import (
    ADMIN_SECRET,
    check_journal,
    check_words,
    dump_accounts,
    invoke,
    make_clouds,
)

Break = Callable[[World, CloudEmulator, int], None]


def add_fault(match: str, kind: Any, **details: Any) -> Break:
    return lambda world, cloud, server_id: cloud.faults.append(Fault(match, kind, times=None, **details))


def set_param(name: str, value: str) -> Break:
    """Change a server's open parameter in billing."""

    def change(world: World, cloud: CloudEmulator, server_id: int) -> None:
        table = world.billing.table("processingparam")
        with world.billing.engine.begin() as connection:
            connection.execute(
                table.update()
                .where(table.c.processingmodule == server_id, table.c.intname == name)
                .values(value=value.format(url=cloud.base_url))
            )

    return change


def set_credential(name: str, value: str, *, is_encrypted: bool = True) -> Break:
    """Change a server's encrypted parameter in billing."""

    def change(world: World, cloud: CloudEmulator, server_id: int) -> None:
        table = world.billing.table("processingcryptedparam")
        stored = world.billing.cipher.encrypt(value) if is_encrypted else value
        with world.billing.engine.begin() as connection:
            connection.execute(
                table.update()
                .where(table.c.processingmodule == server_id, table.c.intname == name)
                .values(value=stored)
            )

    return change


def stop(world: World, cloud: CloudEmulator, server_id: int) -> None:
    cloud.stop()


def set_maintenance(world: World, cloud: CloudEmulator, server_id: int) -> None:
    cloud.maintenance = True


def log_in_as_nobody(world: World, cloud: CloudEmulator, server_id: int) -> None:
    cloud.add_account("nobody", password=ADMIN_SECRET)
    set_credential("nc_username", "nobody")(world, cloud, server_id)


def enforce_tokens(world: World, cloud: CloudEmulator, server_id: int) -> None:
    cloud.logins.is_token_auth_enforced = True


@dataclass(frozen=True)
class Trouble:
    """One way in which a server cannot be used.

    Attributes:
        message: what `plan` and `once` say.
        cause: what `check-connection` calls it.
        is_passing: it ends without a change in billing.
    """

    name: str
    spoil: Break
    message: str
    cause: str
    is_passing: bool = True


LATE: Final = "gave no complete answer within 4 seconds|stopped answering"
TROUBLES: Final = (
    Trouble("port closed", stop, "no connection to 127.0.0.1:", "unreachable"),
    Trouble("hangs", add_fault("status", "hang"), LATE, "no answer"),
    Trouble("hangs later", add_fault("details", "hang"), LATE, "ok"),
    Trouble("drips", add_fault("details", "drip", seconds=0.1), LATE, "ok"),
    Trouble("hangs up", add_fault("details", "drop"), "closed the connection before its answer", "ok"),
    Trouble(
        "only app passwords", enforce_tokens, "refused the API user's name or password", "wrong password"
    ),
    Trouble("log-in page", add_fault("*", "html"), 'an HTML page "Login" instead of JSON', "wrong path"),
    Trouble("log-in page later", add_fault("details", "html"), 'an HTML page "Login" instead of', "ok"),
    Trouble("truncated", add_fault("details", "truncate"), 'answered text ".{1,200}" instead of JSON', "ok"),
    Trouble("cut", add_fault("details", "cut"), "is cut short or not HTTP", "ok"),
    Trouble("empty", add_fault("details", "empty"), "an empty answer instead of JSON", "ok"),
    Trouble("10 MB", add_fault("details", "huge"), "answered more than 8388608 bytes", "ok"),
    Trouble(
        "10 MB in chunks", add_fault("status", "huge", is_chunked=True), "more than 8388608", "wrong path"
    ),
    Trouble("garbage", add_fault("details", "garbage"), 'answered text ".{1,200}" instead of JSON', "ok"),
    Trouble("not HTTP", add_fault("*", "not_http"), "is cut short or not HTTP", "wrong path"),
    Trouble("failing", add_fault("details", "status", status=500), "failed with HTTP 500", "ok"),
    Trouble("maintenance", set_maintenance, "is in maintenance mode", "maintenance"),
    Trouble("wrong path", set_param("base_url", "{url}/here"), "answered HTTP 404", "wrong path", False),
    Trouble(
        "wrong password", set_credential("nc_password", "x"), "refused the API user", "wrong password", False
    ),
    Trouble("no administrator", log_in_as_nobody, "nobody is not in the group admin", "not an admin", False),
    Trouble(
        "unreadable password",
        set_credential("nc_password", "%%%", is_encrypted=False),
        "its password cannot be decrypted",
        "configuration",
        False,
    ),
    Trouble("no address", set_param("base_url", ""), "has no URL", "configuration", False),
    Trouble(
        "nonsense for an address",
        set_param("base_url", "cloud\x1b[31m.example"),
        r"'cloud\\x1b\[31m.example' is not an http\(s\) URL",
        "configuration",
        False,
    ),
)


SHORT: Final = {"nextcloud": {"timeout": "4s", "total_timeout": "4s", "connect_timeout": "4s"}}


@dataclass
class Fleet:
    """A healthy Nextcloud and ownCloud, and one server for each trouble; two services on every one."""

    world: World
    troubled: dict[int, tuple[Trouble, CloudEmulator]]
    items: dict[int, list[int]]

    @property
    def healthy(self) -> list[int]:
        return [item for number, items in self.items.items() if number not in self.troubled for item in items]

    def check_lines(self, lines: dict[int, str]) -> None:
        """Each troubled server has one line that names it, what happened and what helps."""
        assert lines.keys() == self.troubled.keys()
        for number, (trouble, _) in self.troubled.items():
            line = lines[number]
            assert line.startswith(f"server {number} (nextcloud-{number})"), line
            assert line.count(f"server {number}") == 1, f"named once: {line}"
            assert re.search(f"({trouble.message}).*[;:] [a-z]", line), (trouble.name, line)
            assert len(line) < 400, line


@pytest.fixture
def fleet(make_world: MakeWorld) -> Fleet:
    clouds = make_clouds("nextcloud", "owncloud", *["nextcloud"] * len(TROUBLES))
    world = make_world(clouds=clouds, settings=SHORT)
    plan = world.billing.add_plan("Basic", 5)
    ids = world.land.server_ids
    items = {ids[number]: [world.sell(plan, number) for _ in range(2)] for number in range(len(clouds))}
    troubled = {}
    for server_id, cloud, trouble in zip(ids[2:], clouds[2:], TROUBLES, strict=True):
        trouble.spoil(world, cloud, server_id)
        troubled[server_id] = trouble, cloud
    return Fleet(world, troubled, items)


@pytest.mark.usefixtures("fault_row")
def test_a_server_that_cannot_be_used_is_left_alone_and_named_and_the_others_are_served(
    fleet: Fleet,
) -> None:
    world, troubled = fleet.world, fleet.troubled
    before = {number: dump_accounts(cloud) for number, (_, cloud) in troubled.items()}

    plan = invoke(world.land.config_path, "plan", "--json")
    check_words(plan)
    assert plan.returncode == 1
    errors = json.loads(plan.stdout)["errors"]
    fleet.check_lines({int(name.split()[1]): message for name, message in errors.items()})
    planned = {entry["item_id"] for entry in json.loads(plan.stdout)["planned"] if entry["changes"]}
    assert planned == set(fleet.healthy), "what can be compared is compared"

    result = world.run("once")
    check_words(result)
    assert result.returncode == 1
    left_out = [line.removeprefix("left out: ") for line in result.stdout.splitlines() if "left out" in line]
    fleet.check_lines({int(line.split()[1]): line for line in left_out})
    assert all(world.is_delivered(item) for item in fleet.healthy)
    check_journal(world.land.folder)

    again = invoke(world.land.config_path, "plan")
    assert again.returncode == 1
    assert "tried again in" in check_words(again), "a breaker that opened stays open for the next program"

    check = invoke(world.land.config_path, "check-connection", "--json")
    check_words(check)
    assert check.returncode == 1
    causes = {entry["server_id"]: entry for entry in json.loads(check.stdout)}
    assert {number: causes[number]["cause"] for number in troubled} == {
        number: trouble.cause for number, (trouble, _) in troubled.items()
    }
    assert all(causes[number]["cure"] for number, (trouble, _) in troubled.items() if trouble.cause != "ok")

    status = check_words(invoke(world.land.config_path, "status"))
    conditions = {
        int(line.split("\t")[0]): line.split("\t")[4] for line in status.splitlines() if line[0].isdigit()
    }
    assert {
        number for number, condition in conditions.items() if condition == "ok"
    } == fleet.items.keys() - troubled.keys()

    for number, (trouble, cloud) in troubled.items():
        assert dump_accounts(cloud) == before[number], trouble
        assert cloud.mutating_calls() == [] or trouble.cause == "ok", (
            "only check-connection asked for a change"
        )
        assert cloud.login_count <= 8, f"{trouble.name}: no server is stormed with log-ins"
    for trouble, cloud in troubled.values():
        if trouble.cause == "wrong password":
            assert cloud.login_count == 3, (
                "one try each by plan, once and check-connection: more locks us out"
            )


@pytest.mark.usefixtures("fault_row")
def test_a_server_that_comes_back_is_served_at_the_next_cycle(fleet: Fleet) -> None:
    world = fleet.world
    world.once()
    back = {number for number, (trouble, _) in fleet.troubled.items() if trouble.is_passing}
    for number in back:
        cloud = fleet.troubled[number][1]
        cloud.faults.clear()
        cloud.maintenance = cloud.logins.is_token_auth_enforced = False
        cloud.stop()
        cloud.start()
    config = world.land.config_path
    config.write_text(config.read_text().replace('"4s"', '"60s"'))  # nothing hangs now: a slow machine may
    world.wait(minutes=11)
    report = world.once()
    left_out = {int(name.split()[1]) for name in report.servers}
    assert left_out == fleet.troubled.keys() - back, report.servers
    assert all(world.is_delivered(item) for number in back for item in fleet.items[number])
