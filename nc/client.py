"""The client of one cloud server, whichever of the two products it is; called by ``reconciler``.

Owns the choice of the dialect and the life of the sessions. Reading says what is known and no more;
each change is exactly one request that changes something. What the calls mean on the wire is in
`nc.nextcloud` and `nc.owncloud`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from nc.dialect import Dialect
from nc.exchange import Exchange
from nc.model import ApiCall, Product, ServerConnection, ServerIdentity
from nc.nextcloud import NextcloudDialect
from nc.owncloud import OwncloudDialect
from nc.product import read_status
from nc.transport import Transport
from states.model import ObservedAccount, SoldQuota

_DIALECTS: Final[dict[Product, type[Dialect]]] = {
    Product.NEXTCLOUD: NextcloudDialect,
    Product.OWNCLOUD: OwncloudDialect,
}


class CloudClient:
    """Accounts of one server. Thread-safe; keeps up to ``concurrency`` logins.

    Every method raises a `nc.errors.CloudError` and nothing else. Every method but `connect` connects
    first when that has not been done, and can then raise what `connect` raises.

    Attributes:
        identity: who answered the last `connect`; None before.
    """

    def __init__(
        self, connection: ServerConnection, *, on_call: Callable[[ApiCall], None] | None = None
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            connection: the server.
            on_call: told of every request, from the thread that made it.
        """
        self._connection = connection
        self._transport = Transport(connection)
        self._exchange = Exchange(self._transport, on_call)
        self._connecting = threading.Lock()
        self._dialect: Dialect | None = None
        self.identity: ServerIdentity | None = None

    def connect(self) -> ServerIdentity:
        """Find out who answers, with a new login, and that its answers can be trusted.

        Raises:
            Maintenance, UnknownProduct, BadAnswer: what is behind the URL.
            CredentialsRefused, NotAdministrator: the API user.
            CloudError: the rest of the tree.
        """
        with self._connecting:
            return self._connect()[1]

    def _connect(self) -> tuple[Dialect, ServerIdentity]:
        self._transport.renew()
        self._exchange.expect_instance(None)
        status = read_status(self._exchange)
        dialect = _DIALECTS[status.product](self._exchange, self._connection)
        instance_id = dialect.log_in()
        self._exchange.expect_instance(instance_id)
        self.identity = ServerIdentity(status.product, status.version, instance_id, dialect.api_user)
        self._dialect = dialect
        return dialect, self.identity

    def _connected(self) -> Dialect:
        dialect = self._dialect
        if dialect is None:
            with self._connecting:
                dialect = self._dialect or self._connect()[0]
        return dialect

    def prove_write_permission(self) -> None:
        """Check that this login may change accounts, by a change that changes nothing.

        Raises:
            PasswordConfirmationRequired: the server refuses app passwords for changes.
            PermissionRefused: it refuses for another reason.
        """
        self._connected().prove_write_permission()

    def get_account(self, userid: str) -> ObservedAccount | None:
        """One account, completely and freshly.

        None only when the server positively said that there is no such user; whatever else goes
        wrong is an error.

        Raises:
            AccountIdRefused: no account can have that id; nothing was asked.
        """
        return self._connected().get_account(userid)

    def list_accounts(
        self, *, groups: Collection[str] = (), only: Callable[[str], bool] | None = None
    ) -> Iterator[ObservedAccount]:
        """All accounts, each once, in no order: suspicion, never evidence.

        Users who come, go or are renamed meanwhile may be missed. Entries of which the server gave
        only the id have ``is_complete=False``.

        Args:
            groups: groups whose members are asked (ownCloud; the administrators always are, and the
                accounts' ``groups`` hold no others; Nextcloud gives all groups).
            only: which ids are to be read on ownCloud, where each costs a request; the others come
                incomplete. None for all.
        """
        yield from self._connected().list_accounts(groups, only)

    def list_groups(self) -> frozenset[str]:
        """Ids of all groups."""
        return self._connected().list_groups()

    def create_account(
        self,
        userid: str,
        password: str,
        *,
        quota: SoldQuota,
        email: str | None,
        groups: Sequence[str] = (),
    ) -> None:
        """Create an account by exactly one POST. ownCloud ignores quota and e-mail: set them afterwards.

        Raises:
            AccountExists, AccountIdRefused, GroupMissing, WeakPassword: nothing was made.
            QuotaRefused, EmailRefused: the account may be there without it.
            OutcomeUnknown: look again.
        """
        self._connected().create_account(userid, password, quota, email, groups)

    def set_quota(self, userid: str, quota: SoldQuota) -> None:
        """Set the quota, rounded up to what the server can hold.

        Raises:
            QuotaRefused, AccountMissing, PermissionRefused, RateLimited, OutcomeUnknown.
        """
        self._connected().set_quota(userid, quota)

    def set_email(self, userid: str, email: str) -> None:
        """Set the e-mail address; "" removes it.

        Raises:
            EmailRefused, AccountMissing, PermissionRefused, RateLimited, OutcomeUnknown.
        """
        self._connected().set_email(userid, email)

    def set_password(self, userid: str, password: str) -> None:
        """Set the password.

        Raises:
            WeakPassword, AccountMissing, PermissionRefused, RateLimited, OutcomeUnknown.
        """
        self._connected().set_password(userid, password)

    def enable(self, userid: str) -> None:
        """Let the user in; repeatable.

        Raises:
            AccountMissing, PermissionRefused, OutcomeUnknown.
        """
        self._connected().enable(userid)

    def disable(self, userid: str) -> None:
        """Shut the user out; repeatable. His public links may stay reachable.

        Raises:
            AccountMissing, PermissionRefused, OutcomeUnknown.
        """
        self._connected().disable(userid)

    def delete_account(self, userid: str) -> None:
        """Delete the account and its files.

        The server answers when it is done; ``delete_timeout_seconds`` is the limit.

        Raises:
            AccountMissing, PermissionRefused, OutcomeUnknown.
        """
        self._connected().delete_account(userid)

    def add_to_group(self, userid: str, groupid: str) -> None:
        """Add an account to a group; repeatable.

        Raises:
            GroupMissing, GroupIdRefused, AccountMissing, PermissionRefused, OutcomeUnknown.
        """
        self._connected().add_to_group(userid, groupid)

    def remove_from_group(self, userid: str, groupid: str) -> None:
        """Remove an account from a group; repeatable.

        Raises:
            GroupMissing, GroupIdRefused, AccountMissing, PermissionRefused, OutcomeUnknown.
        """
        self._connected().remove_from_group(userid, groupid)

    def create_group(self, groupid: str) -> None:
        """Create a group.

        Raises:
            GroupExists, GroupIdRefused, PermissionRefused, OutcomeUnknown.
        """
        self._connected().create_group(groupid)

    def prove_password(self, userid: str, password: str) -> bool:
        """Whether this user can log in with this password, tried in a session of its own.

        True only when the answer names that user. False when the login is refused, which a disabled
        account does, too. Nothing is changed but the user's first-login state.
        """
        return self._connected().prove_password(userid, password)

    def close(self) -> None:
        """Close the kept connections. The client may be used again, and logs in anew then."""
        self._transport.renew()
