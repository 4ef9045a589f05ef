"""What the layers tell each other about a service: wanted, observed, remembered.

Owned by ``states`` because both sides of the comparison speak it: ``bm_db`` builds
`DesiredService`, ``nc`` builds `ObservedAccount`, ``reconciler`` builds `Memory` from its
journal. Everything here is an immutable value; nothing reads a clock, a file or a socket.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal


class ServiceState(enum.StrEnum):
    """Where one service stands; the value is what the journal, logs and metrics carry."""

    UNKNOWN = "unknown"
    """Not yet looked at, or the server's answer was too incomplete to tell."""
    ABSENT = "absent"
    """No account is wanted and none is there. Stable."""
    PROVISIONING = "provisioning"
    """An account is wanted; it is missing or was never completed."""
    ACTIVE = "active"
    """The account is as sold. Stable."""
    DRIFTED = "drifted"
    """The account is there and as enabled as it should be; another field differs."""
    SUSPENDING = "suspending"
    """The account must be disabled and still is enabled."""
    SUSPENDED = "suspended"
    """The account is disabled, as billing wants it. Stable."""
    RESUMING = "resuming"
    """The account must be enabled and still is disabled."""
    RETIRING = "retiring"
    """No longer sold: disabled, its grace period is running."""
    DELETING = "deleting"
    """No longer sold and its grace is over: the account is to be deleted."""
    DELETED = "deleted"
    """No longer sold, and the account is gone. Stable."""
    BACKOFF = "backoff"
    """The last try failed; the next one is scheduled."""
    HELD = "held"
    """An operator's pause, or BILLmanager's status 5 without an operation: left exactly as it is."""
    QUARANTINED = "quarantined"
    """A person must decide; nothing is changed until then."""
    ORPHANED = "orphaned"
    """The service's row vanished from billing; the account is reported, never deleted."""

    @property
    def is_stable(self) -> bool:
        """Whether nothing is left to do for a service in this state."""
        return self in STABLE_STATES


STABLE_STATES: Final = frozenset(
    {ServiceState.ABSENT, ServiceState.ACTIVE, ServiceState.SUSPENDED, ServiceState.DELETED}
)


class Wish(enum.StrEnum):
    """What billing asks for a service's account (BILLmanager's item.status and running operation)."""

    NONE = "none"
    """Ordered, not paid (status 1): no account is made, and none is deleted on its account."""
    ENABLED = "enabled"
    """Present and enabled (status 2; 5 with open, resume, setparam)."""
    DISABLED = "disabled"
    """Present and disabled (status 3; 5 with suspend)."""
    ABSENT = "absent"
    """No longer sold (status 4; 5 with close)."""
    AS_IS = "as_is"
    """Status 5 without an operation that says what: leave the account exactly as it is."""


SOLD_WISHES: Final = frozenset({Wish.ENABLED, Wish.DISABLED})
"""The wishes for an account, enabled or not."""


class Special(enum.Enum):
    """Quotas that are not a number of bytes."""

    UNLIMITED = "none"
    """No limit."""
    DEFAULT = "default"
    """The server's default for new accounts (ownCloud tells it apart from a number)."""
    UNKNOWN = "unknown"
    """The server did not say. Never zero, never unlimited."""

    def __repr__(self) -> str:
        return self.name


UNLIMITED: Final = Special.UNLIMITED
DEFAULT: Final = Special.DEFAULT
UNKNOWN_QUOTA: Final = Special.UNKNOWN

SoldQuota = int | Literal[Special.UNLIMITED]
ObservedQuota = int | Special


class FaultField(enum.StrEnum):
    """Which part of a service's row is wrong, and so what cannot be decided from it."""

    STATUS = "status"
    """What is wanted at all is unreadable: nothing is done."""
    USERNAME = "username"
    """Which account is meant is unreadable or not unique: nothing is done."""
    QUOTA = "quota"
    """No account is made, enabled or resized; suspension and retirement go on."""
    EMAIL = "email"
    """No account is made; an existing one keeps its e-mail."""
    PASSWORD = "password"  # noqa: S105 - the name of a field
    """The recorded password cannot be read: no account is made again; an existing one is served."""
    GROUP = "group"
    """The group cannot be given (for example the administrators'): the membership is left alone."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a service's row in billing.

    Attributes:
        field: what the fault makes undecidable.
        message: one line for the operator, naming the thing and the cure; never a secret.
    """

    field: FaultField
    message: str


@dataclass(frozen=True, slots=True)
class DesiredService:
    """One service as billing wants it, read in one piece.

    Attributes:
        item_id: BILLmanager's item.id.
        server_id: item.processingmodule; None while BILLmanager has not chosen one.
        wish: what is to become of the account.
        status: item.status as read (1..5), None when unreadable.
        operation: intname of the running operation (status 5), None without one.
        username: account name; "" only with a USERNAME fault.
        is_username_recorded: itemparam names the account for this service (it is ours then).
        quota: bytes, UNLIMITED, or None with a QUOTA fault.
        group: group id of the tariff, None when it names none.
        email: address as in billing, None with an EMAIL fault.
        is_url_recorded: itemparam.url is there.
        is_password_recorded: billing has a password for the account, readable or not.
        password: that password in the clear when it could be read, else None. Never logged.
        card_state: what the service's card says of its state; only read with a single service.
        faults: what is wrong with the row.
    """

    item_id: int
    server_id: int | None
    wish: Wish
    username: str
    quota: SoldQuota | None
    group: str | None = None
    email: str | None = None
    status: int | None = None
    operation: str | None = None
    is_username_recorded: bool = False
    is_url_recorded: bool = False
    is_password_recorded: bool = False
    password: str | None = field(default=None, repr=False)
    card_state: str | None = None
    faults: tuple[Fault, ...] = ()

    def get_fault(self, *fields: FaultField) -> Fault | None:
        """The first fault in one of the given fields, None without one."""
        if not self.faults:  # nearly always, and asked several times a service
            return None
        return next((fault for fault in self.faults if fault.field in fields), None)


@dataclass(frozen=True, slots=True)
class ObservedAccount:
    """One account as a server described it.

    Attributes:
        userid: id in the server's own spelling.
        is_enabled: None when the answer did not say.
        quota: bytes, UNLIMITED, DEFAULT (ownCloud) or UNKNOWN_QUOTA.
        used_bytes: None when unknown (never zero instead).
        email: None or "" when there is none; the server's spelling.
        groups: ids of all groups, None when the answer did not say.
        is_subadmin: administers a group; None when the answer did not say.
        is_complete: False for a bulk entry that holds only an id.
    """

    userid: str
    is_enabled: bool | None
    quota: ObservedQuota
    used_bytes: int | None = None
    email: str | None = None
    groups: frozenset[str] | None = None
    is_subadmin: bool | None = None
    is_complete: bool = True

    @property
    def is_conclusive(self) -> bool:
        """Whether the answer says enough to decide anything from it."""
        return self.is_complete and self.is_enabled is not None and self.groups is not None


class Ownership(enum.StrEnum):
    """Why an account may be changed by us."""

    NONE = "none"
    """It may not."""
    CREATED = "created"
    """The journal holds the finished create, or its password was proved."""
    ADOPTED = "adopted"
    """Billing names it for the service, or an operator gave it to us."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the journal remembers of one service.

    ``server_id`` and ``userid`` together are the place the account is at.

    Attributes:
        state: the state recorded last.
        ownership: whose account it is.
        server_id: the server the account was made on or adopted from; None before.
        userid: the account's id there; None before.
        is_provisioned: the account was once seen as sold, or was adopted.
        applied_email: the e-mail we set last; None when we never set one.
        has_open_create: a create was begun and its outcome was never recorded.
        hold_reason: an operator's pause; None without one.
        quarantine_reason: a verdict that only a person lifts (hot loop, refused proof); None without.
        retired_since: aware time of the first of an unbroken run of reads that want it gone; None
            while it is sold.
    """

    state: ServiceState = ServiceState.UNKNOWN
    ownership: Ownership = Ownership.NONE
    server_id: int | None = None
    userid: str | None = None
    is_provisioned: bool = False
    applied_email: str | None = None
    has_open_create: bool = False
    hold_reason: str | None = None
    quarantine_reason: str | None = None
    retired_since: datetime | None = None
