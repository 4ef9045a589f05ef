"""Names why a server cannot be used, and what helps: `reconciler check-connection`, and every report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nc import CloudClient
from nc import errors as nc_errors
from reconciler.fleet import CloudServer, ServerStopped


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a connection check found.

    Attributes:
        cause: one word; "ok" when the server can be used.
        message: what happened, one line.
        cure: what helps, one line; "" when nothing is wrong.
    """

    cause: str
    message: str
    cure: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether the server can be used."""
        return self.cause == "ok"


_CURES: Final[tuple[tuple[type[nc_errors.CloudError], str, str], ...]] = (
    (
        nc_errors.PasswordConfirmationRequired,
        "app password refused",
        "this Nextcloud refuses app passwords for changes: give the account's real password in BILLmanager",
    ),
    (
        nc_errors.CredentialsRefused,
        "wrong password",
        (
            "check user name and password in BILLmanager; an account with two-factor login, or a server "
            "with token_auth_enforced, refuses the real password: exempt the account or make an app password"
        ),
    ),
    (
        nc_errors.NotAdministrator,
        "not an admin",
        "make the account a member of the server's group admin",
    ),
    (
        nc_errors.PermissionRefused,
        "write refused",
        "the account may read but not change others: make it a member of the server's group admin",
    ),
    (
        nc_errors.TlsFailure,
        "TLS",
        (
            "check the certificate and its host name; for an authority of your own set "
            "[nextcloud.server.N] ca_file"
        ),
    ),
    (
        nc_errors.RedirectRefused,
        "wrong address",
        "put the address that the server redirects to into its URL in BILLmanager",
    ),
    (
        nc_errors.AddressRefused,
        "wrong address",
        "put an address like https://cloud.example into the server's URL in BILLmanager",
    ),
    (
        nc_errors.UnknownProduct,
        "wrong path",
        "the URL must lead to the start page of Nextcloud or ownCloud, its path included",
    ),
    (
        nc_errors.Maintenance,
        "maintenance",
        "wait, or end it on the server: occ maintenance:mode --off",
    ),
    (
        nc_errors.RateLimited,
        "rate-limited",
        (
            "wait; to be spared, exempt this host from brute-force protection, raise the rate limit, or "
            "switch it off (ratelimit.protection.enabled)"
        ),
    ),
    (nc_errors.ServerTimeout, "no answer", "check that the server is up and not overloaded"),
    (
        nc_errors.ServerUnreachable,
        "unreachable",
        "check the host name and port in the URL, name resolution, and firewalls in between",
    ),
    (
        nc_errors.BadAnswer,
        "wrong path",
        "something else answers there: check the URL's path, and proxies or login pages in between",
    ),
)


_WITHOUT_CURE: Final = (
    nc_errors.ServerUnreachable,
    nc_errors.ServerTimeout,
    nc_errors.BadAnswer,
    nc_errors.ServerError,
    nc_errors.Maintenance,
)
"""Errors whose own words say what happened, and (unless they name BILLmanager) not what helps."""


def check_connection(server: CloudServer) -> Diagnosis:
    """Try the very calls that will be used: find the server, log in, read, and ask for a change.

    The change is to add our own account to the group admin, where it is already: it changes nothing.
    """
    if server.faults:
        cure = "correct the server's settings in BILLmanager, or private_key_file"
        return Diagnosis("configuration", server.faults[0], cure)
    diagnosis = diagnose(server.client)
    if diagnosis.is_usable:
        server.close_breaker()
        try:
            server.ensure_ready()
        except ServerStopped as stopped:
            if stopped.cause == "identity":
                cure = f"if it is the right one: reconciler approve identity --server {server.id}"
                return Diagnosis("another installation", str(stopped), cure)
            if isinstance(stopped.__cause__, nc_errors.CloudError):
                return explain(stopped.__cause__)
        except nc_errors.CloudError as error:
            return explain(error)
    return diagnosis


def diagnose(client: CloudClient) -> Diagnosis:
    """The same for a client that belongs to no fleet."""
    try:
        identity = client.connect()
        groups = client.list_groups()
        client.prove_write_permission()
    except nc_errors.CloudError as error:
        return explain(error)
    return Diagnosis(
        "ok",
        f"{identity.product} {identity.version}, as {identity.api_user}, {len(groups)} groups, "
        f"instance {identity.instance_id or 'unknown'}; reading and writing are allowed",
    )


def tell(server: CloudServer, error: ServerStopped | nc_errors.CloudError) -> str:
    """One line for a report: which server, what happened, and what helps."""
    is_stopped = isinstance(error, ServerStopped)  # it names the server itself
    text = str(error) if is_stopped else f"{server}: {error}"
    cause = error.__cause__ if is_stopped else error
    if isinstance(cause, _WITHOUT_CURE) and "BILLmanager" not in str(cause):
        return f"{text}; {explain(cause).cure}"
    return text


def explain(error: nc_errors.CloudError) -> Diagnosis:
    """Cause and cure of a failed call."""
    for kind, cause, cure in _CURES:
        if isinstance(error, kind):
            return Diagnosis(cause, str(error), cure)
    return Diagnosis("error", str(error), "look into the server's log")
