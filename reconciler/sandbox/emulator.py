"""A Nextcloud or ownCloud server as the reconciler sees one: user provisioning over real HTTP.

`CloudEmulator` is used in-process by tests, benchmarks and the demo; ``python -m
reconciler.sandbox.emulator`` runs one as a process of its own (see `emulator_process`). It behaves as
the recorded servers did (tests/contract/test_emulator_agrees_with_recordings.py) and goes wrong as
its `faults` say.
"""

from __future__ import annotations

import secrets
import ssl
import string
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Literal, Self

from reconciler.sandbox.emulator_accounts import CloudSettings, Page
from reconciler.sandbox.emulator_calls import Call, Fault, FaultKind
from reconciler.sandbox.emulator_http import CloudServer
from reconciler.sandbox.emulator_quota import store_quota
from reconciler.sandbox.emulator_service import CloudService, ProductName
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
    "CloudSnapshot",
    "EmulatedAccount",
    "EmulatedGroup",
    "Fault",
    "FaultKind",
    "Page",
    "ProductName",
]

_NEWEST_RECORDED: Final = {"nextcloud": "27.1.0", "owncloud": "10.7.0"}
_POLL_SECONDS: Final = 0.02


def make_instance_id() -> str:
    """An installation's id: ``oc`` and ten characters."""
    alphabet = string.ascii_lowercase + string.digits
    return "oc" + "".join(secrets.choice(alphabet) for _ in range(10))


class CloudEmulator(CloudService):
    """One emulated server; a context manager that listens while it is open.

    Attributes:
        state, accounts, groups: what the server holds; read and change it under `lock`.
        settings: how it is configured (`CloudSettings`); may be changed at any time.
        faults: what goes wrong next; the first one that matches a request is taken.
        maintenance, needs_db_upgrade: the server is away; status.php says so.
        product_name: what status.php calls the product, None for its real name.
        edits, logins: the limit on edits and the log-ins, with their counters.

    Args:
        version: by default the newest recorded one.
        path: where the server lives below its host, for example ``/cloud``.
        port: 0 for any free one; it stays the same when the emulator is stopped and started again.
        latency_seconds: added to every answer.
        login_seconds: cost of one password check; a kept session cookie saves it.
        edit_limit: edits per calling account within `edit_window_seconds`; by default 50 for Nextcloud
            from 27 on and none otherwise. None for no limit.
        clock: seconds; for the limit on edits and the age of sessions.
        password_policy: weak passwords are refused; by default on Nextcloud before 27 only.
        require_password_confirmation: Nextcloud refuses (403) writes by app passwords, and by sessions
            whose password was checked more than half an hour ago. From 34 on, app passwords always.
        leftover_data: a deleted account's folder stays, and its name is refused from then on.
        token_auth_enforced: only app passwords log in (`add_app_password`).
        brute_force_limit: refused passwords from one address after which it gets 429.
        create_seconds: cost of hashing a new password: creates of one name can overtake each other.
        keep_calls: how many requests are remembered one by one (all are counted).
    """

    def __init__(
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
        settings = CloudSettings(
            version or _NEWEST_RECORDED[product],
            default_quota=default_quota,
            keeps_data=leftover_data,
            create_seconds=create_seconds,
            data_folder=f"/var/www/{product}/data",
        )
        is_since_27 = product == "nextcloud" and settings.major >= 27
        is_before_27 = product == "nextcloud" and settings.major < 27
        settings.has_password_policy = is_before_27 if password_policy is None else password_policy
        if edit_limit == "product":
            edit_limit = 50 if is_since_27 else None
        super().__init__(
            product,
            CloudState(instance_id or make_instance_id()),
            settings,
            path=path,
            latency_seconds=latency_seconds,
            login_seconds=login_seconds,
            edit_limit=edit_limit,
            edit_window_seconds=edit_window_seconds,
            clock=clock,
            tls_context=tls_context,
            require_password_confirmation=require_password_confirmation,
            token_auth_enforced=token_auth_enforced,
            brute_force_limit=brute_force_limit,
            keep_calls=keep_calls,
        )
        self.admin_user = admin_user
        self.admin_password = admin_password or secrets.token_urlsafe(15)
        self._port = port
        self._server: CloudServer | None = None
        self._thread: threading.Thread | None = None
        self.add_account(admin_user, password=self.admin_password, groups=["admin"], has_logged_in=True)

    # Listening

    def start(self) -> None:
        """Listen on 127.0.0.1; everything remembered is kept over a stop."""
        self._stopping.clear()
        self._server = CloudServer(self._port, self, self._tls_context)
        self._port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_POLL_SECONDS,),
            name="cloud-emulator-accept",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and break every connection, also those that hang; may be repeated."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._server = self._thread = None
        self._stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
        server.end_connections()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """URL of the server, without a trailing slash.

        Raises:
            RuntimeError: it has never been started.
        """
        if not self._port:
            raise RuntimeError("The emulator has no address yet: start it first.")
        scheme = "https" if self._tls_context is not None else "http"
        return f"{scheme}://127.0.0.1:{self._port}{self._prefix}"

    # What it holds

    @property
    def lock(self) -> threading.RLock:
        """Hold it while reading or changing what the server holds."""
        return self.state.lock

    @property
    def accounts(self) -> AccountTable:
        """Accounts by lower-case id."""
        return self.state.accounts

    @property
    def groups(self) -> dict[str, EmulatedGroup]:
        """Groups by id."""
        return self.state.groups

    @property
    def instance_id(self) -> str:
        """The installation's id: the session cookie's name."""
        return self.state.instance_id

    def set_instance_id(self, instance_id: str) -> None:
        """Become another installation; nobody is logged in any more."""
        with self.lock:
            self.state.instance_id = instance_id
        self.logins.forget_sessions()

    def add_account(
        self,
        userid: str,
        *,
        password: str | None = None,
        quota: str = "default",
        email: str | None = None,
        display_name: str | None = None,
        groups: Iterable[str] = (),
        is_enabled: bool = True,
        used_bytes: int = 0,
        has_logged_in: bool | None = None,
        subadmin_of: Iterable[str] = (),
    ) -> EmulatedAccount:
        """Put an account there by hand, with its groups; one of the same id is replaced.

        Args:
            quota: stored as if it had been sent.
            has_logged_in: by default whether it uses space (which is shown only after a log-in).

        Raises:
            ValueError: a quota that the server would refuse.
        """
        definition = store_quota(quota)
        if definition is None:
            raise ValueError(f"The server would refuse the quota {quota!r}.")
        account = EmulatedAccount(
            userid,
            password if password is not None else secrets.token_urlsafe(15),
            display_name=display_name,
            email=email,
            quota_definition=definition,
            is_enabled=is_enabled,
            groups=set(groups),
            used_bytes=used_bytes,
            has_logged_in=used_bytes > 0 if has_logged_in is None else has_logged_in,
            subadmin_of=set(subadmin_of),
        )
        with self.lock:
            for groupid in sorted(account.groups | account.subadmin_of):
                self.add_group(groupid)
            return self.state.insert(account)

    def remove_account(self, userid: str) -> EmulatedAccount:
        """Take an account away by hand; its folder does not stay.

        Raises:
            KeyError: there is none.
        """
        with self.lock:
            account: EmulatedAccount = self.accounts.pop(userid.lower())
            return account

    def add_group(self, groupid: str) -> None:
        """Make sure that a group is there."""
        with self.lock:
            self.groups.setdefault(groupid, EmulatedGroup(groupid))

    def remove_group(self, groupid: str) -> None:
        """Take a group and its memberships away by hand.

        Raises:
            KeyError: there is none.
        """
        with self.lock:
            self.state.drop_group(groupid)

    def add_app_password(self, userid: str) -> str:
        """Make an app password for an account.

        Raises:
            KeyError: there is no such account.
        """
        app_password = "-".join(secrets.token_hex(3)[:5] for _ in range(5))
        with self.lock:
            self.accounts[userid.lower()].app_passwords.add(app_password)
        return app_password

    def snapshot(self) -> CloudSnapshot:
        """Everything that the server holds, as a backup would keep it."""
        return self.state.snapshot()

    def restore(self, snapshot: CloudSnapshot) -> None:
        """Put a backup back; nobody is logged in any more."""
        self.state.restore(snapshot)
        self.logins.forget_sessions()

    def wipe(self, *, instance_id: str | None = None) -> None:
        """Leave only the administrators, as after a new installation; by default under the same id."""
        self.state.wipe()
        self.set_instance_id(instance_id or self.instance_id)

    # What was asked of it

    @property
    def calls(self) -> list[Call]:
        """The latest requests, oldest first."""
        return self.log.kept()

    def take_calls(self) -> list[Call]:
        """The same, once: they are forgotten one by one, and stay counted."""
        return self.log.take()

    def mutating_calls(self) -> list[Call]:
        """Those of `calls` that asked for a change, allowed or not."""
        return [call for call in self.log.kept() if call.is_mutating]

    @property
    def call_counts(self) -> Counter[str]:
        """How many requests of each operation there were, also those no longer kept."""
        return self.log.counts()

    @property
    def mutating_call_count(self) -> int:
        """How many requests asked for a change, also those no longer kept."""
        return self.log.mutating_count()

    def clear_calls(self) -> None:
        """Forget the requests and their counts."""
        self.log.clear()

    @property
    def login_count(self) -> int:
        """Password checks so far, refused ones included."""
        return self.logins.login_count


if __name__ == "__main__":
    from reconciler.sandbox.emulator_process import main

    sys.exit(main())
