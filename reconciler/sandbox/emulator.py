"""A Nextcloud or ownCloud server as the reconciler sees one: user provisioning over real HTTP.

`CloudEmulator` is used in-process by tests, benchmarks and the demo; ``python -m
reconciler.sandbox.emulator`` runs one as a process of its own. It behaves as the recorded servers did
(tests/contract/test_emulator_agrees_with_recordings.py) and goes wrong as its `faults` say.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import ssl
import string
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from reconciler.sandbox.emulator_accounts import CloudSettings, Page, Question
from reconciler.sandbox.emulator_calls import Call, CallLog, Fault, FaultKind, take_fault
from reconciler.sandbox.emulator_envelope import (
    JSON_TYPE,
    Answer,
    OcsFailure,
    OcsReply,
    dump_json,
    render,
    render_refused_login,
)
from reconciler.sandbox.emulator_http import CloudServer, Outcome
from reconciler.sandbox.emulator_logins import Login, LoginDesk, RateLimiter
from reconciler.sandbox.emulator_nextcloud_edits import NextcloudProduct
from reconciler.sandbox.emulator_owncloud import OwnCloudProduct
from reconciler.sandbox.emulator_routes import Request, read_cookies, read_request
from reconciler.sandbox.emulator_state import (
    MISSING,
    AccountTable,
    CloudSnapshot,
    CloudState,
    EmulatedAccount,
    EmulatedGroup,
)

__all__ = [
    "MISSING",
    "Call",
    "CloudEmulator",
    "CloudSettings",
    "EmulatedAccount",
    "EmulatedGroup",
    "Fault",
    "FaultKind",
    "Page",
    "main",
]

ProductName = Literal["nextcloud", "owncloud"]
_HTML = "text/html; charset=UTF-8"
_CONFIRM_AGE_SECONDS = 30 * 60 + 15
_NEWEST_VERSION = {"nextcloud": "27.1.0", "owncloud": "10.7.0"}


def make_instance_id() -> str:
    """An installation's id: ``oc`` and ten characters."""
    alphabet = string.ascii_lowercase + string.digits
    return "oc" + "".join(secrets.choice(alphabet) for _ in range(10))


class CloudEmulator:
    """One emulated server; a context manager that listens while it is open.

    Attributes:
        settings: how it is configured; may be changed at any time.
        faults: what goes wrong next, in this order of precedence.
        is_maintenance, needs_db_upgrade: the server is away (`maintenance` is the same as the first).
        latency_seconds: added to every answer.
        requires_password_confirmation: writes by app passwords, and by sessions whose password check
            is more than half an hour old, get 403 (Nextcloud; from 34 on app passwords always do).

    Args:
        edit_limit: edits per calling account and `edit_window_seconds`; by default 50 for Nextcloud
            from 27 on, None (no limit) otherwise. 0 forbids all.
        path: where the server lives below its host, for example ``/cloud``.
        clock: seconds; for the limit on edits and the age of sessions.
        has_password_policy: weak passwords are refused; by default on Nextcloud before 27 only.
        keep_calls: how many requests are remembered one by one.
    """

    def __init__(  # noqa: PLR0913 - one named argument per property of a server
        self,
        product: ProductName,
        *,
        version: str | None = None,
        path: str = "",
        port: int = 0,
        latency_seconds: float = 0.0,
        login_seconds: float = 0.0,
        edit_limit: int | Literal["product"] | None = "product",
        edit_window_seconds: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        tls_context: ssl.SSLContext | None = None,
        admin_user: str = "admin",
        admin_password: str | None = None,
        instance_id: str | None = None,
        default_quota: str = "none",
        password_policy: bool | None = None,
        require_password_confirmation: bool = False,
        leftover_data: bool = False,
        token_auth_enforced: bool = False,
        brute_force_limit: int | None = None,
        create_seconds: float = 0.0,
        keep_calls: int = 100_000,
    ) -> None:
        version = version or _NEWEST_VERSION[product]
        self.product = product
        self.admin_user = admin_user
        self.admin_password = admin_password or secrets.token_urlsafe(15)
        self.is_nextcloud = product == "nextcloud"
        self.settings = CloudSettings(
            version,
            default_quota=default_quota,
            keeps_data=leftover_data,
            create_seconds=create_seconds,
            data_folder=f"/var/www/{product}/data",
        )
        is_before_27 = self.is_nextcloud and self.settings.major < 27
        self.settings.has_password_policy = is_before_27 if password_policy is None else password_policy
        self.latency_seconds = latency_seconds
        self.requires_password_confirmation = require_password_confirmation
        self.is_maintenance = False
        self.needs_db_upgrade = False
        self.product_name: str | None = None
        self.faults: list[Fault] = []
        self._clock = clock
        self._path = "/" + path.strip("/") if path.strip("/") else ""
        self._port = port
        self._tls_context = tls_context
        self._stopping = threading.Event()
        self._server: CloudServer | None = None
        self._thread: threading.Thread | None = None
        self._log = CallLog(keep_calls)
        self.state = CloudState(instance_id or make_instance_id())
        if edit_limit == "product":
            edit_limit = 50 if self.is_nextcloud and self.settings.major >= 27 else None
        self.edits = RateLimiter(edit_limit, edit_window_seconds, clock)
        self._editor = RateLimiter(10, 120.0, clock)
        self.logins = LoginDesk(
            self.state,
            is_nextcloud=self.is_nextcloud,
            clock=clock,
            wait=self.wait,
            login_seconds=login_seconds,
            brute_force_limit=brute_force_limit,
            is_token_auth_enforced=token_auth_enforced,
        )
        kind = NextcloudProduct if self.is_nextcloud else OwnCloudProduct
        self._answers = kind(self.state, self.settings, self.wait)
        self.add_account(admin_user, password=self.admin_password, groups=["admin"], has_logged_in=True)
