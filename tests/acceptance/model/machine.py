"""Random lives of a provider: everything that can happen, in any order."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any, Final, get_args

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from reconciler.guards import CAPS, Guard
from tests.acceptance.model.billed import TARIFFS
from tests.acceptance.model.book import Limits
from tests.acceptance.model.program import Program
from tests.acceptance.model.provider import Breakage, Sickness, Tampering

SERVERS = st.integers(0, 1)
NUMBERS = st.sampled_from([0, 0, 0, 1, 1, 1, 2, 3, 4])
"""Which service, by the order in which they were ordered; mostly one of two, so that much befalls it."""
MOSTLY = st.sampled_from([True, True, True, False])
RARELY = st.sampled_from([False, False, False, True])
GRACES: Final = (timedelta(), timedelta(minutes=1), timedelta(hours=72), timedelta(hours=72))
TARIFF_NAMES = st.sampled_from([*TARIFFS, *sorted(TARIFFS.keys() - {"broken"})])
STATUSES = st.sampled_from([1, 2, 2, 2, 3, 4, 4])
OPERATIONS = st.sampled_from([None, "open", "suspend", "resume", "setparam", "close", "mystery"])
SPANS = st.sampled_from(
    [
        {"seconds": 30},
        {"minutes": 2},
        {"minutes": 6},
        {"minutes": 30},
        {"hours": 2},
        {"hours": 25},
        {"hours": 71},
        {"hours": 73},
    ]
)
_STATUS = st.tuples(st.just("status"), STATUSES)
_TARIFF = st.tuples(st.just("tariff"), TARIFF_NAMES)
BILLING = st.one_of(
    _STATUS,
    _STATUS,
    _STATUS,
    _TARIFF,
    _TARIFF,
    st.tuples(st.just("operation"), OPERATIONS),
    st.tuples(st.just("end of operation"), st.none()),
    st.tuples(st.just("e-mail"), st.sampled_from(["a@client.example", "b@client.example"])),
    st.tuples(st.just("row"), st.none()),
    st.tuples(st.just("server"), SERVERS),
    st.tuples(st.just("name"), st.sampled_from(["guest", "boss", "shared", None, None])),
)
"""What BILLmanager may change, and to what."""
TAMPERING = st.sampled_from([*get_args(Tampering), "delete", "make admin", "own e-mail"])

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
        is_begun=MOSTLY,
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

    def then(self, item: int, is_looked: bool) -> None:
        if is_looked:
            self.its.look(item)

    # -- BILLmanager

    def change_billing(self, item: int, what: str, value: Any) -> None:
        provider = self.its.provider
        is_there = item in provider.read_billed()
        if what == "row":
            (provider.vanish if is_there else provider.come_back)(item)
            return
        if not is_there:
            provider.come_back(item)
        if what == "status":
            provider.set_status(item, value)
        elif what == "operation":
            provider.start_operation(item, value)
        elif what == "end of operation":
            if provider.read_billed()[item].status == 5:
                provider.finish_operation(item)
        elif what == "tariff":
            provider.change_tariff(item, value)
        elif what == "e-mail":
            provider.change_email(item, value)
        elif what == "server":
            provider.move(item, value)
        else:
            provider.rename(item, value)

    @rule(number=NUMBERS, change=BILLING, look=MOSTLY)
    def bill(self, number: int, change: tuple[str, Any], look: bool) -> None:
        self.change_billing(self.get_item(number), *change)
        self.then(self.get_item(number), look)

    @rule(change=_STATUS, vanishing=st.sets(NUMBERS, max_size=2), look=MOSTLY)
    def bill_all(self, change: tuple[str, Any], vanishing: set[int], look: bool) -> None:
        for item in self.its.provider.items:
            self.change_billing(item, *change)
        for number in vanishing:
            self.change_billing(self.get_item(number), "row", None)
        if look:
            self.its.cycle()

    @rule(number=NUMBERS, course=st.lists(st.tuples(STATUSES, SPANS), min_size=2, max_size=4))
    def sway(self, number: int, course: list[tuple[int, dict[str, int]]]) -> None:
        """The client cannot make up his mind, or does not pay in time."""
        item = self.get_item(number)
        for status, span in course:
            self.change_billing(item, "status", status)
            self.its.look(item)
            self.its.provider.world.wait(**span)
        self.its.look(item)

    # -- the servers

    @rule(number=NUMBERS, what=TAMPERING, change=st.one_of(st.none(), BILLING), look=MOSTLY)
    def tamper(self, number: int, what: Tampering, change: tuple[str, Any] | None, look: bool) -> None:
        item = self.get_item(number)
        self.its.provider.tamper(item, what)
        if change is not None:
            self.change_billing(item, *change)
        self.then(item, look)

    @rule(number=NUMBERS)
    def fight(self, number: int) -> None:
        """Something else keeps changing an account, and one of the repairs never works."""
        item, provider = self.get_item(number), self.its.provider
        for _ in range(self.its.limits.hot_loop + 2):
            if (place := provider.get_place(item)) is None:
                break
            provider.break_server(place[0], Breakage("add_group"))
            provider.tamper(item, "disable")
            provider.tamper(item, "no group")
            provider.world.wait(minutes=1)
            self.its.look(item)
        self.heal(is_told=False)

    @rule(server=SERVERS, is_lost=st.booleans(), group=st.sampled_from(["basic", "pro"]))
    def change_group(self, server: int, is_lost: bool, group: str) -> None:
        provider = self.its.provider
        (provider.lose_group if is_lost else provider.add_group)(server, group)

    @rule(number=NUMBERS, breakage=BREAKAGES, change=BILLING, look=MOSTLY, is_cured=MOSTLY)
    def break_server(
        self, number: int, breakage: Breakage, change: tuple[str, Any], look: bool, is_cured: bool
    ) -> None:
        item = self.get_item(number)
        self.change_billing(item, *change)
        place = self.its.provider.get_place(item)
        if place is None:
            return
        self.its.provider.break_server(place[0], breakage)
        self.then(item, look)
        if is_cured:
            self.its.provider.heal(place[0])

    @rule(server=SERVERS, what=st.sampled_from(get_args(Sickness)), look=MOSTLY, is_cured=MOSTLY)
    def make_sick(self, server: int, what: Sickness, look: bool, is_cured: bool) -> None:
        self.its.provider.make_sick(server, what)
        for number in (0, 1):
            self.then(self.get_item(number), look)
        if is_cured:
            self.its.provider.heal(server)
            self.its.check_connection(server)

    @rule(is_told=MOSTLY)
    def heal(self, is_told: bool) -> None:
        for cloud in self.its.provider.clouds:
            self.its.provider.heal(cloud.number)
            if is_told:
                self.its.check_connection(cloud.number)

    # -- time, and the program's work

    @rule(span=SPANS, look=RARELY)
    def wait(self, span: dict[str, int], look: bool) -> None:
        self.its.provider.world.wait(**span)
        if look:
            self.its.cycle()

    @rule(number=NUMBERS)
    def look(self, number: int) -> None:
        self.its.look(self.get_item(number))

    @rule(is_new=st.booleans())
    def cycle(self, is_new: bool) -> None:
        self.its.cycle(is_new=is_new)

    @rule(
        number=NUMBERS,
        change=BILLING,
        how=st.sampled_from(["crash_at", "dies_at", "dies_at", "lost_at"]),
        at=st.integers(1, 14),
        look=MOSTLY,
    )
    def fail(self, number: int, change: tuple[str, Any], how: str, at: int, look: bool) -> None:
        item = self.get_item(number)
        self.change_billing(item, *change)
        self.its.look(item, **{how: at})
        self.then(item, look)

    @rule(is_lost=RARELY)
    def restart(self, is_lost: bool) -> None:
        (self.its.lose_journal if is_lost else self.its.restart)()

    # -- operators

    @rule(number=NUMBERS, is_held=st.booleans(), change=BILLING, look=MOSTLY)
    def hold_or_release(self, number: int, is_held: bool, change: tuple[str, Any], look: bool) -> None:
        item = self.get_item(number)
        (self.its.hold if is_held else self.its.release)(item)
        self.change_billing(item, *change)
        self.then(item, look)

    @rule(number=NUMBERS)
    def resync(self, number: int) -> None:
        self.its.resync(self.get_item(number))

    @rule(guard=st.sampled_from(["identity", "desired read", *CAPS]), look=MOSTLY)
    def approve(self, guard: Guard | str, look: bool) -> None:
        if isinstance(guard, Guard):
            for item in self.its.approve(guard):
                self.then(item, look)
        elif guard == "identity":
            for cloud in self.its.provider.clouds:
                self.its.approve_identity(cloud.number)
        else:
            self.its.approve_read()

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
