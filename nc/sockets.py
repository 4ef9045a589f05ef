"""The connections under requests: they tell the current request what happens on the wire.

`requests` hides two things that decide whether a change may have happened: whether the connection
was ever opened, and which socket is in use. The connection classes here report both to the
`WireTrace` of the calling thread (requests works in the caller's thread). Used by `nc.transport`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import requests.adapters
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from nc.watchdog import Deadline


class WireTrace:
    """What happened on the wire during one attempt of one request."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.is_connected = False
        """A connection (TLS included) was open, so the request may have arrived."""
        self.is_reused = False
        """The connection was kept from an earlier request."""


class _Current(threading.local):
    trace: WireTrace | None = None


_current = _Current()


@contextlib.contextmanager
def tracing(trace: WireTrace) -> Iterator[None]:
    """Let the connections used by this thread report to the trace."""
    _current.trace = trace
    try:
        yield
    finally:
        _current.trace = None


def _open_socket(conn: HTTPConnection, trace: WireTrace) -> socket.socket:
    """Connect to the first address that answers, within what is left of the request's time.

    Raises what urllib3 expects. Looking the name up has the resolver's own limits.
    """
    limit = conn.timeout if isinstance(conn.timeout, int | float) else trace.deadline.remaining_seconds
    host = conn.host.strip("[]")
    try:
        addresses = socket.getaddrinfo(host, conn.port, 0, socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise NameResolutionError(host, conn, error) from error
    problem: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(max(0.001, min(limit, trace.deadline.remaining_seconds)))
            sock.connect(address)
            sock.settimeout(limit)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    if isinstance(problem, TimeoutError):
        raise ConnectTimeoutError(conn, "no answer in time") from problem
    raise NewConnectionError(conn, str(problem)) from problem


class _TracedConnection(HTTPConnection):
    """Plain HTTP that reports to the trace."""

    def _new_conn(self) -> socket.socket:
        trace = _current.trace
        if trace is None:  # pragma: no cover - nobody opens a connection outside a request
            return super()._new_conn()
        sock = _open_socket(self, trace)
        # Guarded before TLS begins: a handshake can drip, too.
        trace.deadline.guard(sock)
        return sock

    def connect(self) -> None:
        super().connect()
        if _current.trace:
            _current.trace.is_connected = True

    def request(self, *args: Any, **kwargs: Any) -> None:
        trace = _current.trace
        if trace and self.sock is not None and not trace.is_connected:
            trace.is_connected = trace.is_reused = True
            trace.deadline.guard(self.sock)
        super().request(*args, **kwargs)


class _TracedTlsConnection(_TracedConnection, HTTPSConnection):
    """HTTPS that reports to the trace: the order of the bases makes TLS part of ``connect``."""


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _TracedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TracedTlsConnection

    def _validate_conn(self, conn: Any) -> None:
        """Connect early. The library's warning about switched-off checks is left out: it was asked for."""
        if conn.is_closed:
            conn.connect()


class TracedAdapter(requests.adapters.HTTPAdapter):
    """Keeps one connection, never retries, and connects by the classes above."""

    def __init__(self) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of the classes above."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
