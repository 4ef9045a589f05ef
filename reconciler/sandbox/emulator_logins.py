"""Who is asking: password checks, session cookies, refused passwords, and the limit on edits.

A password check costs time on the real servers, and a kept session cookie saves it; both are counted
here. Used by `CloudEmulator` for every request that needs a user.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Literal

from reconciler.sandbox.emulator_state import CloudState, EmulatedAccount

_MAX_SESSIONS: Final = 10_000
Verdict = Literal["ok", "none", "refused", "locked_out"]


@dataclass(frozen=True, slots=True)
class Login:
    """The outcome of looking at a request's cookie and Authorization header.

    Attributes:
        verdict: "ok", "none" (nobody tried to log in), "refused", "locked_out" (too many refusals).
        account: who is logged in.
        has_session: a kept cookie did it, without a password check.
        is_app_password: an app password was used, not the real one.
        checked_at: when the password was checked last, on the emulator's clock.
        new_cookie: a session to hand out.
    """

    verdict: Verdict
    account: EmulatedAccount | None = None
    has_session: bool = False
    is_app_password: bool = False
    checked_at: float = 0.0
    new_cookie: str | None = None


@dataclass(frozen=True, slots=True)
class _Session:
    account: EmulatedAccount
    password: str
    is_app_password: bool
    checked_at: float


class LoginDesk:
    """Checks names and passwords and remembers sessions.

    Attributes:
        login_seconds: what one password check costs.
        login_count: password checks so far, refused ones included.
        refused_count: those that were refused.
        brute_force_limit: refusals from one address after which it gets 429; None for never.
        is_token_auth_enforced: only app passwords log in.
    """

    def __init__(
        self,
        state: CloudState,
        *,
        is_nextcloud: bool,
        clock: Callable[[], float],
        wait: Callable[[float], object],
        login_seconds: float,
        brute_force_limit: int | None,
        is_token_auth_enforced: bool,
    ) -> None:
        self._state = state
        self._is_nextcloud = is_nextcloud
        self._clock = clock
        self._wait = wait
        self.login_seconds = login_seconds
        self.brute_force_limit = brute_force_limit
        self.is_token_auth_enforced = is_token_auth_enforced
        self.login_count = 0
        self.refused_count = 0
        self._sessions: dict[str, _Session] = {}
        self._refusals: dict[str, int] = {}

    def forget_sessions(self) -> None:
        """End every session."""
        with self._state.lock:
            self._sessions.clear()

    def forgive(self) -> None:
        """Forget refused passwords, as an administrator resetting the brute-force protection does."""
        with self._state.lock:
            self._refusals.clear()

    def identify(self, cookie: str | None, authorization: str | None, address: str) -> Login:
        """Say who asks; waits `login_seconds` where a password has to be checked."""
        presented = _read_basic(authorization)
        session = self._find_session(cookie)
        if session is not None and self._may_use(session, presented):
            return Login("ok", session.account, True, session.is_app_password, session.checked_at)
        if authorization is None:
            return Login("none")
        with self._state.lock:
            limit = self.brute_force_limit
            if limit is not None and self._refusals.get(address, 0) >= limit:
                return Login("locked_out")
            self.login_count += 1
        self._wait(self.login_seconds)
        return self._check(presented, address)

    def _find_session(self, cookie: str | None) -> _Session | None:
        if cookie is None:
            return None
        with self._state.lock:
            session = self._sessions.get(cookie)
            if session is None:
                return None
            account = session.account
            is_alive = (
                self._state.find(account.userid) is account
                and account.is_enabled
                and (session.is_app_password or session.password == account.password)
            )
            if not is_alive:
                del self._sessions[cookie]
                return None
            return session

    def _may_use(self, session: _Session, presented: tuple[str, str] | None) -> bool:
        """Nextcloud never looks at a password once a session exists, not even at another user's."""
        if self._is_nextcloud or presented is None:
            return True
        return presented[0].lower() == session.account.userid.lower() and presented[1] == session.password

    def _check(self, presented: tuple[str, str] | None, address: str) -> Login:
        with self._state.lock:
            account = self._state.find(presented[0]) if presented else None
            password = presented[1] if presented else ""
            is_app_password = account is not None and password in account.app_passwords
            is_right = (
                account is not None
                and account.is_enabled
                and not account.is_remnant
                and (is_app_password or self._is_real_password(account, password))
            )
            if account is None or not is_right:
                self.refused_count += 1
                self._refusals[address] = self._refusals.get(address, 0) + 1
                return Login("refused")
            account.has_logged_in = True
            account.last_login_ms = int(time.time()) * 1000
            cookie = secrets.token_hex(16)
            now = self._clock()
            self._sessions[cookie] = _Session(account, password, is_app_password, now)
            if len(self._sessions) > _MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            return Login("ok", account, False, is_app_password, now, cookie)

    def _is_real_password(self, account: EmulatedAccount, password: str) -> bool:
        return not self.is_token_auth_enforced and hmac.compare_digest(
            password.encode(), account.password.encode()
        )


class RateLimiter:
    """At most `limit` admissions per key within a sliding window; a refusal does not count."""

    def __init__(self, limit: int | None, window_seconds: float, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.window_seconds = window_seconds
        self._clock = clock
        self._admitted: dict[Hashable, deque[float]] = {}

    def admit(self, key: Hashable) -> bool:
        """Count one more for this key, or refuse it; hold the state's lock."""
        if self.limit is None:
            return True
        now = self._clock()
        admitted = self._admitted.setdefault(key, deque())
        while admitted and admitted[0] <= now - self.window_seconds:
            admitted.popleft()
        if len(admitted) >= self.limit:
            return False
        admitted.append(now)
        return True

    def reset(self) -> None:
        """Forget every admission."""
        self._admitted.clear()


def _read_basic(authorization: str | None) -> tuple[str, str] | None:
    """Name and password of a Basic header; None without a readable one."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, separator, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if separator else None
