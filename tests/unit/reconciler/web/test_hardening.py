"""What a browser that was led astray, or a hostile client, gets from the HTTP interface: nothing."""

from __future__ import annotations

import contextlib
import socket
from email.message import Message

import pytest

from reconciler.web.answers import HEADERS
from tests.unit.reconciler.web.site import TOKEN, Reply, Site, collecting_log
from tests.unit.reconciler.web.test_access import HOLD, JSON, is_untouched

SERVICE = "/api/v1/services/1"
CROSS_SITE = {
    "Origin": "http://evil.example",
    "Referer": "http://evil.example/page",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "no-cors",
}
USUAL = {"content-length", "content-type", "date", "connection", "www-authenticate", "allow"}


def list_answers(site: Site) -> dict[str, Reply]:
    """One answer of every kind that there is."""
    large = b"x" * 40_000
    replies = {
        "200 text": site.get("/metrics"),
        "200 json": site.get("/api/v1/services"),
        "200 head": site.ask("HEAD", "/api/v1/services"),
        "400": site.get("/api/v1/services?page=x"),
        "400 raw": site.ask_raw(b"nonsense\r\n\r\n"),
        "401": site.ask("POST", f"{SERVICE}/hold", HOLD, JSON),
        "403": site.get("/metrics", Host="evil.example"),
        "404": site.get("/nothing"),
        "405": site.ask("OPTIONS", "/metrics"),
        "413": site.ask("POST", f"{SERVICE}/hold", b" " * 70_000, JSON, token=TOKEN),
        "415": site.ask("POST", f"{SERVICE}/hold", HOLD, {"Content-Type": "text/plain"}, token=TOKEN),
        "431 line": site.ask_raw(b"GET /" + large + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "431 header": site.ask_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + large + b"\r\n\r\n"),
        "501": site.ask_raw(b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"),
    }
    site.defect = RuntimeError("x")
    replies["500"] = site.get("/api/v1/status")
    site.defect = None
    return replies


def test_every_answer_has_the_headers_that_protect_and_no_others(site: Site) -> None:
    for kind, reply in list_answers(site).items():
        assert str(reply.status) == kind[:3], (kind, reply)
        for name, value in HEADERS.items():
            assert reply.headers.get_all(name) == [value], (kind, name)
        assert {name.lower() for name in reply.headers} - {name.lower() for name in HEADERS} <= USUAL, kind
        assert get_type(reply.headers) in {"application/json", "text/plain"}, kind
    assert HEADERS["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert HEADERS["Cross-Origin-Resource-Policy"] == "same-origin"


def get_type(headers: Message) -> str:
    return headers["Content-Type"].partition(";")[0]


@pytest.mark.parametrize(
    "sent",
    [
        {"Cookie": f"token={TOKEN}; Authorization=Bearer {TOKEN}"},
        {"X-Token": TOKEN},
        {"X-Authorization": f"Bearer {TOKEN}"},
        {"Proxy-Authorization": f"Bearer {TOKEN}"},
        {"Authorization_": f"Bearer {TOKEN}"},
        {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
        {"X-HTTP-Method-Override": "GET"},
    ],
    ids=lambda sent: next(iter(sent)),
)
def test_nothing_but_the_authorization_header_lets_a_change_pass(
    shared_site: Site, sent: dict[str, str]
) -> None:
    reply = shared_site.ask("POST", f"{SERVICE}/hold", HOLD, {**JSON, **CROSS_SITE, **sent})
    assert reply.status == 401
    assert is_untouched(shared_site)


@pytest.mark.parametrize(
    "query", [f"token={TOKEN}", f"access_token={TOKEN}", f"authorization=Bearer+{TOKEN}"]
)
def test_a_token_in_the_address_is_no_token_and_is_not_logged(shared_site: Site, query: str) -> None:
    with collecting_log() as lines:
        reply = shared_site.ask("POST", f"{SERVICE}/hold?{query}", HOLD, JSON)
    assert reply.status == 401
    assert TOKEN not in str(lines) + str(reply)
    assert is_untouched(shared_site)


@pytest.mark.parametrize("change", ["resync", "hold", "release"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_a_page_that_sends_a_form_from_this_machines_browser_changes_nothing(
    shared_site: Site, change: str, kind: str
) -> None:
    """Such a page cannot set Authorization; with the browser's cookies and a JSON body in disguise."""
    sent = {**CROSS_SITE, "Content-Type": kind, "Cookie": f"session={TOKEN}"}
    assert shared_site.ask("POST", f"{SERVICE}/{change}", HOLD, sent).status == 401
    assert is_untouched(shared_site)


def test_a_page_may_not_learn_whether_it_may_ask(shared_site: Site) -> None:
    asked = {
        **CROSS_SITE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
    }
    for path in ("/", "/metrics", "/api/v1/services", f"{SERVICE}/hold", "/nothing"):
        reply = shared_site.ask("OPTIONS", path, headers=asked)
        assert reply.status in {404, 405}
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("form", ["http://evil.example/metrics", "http://evil.example:9645/api/v1/services"])
def test_an_address_within_the_request_line_is_no_way_around_the_host(shared_site: Site, form: str) -> None:
    astray = f"GET {form} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert shared_site.ask_raw(astray.encode()).status == 403


def test_headers_without_end_are_cut_off(shared_site: Site) -> None:
    with socket.create_connection(("127.0.0.1", shared_site.server.port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it hangs up on us
            for number in range(20_000):
                connection.sendall(b"X-%d: y\r\n" % number)
            while chunk := connection.recv(65536):
                answer += chunk
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer
    assert shared_site.get("/healthz").status == 200


def test_two_lengths_or_a_length_beside_chunks_are_no_way_to_hide_a_second_request(shared_site: Site) -> None:
    hidden = f"POST {SERVICE}/resync HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    for lengths in (
        "Content-Length: 0\r\nContent-Length: 150\r\n",
        f"Content-Length: {len(hidden) + 5}\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: +0\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ):
        head = f"POST {SERVICE}/resync HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n0\r\n\r\n"
        with socket.create_connection(("127.0.0.1", shared_site.server.port), timeout=60) as connection:
            connection.sendall(head.encode() + hidden.encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := connection.recv(65536):
                    answer += chunk
        assert b" 202 " not in answer, lengths
        assert is_untouched(shared_site), lengths
