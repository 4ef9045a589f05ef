"""HTTP to one server: sessions, time-outs, TLS, size limit, redirects; used by `nc.exchange`.

Owns everything below the meaning of an answer: an answer comes back whole as `RawAnswer`, whatever
its status, or a typed error is raised. For a call that changes something, an error raised after the
connection was open is `OutcomeUnknown`: the request may have arrived. Nothing here ever sends a
changing request twice.
"""

from __future__ import annotations

import base64
import contextlib
import re
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

import requests

from nc.calls import Call, RawAnswer, ambiguous
from nc.envelope import clean_text
from nc.errors import AddressRefused, BadAnswer, CloudError, RedirectRefused, ServerUnreachable, TlsFailure
from nc.failures import FOREIGN, name_failure
from nc.model import ServerConnection
from nc.pace import Pace
from nc.sockets import TracedAdapter, WireTrace, tracing
from nc.watchdog import WATCHDOG, Deadline

MAX_REDIRECTS: Final = 3
MAX_IDLE_SECONDS: Final = 2.0
"""A connection kept longer is not trusted with a change: servers close idle ones (from 5 s on)."""

_READ_BYTES: Final = 64 * 1024
_SESSION_COOKIE: Final = re.compile(r"(oc[a-z0-9]{10})=")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SEE_OTHER: Final = 303
_REDIRECTS: Final = frozenset({301, 302, _SEE_OTHER, 307, 308})


def _basic(username: str, password: str) -> str:
    # UTF-8, which both products expect; requests would encode Latin-1.
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


class _HttpSession(requests.Session):
    """requests' session without its own idea of redirects, which would read their bodies unlimited."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - its signature
        return None


class _Login:
    """One kept login: cookies, and at most one open connection."""

    def __init__(self, verify: bool | str, generation: int) -> None:
        self.generation = generation
        self.instance_id: str | None = None
        self.begun_at = self.used_at = time.monotonic()
        self.http = _HttpSession()
        self.http.trust_env = False  # no proxies, certificates or .netrc passwords of the environment
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

    def drop_connection(self) -> None:
        """Open a new one for the next request; the login stays."""
        self._adapter.close()

    def learn(self, response: requests.Response) -> None:
        """Note the installation's id, and forget a login that was refused."""
        for cookie in response.raw.headers.getlist("set-cookie"):
            match = _SESSION_COOKIE.match(cookie)
            if match:
                self.instance_id = match[1]
        if response.status_code in {401, 412}:
            self.http.cookies.clear()

    def close(self) -> None:
        """Close the connection."""
        self.http.close()


class Transport:
    """Sends calls to one server. Thread-safe."""

    def __init__(self, connection: ServerConnection) -> None:
        """Prepare; nothing is sent. A bad URL is reported by the first call."""
        self._connection = connection
        self._pace = Pace(connection.requests_per_second)
        self._places = threading.BoundedSemaphore(max(1, connection.concurrency))
        self._lock = threading.Lock()
        self._idle: list[_Login] = []
        self._generation = 0
        self._authorization = _basic(connection.username, connection.password)

    @property
    def host(self) -> str:
        """The server's host for messages, without anything secret."""
        netloc = self._connection.base_url.partition("://")[2].partition("/")[0]
        return clean_text(netloc.rpartition("@")[2], 100) or "the server"

    @property
    def password(self) -> str:
        """The API user's; to be masked in what the server says."""
        return self._connection.password

    def renew(self) -> None:
        """Forget every login: the next call begins a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._generation += 1
        for login in idle:
            login.close()

    def send(self, call: Call) -> RawAnswer:
        """Send a call in a kept session (the one used last) and return the whole answer.

        Raises:
            OutcomeUnknown: a changing call may have arrived, and no complete answer came back.
            ServerUnreachable, ServerTimeout, TlsFailure, AddressRefused, RedirectRefused: as themselves
                only when the call changes nothing, or certainly had no effect.
            BadAnswer: the answer is cut short, too large or not HTTP.
        """
        base = self._base()
        with self._places:
            with self._lock:
                login = self._idle.pop() if self._idle else None
                generation = self._generation
            if login is not None and self._is_old(login):
                login.close()
                login = None
            if login is None:
                login = _Login(self._verify(), generation)
            try:
                return self._send(login, call, base, None if call.is_anonymous else self._authorization)
            finally:
                self._put_back(login)

    def send_as(self, call: Call, username: str, password: str) -> RawAnswer:
        """`send` as another user, in a session that nothing else uses and that is thrown away."""
        base = self._base()
        with self._places, contextlib.closing(_Login(self._verify(), 0)) as login:
            return self._send(login, call, base, _basic(username, password))

    def _is_old(self, login: _Login) -> bool:
        return time.monotonic() - login.begun_at >= self._connection.login_seconds

    def _put_back(self, login: _Login) -> None:
        login.used_at = time.monotonic()
        with self._lock:
            is_current = login.generation == self._generation
            if is_current:
                self._idle.append(login)
        if not is_current:
            login.close()

    def _verify(self) -> bool | str:
        connection = self._connection
        if connection.verify_tls and connection.ca_file:
            if not Path(connection.ca_file).is_file():
                raise TlsFailure(f"the ca_file {clean_text(connection.ca_file, 200)} cannot be read")
            return connection.ca_file
        return connection.verify_tls

    def _base(self) -> str:
        """The server's URL without trailing slashes; its path is kept.

        Raises:
            AddressRefused: it is no http(s) address, or holds a password, a query or a fragment.
        """
        url = self._connection.base_url.strip()
        try:
            parts = urlsplit(url)
            is_usable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and _origin(parts)[2] > 0
        except ValueError:
            is_usable = False
        if not is_usable or "@" in parts.netloc or parts.query or parts.fragment or not url.isprintable():
            raise AddressRefused(
                f"the server's URL ({self.host}) must be like https://cloud.example.com/path, "
                "without user, password, ? and #; correct it in BILLmanager"
            )
        return url.rstrip("/")

    def _send(self, login: _Login, call: Call, base: str, authorization: str | None) -> RawAnswer:
        self._pace.wait()
        if call.is_mutating and time.monotonic() - login.used_at > MAX_IDLE_SECONDS:
            login.drop_connection()
        connection = self._connection
        with WATCHDOG.limit(call.timeout_seconds or connection.total_timeout_seconds) as deadline:
            url, query = base + call.path, call.query
            for _ in range(MAX_REDIRECTS + 1):
                answer = self._attempt_safely(login, call, url, query, authorization, deadline)
                if answer.status not in _REDIRECTS:
                    return answer
                url, query = self._follow(call, url, answer), ()
        raise RedirectRefused(
            f"{self.host} redirects more than {MAX_REDIRECTS} times; check the server's URL"
        )

    def _attempt_safely(
        self,
        login: _Login,
        call: Call,
        url: str,
        query: tuple[tuple[str, str], ...],
        authorization: str | None,
        deadline: Deadline,
    ) -> RawAnswer:
        """One attempt; a reading call gets a second one when a kept connection turned out to be dead."""
        trace = WireTrace(deadline)
        try:
            return self._attempt(login, call, url, query, authorization, trace)
        except ServerUnreachable:
            if call.is_mutating or not trace.is_reused:
                raise
        login.drop_connection()
        return self._attempt(login, call, url, query, authorization, WireTrace(deadline))

    def _attempt(
        self,
        login: _Login,
        call: Call,
        url: str,
        query: tuple[tuple[str, str], ...],
        authorization: str | None,
        trace: WireTrace,
    ) -> RawAnswer:
        connection, deadline = self._connection, trace.deadline
        read_seconds = call.timeout_seconds or connection.read_timeout_seconds
        try:
            with tracing(trace):
                response = login.http.request(
                    call.method,
                    url,
                    params=query,
                    data=call.form,
                    headers={"Authorization": authorization} if authorization else {},
                    timeout=(connection.connect_timeout_seconds, read_seconds),
                    stream=True,
                    allow_redirects=False,
                )
                with contextlib.closing(response):
                    login.learn(response)
                    # What a redirect says besides its target is not read at all.
                    body = b"" if response.status_code in _REDIRECTS else self._read(response)
            # The watchdog's cut looks like the regular end of an answer without a length.
            if deadline.is_expired:
                raise TimeoutError
        except (BadAnswer, *FOREIGN) as caught:
            error: CloudError
            if isinstance(caught, BadAnswer) and not deadline.is_expired:
                error = caught
            else:
                error = name_failure(
                    caught,
                    self.host,
                    was_connected=trace.is_connected,
                    is_expired=deadline.is_expired,
                    limit_seconds=call.timeout_seconds or connection.total_timeout_seconds,
                )
                error.__cause__ = caught
        else:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return RawAnswer(response.status_code, headers, body, login.instance_id)
        login.drop_connection()  # whatever is left on it belongs to the answer that failed
        raise ambiguous(call, error) if trace.is_connected else error

    def _read(self, response: requests.Response) -> bytes:
        """The body, decompressed here so that no bomb can grow beyond the limit.

        Raises:
            BadAnswer: too large, cut short, or packed in a way that was not asked for.
        """
        limit = self._connection.max_response_bytes
        packing = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packing not in {"identity", "gzip", "x-gzip", ""}:
            raise BadAnswer(f"{self.host} answered in the unknown encoding {clean_text(packing, 40)}")
        unpacker = _Unpacker() if "gzip" in packing else None
        body = bytearray()
        for piece in response.raw.stream(_READ_BYTES, decode_content=False):
            for part in unpacker.feed(piece) if unpacker else (piece,):
                body += part
                if len(body) > limit:
                    raise BadAnswer(f"{self.host} answered more than {limit} bytes")
        if unpacker and unpacker.is_open:
            raise BadAnswer(f"the compressed answer of {self.host} is cut short")
        return bytes(body)

    def _follow(self, call: Call, url: str, answer: RawAnswer) -> str:
        """Where a redirect leads, if it may be followed.

        Raises:
            RedirectRefused: to another address, or for a call that changes something.
            BadAnswer: it leads nowhere.
            OutcomeUnknown: it leads nowhere, or says that a change was carried out (303).
        """
        try:
            target = urljoin(url, answer.headers["location"])
            parts = urlsplit(target)
            is_same = _origin(parts) == _origin(urlsplit(url))
        except (KeyError, ValueError) as error:
            lost = BadAnswer(f"{self.host} redirects without saying where", status=answer.status)
            raise ambiguous(call, lost) from error
        if is_same and not call.is_mutating:
            return target
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.removesuffix(call.path)}"
        refused = RedirectRefused(
            f"{self.host} redirects to {clean_text(address, 200, (*call.secrets, self.password))}: "
            "put this address into the server's URL in BILLmanager",
            status=answer.status,
        )
        raise ambiguous(call, refused) if answer.status == _SEE_OTHER else refused


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port; raises ValueError for a port that is none."""
    port = parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme, 0)
    return parts.scheme, (parts.hostname or "").lower(), port


class _Unpacker:
    """gzip, one bounded piece at a time."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._is_fed = False

    @property
    def is_open(self) -> bool:
        """Whether data was begun and not ended."""
        return self._is_fed and not self._inflater.eof

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """The unpacked data in pieces of limited size, as far as it is known."""
        while packed:
            if self._inflater.eof:  # a further member follows
                self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            self._is_fed = True
            yield self._inflater.decompress(packed, _READ_BYTES)
            packed = self._inflater.unconsumed_tail or self._inflater.unused_data
