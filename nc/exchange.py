"""One call, from sending to understanding: the answers that mean the same in every dialect.

Used by the dialects. Owns the statuses of HTTP and the general OCS codes: overload, maintenance,
refused credentials, server errors. What a code means for one particular call is the dialect's ``judge``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from nc.calls import Call, RawAnswer, ambiguous
from nc.envelope import Envelope, clean_text, describe_body, load_json, parse_envelope
from nc.errors import (
    BadAnswer,
    CloudError,
    CredentialsRefused,
    InstanceChanged,
    Maintenance,
    OutcomeUnknown,
    PasswordConfirmationRequired,
    PermissionRefused,
    RateLimited,
    ServerError,
)
from nc.model import ApiCall
from nc.transport import Transport

Judged = TypeVar("Judged")

UNAUTHORISED_CODE: Final = 997
_CONFIRMATION: Final = "password confirmation is required"
_KEPT_SECRETS: Final = 32
_MAINTENANCE_HEADER: Final = "x-nextcloud-maintenance-mode"


@dataclass(frozen=True, slots=True)
class Answer:
    """An OCS answer together with its HTTP status.

    Attributes:
        status: HTTP status.
        code: OCS code.
        message: the server's words, cleaned; may be "" and may be translated.
        data: what was asked for.
        instance_id: see `RawAnswer`.
    """

    status: int
    code: int
    message: str
    data: object
    instance_id: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether HTTP and OCS both say that it was done (OCS v1 says 100, v2 says 200)."""
        return 200 <= self.status < 300 and self.code in {100, 200}

    @property
    def is_unauthorised(self) -> bool:
        """Whether HTTP or OCS says that the caller may not do this, or is not who he says."""
        return self.status == 401 or self.code == UNAUTHORISED_CODE


class Exchange:
    """Performs calls on one server and reports each to the metrics hook."""

    def __init__(self, transport: Transport, on_call: Callable[[ApiCall], None] | None) -> None:
        self._transport = transport
        self._on_call = on_call
        self._instance_id: str | None = None
        self._sent_secrets: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The server's host, for messages."""
        return self._transport.host

    def expect_instance(self, instance_id: str | None) -> None:
        """Take answers of this installation only from now on; None: of any."""
        self._instance_id = instance_id

    def perform(self, call: Call, judge: Callable[[Answer], Judged]) -> Judged:
        """Send an OCS call and give what the judge makes of its answer.

        The judge sees every answer that is an OCS envelope and not one of the general failures; it
        raises a typed error, or `unexpected`, for what it does not know.

        Raises:
            CloudError: the typed error; `OutcomeUnknown` when a change may have happened.
        """
        return self._measured(call, lambda: self._transport.send(call), judge)

    def perform_as(
        self, call: Call, username: str, password: str, judge: Callable[[Answer], Judged]
    ) -> Judged:
        """`perform` as another user, in a session of its own."""
        return self._measured(call, lambda: self._transport.send_as(call, username, password), judge)

    def fetch_json(self, call: Call) -> object:
        """Send a call that answers plain JSON without an envelope (status.php)."""
        raw: RawAnswer | None = None
        started = time.monotonic()
        try:
            raw = self._transport.send(call)
            self._refuse_general(call, raw, None)
            if raw.status != 200:
                raise BadAnswer(
                    f"{self.host}{clean_text(call.path, 100)} answered HTTP {raw.status} with "
                    f"{describe_body(raw.body, self._secrets(call))}; "
                    "check the path in the server's URL in BILLmanager",
                    status=raw.status,
                )
            try:
                return load_json(raw.body, self._secrets(call))
            except BadAnswer as error:
                raise BadAnswer(
                    f"{self.host}{call.path}: {error}; check the path in the server's URL in BILLmanager",
                    status=raw.status,
                ) from error
        finally:
            self._report(call, started, raw.status if raw else None, None, is_ambiguous=False)

    def unexpected(self, call: Call, answer: Answer) -> CloudError:
        """The error for an answer whose code says nothing known: the effect of a change is unknown then."""
        words = f': "{answer.message}"' if answer.message else ""
        return ambiguous(
            call,
            ServerError(
                f"{self.host} answered {call.operation} of {call.subject} with the unexpected code "
                f"{answer.code} (HTTP {answer.status}){words}",
                status=answer.status,
                code=answer.code,
            ),
        )

    def _measured(
        self, call: Call, send: Callable[[], RawAnswer], judge: Callable[[Answer], Judged]
    ) -> Judged:
        raw: RawAnswer | None = None
        answer: Answer | None = None
        is_ambiguous = False
        self._remember_secrets(call)
        started = time.monotonic()
        try:
            raw = send()
            self._check_instance(raw)
            answer = self._understand(call, raw)
            return judge(answer)
        except OutcomeUnknown:
            is_ambiguous = True
            raise
        finally:
            self._report(
                call,
                started,
                raw.status if raw else None,
                answer.code if answer else None,
                is_ambiguous=is_ambiguous,
            )

    def _check_instance(self, raw: RawAnswer) -> None:
        expected = self._instance_id
        if expected is not None and raw.instance_id is not None and raw.instance_id != expected:
            raise InstanceChanged(
                f"{self.host} now answers as the installation {raw.instance_id}, not as {expected} any more",
                instance_id=raw.instance_id,
                status=raw.status,
            )

    def _remember_secrets(self, call: Call) -> None:
        new = tuple(secret for secret in call.secrets if secret not in self._sent_secrets)
        if new:
            self._sent_secrets = (*self._sent_secrets, *new)[-_KEPT_SECRETS:]

    def _secrets(self, call: Call) -> tuple[str, ...]:
        """What no message may repeat, even when the server does, also in its answers to later calls."""
        return (*call.secrets, *self._sent_secrets, self._transport.password)

    def _report(
        self, call: Call, started: float, status: int | None, code: int | None, *, is_ambiguous: bool
    ) -> None:
        if self._on_call:
            self._on_call(ApiCall(call.operation, status, code, time.monotonic() - started, is_ambiguous))

    def _understand(self, call: Call, raw: RawAnswer) -> Answer:
        envelope: Envelope | None = None
        problem: BadAnswer | None = None
        try:
            envelope = parse_envelope(raw.body, self._secrets(call))
        except BadAnswer as error:
            problem = error
        self._refuse_general(call, raw, envelope)
        if envelope is None:
            no_envelope = BadAnswer(f"{self.host}: HTTP {raw.status}, {problem}", status=raw.status)
            no_envelope.__cause__ = problem
            raise ambiguous(call, no_envelope)
        return Answer(raw.status, envelope.code, envelope.message, envelope.data, raw.instance_id)

    def _refuse_general(self, call: Call, raw: RawAnswer, envelope: Envelope | None) -> None:
        """Raise what an answer means whatever was asked; return when it must be judged by the call."""
        code = envelope.code if envelope else None
        words = f': "{envelope.message}"' if envelope and envelope.message else ""
        if raw.status == 429:
            raise RateLimited(
                f"{self.host} limits how often {call.operation} may be called (HTTP 429); wait, or raise or "
                "switch off the limit on the server",
                retry_after_seconds=_retry_after_seconds(raw.headers),
                status=429,
                code=code,
            )
        if raw.headers.get(_MAINTENANCE_HEADER) == "1" or code == 503:
            raise Maintenance(f"{self.host} is in maintenance mode", status=raw.status, code=code)
        if raw.status >= 500:
            detail = words or f": {describe_body(raw.body, self._secrets(call))}"
            raise ambiguous(
                call,
                ServerError(
                    f"{self.host} failed with HTTP {raw.status}{detail}", status=raw.status, code=code
                ),
            )
        if raw.status == 401 and not envelope:
            raise self.credentials_refused(raw.status, code)
        if raw.status == 403:
            kind = PermissionRefused
            cure = "make the API user an administrator of the server"
            if _CONFIRMATION in raw.body[:4096].decode("utf-8", "replace").lower():
                kind = PasswordConfirmationRequired
                cure = "it takes no app password for changes: give the real password in BILLmanager"
            raise kind(
                f"{self.host} refuses {call.operation} to the API user (HTTP 403{words}); {cure}",
                status=403,
                code=code,
            )

    def credentials_refused(self, status: int | None, code: int | None) -> CredentialsRefused:
        """The error for a refused login."""
        return CredentialsRefused(
            f"{self.host} refused the API user's name or password (HTTP {status}); check them in "
            "BILLmanager, that the account is enabled, exempt from two-factor login and still "
            "an administrator",
            status=status,
            code=code,
        )


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Retry-After as seconds from now, from either of its two forms; None when it says nothing usable."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
