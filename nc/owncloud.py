"""ownCloud's user provisioning by OCS v1: HTTP 200 for nearly everything, an account in three requests.

Source of the codes: exchanges recorded from 10.7.0 (tests/recordings); the codes of ``subadmins`` and
those of version 11 from the server's source. v2 is not used: it flattens 101, 102 and 103 into 400.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import ClassVar, Final

from nc.accounts import parse_is_subadmin, parse_owncloud_account, share_groups
from nc.calls import Call
from nc.dialect import ADMIN_GROUP, NO_ACCESS_CODE, Dialect, Refusals, is_unknown_route
from nc.envelope import clean_text
from nc.errors import (
    AccountExists,
    AccountIdRefused,
    BadAnswer,
    CloudError,
    EmailRefused,
    GroupMissing,
    PermissionRefused,
    QuotaRefused,
    ServerError,
    ServerTimeout,
    WeakPassword,
)
from nc.exchange import Answer
from nc.fanout import map_unordered
from nc.ids import check_groupid, check_userid, encode_id
from nc.model import Product
from states.model import UNKNOWN_QUOTA, ObservedAccount, SoldQuota

_CREATE_REFUSALS: Final[Refusals] = {
    101: AccountIdRefused,
    102: AccountExists,
    104: GroupMissing,
    105: PermissionRefused,
    106: PermissionRefused,
}
_NO_SUBADMIN_CODE: Final = 102
_MAX_FAILURES_IN_A_ROW: Final = 5
_ONE_ACCOUNTS_FAULT: Final = (BadAnswer, ServerError, ServerTimeout)


class OwncloudDialect(Dialect):
    """ownCloud 10 and 11."""

    product = Product.OWNCLOUD
    _root = "/ocs/v1.php/cloud"
    _missing_codes = frozenset({NO_ACCESS_CODE})
    _quota_refusals: ClassVar[Refusals] = {103: QuotaRefused}
    _email_refusals: ClassVar[Refusals] = {102: EmailRefused}

    def get_account(self, userid: str) -> ObservedAccount | None:
        """One account, in three requests; None only for HTTP 200 with OCS 998 about the account itself.

        Its id is in the spelling that was asked: ownCloud's answer does not name it.

        Raises:
            AccountIdRefused: no account can have that id.
            CredentialsRefused: our login is refused, or is no administrator any more.
            BadAnswer: the answer lacks something, or the account vanished between the requests.
        """
        data = self._read(check_userid(userid, self.product))
        if data is None:
            return None
        groups = self._read_groups(userid)
        return parse_owncloud_account(data, userid, groups=groups, is_subadmin=self._read_is_subadmin(userid))

    def list_accounts(
        self, groups: Collection[str], only: Callable[[str], bool] | None
    ) -> Iterator[ObservedAccount]:
        """Ids of everybody in one request, then one request for each wanted account, side by side.

        Groups come from the groups' own lists: of the asked ones and the administrators only. A
        group whose list cannot be read leaves all groups unknown. An account that cannot be read is
        given with its id only, unless so many in a row fail that it is the server.
        """
        call = self._get("list_accounts", "/users", "the accounts", (("limit", "0"),))
        ids = self._exchange.perform(call, lambda answer: self._judge_ids(call, answer, "users"))
        members = self._read_members({ADMIN_GROUP, *groups})
        wanted: list[str] = []
        for userid in ids:
            if only is None or only(userid):
                wanted.append(userid)
            else:
                yield ObservedAccount(userid, None, UNKNOWN_QUOTA, is_complete=False)
        failures = 0
        workers = max(1, self._connection.concurrency)
        for userid, read in map_unordered(self._read_for_listing, wanted, workers):
            if isinstance(read, CloudError):
                failures += 1
                if failures >= _MAX_FAILURES_IN_A_ROW:
                    raise read
                yield ObservedAccount(userid, None, UNKNOWN_QUOTA, is_complete=False)
                continue
            failures = 0
            if read is not None:
                yield parse_owncloud_account(read, userid, groups=_groups_of(userid, members))

    def create_account(
        self,
        userid: str,
        password: str,
        quota: SoldQuota,  # noqa: ARG002 - ignored by the server: set afterwards
        email: str | None,  # noqa: ARG002 - likewise
        groups: Sequence[str],
    ) -> None:
        """Create an account; its quota and e-mail must be set afterwards.

        Raises:
            AccountExists, AccountIdRefused, GroupMissing, WeakPassword: nothing was made.
            OutcomeUnknown: anything else; look again.
        """
        fields = [("groups[]", check_groupid(group)) for group in groups]
        call = self._create_call(userid, password, fields)
        self._exchange.perform(call, lambda answer: self._judge_change(call, answer, _CREATE_REFUSALS, None))

    def set_password(self, userid: str, password: str) -> None:
        """Set the password."""
        refusals: Refusals = {403: WeakPassword}
        self._edit(userid, "set_password", "password", password, refusals, secrets=(password,))

    def _special_refusal(self, call: Call, answer: Answer) -> type[CloudError] | None:
        words = answer.message.lower()
        if call.operation == "create_account" and answer.code == 101 and "username" not in words:
            return WeakPassword if "password" in words else None
        return None

    def _read(self, userid: str) -> object | None:
        """The data of ``users/{id}``, checked; None for nobody."""
        call = self._get("get_account", f"/users/{encode_id(userid)}", f"account {clean_text(userid, 64)}")
        return self._exchange.perform(call, lambda answer: self._judge_account(call, answer))

    def _judge_account(self, call: Call, answer: Answer) -> object | None:
        is_missing = answer.status == 200 and answer.code == NO_ACCESS_CODE
        if is_missing and not is_unknown_route(answer) and not answer.data:
            return None
        data = self._judge_success(call, answer).data
        parse_owncloud_account(data, "")  # complains about what is no account
        return data

    def _read_for_listing(self, userid: str) -> tuple[str, object | None]:
        """The account's data, None for nobody, or the error if it is this account's alone."""
        if not userid.strip() or userid in {".", ".."}:
            return userid, BadAnswer("the listing holds an id that cannot be asked for")
        try:
            return userid, self._read(userid)
        except _ONE_ACCOUNTS_FAULT as error:
            return userid, error

    def _read_groups(self, userid: str) -> frozenset[str]:
        path = f"/users/{encode_id(userid)}/groups"
        call = self._get("get_account_groups", path, f"account {clean_text(userid, 64)}")

        def judge(answer: Answer) -> frozenset[str]:
            if answer.code == NO_ACCESS_CODE:
                raise BadAnswer(f"{call.subject} vanished from {self._exchange.host} while it was read")
            return self._judge_ids(call, answer, "groups")

        return self._exchange.perform(call, judge)

    def _read_is_subadmin(self, userid: str) -> bool:
        path = f"/users/{encode_id(userid)}/subadmins"
        call = self._get("get_account_subadmins", path, f"account {clean_text(userid, 64)}")

        def judge(answer: Answer) -> bool:
            # For somebody who administers nothing the server reports an "unknown error".
            if answer.status == 200 and answer.code == _NO_SUBADMIN_CODE:
                return False
            is_subadmin = parse_is_subadmin(self._judge_success(call, answer).data)
            if is_subadmin is None:
                raise BadAnswer(f"{self._exchange.host} does not say what groups {call.subject} administers")
            return is_subadmin

        return self._exchange.perform(call, judge)

    def _read_members(self, groups: Collection[str]) -> dict[str, frozenset[str]] | None:
        """Members of each group in one spelling; None when one of the lists cannot be read."""
        members: dict[str, frozenset[str]] = {}
        for group in sorted(groups):
            path = f"/groups/{encode_id(check_groupid(group))}"
            call = self._get("list_members", path, f"group {clean_text(group, 64)}")

            def judge(answer: Answer, call: Call = call) -> frozenset[str]:
                if answer.status == 200 and answer.code == NO_ACCESS_CODE and not is_unknown_route(answer):
                    return frozenset()
                return self._judge_ids(call, answer, "users")

            try:
                ids = self._exchange.perform(call, judge)
            except _ONE_ACCOUNTS_FAULT:
                return None
            members[group] = frozenset(one.casefold() for one in ids)
        return members

    def _read_own_groups(self) -> frozenset[str]:
        if self._read(self.api_user) is None:
            raise BadAnswer(
                f"{self._exchange.host} does not find the user it has just logged in; "
                "what it says of other accounts cannot be trusted"
            )
        return self._read_groups(self.api_user)

    def _is_there(self, userid: str) -> bool:
        return self._read(userid) is not None

    def _may_concern_account(self, answer: Answer) -> bool:
        # The login check says "Unauthorised"; a missing user or a forbidden field says nothing. Asking
        # again after a refused login would count towards the server's brute-force protection.
        return answer.message.lower() != "unauthorised"


def _groups_of(userid: str, members: dict[str, frozenset[str]] | None) -> frozenset[str] | None:
    if members is None:
        return None
    return share_groups(frozenset(group for group, ids in members.items() if userid.casefold() in ids))
