"""What was asked of an emulated server (`Call`, `CallLog`) and what it shall do wrong (`Fault`).

Tests read the one and write the other; `CloudEmulator` does the opposite with each request.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "status",
    "drop",
    "hang",
    "delay",
    "drip",
    "html",
    "truncate",
    "cut",
    "empty",
    "huge",
    "garbage",
    "not_http",
]


@dataclass
class Call:
    """One request; the lower half is filled in when it was answered.

    Attributes:
        operation: "create", "get", "edit:quota", "enable", "add_group", "details", "status", "user", …
        userid: the account it is about, in the request's spelling; None without one.
        is_mutating: the method and path ask for a change (whether or not it was allowed).
        address: the caller's address.
        status: HTTP status; None while unanswered or when the connection was given up.
        code: OCS status code in the answer; None without an envelope.
        had_effect: the server's accounts or groups changed.
        auth_user: id of the account that asked, None before or without a log-in.
        has_session: a kept session cookie saved the password check.
        at: the emulator's clock, in seconds.
    """

    method: str
    path: str
    operation: str
    userid: str | None
    is_mutating: bool
    address: str = "127.0.0.1"
    at: float = 0.0
    status: int | None = None
    code: int | None = None
    had_effect: bool = False
    auth_user: str | None = None
    has_session: bool = False


@dataclass
class Fault:
    """Something an emulated server does wrong when a matching request comes.

    Attributes:
        match: an operation ("create"; "edit" also means every "edit:…"; "*" means all), or a question
            about the call.
        kind: "status" answers with `status`, `content_type`, `headers` and `body`; "drop" closes the
            connection without an answer; "hang" says nothing until `seconds` are over (None: until the
            emulator stops), then closes; "delay" answers normally after `seconds`; "drip" sends the
            normal answer one byte every `seconds`; "html" answers 200 with a log-in page; "truncate"
            ends the JSON in the middle of a well-formed HTTP answer; "cut" breaks the connection in the
            middle of the body; "empty" answers 200 with nothing; "huge" answers `size_bytes` of JSON;
            "garbage" answers bytes that are no text; "not_http" answers something that is no HTTP.
        times: how often it happens; None for always.
        after_effect: the request is carried out first.
        late_after: the request is carried out only just before the so-many-th one after it; 0 leaves it to
            `CloudService.carry_out_late`. For a fault that answers nothing.
        partial: a create makes only the row (no group, name, quota or e-mail); implies `after_effect`.
        is_chunked: a "huge" answer does not say its length beforehand.
    """

    match: str | Callable[[Call], bool]
    kind: FaultKind = "status"
    times: int | None = 1
    status: int = 500
    content_type: str = "text/html; charset=UTF-8"
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float | None = None
    after_effect: bool = False
    late_after: int | None = None
    partial: bool = False
    size_bytes: int = 10 * 1024 * 1024
    is_chunked: bool = False

    def __post_init__(self) -> None:
        self.after_effect = self.after_effect or self.partial

    def matches(self, call: Call) -> bool:
        """Whether this fault is meant for the call."""
        if callable(self.match):
            return self.match(call)
        return self.match in {"*", call.operation, call.operation.partition(":")[0]}


def take_fault(faults: Iterable[Fault], call: Call) -> Fault | None:
    """The first fault meant for the call that has a time left, counted down; hold the state's lock."""
    for fault in faults:
        if fault.times != 0 and fault.matches(call):
            if fault.times is not None:
                fault.times -= 1
            return fault
    return None


class CallLog:
    """The requests in the order of their arrival: the latest `keep_calls`, and how many there were."""

    def __init__(self, keep_calls: int) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=keep_calls)
        self._counts: Counter[str] = Counter()
        self._mutating_count = 0

    def add(self, call: Call) -> None:
        """Note a request that has just arrived."""
        with self._lock:
            self._calls.append(call)
            self._counts[call.operation] += 1
            self._mutating_count += call.is_mutating

    def clear(self) -> None:
        """Forget the requests and their counts."""
        with self._lock:
            self._calls.clear()
            self._counts.clear()
            self._mutating_count = 0

    def take(self) -> list[Call]:
        """The latest requests, oldest first, which are forgotten now; they stay counted."""
        with self._lock:
            taken = list(self._calls)
            self._calls.clear()
            return taken

    def kept(self) -> list[Call]:
        """The latest requests, oldest first."""
        with self._lock:
            return list(self._calls)

    def counts(self) -> Counter[str]:
        """How many requests of each operation there were, also those no longer kept."""
        with self._lock:
            return Counter(self._counts)

    def mutating_count(self) -> int:
        """How many requests asked for a change, also those no longer kept."""
        with self._lock:
            return self._mutating_count
