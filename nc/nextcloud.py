"""Nextcloud's user provisioning by OCS v2: real HTTP statuses, whole accounts, pages of them.

Source of the codes: exchanges recorded from 25.0.2 and 27.1.0 (tests/recordings), newer codes from
the servers' source up to 34. Messages may be translated, so they decide only where a code has two
meanings, and never alone that something is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import ClassVar, Final

from nc.accounts import parse_id, parse_nextcloud_account
from nc.calls import Call, ambiguous
from nc.dialect import NO_ACCESS_CODE, Dialect, Refusals, is_unknown_route, quota_text
from nc.envelope import clean_text
from nc.errors import (
    AccountExists,
    AccountIdRefused,
    BadAnswer,
    CloudError,
    EmailRefused,
    GroupMissing,
    NotAdministrator,
    PermissionRefused,
    QuotaRefused,
    ServerTimeout,
    WeakPassword,
)
from nc.exchange import Answer, Exchange
from nc.ids import check_groupid, check_userid, encode_id
from nc.model import Product, ServerConnection
from nc.paging import PageSize
from states.model import ObservedAccount, SoldQuota

_NOT_FOUND: Final = 404
_CREATE_REFUSALS: Final[Refusals] = {
    101: AccountIdRefused,
    104: GroupMissing,
    105: PermissionRefused,
    106: PermissionRefused,
    107: WeakPassword,
    108: EmailRefused,
    110: EmailRefused,
}
_AMBIGUOUS_CREATE_CODE: Final = 102
_PASSWORD_REFUSALS: Final[Refusals] = {
    101: WeakPassword,
    102: WeakPassword,
    107: WeakPassword,
    112: PermissionRefused,
    113: PermissionRefused,
}
_OLD_EDIT_CODE: Final = 103
_MAX_IDLE_PAGES: Final = 2


class NextcloudDialect(Dialect):
    """Nextcloud."""

    product = Product.NEXTCLOUD
    _root = "/ocs/v2.php/cloud"
    _missing_codes = frozenset({NO_ACCESS_CODE, _NOT_FOUND})
    # 103, since 113, is "not a field you may change".
    _quota_refusals: ClassVar[Refusals] = {
        101: QuotaRefused,
        102: QuotaRefused,
        103: PermissionRefused,
        113: PermissionRefused,
    }
    _email_refusals: ClassVar[Refusals] = {
        101: EmailRefused,
        102: EmailRefused,
        103: PermissionRefused,
        113: PermissionRefused,
    }

    def __init__(self, exchange: Exchange, connection: ServerConnection) -> None:
        super().__init__(exchange, connection)
        self._pages = PageSize(connection.page_size, connection.total_timeout_seconds)

    def get_account(self, userid: str) -> ObservedAccount | None:
        """One account; None only for HTTP 404 with OCS 404 that is not about an unknown call.

        Raises:
            AccountIdRefused: no account can have that id.
            NotAdministrator: the server shows us the account of nobody but us.
            BadAnswer: the answer is about another account, or lacks what an administrator sees.
        """
        return self._read(check_userid(userid, self.product))

    def list_accounts(
        self,
        groups: Collection[str],  # noqa: ARG002 - a page tells all groups
        only: Callable[[str], bool] | None,  # noqa: ARG002 - a page costs the same
    ) -> Iterator[ObservedAccount]:
        """Walk the pages of ``users/details`` until an empty one.

        A short page is not the end, and one that is longer than asked (each user backend fills a
        page of its own) advances every backend by no more than was asked. What moved between two
        pages may come twice, and is given once. A server that ignores the offset is noticed.
        """
        seen: set[str] = set()
        offset = idle_pages = 0
        while idle_pages < _MAX_IDLE_PAGES:
            limit = self._pages.current
            page = self._read_page(limit, offset)
            if not page:
                return
            offset += min(len(page), limit)
            idle_pages += 1
            for account in page:
                if account.userid not in seen:
                    seen.add(account.userid)
                    idle_pages = 0
                    yield account

    def _read_page(self, limit: int, offset: int) -> list[ObservedAccount]:
        query = (("limit", str(limit)), ("offset", str(offset)))
        call = self._get("list_accounts", "/users/details", "the accounts", query)
        started = time.monotonic()
        try:
            page = self._exchange.perform(call, lambda answer: self._judge_page(call, answer))
        except ServerTimeout:
            self._pages.note_timeout()
            raise
        self._pages.note(len(page), time.monotonic() - started)
        return page

    def create_account(
        self, userid: str, password: str, quota: SoldQuota, email: str | None, groups: Sequence[str]
    ) -> None:
        """Create an account with everything in one request, which spends nothing of the edit limit.

        Raises:
            AccountExists, AccountIdRefused, GroupMissing, WeakPassword: nothing was made.
            QuotaRefused, EmailRefused: the account may be there all the same, without it.
            OutcomeUnknown: anything else; look again.
        """
        fields = [("quota", quota_text(quota))]
        if email:
            fields.append(("email", email))
        fields += [("groups[]", check_groupid(group)) for group in groups]
        call = self._create_call(userid, password, fields)
        self._exchange.perform(call, lambda answer: self._judge_create(call, answer, userid))

    def set_password(self, userid: str, password: str) -> None:
        """Set the password."""
        self._edit(userid, "set_password", "password", password, _PASSWORD_REFUSALS, secrets=(password,))

    def _judge_create(self, call: Call, answer: Answer, userid: str) -> None:
        self._judge_change(call, answer, _CREATE_REFUSALS, None)
        made = parse_id(answer.data.get("id")) if isinstance(answer.data, dict) else userid
        if made is None or made.casefold() != userid.casefold():
            raise ambiguous(
                call, BadAnswer(f'{self._exchange.host} says it made "{clean_text(str(made), 64)}" instead')
            )

    def _special_refusal(self, call: Call, answer: Answer) -> type[CloudError] | None:
        words = answer.message.lower()
        if call.operation == "create_account" and answer.code == _AMBIGUOUS_CREATE_CODE:
            # An invalid quota says 102, too, and leaves the account behind. In another language: unknown.
            if "quota" in words:
                return QuotaRefused
            return AccountExists if "already exists" in words else None
        if call.operation == "set_password" and answer.code == _OLD_EDIT_CODE:
            return WeakPassword if words else PermissionRefused
        return None

    def _read(self, userid: str) -> ObservedAccount | None:
        call = self._get("get_account", f"/users/{encode_id(userid)}", f"account {clean_text(userid, 64)}")
        return self._exchange.perform(call, lambda answer: self._judge_account(call, answer, userid))

    def _judge_account(self, call: Call, answer: Answer, userid: str) -> ObservedAccount | None:
        if answer.status == _NOT_FOUND and answer.code == _NOT_FOUND:
            if answer.message and not is_unknown_route(answer) and not answer.data:
                return None
            raise BadAnswer(
                f"{self._exchange.host} has no call for accounts; is its app provisioning_api disabled?",
                status=answer.status,
                code=answer.code,
            )
        if answer.code == NO_ACCESS_CODE:
            raise NotAdministrator(
                f"{self._exchange.host} does not show {call.subject} to the API user; "
                "make it an administrator",
                status=answer.status,
                code=answer.code,
            )
        account = parse_nextcloud_account(self._judge_success(call, answer).data)
        if account.userid.casefold() != userid.casefold():
            raise BadAnswer(
                f'{self._exchange.host} answered about "{clean_text(account.userid, 64)}" '
                f"instead of {call.subject}"
            )
        if account.is_enabled is None or account.groups is None:
            raise BadAnswer(
                f"{self._exchange.host} does not say whether {call.subject} is enabled, or its groups"
            )
        return account

    def _judge_page(self, call: Call, answer: Answer) -> list[ObservedAccount]:
        data = self._judge_success(call, answer).data
        users = data.get("users") if isinstance(data, dict) else None
        if isinstance(users, dict):
            return [parse_nextcloud_account(entry, fallback_id=key) for key, entry in users.items()]
        if isinstance(users, list):
            # Ids of digits in a row make PHP send a list; its positions are not ids.
            named = [entry for entry in users if isinstance(entry, dict) and parse_id(entry.get("id"))]
            if len(named) == len(users):
                return [parse_nextcloud_account(entry) for entry in named]
        raise BadAnswer(f"{self._exchange.host} answered a page of accounts that is none")

    def _read_own_groups(self) -> frozenset[str]:
        own = self._read(self.api_user)
        if own is None or own.groups is None:
            raise BadAnswer(
                f"{self._exchange.host} does not find the user it has just logged in; "
                "what it says of other accounts cannot be trusted"
            )
        return own.groups

    def _is_there(self, userid: str) -> bool:
        return self._read(userid) is not None

    def _may_concern_account(self, answer: Answer) -> bool:  # noqa: ARG002 - Nextcloud's 401 never does
        return False
