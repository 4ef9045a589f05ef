"""Random lives of a provider: everything that can happen, in any order."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from reconciler.guards import CAPS, Guard
from tests.acceptance.model.billed import TARIFFS
from tests.acceptance.model.book import Limits
from tests.acceptance.model.program import Program
from tests.acceptance.model.provider import Breakage

SERVERS = st.integers(0, 1)
NUMBERS = st.integers(0, 4)
"""Which service, by the order in which they were ordered."""
GRACES: Final = (timedelta(), timedelta(minutes=1), timedelta(hours=72), timedelta(hours=72))
TARIFF_NAMES = st.sampled_from(sorted(TARIFFS))
STATUSES = st.sampled_from([1, 2, 2, 2, 3, 4, 4])
OPERATIONS = st.sampled_from([None, "open", "suspend", "resume", "setparam", "close", "mystery"])

LIMITS = st.builds(
    Limits,
    grace=st.sampled_from(GRACES),
    deletions=st.sampled_from([1, 5]),
    disables=st.sampled_from([1, 20]),
    recreations=st.sampled_from([1, 5]),
    decreases=st.sampled_from([1, 20]),
)
POLICIES = st.fixed_dictionaries({"create_missing_groups": st.booleans()})

_CHANGES = (
    "create",
    "edit",
    "edit:quota",
    "edit:email",
    "enable",
    "disable",
    "delete",
    "add_group",
    "remove_group",
)
_LOOKS = (
    "*",
    "get",
    "user",
    "details",
    "list",
    "user_groups",
    "subadmins",
    "status",
    "list_groups",
    "group_members",
)
_GARBLED = ("html", "truncate", "cut", "empty", "garbage", "huge", "drip", "delay")

BREAKAGES = st.one_of(
    st.builds(
        Breakage,
        match=st.sampled_from((*_CHANGES, *_LOOKS)),
        kind=st.sampled_from(["status", "drop", "hang", "not_http", *_GARBLED]),
        status=st.sampled_from([500, 502, 503, 404, 429]),
        times=st.sampled_from([1, 1, 2, None]),
    ),
    st.builds(
        Breakage,
        match=st.sampled_from(_CHANGES),
        kind=st.sampled_from(["status", "drop", "hang", "not_http"]),
        status=st.sampled_from([500, 502, 504]),
        times=st.sampled_from([1, 2]),
        after_effect=st.just(True),
    ),
    st.builds(
        Breakage, match=st.just("create"), kind=st.sampled_from(["status", "drop"]), partial=st.just(True)
    ),
    st.builds(
        Breakage,
        match=st.sampled_from(_CHANGES),
        kind=st.sampled_from(["drop", "hang"]),
        times=st.sampled_from([1, 2]),
        late_after=st.integers(0, 6),
    ),
)


class Lives(RuleBasedStateMachine):
    """One provider, some services, and all that may befall them."""

    def __init__(self) -> None:
        super().__init__()
        self.program: Program | None = None
        self.is_over = False

    @initialize(
        limits=LIMITS,
        policy=POLICIES,
        orders=st.lists(st.tuples(TARIFF_NAMES, STATUSES), min_size=3, max_size=3),
        is_begun=st.booleans(),
    )
    def begin(
        self, limits: Limits, policy: dict[str, Any], orders: list[tuple[str, int]], is_begun: bool
    ) -> None:
        self.program = Program(limits, policy)
        for number, (tariff, status) in enumerate([("small", 2), ("pro", 2), *orders]):
            self.its.provider.order(tariff, number % 2, status)
        if is_begun:
            self.its.cycle()

    @property
    def its(self) -> Program:
        assert self.program is not None
        return self.program

    def get_item(self, number: int) -> int:
        return self.its.provider.items[number]

    def is_there(self, item: int) -> bool:
        return item in self.its.provider.read_billed()

    def then(self, item: int, is_looked: bool) -> None:
        if is_looked:
            self.its.look(item)

    # -- BILLmanager

    @rule(number=NUMBERS, status=STATUSES, look=st.booleans())
    def set_status(self, number: int, status: int, look: bool) -> None:
        if self.is_there(item := self.get_item(number)):
            self.its.provider.set_status(item, status)
            self.then(item, look)

    @rule(number=NUMBERS, operation=OPERATIONS, look=st.booleans())
    def operate(self, number: int, operation: str | None, look: bool) -> None:
        if self.is_there(item := self.get_item(number)):
            self.its.provider.start_operation(item, operation)
            self.then(item, look)

    @rule(number=NUMBERS, look=st.booleans())
    def finish_operation(self, number: int, look: bool) -> None:
        item = self.get_item(number)
        if self.is_there(item) and self.its.provider.read_billed()[item].status == 5:
            self.its.provider.finish_operation(item)
            self.then(item, look)

    @rule(number=NUMBERS, tariff=TARIFF_NAMES, look=st.booleans())
    def change_tariff(self, number: int, tariff: str, look: bool) -> None:
        if self.is_there(item := self.get_item(number)):
            self.its.provider.change_tariff(item, tariff)
            self.then(item, look)

    @rule(number=NUMBERS, letter=st.sampled_from("ab"), look=st.booleans())
    def change_email(self, number: int, letter: str, look: bool) -> None:
        if self.is_there(item := self.get_item(number)):
            self.its.provider.change_email(item, f"{letter}@client.example")
            self.then(item, look)

    @rule(number=NUMBERS, look=st.booleans())
    def vanish_or_come_back(self, number: int, look: bool) -> None:
        item = self.get_item(number)
        if self.is_there(item):
            self.its.provider.vanish(item)
        else:
            self.its.provider.come_back(item)
        self.then(item, look)

    @rule(number=NUMBERS, server=SERVERS, look=st.booleans())
    def move(self, number: int, server: int, look: bool) -> None:
        if self.is_there(item := self.get_item(number)):
            self.its.provider.move(item, server)
            self.then(item, look)

    @rule(number=NUMBERS, name=st.sampled_from(["guest", "boss", "shared", None, None]), look=st.booleans())
    def rename(self, number: int, name: str | None, look: bool) -> None:
        if self.is_there(item := self.get_item(number)):
            self.its.provider.rename(item, name)
            self.then(item, look)

    # -- the servers

    @rule(
        number=NUMBERS,
        what=st.sampled_from(
            [
                "cut quota",
                "lift quota",
                "disable",
                "enable",
                "delete",
                "delete",
                "stranger",
                "make admin",
                "make subadmin",
                "take admin away",
                "own e-mail",
                "no e-mail",
                "wrong group",
                "no group",
            ]
        ),
        look=st.booleans(),
    )
    def tamper(self, number: int, what: Any, look: bool) -> None:
        self.its.provider.tamper(self.get_item(number), what)
        self.then(self.get_item(number), look)

    @rule(server=SERVERS, is_lost=st.booleans(), group=st.sampled_from(["basic", "pro"]))
    def change_group(self, server: int, is_lost: bool, group: str) -> None:
        provider = self.its.provider
        (provider.lose_group if is_lost else provider.add_group)(server, group)

    @rule(server=SERVERS, breakage=BREAKAGES)
    def break_server(self, server: int, breakage: Breakage) -> None:
        self.its.provider.break_server(server, breakage)

    @rule(number=NUMBERS, breakage=BREAKAGES, status=STATUSES)
    def break_and_look(self, number: int, breakage: Breakage, status: int) -> None:
        item = self.get_item(number)
        place = self.its.provider.get_place(item)
        if place is not None and self.is_there(item):
            self.its.provider.set_status(item, status)
            self.its.provider.break_server(place[0], breakage)
            self.its.look(item)

    @rule(server=SERVERS, what=st.sampled_from(["maintenance", "password", "identity", "down"]))
    def make_sick(self, server: int, what: Any) -> None:
        self.its.provider.make_sick(server, what)

    @rule(server=SERVERS, is_told=st.booleans())
    def heal(self, server: int, is_told: bool) -> None:
        self.its.provider.heal(server)
        if is_told:
            self.its.check_connection(server)

    # -- time, and the program's work

    @rule(
        span=st.sampled_from(
            [
                {"seconds": 30},
                {"minutes": 2},
                {"minutes": 6},
                {"minutes": 30},
                {"hours": 2},
                {"hours": 25},
                {"hours": 73},
            ]
        )
    )
    def wait(self, span: dict[str, int]) -> None:
        self.its.provider.world.wait(**span)

    @rule(number=NUMBERS)
    def look(self, number: int) -> None:
        self.its.look(self.get_item(number))

    @rule(is_new=st.booleans())
    def cycle(self, is_new: bool) -> None:
        self.its.cycle(is_new=is_new)

    @rule(hours=st.sampled_from([0, 1, 73]))
    def wait_and_cycle(self, hours: int) -> None:
        self.its.provider.world.wait(hours=hours)
        self.its.cycle()

    @rule(number=NUMBERS, requests=st.integers(1, 12))
    def crash(self, number: int, requests: int) -> None:
        self.its.look(self.get_item(number), crash_at=requests)

    @rule(number=NUMBERS, halves=st.integers(1, 24))
    def die(self, number: int, halves: int) -> None:
        self.its.look(self.get_item(number), dies_at=halves)

    @rule(number=NUMBERS, requests=st.integers(1, 8))
    def lose_lease(self, number: int, requests: int) -> None:
        self.its.look(self.get_item(number), lost_at=requests)

    @rule(is_lost=st.sampled_from([False, False, False, True]))
    def restart(self, is_lost: bool) -> None:
        if is_lost:
            self.its.lose_journal()
        else:
            self.its.restart()

    # -- operators

    @rule(number=NUMBERS, is_held=st.booleans())
    def hold_or_release(self, number: int, is_held: bool) -> None:
        (self.its.hold if is_held else self.its.release)(self.get_item(number))

    @rule(number=NUMBERS)
    def resync(self, number: int) -> None:
        self.its.resync(self.get_item(number))

    @rule(guard=st.sampled_from(CAPS), look=st.booleans())
    def approve(self, guard: Guard, look: bool) -> None:
        for item in self.its.approve(guard):
            self.then(item, look)

    @rule()
    def approve_read(self) -> None:
        self.its.approve_read()

    @rule(server=SERVERS)
    def approve_identity(self, server: int) -> None:
        self.its.approve_identity(server)

    @rule(number=NUMBERS)
    def reset_password(self, number: int) -> None:
        self.its.reset_password(self.get_item(number))

    @rule(number=NUMBERS, name=st.sampled_from(["guest", "boss", None, None]))
    def adopt(self, number: int, name: str | None) -> None:
        item = self.get_item(number)
        self.its.adopt(item, name or f"user_{item}")

    def teardown(self) -> None:
        if self.program is None:
            return
        try:
            if sys.exc_info()[0] is None:
                self.program.end()
        finally:
            self.program.__exit__()
