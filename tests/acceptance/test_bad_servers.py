"""Cloud servers that cannot be used: each is left alone and named with its cure, and the others are served."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from reconciler.sandbox.emulator import CloudEmulator, Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import ADMIN_SECRET, check_journal, check_words, dump_accounts, make_clouds

Break = Callable[[World, CloudEmulator, int], None]


def add_fault(match: str, kind: Any, **details: Any) -> Break:
    return lambda world, cloud, server_id: cloud.faults.append(
        Fault(match, kind, times=None, **details)
    )


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
    cloud.logins.token_auth_enforced = True


@dataclass(frozen=True)
class Trouble:
    """One way in which a server cannot be used.

    Attributes:
        message: what `once` says.
        cause: what `check-connection` calls it.
    """

    name: str
    spoil: Break
    message: str
    cause: str


TROUBLES: Final = (
    Trouble("port closed", stop, "no connection to 127.0.0.1:", "unreachable"),
    Trouble("hangs", add_fault("status", "hang"), "gave no .*answer|stopped answering", "no answer"),
    Trouble("hangs later", add_fault("details", "hang"), "gave no .*answer|stopped answering", "ok"),
    Trouble("drips", add_fault("details", "drip", seconds=0.1), "no complete answer within 1 seconds", "ok"),
    Trouble("hangs up", add_fault("details", "drop"), "closed the connection", "ok"),
    Trouble("wrong password", set_credential("nc_password", "wrong"), "refused the API user", "wrong password"),
    Trouble("app passwords only", enforce_tokens, "refused the API user", "wrong password"),
    Trouble("not an administrator", log_in_as_nobody, "not an administrator", "not an admin"),
    Trouble("unreadable password", set_credential("nc_password", "%%%", is_encrypted=False), "its password cannot be decrypted", "configuration"),
    Trouble("no address", set_param("base_url", ""), "has no URL: enter", "configuration"),
    Trouble("nonsense for an address", set_param("base_url", "cloud\x1b[31m.example"), "is not an http", "configuration"),
    Trouble("log-in page", add_fault("*", "html"), "HTML", "wrong path"),
    Trouble("log-in page later", add_fault("details", "html"), "HTML", "ok"),
    Trouble("truncated", add_fault("details", "truncate"), "JSON", "ok"),
    Trouble("cut", add_fault("details", "cut"), "cut short", "ok"),
    Trouble("empty", add_fault("details", "empty"), "empty", "ok"),
    Trouble("10 MB", add_fault("details", "huge"), "more than 8388608 bytes", "ok"),
    Trouble("10 MB of status", add_fault("status", "huge", is_chunked=True), "more than 8388608 bytes", "wrong path"),
    Trouble("garbage", add_fault("details", "garbage"), "neither JSON nor XML", "ok"),
    Trouble("not HTTP", add_fault("*", "not_http"), "not HTTP", "wrong path"),
    Trouble("failing", add_fault("details", "status", status=500), "failed with HTTP 500", "ok"),
    Trouble("wrong path", set_param("base_url", "{url}/somewhere"), "404", "wrong path"),
    Trouble("maintenance", set_maintenance, "maintenance mode", "maintenance"),
)


def test_explore(make_world: MakeWorld) -> None:
    clouds = make_clouds("nextcloud", "owncloud", *["nextcloud"] * len(TROUBLES))
    world = make_world(clouds=clouds, settings={"nextcloud": {"timeout": "1s", "total_timeout": "1s", "connect_timeout": "1s"}})
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number % len(clouds)) for number in range(2*len(clouds))]
    for number, trouble in enumerate(TROUBLES, start=2):
        trouble.spoil(world, clouds[number], world.land.server_ids[number])
    for args in (["plan"], ["once"], ["status"], ["check-connection"]):
        result = world.run(*args)
        print("=====", args, result.returncode)
        print(result.stdout)
        print("-----")
        print(result.stderr)
    print([world.is_delivered(i) for i in items])
    assert 0
