"""What both products have in common in managing accounts; used by `nc.client` through its two subclasses.

A change goes out as exactly one request. When its answer may mean that the account is missing, or
that we may not touch it, the account is read afterwards and that tells: only a positive "no such
user" becomes `AccountMissing`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Final

from nc.accounts import parse_id, parse_ids
from nc.calls import Call
from nc.envelope import clean_text
from nc.errors import (
    AccountMissing,
    BadAnswer,
    CloudError,
    CredentialsRefused,
    GroupExists,
    GroupIdRefused,
    GroupMissing,
    NotAdministrator,
    PermissionRefused,
)
from nc.exchange import Answer, Exchange
from nc.ids import check_groupid, check_userid, encode_id
from nc.model import Product, ServerConnection
from states.model import UNLIMITED, ObservedAccount, SoldQuota
from states.quota import to_storable_bytes

ADMIN_GROUP: Final = "admin"
NO_ACCESS_CODE: Final = 998

Refusals = Mapping[int, type[CloudError]]
"""What the codes of one call mean."""

_GROUP_REFUSALS: Final[Refusals] = {
    101: GroupIdRefused,
    102: GroupMissing,
    104: PermissionRefused,
    105: PermissionRefused,
}
_USER_IN_GROUP_MISSING: Final = 103


def quota_text(quota: SoldQuota) -> str:
    """A quota as it is sent: decimal bytes that the server can hold, or "none"."""
    return "none" if quota is UNLIMITED else str(to_storable_bytes(quota))


def is_unknown_route(answer: Answer) -> bool:
    """Whether the server has no such call at all (for example its provisioning app is disabled)."""
    return answer.message.lower().startswith("invalid query")


class Dialect(abc.ABC):
    """The calls of one product. Ids are checked before anything is sent."""

    product: ClassVar[Product]
    _root: ClassVar[str]
    _missing_codes: ClassVar[frozenset[int]]
    """Codes of a change that may mean "no such user"."""
    _quota_refusals: ClassVar[Refusals]
    _email_refusals: ClassVar[Refusals]

    def __init__(self, exchange: Exchange, connection: ServerConnection) -> None:
        self._exchange = exchange
        self._connection = connection
        self.api_user = ""

    # -- reading -------------------------------------------------------------------------------------

    def log_in(self) -> str | None:
        """Log in, and prove that what this server says of accounts can be trusted.

        The positive control: we must find ourselves, as an administrator. A server or a user that
        cannot do this would answer "no such user" about everybody. Gives the installation's id.

        Raises:
            CredentialsRefused: the login.
            NotAdministrator: the login works, and shows too little.
            BadAnswer: the server does not know the user it has just logged in.
        """
        call = Call("login", "GET", f"{self._root}/user", (("format", "json"),), subject="the API user")
        answer = self._exchange.perform(call, lambda answer: self._judge_success(call, answer))
        self.api_user = self._own_id(answer)
        groups = self._read_own_groups()
        if ADMIN_GROUP not in groups:
            raise NotAdministrator(
                f"{clean_text(self.api_user, 64)} is not in the group {ADMIN_GROUP} of "
                f"{self._exchange.host}; add the API user to it"
            )
        return answer.instance_id

    def prove_password(self, userid: str, password: str) -> bool:
        """See `nc.client.CloudClient.prove_password`."""
        check_userid(userid, self.product)
        call = Call(
            "prove_password",
            "GET",
            f"{self._root}/user",
            (("format", "json"),),
            subject=f"account {userid}",
            secrets=(password,),
        )

        def judge(answer: Answer) -> bool:
            if answer.is_unauthorised:
                return False
            return self._own_id(self._judge_success(call, answer)).casefold() == userid.casefold()

        try:
            return self._exchange.perform_as(call, userid, password, judge)
        except CredentialsRefused as error:
            # Something in front of the cloud server said so: that tells nothing about the password.
            raise BadAnswer(f"{self._exchange.host} refused a login without an OCS answer") from error

    @abc.abstractmethod
    def get_account(self, userid: str) -> ObservedAccount | None:
        """One account, completely; None only for a positive "no such user"."""

    @abc.abstractmethod
    def list_accounts(
        self, groups: Collection[str], only: Callable[[str], bool] | None
    ) -> Iterator[ObservedAccount]:
        """All accounts, each once, in no order."""

    def list_groups(self) -> frozenset[str]:
        """Ids of all groups."""
        call = self._get("list_groups", "/groups", "the groups")
        return self._exchange.perform(call, lambda answer: self._judge_ids(call, answer, "groups"))

    # -- changing ------------------------------------------------------------------------------------

    @abc.abstractmethod
    def create_account(
        self, userid: str, password: str, quota: SoldQuota, email: str | None, groups: Sequence[str]
    ) -> None:
        """Exactly one POST."""

    def set_quota(self, userid: str, quota: SoldQuota) -> None:
        """Set the quota, rounded up to what the server can hold."""
        self._edit(userid, "set_quota", "quota", quota_text(quota), self._quota_refusals)

    def set_email(self, userid: str, email: str) -> None:
        """Set the e-mail address."""
        self._edit(userid, "set_email", "email", email, self._email_refusals)

    def set_password(self, userid: str, password: str) -> None:
        """Set the password."""
        self._edit(userid, "set_password", "password", password, {}, secrets=(password,))

    def enable(self, userid: str) -> None:
        """Let the user in."""
        self._change(userid, "enable", "PUT", "/enable", doubts=frozenset({101}))

    def disable(self, userid: str) -> None:
        """Shut the user out."""
        self._change(userid, "disable", "PUT", "/disable", doubts=frozenset({101}))

    def delete_account(self, userid: str) -> None:
        """Delete the account with its files; may take minutes."""
        self._change(
            userid,
            "delete_account",
            "DELETE",
            "",
            doubts=frozenset({101}),
            timeout_seconds=self._connection.delete_timeout_seconds,
        )

    def add_to_group(self, userid: str, groupid: str) -> None:
        """Add to a group; repeatable."""
        form = (("groupid", check_groupid(groupid)),)
        self._change(
            userid,
            "add_to_group",
            "POST",
            "/groups",
            form=form,
            refusals=_GROUP_REFUSALS,
            doubts=frozenset({_USER_IN_GROUP_MISSING}),
        )

    def remove_from_group(self, userid: str, groupid: str) -> None:
        """Remove from a group; repeatable."""
        self._change(
            userid,
            "remove_from_group",
            "DELETE",
            "/groups",
            query=(("groupid", check_groupid(groupid)),),
            refusals=_GROUP_REFUSALS,
            doubts=frozenset({_USER_IN_GROUP_MISSING}),
        )

    def create_group(self, groupid: str) -> None:
        """Create a group."""
        call = Call(
            "create_group",
            "POST",
            f"{self._root}/groups",
            (("format", "json"),),
            (("groupid", check_groupid(groupid)),),
            subject=f"group {clean_text(groupid, 64)}",
        )
        refusals: Refusals = {101: GroupIdRefused, 102: GroupExists}
        self._exchange.perform(call, lambda answer: self._judge_change(call, answer, refusals, None))

    def prove_write_permission(self) -> None:
        """Change something without changing anything: join the group of administrators once more.

        Unlike an edit this is repeatable and not rate limited, and the servers ask the same
        permission for it.
        """
        call = Call(
            "prove_write_permission",
            "POST",
            f"{self._root}/users/{encode_id(self.api_user)}/groups",
            (("format", "json"),),
            (("groupid", ADMIN_GROUP),),
            subject="the API user",
        )
        self._exchange.perform(call, lambda answer: self._judge_change(call, answer, _GROUP_REFUSALS, None))

    # -- shared steps --------------------------------------------------------------------------------

    @abc.abstractmethod
    def _read_own_groups(self) -> frozenset[str]:
        """Groups of the API user, read as anybody's would be; BadAnswer when he is not found."""

    @abc.abstractmethod
    def _is_there(self, userid: str) -> bool:
        """Whether the account exists; raises when the server does not say."""

    @abc.abstractmethod
    def _may_concern_account(self, answer: Answer) -> bool:
        """Whether a 401 may be about the account instead of about our credentials."""

    def _get(self, operation: str, path: str, subject: str, query: tuple[tuple[str, str], ...] = ()) -> Call:
        return Call(operation, "GET", self._root + path, (("format", "json"), *query), subject=subject)

    def _create_call(self, userid: str, password: str, fields: Iterable[tuple[str, str]] = ()) -> Call:
        """The request that makes an account, with what the product takes besides id and password."""
        form = (("userid", check_userid(userid, self.product)), ("password", password), *fields)
        return Call(
            "create_account",
            "POST",
            f"{self._root}/users",
            (("format", "json"),),
            form,
            subject=f"account {userid}",
            secrets=(password,),
        )

    def _edit(
        self,
        userid: str,
        operation: str,
        key: str,
        value: str,
        refusals: Refusals,
        *,
        secrets: tuple[str, ...] = (),
    ) -> None:
        form = (("key", key), ("value", value))
        self._change(userid, operation, "PUT", "", form=form, refusals=refusals, secrets=secrets)

    def _change(
        self,
        userid: str,
        operation: str,
        method: str,
        path: str,
        *,
        query: tuple[tuple[str, str], ...] = (),
        form: tuple[tuple[str, str], ...] | None = None,
        refusals: Refusals | None = None,
        doubts: frozenset[int] = frozenset(),
        timeout_seconds: float | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        """Change one account, and find out what a doubtful answer meant.

        Args:
            refusals: what the codes of this call mean.
            doubts: further codes that may mean "no such user".
        """
        check_userid(userid, self.product)
        call = Call(
            operation,
            method,
            f"{self._root}/users/{encode_id(userid)}{path}",
            (("format", "json"), *query),
            form,
            subject=f"account {userid}",
            timeout_seconds=timeout_seconds,
            secrets=secrets,
        )
        doubt = self._exchange.perform(
            call,
            lambda answer: self._judge_change(call, answer, refusals or {}, self._missing_codes | doubts),
        )
        if doubt:
            self._explain(call, userid, doubt)

    def _judge_change(
        self, call: Call, answer: Answer, refusals: Refusals, doubts: frozenset[int] | None
    ) -> Answer | None:
        """None for done, the answer itself when only reading the account can tell what it means.

        Args:
            doubts: codes that may mean "no such user"; None for a call that names no user.
        """
        if answer.is_success:
            return None
        if answer.is_unauthorised:
            if doubts is not None and self._may_concern_account(answer):
                return answer
            raise self._exchange.credentials_refused(answer.status, answer.code)
        if doubts and answer.code in doubts:
            return answer
        raise self._refusal(call, answer, refusals)

    def _refusal(self, call: Call, answer: Answer, refusals: Refusals) -> CloudError:
        kind = self._special_refusal(call, answer) or refusals.get(answer.code)
        if kind is None:
            return self._exchange.unexpected(call, answer)
        words = f': "{answer.message}"' if answer.message else ""
        return kind(
            f"{self._exchange.host} refuses {call.operation} of {call.subject} (code {answer.code}){words}",
            status=answer.status,
            code=answer.code,
        )

    def _special_refusal(self, call: Call, answer: Answer) -> type[CloudError] | None:  # noqa: ARG002 - for subclasses
        """A meaning that hangs on more than the code."""
        return None

    def _explain(self, call: Call, userid: str, doubt: Answer) -> None:
        """Raise what a doubtful answer to a change meant.

        An error of the read itself is raised as it is: the change was answered, by a refusal.
        """
        if not self._is_there(userid):
            raise AccountMissing(
                f"{self._exchange.host} has no account {userid}", status=doubt.status, code=doubt.code
            )
        if userid.casefold() == self.api_user.casefold():
            raise PermissionRefused(
                f"{self._exchange.host} refuses {call.operation} of the API user's own account {userid}",
                status=doubt.status,
                code=doubt.code,
            )
        if doubt.is_unauthorised or doubt.code == NO_ACCESS_CODE:
            raise PermissionRefused(
                f"{self._exchange.host} refuses {call.operation} of {call.subject} to the API user; "
                "check that it is an administrator",
                status=doubt.status,
                code=doubt.code,
            )
        raise self._exchange.unexpected(call, doubt)

    def _judge_success(self, call: Call, answer: Answer) -> Answer:
        """The answer itself, if it is one."""
        if answer.is_success:
            return answer
        if answer.is_unauthorised:
            raise self._exchange.credentials_refused(answer.status, answer.code)
        raise self._exchange.unexpected(call, answer)

    def _judge_ids(self, call: Call, answer: Answer, key: str) -> frozenset[str]:
        data = self._judge_success(call, answer).data
        ids = parse_ids(data.get(key)) if isinstance(data, dict) else None
        if ids is None:
            raise BadAnswer(f"{self._exchange.host} answered {call.operation} without a list of {key}")
        return ids

    def _own_id(self, answer: Answer) -> str:
        own = parse_id(answer.data.get("id")) if isinstance(answer.data, dict) else None
        if own is None or own in {".", ".."}:
            raise BadAnswer(f"{self._exchange.host} does not say who is logged in")
        return own
