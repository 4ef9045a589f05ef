"""What the model knows of each service and account by its own book-keeping, from outside only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Literal

from tests.acceptance.model.billed import QUOTA_SIZES, UNLIMITED_GB, Billed, Place
from tests.acceptance.model.watched import Ask, Event, Intent, Login, Missed

Life = tuple[int, int]
"""An account from its creation to its end: the number of its server, and its creation's."""

HARMLESS_CODES = {104, 107}
"""What a refused create says that surely made nothing: no such group, a weak password."""


_OUTLASTING = {
    "limits",
    "passwords",
    "made",
    "makers",
    "free_emails",
    "lost_passwords",
    "counts",
    "read_seen",
    "read_good",
}
"""What the model still knows when the journal is lost."""


@dataclass(frozen=True)
class Limits:
    """The guards' settings in one world."""

    grace: timedelta = timedelta(hours=72)
    confirm: timedelta = timedelta(minutes=5)
    deletions: int = 5
    disables: int = 20
    recreations: int = 5
    decreases: int = 20
    hot_loop: int = 6
    shrink_percent: int = 20

    @property
    def wait(self) -> timedelta:
        return max(self.grace, self.confirm) if self.grace else timedelta()


@dataclass
class Book:
    """All of it.

    Attributes:
        claims: accounts that the program may take for its own: it was told that its create worked, it has
            proved one by its password, billing has named it, or an operator gave it. "open": it asked for
            a create and was told nothing.
        homes: where each service's account was last, as the program has been told.
        likely_homes: where it may have adopted one because billing named it.
        makers: for which service a create was last asked.
        complete: accounts that the program has called as sold, and with them all lives it has.
        emails: what was set by the program, or agreed on.
        free_emails: accounts whose e-mail the customer has chosen, or may have.
        gone_since: since when each service is no longer sold, by an unbroken run of reads.
        asked: all asks so far.
        stable_at: when the program last called a service as it should be.
        approved: services that an operator let pass a guard, until when.
        quarantined: by a verdict of the program that only a person or another wish lifts.
        passwords: what was ever sent for a service.
        read_seen, read_good: services at the latest full read, and at the latest good one.
    """

    limits: Limits
    claims: dict[Place, Literal["open", "ours"]] = field(default_factory=dict)
    homes: dict[int, Place] = field(default_factory=dict)
    likely_homes: dict[int, Place] = field(default_factory=dict)
    makers: dict[Place, int] = field(default_factory=dict)
    complete: set[Life] = field(default_factory=set)
    emails: dict[Life, set[str]] = field(default_factory=dict)
    free_emails: set[Life] = field(default_factory=set)
    gone_since: dict[int, datetime] = field(default_factory=dict)
    asked: list[Ask] = field(default_factory=list)
    stable_at: dict[int, float] = field(default_factory=dict)
    approved: dict[tuple[str, int], datetime] = field(default_factory=dict)
    quarantined: dict[int, tuple[object, ...]] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    passwords: dict[int, set[str]] = field(default_factory=dict)
    used_intents: set[int] = field(default_factory=set)
    made: set[Life] = field(default_factory=set)
    lost_passwords: set[Life] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    read_seen: int = 0
    read_good: int = 0

    def forget(self, lives: set[Life]) -> None:
        """The journal was lost: the program knows nothing any more."""
        for each in fields(self):
            if each.name not in _OUTLASTING:
                getattr(self, each.name).clear()
        self.free_emails |= lives  # whatever billing says later, nobody knows whose choice it was
        self.read_seen = self.read_good = 0

    # -- billing is read

    def note_read(self, billed: Billed | None, item: int, now: datetime) -> None:
        """The program has read one service."""
        if billed is None or billed.wish not in {"absent", "as is"}:
            self.gone_since.pop(item, None)
        elif billed.wish == "absent":
            self.gone_since.setdefault(item, now)
        if item in self.quarantined and (billed is None or self.quarantined[item] != billed.mark):
            del self.quarantined[item]

    def note_full_read(self, count: int) -> None:
        """The program has read all services."""
        self.read_seen = count
        if not self.is_suspicious:
            self.read_good = count

    @property
    def is_suspicious(self) -> bool:
        """Whether billing has lost more services than may vanish at once."""
        lost = self.read_good - self.read_seen
        return self.read_good > 0 and (
            not self.read_seen or lost * 100 > self.read_good * self.limits.shrink_percent
        )

    def is_grace_over(self, item: int, now: datetime) -> bool:
        since = self.gone_since.get(item)
        return since is not None and now - since >= self.limits.wait

    # -- servers are asked

    def is_claimed(self, place: Place, billed: Billed | None) -> bool:
        """Whether the program may take an account that is there for its own."""
        claim = self.claims.get(place)
        return claim == "ours" or (claim is None and billed is not None and billed.is_named)

    def note(self, event: Event, billed: dict[int, Billed]) -> None:
        """Learn from what happened, once it was judged."""
        if isinstance(event, Missed):
            self._note_missed(event, billed)
        elif isinstance(event, Login):
            self._note_login(event)
        elif isinstance(event, Ask):
            self._note_ask(event)
        elif event.ask.after is not None and event.ask.operation in {"create", "edit:email"}:
            life = event.ask.server, event.ask.after.serial
            self.emails.setdefault(life, set()).add(event.ask.after.email.lower())
            if event.ask.operation == "create":
                self.made.add(life)

    def _note_missed(self, missed: Missed, billed: dict[int, Billed]) -> None:
        """An account that billing has elsewhere now is gone from where it was: it is forgotten."""
        for homes in (self.homes, self.likely_homes):
            for item in [item for item, home in homes.items() if home == missed.place]:
                if item in billed and billed[item].place != missed.place:
                    del homes[item]
                    self.claims.pop(missed.place, None)

    def _note_login(self, login: Login) -> None:
        if self.claims.get(login.place) == "open":
            if login.heard == "done":
                self.claims[login.place] = "ours"
                self.homes[self.makers[login.place]] = login.place
            elif login.heard == "refused":
                del self.claims[login.place]
                self.forget_home(login.place)

    def forget_home(self, place: Place) -> None:
        for homes in (self.homes, self.likely_homes):
            for item in [item for item, home in homes.items() if home == place]:
                del homes[item]

    def _note_ask(self, ask: Ask) -> None:
        self.asked.append(ask)
        self.counts[ask.operation] += 1
        item = get_item(ask)
        if ask.operation == "create" and item is not None:
            self.passwords.setdefault(item, set()).add(ask.password)
            self.makers[ask.place] = item
            if ask.heard == "done":
                self.claims[ask.place] = "ours"
                self.homes[item] = ask.place
            elif not (ask.heard == "refused" and ask.code in HARMLESS_CODES):
                self.claims[ask.place] = "open"
        if ask.operation == "edit:password" and item is not None:
            self.passwords.setdefault(item, set()).add(ask.value)
        intent = find_intent(ask)
        if intent is not None:
            self.used_intents.add(intent.id)


def has_effect(ask: Ask) -> bool:
    return ask.is_carried_out and ask.after != ask.before


def get_item(ask: Ask) -> int | None:
    """For which service something was asked, by its intent."""
    intent = find_intent(ask)
    return None if intent is None else intent.item


KINDS = {
    "create": "create",
    "enable": "enable",
    "disable": "disable",
    "delete": "delete",
    "edit:quota": "set_quota",
    "edit:email": "set_email",
    "edit:password": "set_password",
    "add_group": "add_group",
    "remove_group": "remove_group",
    "create_group": "create_group",
}
"""What the journal calls each operation."""


def find_intent(ask: Ask) -> Intent | None:
    """The latest intent that says what was asked; None without one."""
    kind, key = KINDS.get(ask.operation), ask.place[1]
    fitting = [
        intent
        for intent in ask.intents
        if intent.kind == kind
        and (ask.userid is None or intent.userid == key)
        and intent.begun_at == ask.at.timestamp()
    ]
    return max(fitting, key=lambda intent: intent.id, default=None)


def is_decrease(ask: Ask) -> bool:
    """Whether an account would get less room than it has."""
    return (
        ask.operation == "edit:quota"
        and ask.before is not None
        and QUOTA_SIZES[ask.before.quota]
        > (UNLIMITED_GB if ask.value == "none" else int(ask.value) / 1024**3)
    )
