"""The values that describe one server and the calls made to it; used all over ``nc`` and by its callers."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Product(enum.StrEnum):
    """Which of the two dialects a server speaks."""

    NEXTCLOUD = "nextcloud"
    OWNCLOUD = "owncloud"


@dataclass(frozen=True, slots=True)
class ServerConnection:
    """How one server is reached, and how much of it may be used.

    Attributes:
        base_url: http(s) address, with or without a path and trailing slashes.
        username: API user, an administrator of the server.
        password: his password; never in a repr or a message.
        verify_tls: False switches certificate checks off altogether, ca_file included.
        ca_file: PEM file that replaces the usual authorities; None for the usual ones.
        connect_timeout_seconds: limit for opening one connection.
        read_timeout_seconds: limit for a silence within an answer.
        total_timeout_seconds: limit for a whole request, however it drips.
        delete_timeout_seconds: read and total limit of deleting an account, which servers do while we wait.
        page_size: accounts a page of a listing.
        concurrency: requests at the same time at most; as many sessions are kept.
        requests_per_second: pace of all requests together; 0 is no limit.
        max_response_bytes: largest answer, counted after decompression.
        login_seconds: how long a login is kept: Nextcloud may ask for a password that was checked
            within the last 30 minutes before it changes anything.
    """

    base_url: str
    username: str
    password: str = field(repr=False)
    verify_tls: bool = True
    ca_file: str | None = None
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 30.0
    total_timeout_seconds: float = 60.0
    delete_timeout_seconds: float = 600.0
    page_size: int = 200
    concurrency: int = 4
    requests_per_second: float = 20.0
    max_response_bytes: int = 8 * 1024 * 1024
    login_seconds: float = 20 * 60.0


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Who answered behind the URL.

    Attributes:
        product: the dialect it speaks.
        version: as shown to people, for example "27.1.0".
        instance_id: the installation's own id (its session cookie's name); None when it set none.
        api_user: id of the API user in the server's spelling.
    """

    product: Product
    version: str
    instance_id: str | None
    api_user: str

    @property
    def major(self) -> int:
        """The version's first number; 0 when it has none."""
        first = self.version.partition(".")[0]
        return int(first) if first.isascii() and first.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One HTTP request as a metric sees it.

    Attributes:
        operation: one of `OPERATIONS`.
        status: HTTP status; None when no answer came.
        code: OCS code; None when the answer had none.
        duration_seconds: from sending to understanding; waiting for the pace is not counted.
        is_ambiguous: it ended in `nc.errors.OutcomeUnknown`.
    """

    operation: str
    status: int | None
    code: int | None
    duration_seconds: float
    is_ambiguous: bool


OPERATIONS = (
    "status",
    "login",
    "get_account",
    "get_account_groups",
    "get_account_subadmins",
    "list_accounts",
    "list_groups",
    "list_members",
    "create_account",
    "set_quota",
    "set_email",
    "set_password",
    "enable",
    "disable",
    "delete_account",
    "add_to_group",
    "remove_from_group",
    "create_group",
    "prove_password",
    "prove_write_permission",
)
"""Every value of `ApiCall.operation`."""
