"""What an emulated server holds: accounts, groups and left-over data folders.

The two product modules read and change it, always under `CloudState.lock`; tests may do the same.
Each account keeps its serialised bulk entry, so that walking ten thousand accounts costs little.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, SupportsIndex

MISSING: Final = object()
"""A value for `EmulatedAccount.field_overrides`: the field is left out of the answer."""

_RENAMES = itertools.count(1)
_rename_serial = 0


def _note_rename() -> None:
    global _rename_serial  # noqa: PLW0603 - one counter for all accounts: it only invalidates orderings
    _rename_serial = next(_RENAMES)


@dataclass(eq=False)
class EmulatedAccount:
    """One account as the server keeps it.

    Attributes:
        userid: id in the spelling of its creation.
        password: the password in the clear.
        display_name: None while it was never set (the id is shown then).
        email: None or "" without one.
        quota_definition: the kept text: "1.4 GB", "none", "default".
        used_bytes: shown only once the user has logged in, as on the real servers.
        last_login_ms: milliseconds since 1970, 0 for never.
        subadmin_of: ids of the groups the account administers.
        created_serial: counts creations on this server; tells a re-created account from the first.
        app_passwords: further passwords that log in as this user.
        is_remnant: an entry of a vanished directory user: lists hold only its id, a GET finds nobody.
        field_overrides: fields of the server's answers replaced as they are (`MISSING` leaves one out).
    """

    userid: str
    password: str = field(default="", repr=False)
    display_name: str | None = None
    email: str | None = None
    quota_definition: str = "default"
    is_enabled: bool = True
    groups: set[str] = field(default_factory=set)
    used_bytes: int = 0
    has_logged_in: bool = False
    last_login_ms: int = 0
    subadmin_of: set[str] = field(default_factory=set)
    created_serial: int = 0
    app_passwords: set[str] = field(default_factory=set, repr=False)
    is_remnant: bool = False
    field_overrides: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._kept_entry: tuple[object, bytes] | None = None

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name != "_kept_entry":
            object.__setattr__(self, "_kept_entry", None)
            if name in {"display_name", "userid"}:
                _note_rename()

    @property
    def shown_name(self) -> str:
        """The display name, the id while none was set."""
        return self.userid if self.display_name is None else self.display_name

    def kept_entry(self, context: object) -> bytes | None:
        """The serialised bulk entry kept for this state of the account, None when it must be made anew.

        Args:
            context: whatever else the entry depends on (the server's settings).
        """
        kept = self._kept_entry
        if kept is None or self.field_overrides or kept[0] != (self.groups, self.subadmin_of, context):
            return None
        return kept[1]

    def keep_entry(self, context: object, entry: bytes) -> None:
        """Keep the serialised bulk entry until something about the account changes."""
        self._kept_entry = ((set(self.groups), set(self.subadmin_of), context), entry)

    def copy(self) -> EmulatedAccount:
        """An independent copy, for snapshots."""
        return dataclasses.replace(
            self,
            groups=set(self.groups),
            subadmin_of=set(self.subadmin_of),
            app_passwords=set(self.app_passwords),
            field_overrides=dict(self.field_overrides),
        )


@dataclass
class EmulatedGroup:
    """One group; who belongs to it is kept with the accounts."""

    groupid: str


class AccountTable(dict[str, EmulatedAccount]):
    """Accounts by lower-case id; counts its changes so that orderings can be kept until then."""

    changes = 0

    def __setitem__(self, key: str, value: EmulatedAccount) -> None:
        self.changes += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.changes += 1
        super().__delitem__(key)

    def pop(self, *args: Any) -> Any:
        """Remove and return an account, as ``dict.pop`` does."""
        self.changes += 1
        return super().pop(*args)

    def clear(self) -> None:
        """Remove every account."""
        self.changes += 1
        super().clear()

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type, tuple[dict[str, EmulatedAccount]]]:
        return (AccountTable, (dict(self),))


@dataclass(frozen=True)
class CloudSnapshot:
    """A server's whole content at one moment, for `CloudState.restore`."""

    accounts: tuple[EmulatedAccount, ...]
    groups: tuple[str, ...]
    leftover_folders: frozenset[str]
    instance_id: str


class CloudState:
    """Everything an emulated server remembers about its users; change it only under `lock`."""

    def __init__(self, instance_id: str) -> None:
        self.lock = threading.RLock()
        self.instance_id = instance_id
        self.accounts = AccountTable()
        self.groups: dict[str, EmulatedGroup] = {"admin": EmulatedGroup("admin")}
        self.leftover_folders: set[str] = set()
        self._serials = itertools.count(1)
        self._orders: dict[bool, tuple[tuple[int, int, int], list[EmulatedAccount]]] = {}

    def find(self, userid: str) -> EmulatedAccount | None:
        """The account of that id in any case, None without one."""
        return self.accounts.get(userid.lower())

    def insert(self, account: EmulatedAccount) -> EmulatedAccount:
        """Put an account in place of any of the same id."""
        account.created_serial = next(self._serials)
        self.accounts[account.userid.lower()] = account
        return account

    def members(self, groupid: str) -> list[EmulatedAccount]:
        """Accounts of a group, by id."""
        return [account for account in self.ordered(by_name=False) if groupid in account.groups]

    def drop_group(self, groupid: str) -> None:
        """Remove a group and every membership of it."""
        del self.groups[groupid]
        for account in self.accounts.values():
            if groupid in account.groups:
                account.groups = account.groups - {groupid}
            if groupid in account.subadmin_of:
                account.subadmin_of = account.subadmin_of - {groupid}

    def ordered(self, *, by_name: bool) -> list[EmulatedAccount]:
        """All accounts, by id, or by display name (those without one first) and then id."""
        key = (self.accounts.changes, _rename_serial, len(self.accounts))
        kept = self._orders.get(by_name)
        if kept is None or kept[0] != key:
            accounts = sorted(self.accounts.values(), key=_name_order if by_name else _id_order)
            kept = (key, accounts)
            self._orders[by_name] = kept
        return kept[1]

    def snapshot(self) -> CloudSnapshot:
        """Everything as it is now."""
        with self.lock:
            accounts = tuple(account.copy() for account in self.accounts.values())
            return CloudSnapshot(
                accounts, tuple(self.groups), frozenset(self.leftover_folders), self.instance_id
            )

    def restore(self, snapshot: CloudSnapshot) -> None:
        """Put everything back as it was, as a restored backup would."""
        with self.lock:
            self._replace(snapshot.accounts, snapshot.groups, snapshot.leftover_folders)
            self.instance_id = snapshot.instance_id

    def wipe(self) -> None:
        """Leave only the administrators and their group, as a freshly installed server has."""
        with self.lock:
            kept = [account for account in self.accounts.values() if "admin" in account.groups]
            for account in kept:
                account.groups = {"admin"}
            self._replace(kept, ("admin",), ())

    def _replace(
        self, accounts: Iterable[EmulatedAccount], groups: Iterable[str], folders: Iterable[str]
    ) -> None:
        copies = [account.copy() for account in accounts]
        self.accounts.clear()
        for account in copies:
            self.accounts[account.userid.lower()] = account
        self.groups.clear()
        self.groups.update((groupid, EmulatedGroup(groupid)) for groupid in groups)
        self.leftover_folders.clear()
        self.leftover_folders.update(folders)


def _id_order(account: EmulatedAccount) -> str:
    return account.userid.lower()


def _name_order(account: EmulatedAccount) -> tuple[bool, str, str]:
    name = account.display_name
    return (name is not None, (name or "").lower(), account.userid.lower())
