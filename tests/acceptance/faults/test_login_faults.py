"""Servers that do not let us in any more: asked rarely, or brute-force protection would lock us out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from reconciler.sandbox.emulator import Call, Fault
from tests.acceptance.faults.stage import Stage

PROBE_MINUTES = 10
INTERVALS = 3
PLACES = 4
"""How many requests may be under way at one server."""


@dataclass(frozen=True)
class Row:
    """One way of not being let in: how it comes, what it is called, and how it is mended."""

    spoil: Callable[[Stage], None]
    cause: str
    mend: Callable[[Stage], None]


def change_password(stage: Stage) -> None:
    stage.sick.accounts["admin"].password = "changed by hand"
    stage.sick.logins.forget_sessions()


def tell_billing(stage: Stage) -> None:
    """The new password is put into BILLmanager."""
    table, cipher = stage.world.billing.table("processingcryptedparam"), stage.world.billing.cipher
    with stage.world.billing.engine.begin() as connection:
        connection.execute(
            table.update()
            .where(table.c.processingmodule == stage.server_id, table.c.intname == "nc_password")
            .values(value=cipher.encrypt("changed by hand"))
        )


def forbid(stage: Stage) -> None:
    stage.sick.faults.append(Fault("user", status=403, body="<h1>Forbidden</h1>", times=None))


def degrade(stage: Stage) -> None:
    stage.sick.accounts["admin"].groups.discard("admin")


def promote(stage: Stage) -> None:
    stage.sick.accounts["admin"].groups.add("admin")
    stage.world.wait(minutes=PROBE_MINUTES)


def permit(stage: Stage) -> None:
    stage.sick.faults.clear()
    stage.world.wait(minutes=PROBE_MINUTES)


ROWS = {
    "401 after a change of the password": Row(
        change_password, "refused the API user's name or password", tell_billing
    ),
    "403 to our log-in": Row(forbid, r"refuses login to the API user \(HTTP 403\)", permit),
    "no administrator any more": Row(degrade, "not in the group admin|administrator", promote),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_one_log_in_is_tried_in_each_probe_interval(stage: Stage, row: Row) -> None:
    row.spoil(stage)
    before = stage.sick.login_count
    stage.suffer(row.cause, cycles=1)
    for tried in range(1, INTERVALS + 1):
        for minutes in (PROBE_MINUTES / 2, PROBE_MINUTES / 2 - 0.1):
            stage.world.wait(minutes=minutes)
            assert not stage.world.once().is_converged
        assert stage.sick.call_counts["user"] == tried
        assert stage.sick.login_count - before in {0, tried}, "a log-in is one check of the password"
        stage.world.wait(minutes=0.2)
        stage.world.once()
    assert stage.sick.call_counts["user"] == INTERVALS + 1
    assert stage.sick.mutating_calls() == []
    row.mend(stage)
    assert stage.world.once().is_converged, "and served at once"
    stage.recover()


def test_a_password_that_is_changed_in_the_middle_of_a_cycle(stage: Stage) -> None:
    """Only what is under way at that moment meets it."""

    def change(call: Call) -> bool:
        if call.is_mutating and stage.sick.accounts["admin"].password != "changed by hand":
            change_password(stage)
        return False

    stage.sick.faults.append(Fault(change))
    refused = stage.sick.logins.refused_count
    stage.suffer("refused the API user's name or password")
    assert 1 <= stage.sick.logins.refused_count - refused <= PLACES
    tell_billing(stage)
    stage.recover()
