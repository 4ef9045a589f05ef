"""The thread that cuts connections when a request's time is over."""

from __future__ import annotations

import socket
import threading

from nc.watchdog import Deadline, Watchdog


def test_earlier_deadline_is_kept_while_a_later_one_is_watched() -> None:
    watchdog = Watchdog()
    ours, theirs = socket.socketpair()
    with ours, theirs, watchdog.limit(60) as late, watchdog.limit(0.05) as early:
        early.guard(ours)
        theirs.settimeout(10)
        assert theirs.recv(1) == b""
        assert early.is_expired
        assert early.remaining_seconds == 0
        assert not late.is_expired
        assert late.remaining_seconds > 1


def test_connection_named_after_the_deadline_is_cut_at_once() -> None:
    deadline = Deadline(0)
    deadline.expire()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        deadline.guard(ours)
        theirs.settimeout(10)
        assert theirs.recv(1) == b""
        deadline.release()


def test_connection_of_a_request_that_ended_is_left_alone() -> None:
    watchdog = Watchdog()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with watchdog.limit(0.05) as deadline:
            deadline.guard(ours)
        with watchdog.limit(0.1) as later:
            cut = threading.Event()
            later.expire = cut.set  # type: ignore[method-assign]
            assert cut.wait(10)
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"
        assert not deadline.is_expired
