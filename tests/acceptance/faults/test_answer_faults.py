"""Servers that answer, and whose answers say nothing that may be believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from reconciler.sandbox.emulator import Call, Fault
from states import ServiceState
from tests.acceptance.faults.stage import Stage, is_change

LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Login</title></head><body>Please log in.</body></html>"


def ocs(code: int, message: str = "") -> dict[str, Any]:
    """What an answer of this OCS code consists of."""
    envelope = {"ocs": {"meta": {"status": "failure", "statuscode": code, "message": message}, "data": []}}
    return {"content_type": "application/json; charset=utf-8", "body": json.dumps(envelope)}


def is_look(call: Call) -> bool:
    """A look at one account, but not at our own: the server can be connected to."""
    return call.operation == "get" and call.userid != "admin"


def is_list(call: Call) -> bool:
    return call.operation in {"details", "list"}


@dataclass(frozen=True)
class Row:
    """One kind of bad answer.

    Attributes:
        match: to which requests it is given, every time.
        kind, details: of the fault.
        cause: what it is to be called.
        is_done: the request is carried out all the same.
    """

    match: Callable[[Call], bool]
    cause: str
    kind: Any = "status"
    is_done: bool = False
    details: dict[str, Any] = field(default_factory=dict)


BAD_GATEWAY = {"status": 502, "body": "<html><title>502 Bad Gateway</title></html>"}
GATEWAY_TIMEOUT = {"status": 504, "body": "<html><title>504 Gateway Time-out</title></html>"}
UNKNOWN_CODE = "unexpected code 5555"
HTML = 'an HTML page "Login" instead of'
TRUNCATED = 'answered text ".{1,200}" instead of JSON'

ROWS = {
    "500 to changes without effect": Row(is_change, "failed with HTTP 500"),
    "500 to changes with effect": Row(is_change, "failed with HTTP 500", is_done=True),
    "500 to looks": Row(is_look, "failed with HTTP 500"),
    "502 to changes with effect": Row(
        is_change, "HTTP 502.*502 Bad Gateway", is_done=True, details=BAD_GATEWAY
    ),
    "504 to changes with effect": Row(is_change, "HTTP 504.*Time-out", is_done=True, details=GATEWAY_TIMEOUT),
    "504 to changes without effect": Row(is_change, "HTTP 504.*Time-out", details=GATEWAY_TIMEOUT),
    "log-in page for everything": Row(lambda call: True, HTML, "html"),
    "log-in page for looks": Row(is_look, HTML, "html"),
    "log-in page for changes with effect": Row(is_change, HTML, "html", is_done=True),
    "log-in page for changes without effect": Row(
        is_change, HTML, details={"status": 200, "body": LOGIN_PAGE}
    ),
    "truncated JSON for lists": Row(is_list, TRUNCATED, "truncate"),
    "truncated JSON for looks": Row(is_look, TRUNCATED, "truncate"),
    "truncated JSON for changes with effect": Row(is_change, TRUNCATED, "truncate", is_done=True),
    "unknown OCS code for looks": Row(is_look, UNKNOWN_CODE, details={"status": 400, **ocs(5555)}),
    "unknown OCS code for changes with effect": Row(
        is_change, UNKNOWN_CODE, is_done=True, details={"status": 400, **ocs(5555)}
    ),
    "unknown OCS code for changes without effect": Row(
        is_change, UNKNOWN_CODE, details={"status": 400, **ocs(5555)}
    ),
    "HTTP 200 with an OCS failure for looks": Row(
        is_look, "unexpected code 996 .HTTP 200", details={"status": 200, **ocs(996, "Server error")}
    ),
    "HTTP 200 with an OCS failure for changes": Row(
        is_change, "unexpected code 996 .HTTP 200", details={"status": 200, **ocs(996, "Server error")}
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_answers_that_say_nothing(stage: Stage, row: Row) -> None:
    """Unknown is neither absent nor done: what is to be done is found out by looking, or waits."""
    stage.sick.faults.append(Fault(row.match, row.kind, times=None, after_effect=row.is_done, **row.details))
    stage.suffer(row.cause, is_passing=row.is_done)
    if row.match is not is_change:
        assert stage.sick.mutating_calls() == []
    stage.recover()


# -- answers that are right, and easily taken for something else


def test_a_deletion_of_an_account_that_is_gone_already(stage: Stage) -> None:
    """Somebody else deletes it between our look and our request."""
    name = f"user_{stage.mine.closed}"

    def remove(call: Call) -> bool:
        if call.operation == "delete" and name in stage.sick.accounts:
            stage.sick.remove_account(name)
        return False

    stage.sick.faults.append(Fault(remove))
    stage.suffer(f"has no account {name}", cycles=1, is_passing=True)
    assert stage.read_records()[stage.mine.closed].memory.state is ServiceState.DELETED
    assert stage.sick.call_counts["delete"] == 1
    stage.recover()


@pytest.mark.parametrize("spelling", ["user_{}", "USER_{}"], ids=["same name", "other case"])
def test_a_stranger_s_account_that_exists_by_the_time_of_our_create(stage: Stage, spelling: str) -> None:
    """The server says that it exists already: that does not make it ours."""
    name = spelling.format(stage.mine.fresh)
    password = "Theirs-20-characters!"

    def add(call: Call) -> bool:
        if call.operation == "create" and name.lower() not in stage.sick.accounts:
            stage.sick.add_account(name, password=password, quota="1 GB", email="x@y.example")
        return False

    stage.sick.faults.append(Fault(add))
    report = stage.suffer("collision", cycles=2)
    assert [record.item_id for record in report.attention] == [stage.mine.fresh]
    assert report.attention[0].memory.state is ServiceState.QUARANTINED
    stranger = stage.sick.accounts[name.lower()]
    assert (stranger.password, stranger.quota_definition, stranger.email) == (password, "1 GB", "x@y.example")
    assert (stranger.is_enabled, stranger.groups, stranger.userid) == (True, set(), name)
    assert stage.world.billing.get_password(stage.mine.fresh) is None, "nothing of his is handed out"
    stage.sick.faults.clear()
    stage.sick.remove_account(name)
    stage.recover()


def test_accounts_of_ours_that_the_server_spells_in_another_case(stage: Stage) -> None:
    """Names are compared without case, as the servers do: ours are neither missing nor somebody else's."""
    for item in (stage.mine.unpaid, stage.mine.upgraded, stage.mine.closed):
        stage.sick.accounts[f"user_{item}"].userid = f"User_{item}"
    assert stage.world.once().is_converged
    stage.check_nothing_wrong()
    assert stage.sick.accounts[f"user_{stage.mine.unpaid}"].userid == f"User_{stage.mine.unpaid}"
    stage.recover()
