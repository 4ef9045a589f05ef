"""The endpoints of the HTTP interface, as a Flask application. Made by `reconciler.web.server.WebServer`."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from bm_db.errors import BillingError
from reconciler.journal import JournalError, Request
from reconciler.logs import clean, get_logger
from reconciler.operations import POLL_SECONDS, ask_resync, find_service, hold_service, release_service
from reconciler.status import describe_status
from reconciler.web.answers import (
    HEADERS,
    ErrorAnswer,
    HoldAnswer,
    Readiness,
    ResyncAnswer,
    ServiceDetail,
    ServicePage,
    render_json,
)
from reconciler.web.backend import Backend
from reconciler.web.gate import Gate
from reconciler.web.openapi import describe_api, list_endpoints
from reconciler.web.reading import (
    LARGEST_BODY_BYTES,
    LARGEST_ID,
    LARGEST_PAGE,
    LARGEST_PAGE_SIZE,
    LONGEST_WAIT_SECONDS,
    PAGE_SIZE,
    Refused,
    parse_number,
    parse_state,
    parse_text,
    read_members,
    read_query,
    read_reason,
    show,
)

MOST_WAITING: Final = 4
"""Requests that may wait for their answer at a time; each keeps a thread busy."""

_SHOWN_HISTORY: Final = 100
_ACTOR_LENGTH: Final = 64

_log = get_logger("http")


def create_app(backend: Backend, *, token: str | None, is_loopback: bool, stopping: threading.Event) -> Flask:
    """The application.

    Args:
        backend: whose interface it is.
        token: what callers must know.
        is_loopback: whether only this machine can connect.
        stopping: set when the server ends: nobody waits for an answer any longer.
    """
    app = Flask(__name__, static_folder=None, template_folder=None)
    app.url_map.merge_slashes = False
    app.config.update(MAX_CONTENT_LENGTH=LARGEST_BODY_BYTES, PROVIDE_AUTOMATIC_OPTIONS=False)
    gate = Gate(token=token, is_loopback=is_loopback)

    @app.before_request
    def check() -> None:
        gate.check(request)

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    _Endpoints(backend, is_loopback=is_loopback, stopping=stopping).add_to(app)
    app.register_error_handler(Refused, _answer_refused)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(JournalError, _answer_unavailable)
    app.register_error_handler(BillingError, _answer_unavailable)
    app.register_error_handler(Exception, _answer_defect)
    return app


class _Endpoints:
    def __init__(self, backend: Backend, *, is_loopback: bool, stopping: threading.Event) -> None:
        self._backend: Final = backend
        self._api: Final = describe_api(is_loopback=is_loopback)
        self._stopping: Final = stopping
        self._waiting: Final = threading.BoundedSemaphore(MOST_WAITING)

    def add_to(self, app: Flask) -> None:
        service = "/api/v1/services/<item>"
        for path, method, view in (
            ("/", "GET", self.show_overview),
            ("/metrics", "GET", self.show_metrics),
            ("/healthz", "GET", self.show_health),
            ("/readyz", "GET", self.show_readiness),
            ("/api/v1/openapi.json", "GET", self.show_api),
            ("/api/v1/status", "GET", self.show_status),
            ("/api/v1/services", "GET", self.list_services),
            (service, "GET", self.show_service),
            (f"{service}/resync", "POST", self.resync),
            (f"{service}/hold", "POST", self.hold),
            (f"{service}/release", "POST", self.release),
        ):
            app.add_url_rule(path, view.__name__, view, methods=[method])

    def show_overview(self) -> Response:
        return Response(list_endpoints(self._api), content_type="text/plain; charset=utf-8")

    def show_metrics(self) -> Response:
        return Response(
            self._backend.render_metrics(), content_type="text/plain; version=0.0.4; charset=utf-8"
        )

    def show_health(self) -> Response:
        check = self._backend.get_health()
        return _answer(check, 200 if check.is_ok else 503)

    def show_readiness(self) -> Response:
        checks = self._backend.list_readiness()
        is_ready = all(check.is_ok for check in checks)
        return _answer(Readiness(is_ready, checks), 200 if is_ready else 503)

    def show_api(self) -> Response:
        return _answer(self._api)

    def show_status(self) -> Response:
        return _answer(describe_status(self._backend.get_app()))

    def list_services(self) -> Response:
        query = read_query(request, ("state", "server", "q", "page", "page_size"))
        page = parse_number("page", query.get("page", "1"), most=LARGEST_PAGE)
        page_size = parse_number("page_size", query.get("page_size", str(PAGE_SIZE)), most=LARGEST_PAGE_SIZE)
        items, total = self._backend.get_app().journal.overview.search(
            state=parse_state(query["state"]) if "state" in query else None,
            server_id=parse_number("server", query["server"], most=LARGEST_ID) if "server" in query else None,
            text=parse_text(query.get("q", "")),
            page=page,
            page_size=page_size,
        )
        pages = max(1, -(-total // page_size))
        return _answer(ServicePage(list(items), total, page, page_size, pages))

    def show_service(self, item: str) -> Response:
        item_id = _parse_item(item)
        journal = self._backend.get_app().journal
        record = journal.services.get(item_id)
        if record is None:
            raise Refused(
                404, f"service {item_id} was never looked at: check the number, or ask for a resync of it"
            )
        history = journal.history.list_entries(item_id, limit=_SHOWN_HISTORY)
        return _answer(ServiceDetail(record, journal.usage.get(item_id), history))

    def resync(self, item: str) -> Response:
        item_id = _parse_item(item)
        query = read_query(request, ("wait",))
        seconds = parse_number("wait", query.get("wait", "0"), least=0, most=LONGEST_WAIT_SECONDS)
        read_members(request, ())
        with _refusing(404, "check the number"):
            [request_id] = ask_resync(self._backend.get_app(), [item_id], _get_actor())
        _note("resync", item_id)
        made = self._wait_for_answer(request_id, seconds)
        answer = None if made is None else made.answer
        return _answer(ResyncAnswer(request_id, item_id, answer), 202 if answer is None else 200)

    def hold(self, item: str) -> Response:
        item_id = _parse_item(item)
        reason = read_reason(request)
        with _refusing(404, "check the number"):
            hold_service(self._backend.get_app(), item_id, reason, _get_actor())
        _note("hold", item_id)
        return _answer(HoldAnswer(item_id, reason))

    def release(self, item: str) -> Response:
        item_id = _parse_item(item)
        read_members(request, ())
        app = self._backend.get_app()
        with _refusing(404, "check the number"):
            find_service(app, item_id)
        with _refusing(409, "there is nothing to release"):
            release_service(app, item_id, _get_actor())
        _note("release", item_id)
        return _answer(HoldAnswer(item_id, None))

    def _wait_for_answer(self, request_id: int, seconds: int) -> Request | None:
        if not seconds or not self._waiting.acquire(blocking=False):
            return None
        try:
            deadline = time.monotonic() + seconds
            while True:
                made = self._backend.get_app().journal.requests.get([request_id]).get(request_id)
                is_over = made is None or made.answer is not None or time.monotonic() >= deadline
                if is_over or self._stopping.wait(POLL_SECONDS):
                    return made
        finally:
            self._waiting.release()


@contextlib.contextmanager
def _refusing(status: int, hint: str) -> Iterator[None]:
    """Answer what an operation does not find; KeyError and IndexError, LookupErrors too, are defects."""
    try:
        yield
    except LookupError as error:
        if isinstance(error, KeyError | IndexError):
            raise
        raise Refused(status, f"{error}: {hint}") from error


def _parse_item(text: str) -> int:
    return parse_number("item", text, most=LARGEST_ID)


def _get_actor() -> str:
    return f"http:{request.remote_addr}"[:_ACTOR_LENGTH]


def _note(action: str, item_id: int) -> None:
    _log.log("info", action, service=item_id, client=request.remote_addr)


def _answer(value: object, status: int = 200) -> Response:
    return Response(render_json(value), status, content_type="application/json")


# -- errors


def _answer_refused(error: Refused) -> Response:
    response = _answer(ErrorAnswer(str(error)), error.status)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="bill-nextcloud"'
    if error.status in {401, 403}:
        _log.log(
            "warning",
            "refused",
            method=request.method,
            path=show(request.path),
            client=request.remote_addr,
            why=str(error),
        )
    return response


def _answer_http_error(error: HTTPException) -> Response:
    """What Flask itself refuses, in our words; its headers (Allow) stay."""
    status = error.code or 500
    path = show(request.path)
    texts = {
        404: f"there is nothing at {path!r}: GET / names all there is",
        405: f"{show(request.method)} is not possible at {path!r}: GET /api/v1/openapi.json says what is",
        413: f"the body is too large: send at most {LARGEST_BODY_BYTES} bytes",
    }
    response = _answer(ErrorAnswer(texts.get(status) or clean(f"{error.name}: {error.description}")), status)
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return response


def _answer_unavailable(error: Exception) -> Response:
    _log.log("error", "not served", path=show(request.path), error=str(error))
    return _answer(ErrorAnswer(clean(str(error))), 503)


def _answer_defect(error: Exception) -> Response:
    place = traceback.extract_tb(error.__traceback__)[-1]
    _log.log(
        "error",
        "request failed",
        method=request.method,
        path=show(request.path),
        error=f"{type(error).__name__}: {error}",
        place=f"{place.filename}:{place.lineno}",
    )
    return _answer(ErrorAnswer("a defect of this program: its log says more; please report it"), 500)
