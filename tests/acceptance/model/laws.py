"""What must hold for every request that asks a server for a change, stated from outside.

A law looks at the request, at what billing, journal and server held when it arrived (`watched`), and at what
the model has kept count of (`book`). It says what is wrong, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from reconciler.sandbox.emulator_quota import store_quota
from tests.acceptance.model.billed import TARIFF_GROUPS, Billed
from tests.acceptance.model.book import Book, find_intent, get_item, has_effect, is_decrease
from tests.acceptance.model.watched import Ask, Intent

_ALLOWED: Final = {
    "enabled": {"create", "create_group", "enable", "edit:quota", "edit:email", "add_group", "remove_group"},
    "disabled": {
        "create",
        "create_group",
        "disable",
        "edit:quota",
        "edit:email",
        "add_group",
        "remove_group",
    },
    "absent": {"disable", "delete"},
    "none": set(),
    "as is": set(),
}
"""What may be asked for a service, by what billing wants of it."""


@dataclass(frozen=True)
class Case:
    """One request, and the service that it was asked for."""

    ask: Ask
    intent: Intent
    billed: Billed
    book: Book
    api_user: str
    resetting: int | None
    """The service for which an operator has just asked for a new password."""


Law = Callable[[Case], Iterator[str]]


def judge(ask: Ask, book: Book, api_user: str, resetting: int | None) -> list[str]:
    """Everything that is wrong with a request; an empty list when nothing is."""
    intent = find_intent(ask)
    if intent is None:
        return [f"no open intent of this moment says so; open are {ask.intents}"]
    billed = ask.billed.get(intent.item)
    if billed is None:
        return [f"asked for service {intent.item}, which billing does not have"]
    life = None if ask.before is None else (ask.server, ask.before.serial)
    ask.is_cut = is_decrease(ask) and life in book.complete
    case = Case(ask, intent, billed, book, api_user, resetting)
    return [wrong for law in LAWS for wrong in law(case)]


def the_intent_is_its_own_and_the_lease_is_held(case: Case) -> Iterator[str]:
    ask, intent = case.ask, case.intent
    if intent.id in case.book.used_intents:
        yield f"intent {intent.id} has been used for another request already"
    epoch, expires_at = ask.leases.get(intent.item, (0, 0.0))
    if epoch != intent.epoch:
        yield f"the lease was lost: epoch {epoch} holds it now, the intent has {intent.epoch}"
    elif expires_at <= ask.at.timestamp():
        yield "the lease has run out"


def only_what_billing_wants_is_asked(case: Case) -> Iterator[str]:
    ask, billed = case.ask, case.billed
    if ask.operation == "edit:password":
        if case.resetting != billed.item or not billed.is_sold:
            yield "nobody has asked for another password"
    elif ask.operation not in _ALLOWED[billed.wish]:
        yield f"billing wants it {billed.wish} (status {billed.status}, {billed.operation})"
    if ask.userid is not None and ask.place != billed.place:
        yield f"the account of service {billed.item} is {billed.place}"
    others = [
        other.item
        for other in ask.billed.values()
        if other.item != billed.item and other.place == ask.place and other.is_sold and billed.is_sold
    ]
    if others:
        yield f"services {others} name the same account"


def values_are_the_tariffs(case: Case) -> Iterator[str]:
    ask, tariff = case.ask, case.billed.tariff
    if ask.operation == "edit:quota" or (ask.operation == "create" and ask.value):
        stored = store_quota(ask.value)
        if stored != tariff.quota:
            yield f"the tariff's quota is {tariff.quota}, not {stored}"
    joined = {"create": ask.groups, "add_group": (ask.value,)}.get(ask.operation, ())
    if not set(joined) <= {tariff.group}:
        yield f"the tariff's group is {tariff.group}"
    if ask.operation == "remove_group" and ask.value not in TARIFF_GROUPS - {tariff.group}:
        yield "no tariff has given this group"
    if ask.operation == "edit:email":
        life = (ask.server, ask.before.serial) if ask.before else (0, 0)
        have = ask.before.email.lower() if ask.before else ""
        if ask.value.lower() != (case.billed.email or "").lower():
            yield f"billing has {case.billed.email}"
        if life in case.book.complete and have not in case.book.emails.get(life, set()):
            yield f"the customer has chosen {have!r}"


def strangers_and_administrators_are_left_alone(case: Case) -> Iterator[str]:
    ask, before = case.ask, case.ask.before
    if ask.userid is not None and ask.userid.lower() == case.api_user.lower():
        yield "that is the API user"
    if before is None:
        return
    if "admin" in before.groups or before.subadmin_of:
        yield "that is an administrator"
    if ask.operation != "create" and not case.book.is_claimed(ask.place, case.billed):
        claim = case.book.claims.get(ask.place)
        yield f"whose account it is is not known ({claim or 'nobody said so'})"


def the_evidence_is_fresh(case: Case) -> Iterator[str]:
    if case.ask.userid is not None and not case.ask.is_looked:
        yield "the account was not looked at since the last change, or not clearly"


def deleting_needs_a_long_positive_wish(case: Case) -> Iterator[str]:
    ask, item = case.ask, case.billed.item
    if ask.operation == "delete" and not case.book.is_grace_over(item, ask.at):
        yield f"it is known to be no longer sold only since {case.book.gone_since.get(item)}"


def destruction_stops_when_billing_has_shrunk(case: Case) -> Iterator[str]:
    ask, book = case.ask, case.book
    is_destructive = ask.operation in {"disable", "delete"} or ask.is_cut
    if is_destructive and book.is_suspicious:
        yield f"billing had {book.read_seen} services at the last read, {book.read_good} before"


def an_account_has_one_home(case: Case) -> Iterator[str]:
    ask, home = case.ask, case.book.homes.get(case.billed.item)
    if ask.operation == "create" and home not in {None, ask.place}:
        yield f"service {case.billed.item} has an account at {home}"


def a_recreated_account_keeps_its_password(case: Case) -> Iterator[str]:
    ask, known = case.ask, case.book.passwords.get(case.billed.item, set())
    if ask.operation == "create" and ask.card not in {None, ask.password} and ask.password not in known:
        yield "it does not have the password on record"


def who_waits_for_a_person_is_left_alone(case: Case) -> Iterator[str]:
    if case.billed.item in case.book.held:
        yield "an operator holds the service"
    if case.book.quarantined.get(case.billed.item) == case.billed.mark and case.resetting is None:
        yield "the service is quarantined until somebody lifts that"


def no_request_is_repeated_blindly(case: Case) -> Iterator[str]:
    ask = case.ask
    same = [
        other
        for other in case.book.asked
        if other.turn == ask.turn
        and (other.place, other.operation, other.value, other.groups)
        == (ask.place, ask.operation, ask.value, ask.groups)
    ]
    if same and ask.operation != "create_group":
        yield "the same was asked in this pass already"


def an_endless_repair_ends(case: Case) -> Iterator[str]:
    ask, book, item = case.ask, case.book, case.billed.item
    since = max(ask.at.timestamp() - 3600, book.stable_at.get(item, 0.0))
    changes = sum(
        other.at.timestamp() > since
        and has_effect(other)
        and other.operation != "edit:password"
        and get_item(other) == item
        for other in book.asked
    )
    if changes >= book.limits.hot_loop and ask.operation != "edit:password":
        yield f"it was changed {changes} times within an hour without becoming stable"


def caps_are_kept(case: Case) -> Iterator[str]:
    ask, book, item = case.ask, case.book, case.billed.item
    limits, hour = book.limits, timedelta(hours=1)
    caps: dict[str, tuple[int, timedelta, Callable[[Ask], bool]]] = {
        "deletions": (limits.deletions, 24 * hour, lambda other: other.operation == "delete"),
        "disables": (limits.disables, hour, lambda other: other.operation == "disable"),
        "recreations": (limits.recreations, hour, _is_recreation),
        "quota_decreases": (limits.decreases, hour, lambda other: other.is_cut),
    }
    for guard, (limit, window, is_counted) in caps.items():
        if not is_counted(ask):
            continue
        used = [
            other
            for other in book.asked
            if other.server == ask.server
            and is_counted(other)
            and other.at > ask.at - window
            and (has_effect(other) or other.heard == "done")
        ]
        if len(used) >= limit and not _use_approval(book, guard, item, ask):
            yield f"guard {guard}: {len(used)} of {limit} are used"


def _use_approval(book: Book, guard: str, item: int, ask: Ask) -> bool:
    until = book.approved.pop((guard, item), None)
    return until is not None and ask.at < until


def _is_recreation(ask: Ask) -> bool:
    intent = find_intent(ask)
    billed = ask.billed.get(intent.item) if intent else None
    return ask.operation == "create" and billed is not None and billed.is_named and billed.has_password


LAWS: Final[tuple[Law, ...]] = (
    the_intent_is_its_own_and_the_lease_is_held,
    only_what_billing_wants_is_asked,
    values_are_the_tariffs,
    strangers_and_administrators_are_left_alone,
    the_evidence_is_fresh,
    deleting_needs_a_long_positive_wish,
    destruction_stops_when_billing_has_shrunk,
    an_account_has_one_home,
    a_recreated_account_keeps_its_password,
    who_waits_for_a_person_is_left_alone,
    no_request_is_repeated_blindly,
    an_endless_repair_ends,
    caps_are_kept,
)
