"""What is sent and what comes back, before anybody asks what it means.

Spoken between `nc.transport`, `nc.exchange` and the dialects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nc.errors import CloudError, OutcomeUnknown


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        operation: name for metrics and messages, one of `nc.model.OPERATIONS`.
        method: GET, POST, PUT or DELETE.
        path: below the server's URL, beginning with a slash, every segment already percent-encoded.
        query: parameters of the URL.
        form: fields of a form-encoded body; None for no body.
        subject: what the call is about, for messages ("account user_1").
        timeout_seconds: read and total limit instead of the connection's.
        is_anonymous: no credentials are sent.
        secrets: values that must never reach a message.
    """

    operation: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    form: tuple[tuple[str, str], ...] | None = None
    subject: str = ""
    timeout_seconds: float | None = None
    is_anonymous: bool = False
    secrets: tuple[str, ...] = ()

    @property
    def is_mutating(self) -> bool:
        """Whether it may change something on the server."""
        return self.method != "GET"

    def __repr__(self) -> str:
        return f"Call({self.operation}, {self.method}, {self.subject!r})"


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A complete answer.

    Attributes:
        status: HTTP status.
        headers: names in lower case.
        body: decompressed.
        instance_id: the installation's id by the session cookie of this login; None when it set none.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    instance_id: str | None = None


def ambiguous(call: Call, error: CloudError) -> CloudError:
    """The error to raise when a call was sent and not clearly answered.

    For a call that changes nothing it is the error itself.
    """
    if not call.is_mutating:
        return error
    unknown = OutcomeUnknown(
        f"whether {call.operation} of {call.subject} was done is unknown: {error}",
        status=error.status,
        code=error.code,
    )
    unknown.__cause__ = error
    return unknown
