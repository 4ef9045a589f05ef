"""Emulated servers that note every request that asks for a change, with the world at that moment."""

from __future__ import annotations

import base64
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from reconciler.sandbox.emulator import Call, CloudEmulator, EmulatedAccount
from reconciler.sandbox.emulator_calls import CallLog
from reconciler.sandbox.emulator_envelope import Answer
from reconciler.sandbox.emulator_http import Outcome
from reconciler.sandbox.emulator_routes import Request, read_request
from tests.acceptance.model.billed import Billed, Place

Heard = Literal["done", "refused", "unclear"]
"""What the caller was told: an answer that surely says yes, one that surely says no, or neither."""

_LOOKS: Final = {"nextcloud": {"get"}, "owncloud": {"get", "user_groups", "subadmins"}}
"""The requests that make up one complete look at an account."""


@dataclass(frozen=True)
class Facts:
    """All that a server keeps of an account, but whether he was there."""

    userid: str
    serial: int
    password: str = field(repr=False)
    quota: str
    email: str
    is_enabled: bool
    groups: frozenset[str]
    subadmin_of: frozenset[str]

    @classmethod
    def of(cls, account: EmulatedAccount) -> Facts:
        return cls(
            account.userid,
            account.created_serial,
            account.password,
            account.quota_definition,
            account.email or "",
            account.is_enabled,
            frozenset(account.groups),
            frozenset(account.subadmin_of),
        )


@dataclass(frozen=True)
class Intent:
    """An intent that stood in the journal and was not finished."""

    id: int
    item: int
    kind: str
    userid: str
    epoch: int
    begun_at: float


@dataclass(eq=False)
class Ask:
    """One request that asks for a change, as it arrived; the lower half is known once it was answered.

    Attributes:
        before: the account that it is about.
        is_looked: the caller's latest complete look at the account was clear, and in the same turn.
        billed: what billing had.
        intents: what the journal had open for this server.
        leases: epoch and end of each lease, by item id.
        card: for a create, the password on the service's card.
        after: the account after it was carried out; ``is_carried_out`` says whether it was.
        is_cut: a complete account was to get less room.
    """

    turn: int
    at: datetime
    server: int
    operation: str
    userid: str | None
    value: str
    groups: tuple[str, ...]
    password: str = field(repr=False)
    auth: str | None
    before: Facts | None
    is_looked: bool
    billed: dict[int, Billed]
    intents: list[Intent]
    leases: dict[int, tuple[int, float]]
    card: str | None = field(repr=False)
    heard: Heard = "unclear"
    code: int | None = None
    is_carried_out: bool = False
    after: Facts | None = None
    is_cut: bool = False

    @property
    def place(self) -> Place:
        return self.server, (self.userid or "").lower()

    def __str__(self) -> str:
        what = " ".join(filter(None, [self.operation, self.userid, self.value, *self.groups]))
        return f"{what} on server {self.server} at {self.at:%d %H:%M:%S}, heard: {self.heard}"


@dataclass(frozen=True)
class Landed:
    """A request was carried out, perhaps long after it had been given up."""

    ask: Ask


@dataclass(frozen=True)
class Login:
    """Somebody but the API user has tried a password."""

    place: Place
    heard: Heard


@dataclass(frozen=True)
class Missed:
    """The caller was clearly told that there is no such account."""

    place: Place


Event = Ask | Landed | Login | Missed


class Witness:
    """Writes down, in order, what the servers of one world are asked."""

    def __init__(self, get_now: Callable[[], datetime]) -> None:
        self.turn = 0
        self.events: list[Event] = []
        self.failures: list[BaseException] = []
        self.read_billed: Callable[[], dict[int, Billed]] = dict
        self.read_card: Callable[[int], str | None] = lambda _: None
        self.journal_path: Path | None = None
        self.get_now: Final = get_now
        self.ledger: dict[Place, Facts] = {}
        """Every account as it must be, by all that is known to have happened."""
        self.lock: Final = threading.RLock()
        self._seen: dict[Place, tuple[int, set[str]]] = {}

    def take(self) -> list[Event]:
        """The events since the last time."""
        with self.lock:
            if self.failures:
                raise self.failures[0]
            events, self.events = self.events, []
            return events

    def add(self, event: Event) -> None:
        with self.lock:
            self.events.append(event)

    def read_journal(self, server_id: int) -> tuple[list[Intent], dict[int, tuple[int, float]]]:
        if self.journal_path is None or not self.journal_path.exists():
            return [], {}
        with closing(sqlite3.connect(self.journal_path, timeout=30)) as connection:
            rows = connection.execute(
                "SELECT id, item_id, kind, lower(userid), epoch, begun_at FROM intent "
                "WHERE outcome IS NULL AND server_id = ?",
                (server_id,),
            ).fetchall()
            leases = connection.execute("SELECT item_id, epoch, expires_at FROM lease").fetchall()
        return [Intent(*row) for row in rows], {row[0]: (row[1], row[2]) for row in leases}

    def note_look(self, place: Place, operation: str, *, is_clear: bool) -> None:
        with self.lock:
            turn, seen = self._seen.get(place, (0, set()))
            if turn != self.turn:
                seen = set()
            seen = seen | {operation} if is_clear else set()
            self._seen[place] = self.turn, seen

    def is_looked(self, place: Place, needed: set[str]) -> bool:
        turn, seen = self._seen.get(place, (0, set()))
        return turn == self.turn and seen >= needed

    def forget_look(self, place: Place) -> None:
        self._seen.pop(place, None)

    def replace_ledger(self, place: Place, facts: Facts | None) -> None:
        with self.lock:
            if facts is None:
                self.ledger.pop(place, None)
            else:
                self.ledger[place] = facts


class _Log(CallLog):
    """Tells of each request between late effects and its own."""

    def __init__(self, keep_calls: int, on_arrival: Callable[[Call], None]) -> None:
        super().__init__(keep_calls)
        self._on_arrival = on_arrival

    def add(self, call: Call) -> None:
        super().add(call)
        self._on_arrival(call)


class WatchedCloud(CloudEmulator):
    """An emulated server that a `Witness` watches."""

    def __init__(
        self, product: Literal["nextcloud", "owncloud"], number: int, witness: Witness, **options: Any
    ) -> None:
        super().__init__(product, **options)
        self.number: Final = number
        self.server_id = 0
        self._witness: Final = witness
        self._here: Final = threading.local()
        self._asks: dict[int, tuple[Call, Ask]] = {}
        self.log = _Log(2000, self._arrive)

    def serve(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, address: str
    ) -> Outcome:
        request = read_request(
            method,
            target,
            headers,
            body,
            prefix="",
            is_nextcloud=self.is_nextcloud,
            major=self.settings.major,
            address=address,
        )
        self._here.request, self._here.ask = request, None
        outcome = super().serve(method, target, headers, body, address)
        try:
            self._note_answer(request, outcome, self._here.ask)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            self._witness.failures.append(error)
        return outcome

    @property
    def is_listening(self) -> bool:
        return self._server is not None

    @property
    def has_late(self) -> bool:
        """Whether something that was given up is yet to be carried out."""
        return bool(self._late)

    def find(self, userid: str | None) -> Facts | None:
        with self.lock:
            account = self.accounts.get((userid or "").lower())
            return None if account is None else Facts.of(account)

    def _arrive(self, call: Call) -> None:
        request: Request = self._here.request
        if not call.is_mutating:
            return
        try:
            self._here.ask = ask = self._describe(call, request)
            with self._witness.lock:
                self._asks[id(call)] = call, ask
                self._witness.add(ask)
                self._witness.forget_look(ask.place)
        except BaseException as error:  # noqa: BLE001 - as above
            self._witness.failures.append(error)

    def _describe(self, call: Call, request: Request) -> Ask:
        witness, place = self._witness, (self.number, (call.userid or "").lower())
        before = self.find(call.userid)
        needed = {"get"} if before is None else _LOOKS[self.product]
        intents, leases = witness.read_journal(self.server_id)
        value = request.text("value") or request.text("groupid") or request.text("quota")
        return Ask(
            witness.turn,
            witness.get_now(),
            self.number,
            call.operation,
            call.userid,
            value,
            tuple(request.texts("groups")),
            request.text("password"),
            _read_name(request),
            before,
            witness.is_looked(place, needed),
            witness.read_billed(),
            intents,
            leases,
            self._read_card(intents) if call.operation == "create" else None,
        )

    def _read_card(self, intents: list[Intent]) -> str | None:
        creating = [intent.item for intent in intents if intent.kind == "create"]
        return self._witness.read_card(creating[-1]) if creating else None

    def _answer(self, request: Request, call: Call, *, is_partial: bool) -> Answer:
        with self.lock:
            answer = super()._answer(request, call, is_partial=is_partial)
            _, ask = self._asks.get(id(call), (None, None))
            if ask is not None and ask.userid is not None:
                ask.is_carried_out, ask.after = True, self.find(ask.userid)
                self._witness.add(Landed(ask))
                self._witness.replace_ledger(ask.place, ask.after)
        return answer

    def _note_answer(self, request: Request, outcome: Outcome, ask: Ask | None) -> None:
        call, heard = outcome.call, self._hear(outcome)
        place = self.number, (call.userid or "").lower()
        if ask is not None:
            ask.heard, ask.code = heard, call.code
        elif call.operation == "user":
            name = _read_name(request)
            if name is not None and name.lower() != self.admin_user.lower():
                self._witness.add(Login((self.number, name.lower()), heard))
        elif call.userid is not None and call.operation in {"get", "user_groups", "subadmins"}:
            self._witness.note_look(place, call.operation, is_clear=heard != "unclear")
            is_missing = (call.status, call.code) in {(404, 404), (200, 998)}
            if call.operation == "get" and heard == "refused" and is_missing:
                self._witness.add(Missed(place))

    def _hear(self, outcome: Outcome) -> Heard:
        fault, call = outcome.fault, outcome.call
        if fault is not None and fault.kind not in {"delay", "drip"}:
            return "unclear"
        if call.status is None or call.code is None or call.status >= 500 or call.code == 503:
            return "unclear"
        return "done" if call.code in {100, 200} and call.status < 300 else "refused"


def _read_name(request: Request) -> str | None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    return base64.b64decode(encoded).decode().partition(":")[0] if scheme.lower() == "basic" else None
