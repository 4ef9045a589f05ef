"""What both products have in common: settings, the caller's rights, pages, ids and passwords.

Base of `emulator_nextcloud` and `emulator_owncloud`, which add what differs.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.sandbox.emulator_calls import Call
from reconciler.sandbox.emulator_envelope import OcsFailure, OcsReply
from reconciler.sandbox.emulator_logins import Login
from reconciler.sandbox.emulator_quota import stored_bytes
from reconciler.sandbox.emulator_routes import Request
from reconciler.sandbox.emulator_state import CloudState, EmulatedAccount

COMMON_PASSWORDS: Final = frozenset({"123456", "12345678", "password", "qwerty", "secret", "weak", "test"})
_ADDRESS: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+\Z")


@dataclass
class Page:
    """One page of a list about to be answered; a test's `before_page` may change all of it.

    Attributes:
        operation: "list", "details", "disabled" or "recent".
        limit: entries asked for, None for all.
        offset: entries to skip.
        ids: set by the hook: exactly these accounts are answered (over-full, short, repeated, …).
    """

    operation: str
    limit: int | None
    offset: int
    ids: Sequence[str] | None = None


@dataclass
class CloudSettings:
    """How the server is configured; tests may change it at any time.

    Attributes:
        version: as installed, for example "27.1.0".
        default_quota: what "default" means.
        has_password_policy: weak passwords are refused.
        keeps_data: a deleted account's folder stays, and blocks its name.
        max_quota_bytes: the largest quota that may be set, None without one.
        allows_unlimited: whether ``none`` may be set.
        disk_free_bytes: free space that users without a quota are shown.
        create_seconds: what hashing a new password costs, between the check of the name and the row.
        account_seconds: what each account of a list with details costs.
        data_folder: where the accounts' files are said to be.
        before_page: called with every page before it is answered.
    """

    version: str
    default_quota: str = "none"
    has_password_policy: bool = False
    keeps_data: bool = False
    max_quota_bytes: int | None = None
    allows_unlimited: bool = True
    disk_free_bytes: int = 80_000_000_000
    create_seconds: float = 0.0
    account_seconds: float = 0.0
    data_folder: str = "/var/www/data"
    before_page: Callable[[Page], object] | None = None

    @property
    def major(self) -> int:
        """The version's first number."""
        return int(self.version.partition(".")[0])


@dataclass(frozen=True)
class Question:
    """One OCS request together with who asks it.

    Attributes:
        partial: only the row of a new account is to be made (a fault).
    """

    request: Request
    login: Login
    call: Call
    partial: bool = False

    @property
    def caller(self) -> EmulatedAccount:
        """Who asks.

        Raises:
            OcsFailure: nobody does.
        """
        if self.login.account is None:
            raise OcsFailure(997, "Unauthorised")
        return self.login.account

    @property
    def is_admin(self) -> bool:
        """Whether an administrator asks."""
        return "admin" in self.caller.groups

    def may_see(self, account: EmulatedAccount) -> bool:
        """Whether the caller administers that account: as administrator or through one of its groups."""
        is_subadmin_of_it = bool(self.caller.subadmin_of & account.groups) and "admin" not in account.groups
        return self.is_admin or is_subadmin_of_it

    def is_self(self, account: EmulatedAccount) -> bool:
        """Whether the caller asks about itself."""
        return account is self.caller


class CloudProduct(ABC):
    """Answers OCS operations as one product does; `answer` is called with every one of them."""

    operations_without_lock = frozenset({"create"})

    def __init__(self, state: CloudState, settings: CloudSettings, wait: Callable[[float], object]) -> None:
        self.state = state
        self.settings = settings
        self.wait = wait
        self._answers = self.list_answers()

    def answer(self, question: Question) -> OcsReply:
        """Carry the operation out.

        Raises:
            OcsFailure: the server refuses.
        """
        operation = question.call.operation.partition(":")[0]
        answer = self._answers.get(operation, self.answer_unknown)
        if operation in self.operations_without_lock:
            return answer(question)
        with self.state.lock:
            return answer(question)

    @abstractmethod
    def list_answers(self) -> dict[str, Callable[[Question], OcsReply]]:
        """The answering method of each operation."""

    @abstractmethod
    def answer_unknown(self, question: Question) -> OcsReply:
        """Answer what has no route."""

    @abstractmethod
    def describe_status(self) -> dict[str, object]:
        """The product's own fields of status.php."""

    def select_page(self, question: Question, *, by_name: bool, limit: int | None) -> list[EmulatedAccount]:
        """The accounts of the page that was asked for, in the order of the answer (by id)."""
        request = question.request
        page = Page(request.operation, limit, request.number("offset") or 0)
        if self.settings.before_page is not None:
            self.settings.before_page(page)
        if page.ids is not None:
            found = (self.state.find(userid) for userid in page.ids)
            return [account for account in found if account is not None]
        accounts: Sequence[EmulatedAccount] = self.state.ordered(by_name=by_name)
        if page.operation == "disabled":
            accounts = [account for account in accounts if not account.is_enabled]
        search = request.text("search").lower()
        if search:
            accounts = [account for account in accounts if _is_found(account, search)]
        if not question.is_admin:
            accounts = [account for account in accounts if question.may_see(account)]
        end = None if page.limit is None else page.offset + page.limit
        chosen = sorted(accounts[page.offset : end], key=lambda account: account.userid.lower())
        if page.operation == "details":
            self.wait(len(chosen) * self.settings.account_seconds)
        return chosen

    def list_group_ids(self, request: Request, groupids: Iterable[str]) -> list[str]:
        """Group ids that match the search, by id, cut to the page."""
        search = request.text("search").lower()
        found = sorted((groupid for groupid in groupids if search in groupid.lower()), key=str.lower)
        offset, limit = request.number("offset") or 0, request.number("limit")
        return found[offset : None if limit is None else offset + limit]

    def describe_storage(self, account: EmulatedAccount, definition: str) -> dict[str, object]:
        """free, used, total and relative of a user whose storage was set up by logging in."""
        used = account.used_bytes
        disk_free = self.settings.disk_free_bytes
        quota = None if definition == "none" else stored_bytes(definition)
        free = disk_free if quota is None else min(max(quota - used, 0), disk_free)
        total = free + used
        if quota:
            total = min(total, quota)
        relative = round(used / total * 100, 2) if total > 0 else 0.0
        return {
            "free": free,
            "used": used,
            "total": total,
            "relative": int(relative) if relative.is_integer() else relative,
        }

    def find_password_fault(self, password: str) -> str | None:
        """What the password policy says against a password; None when it passes or there is none."""
        if not self.settings.has_password_policy:
            return None
        faults = []
        if password.lower() in COMMON_PASSWORDS:
            faults.append("Password is among the 1,000,000 most common ones. Please make it unique.")
        if len(password) < 10:
            faults.append("Password needs to be at least 10 characters long.")
        return " ".join(faults) or None

    def remove(self, account: EmulatedAccount) -> None:
        """Delete an account; its folder stays where the settings say so."""
        self.state.accounts.pop(account.userid.lower())
        if self.settings.keeps_data:
            self.state.leftover_folders.add(account.userid)


def is_address(text: str) -> bool:
    """Whether the servers take it for an e-mail address."""
    return _ADDRESS.match(text) is not None


def _is_found(account: EmulatedAccount, search: str) -> bool:
    texts = (account.userid, account.display_name or "", account.email or "")
    return any(search in text.lower() for text in texts)
