"""What systemd is told: real datagrams on real sockets, and a real process whose children inherit nothing."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from reconciler.notify import Notifier

ANOTHER_PROCESS = str(os.getpid() + 1)


class Listener:
    """systemd's end of the socket, at a path or (beginning with @) at an abstract address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def read(self) -> list[str]:
        """The messages that have come since the last call."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for sockets, whose whole names have at most 107 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[Listener]:
    address = f"@{short_folder.name}" if request.param == "abstract" else str(short_folder / "notify")
    made = Listener(address)
    yield made
    made.socket.close()


def test_each_situation_is_told_in_systemds_words(listener: Listener) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": listener.address})
    notifier.ready()
    notifier.ready("watching")
    notifier.status("waiting for billing")
    notifier.extend(2.5)
    notifier.stopping()
    assert listener.read() == [
        "READY=1",
        "READY=1\nSTATUS=watching",
        "STATUS=waiting for billing",
        "EXTEND_TIMEOUT_USEC=2500000",
        "STOPPING=1",
    ]


def test_a_reload_is_told_with_the_time_at_which_it_began(listener: Listener) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier({"NOTIFY_SOCKET": listener.address}).reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    (message,) = listener.read()
    match = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", message)
    assert match
    assert before <= int(match[1]) <= after


def test_a_status_cannot_forge_another_message_and_has_an_end(listener: Listener) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": listener.address})
    notifier.status("refused\nREADY=1\x00\udc80 " + "x" * 100_000)
    (message,) = listener.read()
    assert message.startswith(r"STATUS=refused\nREADY=1\x00\udc80 xxx")
    assert len(message) < 1100


def test_an_empty_status_is_not_sent(listener: Listener) -> None:
    Notifier({"NOTIFY_SOCKET": listener.address}).status("")
    assert listener.read() == []


def test_the_watchdog_is_fed_more_than_twice_in_its_time_but_not_at_every_turn(listener: Listener) -> None:
    now = 1000.0
    environ = {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "60000000"}
    notifier = Notifier(environ, lambda: now)
    fed_at = []
    for turn in range(121):
        now = 1000.0 + turn
        notifier.watchdog()
        fed_at += [turn for message in listener.read() if message == "WATCHDOG=1"]
    gaps = [later - earlier for earlier, later in pairwise(fed_at)]
    assert fed_at[0] == 0
    assert set(gaps) == {15}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": ANOTHER_PROCESS},
    ],
)
def test_no_watchdog_is_fed_that_is_not_ours(listener: Listener, environ: dict[str, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": listener.address, **environ})
    notifier.watchdog()
    assert listener.read() == []


def test_the_watchdog_of_this_process_is_fed(listener: Listener) -> None:
    environ = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    Notifier({"NOTIFY_SOCKET": listener.address, **environ}).watchdog()
    assert listener.read() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "@",
        "vsock:2:1234",
        "relative/socket",
        "/nowhere/notify",
        "/dev/null",
        "/" + "x" * 200,
    ],
)
def test_nothing_is_raised_when_nobody_listens(address: str | None) -> None:
    notifier = Notifier(
        {"WATCHDOG_USEC": "1000000", **({} if address is None else {"NOTIFY_SOCKET": address})}
    )
    notifier.ready("watching")
    notifier.reloading()
    notifier.watchdog()
    notifier.extend(1)
    notifier.stopping()


def test_a_listener_that_goes_away_and_comes_back_is_told_again(short_folder: Path) -> None:
    """systemd re-executes itself, and has a new socket at the old place."""
    address = str(short_folder / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for attempt in range(2):
        listener = Listener(address)
        notifier.status(f"attempt {attempt}")
        assert listener.read() == [f"STATUS=attempt {attempt}"]
        listener.socket.close()
        Path(address).unlink()
        notifier.status("lost")


def test_children_inherit_nothing_of_the_protocol(listener: Listener) -> None:
    program = (
        "import subprocess, sys\n"
        "from reconciler.notify import Notifier\n"
        "notifier = Notifier()\n"
        "subprocess.run(['env'], check=True)\n"
        "notifier.ready()\n"
        "notifier.watchdog()\n"
    )
    environ = {**os.environ, "NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "1000000", "KEPT": "yes"}
    environ.pop("WATCHDOG_PID", None)
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environ, check=True, capture_output=True, text=True
    )
    names = {line.partition("=")[0] for line in answer.stdout.splitlines()}
    assert "KEPT" in names
    assert names.isdisjoint({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
    assert listener.read() == ["READY=1", "WATCHDOG=1"]
