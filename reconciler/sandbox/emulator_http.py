"""The emulated server's HTTP side: connections, keep-alive, and every way of breaking an answer.

Real sockets on 127.0.0.1, one thread a connection, one write an answer. `CloudEmulator` gives it a
function that answers requests, and stops it; faults are carried out here.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from reconciler.sandbox.emulator_calls import Call, Fault
from reconciler.sandbox.emulator_envelope import Answer

_LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Login</title></head><body>Please log in.</body></html>"
_CHUNK = b'{"padding":"' + b"x" * 65_500 + b'"},\n'
_HANDSHAKE_SECONDS = 10.0
_JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class Outcome:
    """What becomes of a request: its answer, and what is to go wrong with it."""

    call: Call
    answer: Answer
    fault: Fault | None = None


class Site(Protocol):
    """What answers the requests."""

    def serve(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, address: str
    ) -> Outcome:
        """Carry one request out; header names come in lower case."""

    def wait(self, seconds: float | None) -> bool:
        """Wait, at most until the emulator stops (None: until then); True when it stops."""


class CloudServer(ThreadingHTTPServer):
    """Listens, and can be stopped while its connections hang."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, port: int, site: Site, tls_context: ssl.SSLContext | None) -> None:
        self.site = site
        self._tls_context = tls_context
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._connections_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Exchange)

    def server_bind(self) -> None:
        """Bind without asking a name server for this host's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, remembered so that it can be ended."""
        thread = threading.Thread(
            target=self._serve_connection, args=(request, client_address), name="cloud-emulator", daemon=True
        )
        with self._connections_lock:
            self._connections[thread] = request
        thread.start()

    def _serve_connection(self, request: socket.socket, client_address: Any) -> None:
        connection = request
        try:
            if self._tls_context is not None:
                request.settimeout(_HANDSHAKE_SECONDS)
                connection = self._tls_context.wrap_socket(request, server_side=True)
                connection.settimeout(None)
                with self._connections_lock:
                    self._connections[threading.current_thread()] = connection
            self.finish_request(connection, client_address)
        except OSError:
            pass  # the client went away, refused the certificate, or the emulator was stopped
        finally:
            with self._connections_lock:
                self._connections.pop(threading.current_thread(), None)
            self.shutdown_request(connection)

    def end_connections(self) -> None:
        """Break every open connection and wait for its thread."""
        with self._connections_lock:
            connections = dict(self._connections)
        for connection in connections.values():
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # already gone
        for thread in connections:
            thread.join(_JOIN_SECONDS)


class _Exchange(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: CloudServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing: tests read `CloudEmulator.calls`."""

    def _answer(self) -> None:
        stated = self.headers.get("Content-Length", "")
        length = int(stated) if stated.isdecimal() else 0
        body = self.rfile.read(length) if length else b""
        headers = {name.lower(): value for name, value in self.headers.items()}
        address = str(self.client_address[0])
        outcome = self.server.site.serve(self.command, self.path, headers, body, address)
        if outcome.fault is not None:
            self._break(outcome, outcome.fault)
        else:
            self._send(outcome.answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _answer  # noqa: N815 - the base's names

    def _write_head(self, answer: Answer, length: int | None) -> bytes:
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, 'Unknown')}"]
        lines.append(f"Date: {self.date_time_string()}")
        lines.extend(f"{name}: {value}" for name, value in answer.headers)
        lines.append(f"Content-Type: {answer.content_type}")
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        if self.close_connection:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send(self, answer: Answer) -> None:
        body = b"" if self.command == "HEAD" else answer.body
        self.connection.sendall(self._write_head(answer, len(answer.body)) + body)

    def _break(self, outcome: Outcome, fault: Fault) -> None:
        """Do to the answer what the fault says."""
        outcome.call.status = None
        breakers: dict[str, Callable[[Answer, Fault], int | None]] = {
            "hang": self._hang,
            "delay": self._delay,
            "drip": self._drip,
            "cut": self._cut,
            "huge": self._flood,
            "not_http": self._babble,
            "drop": self._drop,
        }
        breaker = breakers.get(fault.kind, self._replace)
        outcome.call.status = breaker(outcome.answer, fault)

    def _drop(self, _answer: Answer, _fault: Fault) -> None:
        self.close_connection = True

    def _hang(self, _answer: Answer, fault: Fault) -> None:
        self.close_connection = True
        self.server.site.wait(fault.seconds)

    def _delay(self, answer: Answer, fault: Fault) -> int | None:
        if self.server.site.wait(fault.seconds or 0.0):
            self.close_connection = True
            return None
        self._send(answer)
        return answer.status

    def _drip(self, answer: Answer, fault: Fault) -> int:
        self.close_connection = True
        self.connection.sendall(self._write_head(answer, len(answer.body)))
        for place in range(len(answer.body)):
            self.connection.sendall(answer.body[place : place + 1])
            if self.server.site.wait(fault.seconds or 0.0):
                break
        return answer.status

    def _cut(self, answer: Answer, _fault: Fault) -> int:
        self.close_connection = True
        head = self._write_head(answer, len(answer.body))
        self.connection.sendall(head + answer.body[: len(answer.body) // 2])
        return answer.status

    def _flood(self, answer: Answer, fault: Fault) -> int:
        self.close_connection = True
        self.connection.sendall(self._write_head(answer, None if fault.is_chunked else fault.size_bytes))
        left = fault.size_bytes
        while left > 0:
            piece = _CHUNK[:left]
            left -= len(piece)
            is_framed = fault.is_chunked
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if is_framed else piece)
        if fault.is_chunked:
            self.connection.sendall(b"0\r\n\r\n")
        return answer.status

    def _babble(self, _answer: Answer, _fault: Fault) -> None:
        self.close_connection = True
        self.connection.sendall(b"\x00\x01 this is no HTTP\r\n\r\n")

    def _replace(self, answer: Answer, fault: Fault) -> int:
        if fault.kind == "status":
            answer = Answer(fault.status, fault.content_type, fault.body.encode(), fault.headers)
        else:
            body = {
                "html": _LOGIN_PAGE,
                "empty": b"",
                "truncate": answer.body[: len(answer.body) // 2],
                "garbage": bytes(range(256)) * 4,
            }[fault.kind]
            content_type = "text/html; charset=UTF-8" if fault.kind == "html" else answer.content_type
            answer = Answer(200, content_type, body, answer.headers)
        self._send(answer)
        return answer.status
