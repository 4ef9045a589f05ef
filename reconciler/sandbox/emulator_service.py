"""One request from arrival to answer: maintenance, log-in, limits, faults, then the product's answer.

Base of `CloudEmulator`, which adds listening and tampering by hand; `emulator_http` calls `serve`.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from reconciler.sandbox.emulator_accounts import CloudSettings, Question
from reconciler.sandbox.emulator_calls import Call, CallLog, Fault, take_fault
from reconciler.sandbox.emulator_envelope import (
    JSON_TYPE,
    Answer,
    OcsFailure,
    OcsReply,
    dump_json,
    render,
    render_refused_login,
)
from reconciler.sandbox.emulator_http import Outcome
from reconciler.sandbox.emulator_logins import Login, LoginDesk, RateLimiter
from reconciler.sandbox.emulator_nextcloud_edits import NextcloudProduct
from reconciler.sandbox.emulator_owncloud import OwnCloudProduct
from reconciler.sandbox.emulator_routes import Request, read_cookies, read_request
from reconciler.sandbox.emulator_state import CloudState

ProductName = Literal["nextcloud", "owncloud"]
_HTML: Final = "text/html; charset=UTF-8"
_CONFIRM_AGE_SECONDS: Final = 30 * 60 + 15


@dataclass(eq=False)
class _Late:
    """A request that was not answered and is yet to be carried out; ``countdown``: before which next one."""

    request: Request
    call: Call
    countdown: int

    def is_due_now(self) -> bool:
        """Count one more request that has come since."""
        self.countdown -= 1
        return self.countdown == 0


class CloudService:
    """Answers requests; see `CloudEmulator` for its arguments."""

    def __init__(
        self,
        product: ProductName,
        state: CloudState,
        settings: CloudSettings,
        *,
        path: str,
        latency_seconds: float,
        login_seconds: float,
        edit_limit: int | None,
        edit_window_seconds: float,
        clock: Callable[[], float],
        tls_context: ssl.SSLContext | None,
        require_password_confirmation: bool,
        token_auth_enforced: bool,
        brute_force_limit: int | None,
        keep_calls: int,
    ) -> None:
        self.product = product
        self.is_nextcloud = product == "nextcloud"
        self.state = state
        self.settings = settings
        self.latency_seconds = latency_seconds
        self.requires_password_confirmation = require_password_confirmation
        self.maintenance = False
        self.needs_db_upgrade = False
        self.product_name: str | None = None
        self.faults: list[Fault] = []
        self._late: list[_Late] = []
        self.edits = RateLimiter(edit_limit, edit_window_seconds, clock)
        self.log = CallLog(keep_calls)
        self._editor = RateLimiter(10, 120.0, clock)
        self._clock = clock
        self._tls_context = tls_context
        self._prefix = "/" + path.strip("/") if path.strip("/") else ""
        self._stopping = threading.Event()
        self.logins = LoginDesk(
            state,
            is_nextcloud=self.is_nextcloud,
            clock=clock,
            wait=self.wait,
            login_seconds=login_seconds,
            brute_force_limit=brute_force_limit,
            is_token_auth_enforced=token_auth_enforced,
        )
        kind = NextcloudProduct if self.is_nextcloud else OwnCloudProduct
        self._product = kind(state, settings, self.wait)

    def wait(self, seconds: float | None) -> bool:
        """Wait, at most until the emulator stops (None: until then); True when it stops."""
        if seconds is not None and seconds <= 0:
            return self._stopping.is_set()
        return self._stopping.wait(seconds)

    def serve(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, address: str
    ) -> Outcome:
        """Carry one request out and say what is to be sent, or how it is to go wrong."""
        request = read_request(
            method,
            target,
            headers,
            body,
            prefix=self._prefix,
            is_nextcloud=self.is_nextcloud,
            major=self.settings.major,
            address=address,
        )
        is_about_user = request.api_version != 0 and "/cloud/users" in request.path
        call = Call(
            method,
            request.path,
            request.operation,
            _name_subject(request, is_about_user=is_about_user),
            request.is_mutating,
            address,
            self._clock(),
        )
        self._carry_out_late(lambda late: late.is_due_now())
        self.log.add(call)
        self.wait(self.latency_seconds)
        with self.state.lock:
            fault = take_fault(self.faults, call)
        is_untouched = fault is not None and fault.kind in {"status", "drop", "hang", "not_http"}
        if fault is not None and is_untouched and not fault.after_effect:
            if fault.late_after is not None:
                with self.state.lock:
                    self._late.append(_Late(request, call, fault.late_after))
            return Outcome(call, Answer(500, _HTML, b""), fault)
        answer = self._answer(request, call, is_partial=fault is not None and fault.partial)
        call.status, call.code = answer.status, answer.code
        return Outcome(call, answer, fault)

    def carry_out_late(self) -> None:
        """Carry out now what a fault's `late_after` has put off."""
        self._carry_out_late(lambda _: True)

    def _carry_out_late(self, is_due: Callable[[_Late], bool]) -> None:
        with self.state.lock:
            due = [late for late in self._late if is_due(late)]
            self._late = [late for late in self._late if late not in due]
        for late in due:
            self._answer(late.request, late.call, is_partial=False)

    def _answer(self, request: Request, call: Call, *, is_partial: bool) -> Answer:
        if request.operation == "elsewhere":
            return Answer(404, _HTML, b"<html><body>Not Found</body></html>")
        cookies = read_cookies(request.headers.get("cookie"))
        cookie = cookies.get(self.state.instance_id)
        if request.operation == "status":
            return self._with_cookies(Answer(200, "application/json", self._describe_status()), cookie)
        if self.maintenance or self.needs_db_upgrade:
            return self._refuse_for_maintenance(request)
        login = self.logins.identify(cookie, request.headers.get("authorization"), request.address)
        if login.account is not None:
            call.auth_user, call.has_session = login.account.userid, login.has_session
        answer = self._refuse(request, login) or self._ask(request, login, call, is_partial=is_partial)
        return self._with_cookies(answer, cookie, login.new_cookie)

    def _refuse(self, request: Request, login: Login) -> Answer | None:
        """What is refused before the product looks at the operation; None when it may."""
        is_open = request.operation == "capabilities" or (
            self.is_nextcloud and request.operation == "unknown"
        )
        has_header = request.headers.get("ocs-apirequest", "").lower() == "true"
        refusal: Answer | None = None
        if login.verdict == "locked_out":
            refusal = self._render(request, OcsReply(429, "Reached maximum delay", status=429))
        elif login.verdict == "refused":
            refusal = render_refused_login(is_nextcloud=self.is_nextcloud, is_json=request.is_json)
        elif request.operation == "method_not_allowed":
            refusal = Answer(405, JSON_TYPE, b"")
        elif login.verdict == "none" and not is_open:
            message = "Current user is not logged in" if self.is_nextcloud else "Unauthorised"
            refusal = self._render(request, OcsReply(997, message, has_totals=False))
        elif self.is_nextcloud and login.verdict == "ok":
            refusal = self._refuse_as_nextcloud(request, login, has_header=has_header)
        return refusal

    def _refuse_as_nextcloud(self, request: Request, login: Login, *, has_header: bool) -> Answer | None:
        if not has_header:
            return Answer(412, JSON_TYPE, b'{"message":"CSRF check failed"}')
        if request.is_mutating and self._needs_confirmation(login):
            return self._render(request, OcsReply(403, "Password confirmation is required"))
        limiter = {"edit": self.edits, "open_editor": self._editor}.get(request.operation.partition(":")[0])
        with self.state.lock:
            is_admitted = limiter is None or limiter.admit(login.account and login.account.userid.lower())
        return None if is_admitted else Answer(429, _HTML, b"")

    def _needs_confirmation(self, login: Login) -> bool:
        if login.is_app_password:
            return self.requires_password_confirmation or self.settings.major >= 34
        age_seconds = self._clock() - login.checked_at
        return self.requires_password_confirmation and age_seconds > _CONFIRM_AGE_SECONDS

    def _ask(self, request: Request, login: Login, call: Call, *, is_partial: bool) -> Answer:
        try:
            if request.operation == "unknown":
                reply = self._product.answer_unknown(Question(request, login, call))
            else:
                reply = self._product.answer(Question(request, login, call, is_partial))
        except OcsFailure as failure:
            reply = OcsReply(failure.code, failure.message, status=failure.status)
        return self._render(request, reply)

    def _render(self, request: Request, reply: OcsReply) -> Answer:
        return render(
            reply,
            is_nextcloud=self.is_nextcloud,
            api_version=request.api_version,
            is_json=request.is_json,
        )

    def _refuse_for_maintenance(self, request: Request) -> Answer:
        reply = OcsReply(503, "Service unavailable", status=503, has_totals=False)
        answer = self._render(request, reply)
        headers = (("X-Nextcloud-Maintenance-Mode", "1"),) if self.is_nextcloud else ()
        return Answer(503, answer.content_type, answer.body, headers, 503)

    def _describe_status(self) -> bytes:
        status: dict[str, object] = {
            "installed": True,
            "maintenance": self.maintenance,
            "needsDbUpgrade": self.needs_db_upgrade,
            **self._product.describe_status(),
        }
        if self.product_name is not None:
            status["productname"] = self.product_name
        return dump_json(status)

    def _with_cookies(self, answer: Answer, cookie: str | None, session: str | None = None) -> Answer:
        """Hand out a session where the client brought none, or has just logged in."""
        if cookie is not None and session is None:
            return answer
        names = [(self.state.instance_id, session or "anonymous"), ("oc_sessionPassphrase", "sandbox")]
        if self.is_nextcloud:
            names += [("nc_sameSiteCookielax", "true"), ("nc_sameSiteCookiestrict", "true")]
        if session is not None:
            names.append(("oc_username", "deleted"))
        flags = f"; path={self._prefix or '/'}; HttpOnly" + ("; secure" if self._tls_context else "")
        cookies = tuple(("Set-Cookie", f"{name}={value}{flags}") for name, value in names)
        return Answer(answer.status, answer.content_type, answer.body, answer.headers + cookies, answer.code)


def _name_subject(request: Request, *, is_about_user: bool) -> str | None:
    """The account that a call is about: out of the path, or the one that shall be created."""
    if request.operation == "create":
        return request.text("userid")
    return request.target if is_about_user else None
