"""A real HTTP server on a free port that answers as a test says, and the recorded exchanges."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

RECORDINGS = Path(__file__).parent.parent / "recordings"


@dataclass(frozen=True)
class Reply:
    """What the server sends."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()
    closes: bool = False


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; the path is as it was on the wire, still encoded."""

    method: str
    path: str
    query: dict[str, str]
    form: list[tuple[str, str]]
    headers: dict[str, str]
    port: int


class HttpServer:
    """Answers every request with what ``answer`` returns for it, and remembers the requests."""

    def __init__(self, answer: Callable[[Seen], Reply], *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Seen] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30
            disable_nagle_algorithm = True
            wbufsize = -1

            def handle_any(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                seen = Seen(
                    self.command,
                    url.path,
                    dict(parse_qsl(url.query, keep_blank_values=True)),
                    parse_qsl(body, keep_blank_values=True),
                    {name.lower(): value for name, value in self.headers.items()},
                    self.client_address[1],
                )
                outer.requests.append(seen)
                reply = answer(seen)
                self.send_response_only(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                for cookie in reply.cookies:
                    self.send_header("Set-Cookie", cookie)
                if reply.closes:
                    self.send_header("Connection", "close")
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)
                self.wfile.flush()

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """A client that goes away is what many tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def paths(self) -> list[str]:
        """Method and path of every request."""
        return [f"{seen.method} {seen.path}" for seen in self.requests]


def ocs(code: int, data: object = (), message: str | None = "OK") -> bytes:
    """An OCS answer in JSON."""
    status = "ok" if code in {100, 200} else "failure"
    meta = {"status": status, "statuscode": code, "message": message}
    return json.dumps({"ocs": {"meta": meta, "data": data}}).encode()


@dataclass(frozen=True)
class Recorded:
    """One recorded exchange.

    Attributes:
        file: the recording's name without extension.
        line: its number there, from 1.
        name: what was tried.
        request: method, path, query, form, json, headers, auth.
        reply: the answer, ready to be sent again.
    """

    file: str
    line: int
    name: str
    request: dict[str, Any]
    reply: Reply

    @property
    def product(self) -> str:
        """Nextcloud or ownCloud, in lower case."""
        return self.file.partition("-")[0]


def read_recordings() -> Iterator[Recorded]:
    """Every exchange of every recording."""
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            exchange = json.loads(text)
            response = exchange["response"]
            body = response["body"]
            raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            headers = {name: value for name, value in response["headers"].items() if name != "content-length"}
            reply = Reply(response["status"], raw, headers)
            yield Recorded(path.stem, line, exchange["name"], exchange["request"], reply)
