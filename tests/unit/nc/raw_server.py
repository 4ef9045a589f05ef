"""A socket server that sends exactly the bytes a test wants, when it wants; and how clients are made here."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from nc import CloudClient, ServerConnection
from nc.calls import Call
from nc.transport import Transport

READ = Call("get_account", "GET", "/ocs/v2.php/cloud/users/a", subject="account a")
CHANGE = Call("disable", "PUT", "/ocs/v2.php/cloud/users/a/disable", subject="account a")
OK_BODY = b'{"ocs":{"meta":{"status":"ok","statuscode":200,"message":"OK"},"data":[]}}'


def http_answer(body: bytes = OK_BODY, head: str = "HTTP/1.1 200 OK", *headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = [head, f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class RawServer:
    """Runs ``talk(connection, number)`` in a thread for every connection; ``stopped`` ends waits."""

    def __init__(self, talk: Callable[[socket.socket, int], None]) -> None:
        self.stopped = threading.Event()
        self.connections = 0
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.stopped.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(20)
            self._talk(connection, number)

    def drip(self, connection: socket.socket, piece: bytes) -> None:
        """Send the piece again and again, every 20 ms, until the client goes or the test ends."""
        while not self.stopped.wait(0.02):
            connection.sendall(piece)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._acceptor.join(5)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


def read_request(connection: socket.socket) -> bytes:
    """One request with its body; b"" when the client has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            while len(body) < int(value):
                body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def connection_to(url: str, **changes: Any) -> ServerConnection:
    """A connection without a pace."""
    values: dict[str, Any] = {"username": "admin", "password": "s3cret-admin", "requests_per_second": 0}
    return ServerConnection(url, **(values | changes))


@contextlib.contextmanager
def transport_to(url: str, **changes: Any) -> Iterator[Transport]:
    """A transport that is closed afterwards."""
    transport = Transport(connection_to(url, **changes))
    try:
        yield transport
    finally:
        transport.renew()


@contextlib.contextmanager
def client_to(url: str, on_call: Any = None, **changes: Any) -> Iterator[CloudClient]:
    """A client that is closed afterwards."""
    client = CloudClient(connection_to(url, **changes), on_call=on_call)
    try:
        yield client
    finally:
        client.close()
