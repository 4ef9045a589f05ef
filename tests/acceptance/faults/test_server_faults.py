"""Servers that cannot be reached, do not answer, or are busy with themselves."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from reconciler.sandbox.emulator import Call, Fault
from tests.acceptance.faults.stage import Stage, is_change

LATE = "gave no complete answer within [0-9.]+ seconds|stopped answering"


def test_connections_that_are_refused(stage: Stage) -> None:
    stage.sick.stop()
    stage.suffer("no connection to 127.0.0.1:")
    stage.sick.start()
    stage.recover()


@contextlib.contextmanager
def resetting(port: int) -> Iterator[None]:
    """Listens on a port, reads each request, and resets the connection (RST)."""
    with socket.create_server(("127.0.0.1", port), reuse_port=False) as listener:
        thread = threading.Thread(target=_reset_all, args=(listener,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _reset_all(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_connections_that_are_reset(stage: Stage) -> None:
    port = int(stage.sick.base_url.rpartition(":")[2])
    stage.sick.stop()
    with resetting(port):
        stage.suffer("closed the connection before its answer was complete")
    stage.sick.start()
    stage.recover()


def test_a_name_that_cannot_be_resolved(stage: Stage) -> None:
    address = stage.sick.base_url
    set_address(stage, "http://cloud.invalid")
    stage.suffer("the name of cloud.invalid cannot be resolved; check the server's URL in BILLmanager")
    assert stage.sick.calls == []
    set_address(stage, address)
    stage.recover()


def set_address(stage: Stage, url: str) -> None:
    table = stage.world.billing.table("processingparam")
    with stage.world.billing.engine.begin() as connection:
        connection.execute(
            table.update()
            .where(table.c.processingmodule == stage.server_id, table.c.intname == "base_url")
            .values(value=url)
        )


def test_requests_that_hang(stage: Stage) -> None:
    stage.be_hasty()
    stage.sick.faults.append(Fault("*", "hang", times=None))
    stage.suffer(LATE)
    restart(stage)
    stage.recover()


def restart(stage: Stage) -> None:
    stage.sick.stop()
    stage.sick.start()


def test_answers_that_drip(stage: Stage) -> None:
    stage.be_hasty()
    stage.sick.faults.append(Fault("*", "drip", seconds=0.02, times=None))
    stage.suffer(LATE)
    stage.recover()


@pytest.mark.parametrize("is_done", [False, True], ids=["without effect", "with effect"])
def test_changes_that_are_never_answered(stage: Stage, is_done: bool) -> None:
    """The time-out of every change, the deletion's own among them, ends before the server does."""
    stage.be_hasty(seconds=2)
    stage.sick.faults.append(Fault(is_change, "hang", times=None, after_effect=is_done))
    stage.suffer(LATE, is_passing=is_done)
    restart(stage)
    stage.recover()


@pytest.mark.parametrize("is_done", [False, True], ids=["without effect", "with effect"])
def test_changes_after_which_the_connection_is_closed(stage: Stage, is_done: bool) -> None:
    stage.sick.faults.append(Fault(is_change, "drop", times=None, after_effect=is_done))
    stage.suffer("closed the connection before its answer was complete", is_passing=is_done)
    stage.recover()


def test_a_deletion_that_outlasts_the_time_out(stage: Stage) -> None:
    """The account goes while nobody waits for the answer any more."""
    stage.be_hasty("delete_timeout")
    stage.sick.faults.append(Fault("delete", "hang", late_after=0))
    report = stage.suffer(LATE, cycles=1)
    assert [record.item_id for record in report.attention] == [stage.mine.closed]
    assert f"user_{stage.mine.closed}" in stage.sick.accounts
    stage.sick.carry_out_late()
    assert f"user_{stage.mine.closed}" not in stage.sick.accounts
    stage.recover()
    assert stage.sick.call_counts["delete"] == 0, "nobody asks twice"


def test_maintenance(stage: Stage) -> None:
    stage.sick.maintenance = True
    stage.suffer("is in maintenance mode")
    assert stage.sick.mutating_calls() == []
    assert {record.attempts for record in stage.read_records().values()} == {0}, "no service's failure"
    stage.sick.maintenance = False
    stage.recover()


def test_maintenance_that_begins_in_the_middle(stage: Stage) -> None:
    def begin(call: Call) -> bool:
        stage.sick.maintenance = stage.sick.maintenance or call.is_mutating
        return False

    stage.sick.faults.append(Fault(begin))
    stage.suffer("is in maintenance mode")
    assert {record.attempts for record in stage.read_records().values()} == {0}, "no service's failure"
    stage.sick.maintenance = False
    stage.recover()


TOO_MANY = r"limits how often .* may be called \(HTTP 429\)"


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ((("Retry-After", "300"),), "<h1>Too many requests</h1>", 300),
        ((), '{"ocs":{"meta":{"status":"failure","statuscode":429,"message":"Slow down"},"data":[]}}', 60),
        ((), "", 60),
    ],
    ids=["Retry-After", "no Retry-After", "empty body"],
)
def test_too_many_requests(
    stage: Stage, headers: tuple[tuple[str, str], ...], body: str, seconds: int
) -> None:
    """It begins in the middle; then nothing is asked as long as the server wants."""
    stage.sick.faults.append(
        Fault(
            lambda call: call.is_mutating or len(stage.sick.mutating_calls()) > 0,
            status=429,
            headers=headers,
            body=body,
            times=None,
        )
    )
    stage.suffer(TOO_MANY, cycles=1)
    asked = len(stage.sick.calls)
    for _ in range(2):
        stage.world.wait(seconds=(seconds - 1) / 2)
        assert not stage.world.once().is_converged
    assert len(stage.sick.calls) == asked, "it is left alone"
    stage.world.wait(seconds=2)
    stage.world.once()
    assert len(stage.sick.calls) > asked, "then it is tried again"
    assert {record.attempts for record in stage.read_records().values()} == {0}, "no service's failure"
    stage.recover()
