"""Situations of a service: an ordinary one, to be changed by the tests, and generated ones of every kind.

Used by test_classify.py, test_plan.py and the property tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from states import (
    ADMIN_GROUP,
    DEFAULT,
    UNKNOWN_QUOTA,
    UNLIMITED,
    Circumstances,
    DesiredService,
    Fault,
    FaultField,
    Memory,
    Mode,
    ObservedAccount,
    Ownership,
    Policy,
    ServiceState,
    SoldQuota,
    Step,
    Verdict,
    Wish,
    classify,
    plan_steps,
    to_storable_bytes,
)

GIB = 1024**3
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
USER, API_USER = "user_7", "reconciler"

SOLD = DesiredService(
    item_id=7,
    server_id=3,
    wish=Wish.ENABLED,
    username=USER,
    quota=10 * GIB,
    group="gold",
    email="client@example.org",
    status=2,
)
"""Sold and paid; nothing of it is in itemparam yet."""
ACCOUNT = ObservedAccount(
    userid=USER,
    is_enabled=True,
    quota=10 * GIB,
    used_bytes=1,
    email="client@example.org",
    groups=frozenset({"gold"}),
    is_subadmin=False,
)
"""As sold."""
NEW = Memory()
"""Never looked at."""
MADE = Memory(
    state=ServiceState.ACTIVE,
    ownership=Ownership.CREATED,
    server_id=3,
    userid=USER,
    is_provisioned=True,
    applied_email="client@example.org",
)
"""Made by us, and once seen as sold."""
AROUND = Circumstances(
    now=NOW,
    managed_groups=frozenset({"gold", "silver"}),
    server_groups=frozenset({"gold", "silver", "friends", ADMIN_GROUP}),
    api_user=API_USER,
)
"""The defaults, on a server that has every group."""


def sold(**changes: Any) -> DesiredService:
    return replace(SOLD, **changes)


def account(**changes: Any) -> ObservedAccount:
    return replace(ACCOUNT, **changes)


def made(**changes: Any) -> Memory:
    return replace(MADE, **changes)


def around(**changes: Any) -> Circumstances:
    return replace(AROUND, **changes)


def under(**policy: Any) -> Circumstances:
    """The ordinary circumstances under another policy."""
    return around(policy=Policy(**policy))


def faulty(*fields: FaultField, **changes: Any) -> DesiredService:
    """A service whose row is wrong in these fields, as ``bm_db`` describes it."""
    if FaultField.QUOTA in fields:
        changes.setdefault("quota", None)
    if FaultField.EMAIL in fields:
        changes.setdefault("email", None)
    if FaultField.GROUP in fields:
        changes.setdefault("group", None)
    if FaultField.USERNAME in fields:
        changes.setdefault("username", "")
    return sold(faults=tuple(Fault(field, f"the {field} is wrong") for field in fields), **changes)


@dataclass(frozen=True)
class Situation:
    """Everything one decision is made from."""

    desired: DesiredService | None = SOLD
    observed: ObservedAccount | None = ACCOUNT
    memory: Memory = MADE
    circumstances: Circumstances = AROUND

    @property
    def is_ours(self) -> bool:
        """Told by the design's words: the journal says so, or itemparam names the account."""
        is_recorded = self.desired is not None and self.desired.is_username_recorded
        return self.memory.ownership is not Ownership.NONE or is_recorded

    @property
    def is_untouchable(self) -> bool:
        """The account is an administrator's, a sub-admin's or our own."""
        one = self.observed
        return one is not None and (
            one.userid.lower() == self.circumstances.api_user.lower()
            or bool(one.is_subadmin)
            or (one.groups is not None and ADMIN_GROUP in one.groups)
        )

    @property
    def is_grace_over(self) -> bool:
        since, around = self.memory.retired_since, self.circumstances
        if since is None:
            return False
        waited = around.now - since
        is_immediate = around.deletion_grace == timedelta(0)
        return is_immediate or (waited >= around.deletion_grace and waited >= around.confirm_interval)

    def classify(self) -> Verdict:
        return classify(self.desired, self.observed, self.memory, self.circumstances)

    def plan_steps(self) -> list[Step]:
        return plan_steps(self.classify(), self.desired, self.observed, self.memory, self.circumstances)

    def in_state(self, state: ServiceState) -> Situation:
        return replace(self, memory=replace(self.memory, state=state))

    def settle(self) -> tuple[Situation, list[ServiceState]]:
        """What a pass makes of it before it plans: the state is recorded until it stays; all states met."""
        one, met = self, [self.memory.state]
        while (state := one.classify().state) is not one.memory.state and len(met) <= len(ServiceState):
            one = one.in_state(state)
            met.append(state)
        return one, met


# --- often met ------------------------------------------------------------------------------------

DISABLED, GONE, UNPAID = sold(wish=Wish.DISABLED), sold(wish=Wish.ABSENT), sold(wish=Wish.NONE)
AS_IS = sold(wish=Wish.AS_IS)
BY_BILLING = sold(is_username_recorded=True)
OFF = account(is_enabled=False)
INCOMPLETE = account(is_complete=False)
HALF_MADE = account(quota=UNLIMITED, email=None, groups=frozenset())
ADMINISTRATOR = account(groups=frozenset({"gold", ADMIN_GROUP}))
OPEN_CREATE = Memory(state=ServiceState.PROVISIONING, has_open_create=True)
HOUR = timedelta(hours=1)


def retired(hours: float = 1, state: ServiceState = ServiceState.RETIRING) -> Situation:
    """A disabled account of ours that was first seen to be no longer sold so long ago."""
    return Situation(GONE, OFF, made(state=state, retired_since=NOW - hours * HOUR))


# --- generated ------------------------------------------------------------------------------------


def _mostly(*usual: Any, rarely: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Values of which the rare ones do not drown the rest (many of them stop a service at once)."""
    return st.sampled_from(usual * (1 + 30 * len(rarely) // len(usual)) + rarely)


_modes = st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, *Mode])
_groups = st.sampled_from([None, "gold", "silver", "unknown"])
_usernames = _mostly(USER, "User_7", rarely=("other", API_USER, ""))
_emails = st.sampled_from([None, "", "client@example.org", "Client@Example.org", "new@example.org"])
_sold_quotas: st.SearchStrategy[SoldQuota] = st.sampled_from(
    [0, 1, 1500 * 1024**2, 10**10, 10 * GIB, UNLIMITED]
)
_observed_quotas = st.sampled_from(
    [0, 2048, to_storable_bytes(10**10), 10 * GIB, 10 * GIB + 1, 2**70, UNLIMITED, DEFAULT, UNKNOWN_QUOTA]
)
_faults = st.sampled_from([*[()] * 20, *((field,) for field in FaultField)]).map(
    lambda fields: tuple(Fault(field, f"the {field} is wrong") for field in fields)
)
_wishes = st.sampled_from([*Wish, *[Wish.ENABLED, Wish.DISABLED, Wish.ABSENT] * 3])


@st.composite
def services(draw: st.DrawFn) -> DesiredService:
    faults = draw(_faults)
    wrong = {fault.field for fault in faults}
    return DesiredService(
        item_id=7,
        server_id=draw(_mostly(3, rarely=(None, 4))),
        wish=draw(_wishes),
        username=draw(_usernames),
        quota=None if FaultField.QUOTA in wrong else draw(_sold_quotas),
        group=None if FaultField.GROUP in wrong else draw(_groups),
        email=None if FaultField.EMAIL in wrong else draw(_emails.filter(bool)),
        operation=draw(st.sampled_from([None, "open"])),
        is_username_recorded=draw(st.booleans()),
        is_url_recorded=draw(st.booleans()),
        is_password_recorded=draw(st.booleans()),
        faults=faults,
    )


accounts = st.builds(
    ObservedAccount,
    userid=_mostly(USER, "USER_7", rarely=("other", API_USER)),
    is_enabled=_mostly(True, False, rarely=(None,)),
    quota=_observed_quotas,
    used_bytes=st.sampled_from([None, 0, 20 * GIB]),
    email=_emails,
    groups=_mostly(
        *map(frozenset, ((), ("gold",), ("silver", "friends"), ("gold", "silver"))),
        rarely=(None, frozenset({ADMIN_GROUP}), frozenset({ADMIN_GROUP, "gold"})),
    ),
    is_subadmin=_mostly(False, None, rarely=(True,)),
    is_complete=_mostly(True, rarely=(False,)),
)

memories = st.builds(
    Memory,
    state=st.sampled_from(ServiceState),
    ownership=st.sampled_from(Ownership),
    server_id=_mostly(3, rarely=(None, 4)),
    userid=_mostly(USER, "USER_7", rarely=(None, "other")),
    is_provisioned=st.booleans(),
    applied_email=_emails,
    has_open_create=st.sampled_from([False, False, False, True]),
    hold_reason=_mostly(None, rarely=("a person said so",)),
    quarantine_reason=_mostly(None, rarely=("a hot loop",)),
    retired_since=st.one_of(st.none(), st.integers(0, 100).map(lambda hours: NOW - timedelta(hours=hours))),
)

surroundings = st.builds(
    Circumstances,
    now=st.just(NOW),
    policy=st.builds(
        Policy,
        existence=_modes,
        quota=_modes,
        enabled=_modes,
        group=_modes,
        email=_modes,
        create_missing_groups=st.booleans(),
    ),
    deletion_grace=st.sampled_from([timedelta(0), timedelta(minutes=1), timedelta(hours=72)]),
    confirm_interval=st.just(timedelta(minutes=5)),
    managed_groups=st.sampled_from(
        [frozenset(), frozenset({"gold", "silver"}), frozenset({"gold", "admin"})]
    ),
    server_groups=st.sampled_from([None, frozenset({"gold", "silver", "admin"}), frozenset({"silver"})]),
    api_user=st.sampled_from([API_USER, ""]),
    namesake=_mostly(None, rarely=(8,)),
)

_unrelated = st.builds(
    Situation,
    desired=_mostly(True, rarely=(False,)).flatmap(lambda is_there: services() if is_there else st.none()),
    observed=st.one_of(accounts, accounts, st.none()),
    memory=memories,
    circumstances=surroundings,
)


@st.composite
def _situations(draw: st.DrawFn) -> Situation:
    one = draw(_unrelated)
    desired, observed = one.desired, one.observed
    if desired is None or observed is None:
        return one
    as_sold: dict[str, Any] = {}
    if desired.quota is not None and draw(st.booleans()):
        as_sold["quota"] = UNLIMITED if desired.quota is UNLIMITED else to_storable_bytes(desired.quota)
    if draw(st.booleans()):
        as_sold["email"] = desired.email
    if draw(st.booleans()):
        as_sold["groups"] = frozenset({desired.group} if desired.group else ())
    return replace(one, observed=replace(observed, **as_sold))


situations = _situations()
"""Of every kind; half of an account's fields are as sold (chance alone would hardly meet all at once)."""
