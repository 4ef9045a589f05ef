"""Serves the HTTP interface with waitress, in threads of its own. Started and stopped by the daemon."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from typing import Any, Final

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import Error

from reconciler.config import ConfigInvalid
from reconciler.config_values import is_loopback_host
from reconciler.logs import clean, get_logger
from reconciler.web.answers import HEADERS, ErrorAnswer, render_json
from reconciler.web.app import MOST_WAITING, create_app
from reconciler.web.backend import Backend

_THREADS: Final = MOST_WAITING + 4
_BACKLOG: Final = 128
_STOP_SECONDS: Final = 5
_LARGEST_HEADER_BYTES: Final = 32 * 1024
_LARGEST_READ_BYTES: Final = 256 * 1024
"""Up to here a body that is too large is read and answered properly; beyond, the connection is cut."""

_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""A name may stand for addresses that this machine does not have: localhost, where there is no IPv6."""

_CURES: Final = {
    errno.EADDRINUSE: "another program listens there; end it, or set another port",
    errno.EACCES: "only root may use ports below 1024; set a higher one",
}

_log = get_logger("http")


class WebServer:
    """Listens from `start` to `stop`."""

    def __init__(
        self, host: str, port: int, *, token: str | None, backend: Backend, is_loopback: bool | None = None
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            host: address or name to listen on; a name is listened on at all of its addresses.
            port: 0 takes any that is free.
            token: what callers must know; None forbids every change.
            backend: whose interface it is.
            is_loopback: whether only this machine can connect; by default the host says so.

        Raises:
            ConfigInvalid: the token cannot be sent in a header.
        """
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise ConfigInvalid(
                ["http.token_file: must hold ASCII without blanks; make one with: openssl rand -hex 32"]
            )
        self._host: Final = host
        self._port = port
        self._stopping: Final = threading.Event()
        self._is_closed = threading.Event()
        self._app: Final = create_app(
            backend,
            token=token,
            is_loopback=is_loopback_host(host) if is_loopback is None else is_loopback,
            stopping=self._stopping,
        )
        self._map: dict[int, Any] = {}
        self._servers: list[TcpWSGIServer] = []
        self._dispatcher: Final = ThreadedTaskDispatcher()
        self._thread: Final = threading.Thread(target=self._turn, name="http", daemon=True)
        self._log_handler: Final = _LogHandler(logging.WARNING)

    @property
    def port(self) -> int:
        """The port that is listened on, once `start` has returned."""
        return self._port

    def start(self) -> None:
        """Listen and serve.

        Raises:
            ConfigInvalid: host and port cannot be listened on.
        """
        listeners = self._listen()
        settings = Adjustments(
            ident=None,
            threads=_THREADS,
            backlog=_BACKLOG,
            max_request_header_size=_LARGEST_HEADER_BYTES,
            max_request_body_size=_LARGEST_READ_BYTES,
            log_socket_errors=False,
        )
        self._dispatcher.set_thread_count(_THREADS)
        for listener in listeners:
            place = (listener.family, listener.type, listener.proto, listener.getsockname())
            server = _Server(
                self._app.wsgi_app,
                self._map,
                True,
                listener,
                dispatcher=self._dispatcher,
                adj=settings,
                sockinfo=place,
                bind_socket=False,
            )
            self._servers.append(server)
        logging.getLogger("waitress").addHandler(self._log_handler)
        self._thread.start()

    def stop(self) -> None:
        """Let requests under way finish, for some seconds, and close everything. May be called twice."""
        if not self._servers or self._stopping.is_set():
            return
        self._stopping.set()
        self._dispatcher.shutdown(timeout=_STOP_SECONDS)
        # The loop's own thread ends it: it closes what the trigger writes to.
        self._servers[0].trigger.pull_trigger(self._is_closed.set)  # type: ignore[attr-defined]  # the stubs say int
        self._thread.join(_STOP_SECONDS)
        logging.getLogger("waitress").removeHandler(self._log_handler)

    def _listen(self) -> list[socket.socket]:
        try:
            found = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise self._describe(error, "set a name or an address of this machine") from error
        listeners: list[socket.socket] = []
        absent: OSError | None = None
        for family, _, _, _, address in found:
            try:
                listeners.append(_open_listener(family, (address[0], self._port, *address[2:])))
            except OSError as error:
                if error.errno in _ABSENT:
                    absent = error
                    continue
                for listener in listeners:
                    listener.close()
                cure = _CURES.get(error.errno or 0, "set an address and port of this machine")
                raise self._describe(error, cure) from error
            self._port = listeners[-1].getsockname()[1]
        if not listeners:
            raise self._describe(absent, "this machine has no such address; set one that it has") from absent
        return listeners

    def _describe(self, error: OSError | None, cure: str) -> ConfigInvalid:
        host = f"[{self._host}]" if ":" in self._host else self._host
        problem = "no address" if error is None else error.strerror
        return ConfigInvalid([f"http.listen: {host}:{self._port} cannot be listened on: {problem}; {cure}"])

    def _turn(self) -> None:
        while not self._is_closed.is_set():
            wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)
        wasyncore.close_all(self._map)


def _open_listener(family: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _ErrorTask(ErrorTask):
    """Answers what is no HTTP, or too large to be read, in the same shape as everything else."""

    def execute(self) -> None:
        failure: Error = self.request.error  # type: ignore[attr-defined]  # the stubs take it for the error
        body = render_json(ErrorAnswer(f"{failure.reason}: {clean(failure.body)[:200]}")).encode()
        self.status = f"{failure.code} {failure.reason}"
        self.response_headers = [("Content-Type", "application/json"), *HEADERS.items()]
        self.content_length = len(body)
        self.set_close_on_finish()
        self.write(body)


class _Parser(HTTPRequestParser):
    """Refuses what a server in front of us may read as one request and waitress as two."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length beside Transfer-Encoding")


class _Channel(HTTPChannel):
    error_task_class = _ErrorTask
    parser_class = _Parser


class _Server(TcpWSGIServer):
    channel_class = _Channel


class _LogHandler(logging.Handler):
    """Hands waitress' own messages to our log; those of a full queue say nothing that a person could do."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "waitress.queue":
            _log.log(record.levelname.lower(), "waitress", message=record.getMessage())
