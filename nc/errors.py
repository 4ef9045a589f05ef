"""Everything that can go wrong between us and one cloud server; raised by ``nc`` only.

The type alone says whether trying again can help (`CloudError.is_transient`) and what happened:

    CloudError
    ├── transient: the work queue tries again
    │   ├── ServerUnreachable     name not found, refused, reset
    │   ├── ServerTimeout         no (complete) answer in time
    │   ├── BadAnswer             HTML, truncated, empty, too large, not the envelope it should be
    │   ├── ServerError           5xx, or a code nobody knows
    │   ├── Maintenance           maintenance mode, upgrade pending, not installed
    │   ├── RateLimited           429
    │   └── OutcomeUnknown        a change was sent, its effect is unknown; __cause__ says why
    └── not transient: a person, or the caller, must decide
        ├── TlsFailure            certificate or protocol
        ├── AddressRefused        the server's URL cannot be used
        ├── RedirectRefused       the server sends us to another address
        ├── UnknownProduct        neither Nextcloud nor ownCloud
        ├── InstanceChanged       another installation answers than the one that was logged in to
        ├── CredentialsRefused    401
        ├── PermissionRefused     403 and its kin
        │   └── PasswordConfirmationRequired
        ├── NotAdministrator      the API user may not see every account
        ├── AccountMissing        the server positively has no such account
        ├── AccountExists
        ├── AccountIdRefused      no account can bear this id
        ├── GroupMissing
        ├── GroupExists
        ├── GroupIdRefused        no group can bear this id
        ├── WeakPassword
        ├── QuotaRefused
        └── EmailRefused

For a call that changes something, every error other than `OutcomeUnknown` is a certain answer that
the change was refused or never sent, with one exception that the servers force: a refused create
(`QuotaRefused`, `EmailRefused`) may have left the account behind, so the caller looks again.
"""

from __future__ import annotations

from typing import ClassVar


class CloudError(Exception):
    """Something went wrong while talking to the cloud server."""

    is_transient: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""

    def __init__(self, message: str | None = None, *, status: int | None = None, code: int | None = None):
        """Build the error.

        Args:
            message: one clear line for the operator, never a secret; default: the class's docstring.
            status: HTTP status of the answer, None without an answer.
            code: OCS status code of the answer, None when it had none.
        """
        super().__init__(message or (type(self).__doc__ or type(self).__name__).splitlines()[0])
        self.status = status
        self.code = code


class _TransientError(CloudError):
    """Trying again later may help."""

    is_transient = True


class ServerUnreachable(_TransientError):
    """The server could not be reached, or it dropped the connection."""


class ServerTimeout(_TransientError):
    """The server did not answer in time."""


class BadAnswer(_TransientError):
    """The answer is not what this server's interface answers."""


class ServerError(_TransientError):
    """The server reported an error of its own."""


class Maintenance(_TransientError):
    """The server is in maintenance mode; nothing is done until it is over."""


class RateLimited(_TransientError):
    """The server limits how often it may be called.

    Attributes:
        retry_after_seconds: how long the server asks to wait; None when it did not say.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after_seconds: float | None = None,
        status: int | None = None,
        code: int | None = None,
    ):
        super().__init__(message, status=status, code=code)
        self.retry_after_seconds = retry_after_seconds


class OutcomeUnknown(_TransientError):
    """A change was sent and nobody knows whether it happened; look again before doing anything."""


class TlsFailure(CloudError):
    """The server's certificate or TLS protocol was refused."""


class AddressRefused(CloudError):
    """The server's URL is not an address that can be called."""


class RedirectRefused(CloudError):
    """The server redirects to another address, which is never followed with credentials."""


class UnknownProduct(CloudError):
    """The server is neither Nextcloud nor ownCloud."""


class InstanceChanged(CloudError):
    """Another installation answers than the one that was logged in to.

    Attributes:
        instance_id: of the one that answers.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        instance_id: str | None = None,
        status: int | None = None,
        code: int | None = None,
    ):
        super().__init__(message, status=status, code=code)
        self.instance_id = instance_id


class CredentialsRefused(CloudError):
    """The server refused the user name or the password."""


class PermissionRefused(CloudError):
    """The server refuses this call to the API user."""


class PasswordConfirmationRequired(PermissionRefused):
    """The server wants the real password for changes, and refuses app passwords."""


class NotAdministrator(CloudError):
    """The API user is not an administrator of the server."""


class AccountMissing(CloudError):
    """The server has no such account."""


class AccountExists(CloudError):
    """The server already has an account of that name."""


class AccountIdRefused(CloudError):
    """No account can have this name on this server."""


class GroupMissing(CloudError):
    """The server has no such group."""


class GroupExists(CloudError):
    """The server already has that group."""


class GroupIdRefused(CloudError):
    """No group can have this name on this server."""


class WeakPassword(CloudError):
    """The server refuses the password."""


class QuotaRefused(CloudError):
    """The server refuses the quota."""


class EmailRefused(CloudError):
    """The server refuses the e-mail address."""
