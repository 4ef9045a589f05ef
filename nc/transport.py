"""HTTP to one server: sessions, time-outs, TLS, size limit, redirects; used by `nc.exchange`.

Owns everything below the meaning of an answer: an answer comes back whole as `RawAnswer`, whatever
its status, or a typed error is raised. For a call that changes something, an error raised after the
connection was open is `OutcomeUnknown`: the request may have arrived. Nothing here ever sends a
changing request twice.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3.exceptions

from nc.envelope import clean_text
from nc.errors import (
    AddressRefused,
    BadAnswer,
    CloudError,
    OutcomeUnknown,
    RedirectRefused,
    ServerTimeout,
    ServerUnreachable,
    TlsFailure,
)
from nc.model import ServerConnection
from nc.pace import Pace
from nc.sockets import TracedAdapter, WireTrace, tracing
from nc.watchdog import WATCHDOG

MAX_REDIRECTS: Final = 3
MAX_IDLE_SECONDS: Final = 2.0
"""A connection kept longer than this is not trusted with a change: servers close idle ones (from 5 s on)."""

_READ_BYTES: Final = 64 * 1024
_SESSION_COOKIE: Final = re.compile(r"oc[a-z0-9]{10}")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# Parts of the words in which requests, urllib3, http.client and ssl report each kind of failure.
_GARBLED: Final = (
    http.client.HTTPException,
    urllib3.exceptions.IncompleteRead,
    urllib3.exceptions.InvalidChunkLength,
    urllib3.exceptions.HeaderParsingError,
    requests.exceptions.InvalidHeader,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        operation: name for metrics and messages, one of `nc.model.OPERATIONS`.
        method: GET, POST, PUT or DELETE.
        path: below the server's URL, every segment already percent-encoded.
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


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A complete answer.

    Attributes:
        status: HTTP status.
        headers: names in lower case.
        body: decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def ambiguous(call: Call, error: CloudError) -> CloudError:
    """The error to raise when a call was sent and not clearly answered."""
    if not call.is_mutating:
        return error
    unknown = OutcomeUnknown(
        f"whether {call.operation} of {call.subject or 'it'} was done is unknown: {error}",
        status=error.status,
        code=error.code,
    )
    unknown.__cause__ = error
    return unknown


class _Session:
    """One kept login: cookies, and at most one open connection."""

    def __init__(self, verify: bool | str) -> None:
        self.http = requests.Session()
        self.http.trust_env = False  # no proxies, certificates or .netrc passwords from the environment
        self.http.verify = verify
        self.http.headers.clear()
        self.http.headers.update(
            {
                "User-Agent": "bill-nextcloud",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "OCS-APIRequest": "true",
            }
        )
        self._adapter = TracedAdapter()
        self.http.mount("https://", self._adapter)
        self.http.mount("http://", self._adapter)
        self.used_at = time.monotonic()

    def drop_connection(self) -> None:
        """Open a new one for the next request; the login stays."""
        self._adapter.close()


class Transport:
    """Sends calls to one server as one user. Thread-safe."""

    def __init__(self, connection: ServerConnection) -> None:
        """Prepare; nothing is sent. A bad URL is reported by the first call."""
        self._connection = connection
        self._pace = Pace(connection.requests_per_second)
        self._places = threading.BoundedSemaphore(max(1, connection.concurrency))
        self._idle: list[_Session] = []
        self._lock = threading.Lock()
        self._authorization = _basic(connection.username, connection.password)

    @property
    def host(self) -> str:
        """The server's host for messages, without credentials."""
        return clean_text(urlsplit(self._connection.base_url).netloc.rpartition("@")[2], 100) or "the server"

    def close(self) -> None:
        """Close the kept connections; forget the logins."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.http.close()

    def send(self, call: Call) -> RawAnswer:
        """Send a call in a kept session (the one used last) and return the whole answer.

        Raises:
            OutcomeUnknown: a changing call may have arrived, and no complete answer came back.
            ServerUnreachable, ServerTimeout, TlsFailure, AddressRefused, RedirectRefused: it had no effect.
            BadAnswer: the answer is cut short, too large or not HTTP.
        """
        with self._borrow() as session:
            return self._send(session, call, self._authorization)

    def send_as(self, call: Call, username: str, password: str) -> RawAnswer:
        """`send` as another user, in a session that nothing else uses and that is thrown away."""
        with self._places, contextlib.closing(_Session(self._verify())) as wrapper:
            return self._send(wrapper, call, _basic(username, password))

    @contextlib.contextmanager
    def fresh_session(self) -> Iterator[FreshSession]:
        """A new login, kept for later calls when the block ends well."""
        with self._places:
            session = _Session(self._verify())
            try:
                yield FreshSession(self, session)
            except BaseException:
                session.http.close()
                raise
            with self._lock:
                self._idle.append(session)
