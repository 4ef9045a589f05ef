"""What goes wrong comes out as one line of JSON, never as a page, a traceback or a hung connection."""

from __future__ import annotations

import socket

import pytest

from bm_db.errors import BillingUnreachable
from tests.unit.reconciler.web.site import TOKEN, OpenSite, Site, collecting_log

SERVICE = "/api/v1/services/1"
LIMIT = 64 * 1024
SENT = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/v1/",
        "/api/v1/services/",
        "/static/x",
        "//metrics/",
        "/api//v1/status",
        "/%2e%2e/x",
    ],
)
def test_what_is_not_there_is_said_in_json(shared_site: Site, path: str) -> None:
    reply = shared_site.get(path)
    assert reply.status == 404
    assert reply.error.startswith("there is nothing at '/")
    assert reply.error.endswith("GET / names all there is")


def test_a_hostile_path_comes_back_harmless(shared_site: Site) -> None:
    reply = shared_site.get("/%3Cscript%3E%0D%0ASet-Cookie:x%1B[2J" + "y" * 5000)
    assert reply.status == 404
    assert len(reply.error) < 200
    assert b"<" not in reply.body
    assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_a_method_that_is_not_there_is_refused_with_those_that_are(shared_site: Site, method: str) -> None:
    reply = shared_site.ask(method, "/api/v1/status", headers=SENT)
    assert reply.status == 405
    assert reply.error.startswith(f"{method} is not possible at '/api/v1/status'")
    assert {name.strip() for name in reply.headers["Allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.parametrize("change", ["resync", "hold", "release"])
def test_changes_are_not_made_by_looking(shared_site: Site, change: str) -> None:
    reply = shared_site.get(f"{SERVICE}/{change}", token=TOKEN)
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("change", ["resync", "hold", "release"])
@pytest.mark.parametrize("size", [LIMIT + 1, 4 * LIMIT - 1, 4 * LIMIT])
def test_a_body_that_is_too_large_is_refused(shared_site: Site, change: str, size: int) -> None:
    body = b'{"reason": "' + b" " * (size - 15) + b'x"}'
    assert len(body) == size
    head = f"POST {SERVICE}/{change} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in SENT.items())
    with socket.create_connection(("127.0.0.1", shared_site.server.port), timeout=60) as connection:
        connection.sendall(head.encode() + b"\r\n")
        if size < 4 * LIMIT:
            connection.sendall(body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
            if b'"}\n' in answer:
                break
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Content-Type: application/json\r\n" in answer
    assert b'{"error": "' in answer


def test_a_body_in_chunks_is_limited_too(site: Site) -> None:
    head = f"POST {SERVICE}/hold HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in SENT.items())
    text = b'{"reason": "' + b"x" * LIMIT + b'"}'
    reply = site.ask_raw(f"{head}\r\n{len(text):x}\r\n".encode() + text + b"\r\n0\r\n\r\n")
    assert reply.status == 413
    assert reply.error == "the body is too large: send at most 65536 bytes"
    small = b'{"reason": "x"}'
    assert site.ask_raw(f"{head}\r\n{len(small):x}\r\n".encode() + small + b"\r\n0\r\n\r\n").status == 200


def test_a_body_of_the_largest_size_is_read(site: Site) -> None:
    body = b'{"reason": "x"}'.ljust(LIMIT)
    assert site.ask("POST", f"{SERVICE}/hold", body, SENT).status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n<b>: \x1b\r\nx y: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_http_is_answered_in_the_same_shape(shared_site: Site, data: bytes, status: int) -> None:
    reply = shared_site.ask_raw(data)
    assert reply.status == status
    assert len(reply.error) < 300
    assert b"<" not in reply.body


def test_a_defect_is_logged_and_not_shown(site: Site) -> None:
    site.defect = RuntimeError("the wall has ears")
    with collecting_log() as lines:
        reply = site.get("/api/v1/status")
    assert reply.status == 500
    assert reply.error == "a defect of this program: its log says more; please report it"
    [(event, fields)] = lines
    assert event == "request failed"
    assert fields["error"] == "RuntimeError: the wall has ears"
    assert (fields["method"], fields["path"]) == ("GET", "/api/v1/status")
    assert "site.py:" in str(fields["place"])


def test_a_lookup_that_fails_by_a_defect_is_not_taken_for_a_missing_service(site: Site) -> None:
    site.defect = KeyError("row")
    for change, body in (("resync", None), ("hold", {"reason": "x"}), ("release", None)):
        assert site.post(f"{SERVICE}/{change}", body).status == 500


@pytest.fixture
def broken_site(open_site: OpenSite) -> Site:
    """Its journal's file was overwritten."""
    site = open_site()
    site.app.journal.close()
    for name in ("journal.db-wal", "journal.db-shm"):
        (site.folder / name).unlink(missing_ok=True)
    (site.folder / "journal.db").write_bytes(b"no database" * 1000)
    return site


def test_a_journal_that_cannot_be_used_is_told_and_the_cure_with_it(broken_site: Site) -> None:
    replies = [
        *(broken_site.get(path) for path in ("/api/v1/status", "/api/v1/services", SERVICE)),
        broken_site.post(f"{SERVICE}/resync?wait=5"),
        broken_site.post(f"{SERVICE}/hold", {"reason": "x"}),
        broken_site.post(f"{SERVICE}/release"),
    ]
    for reply in replies:
        assert reply.status == 503
        assert reply.error.startswith("the journal sqlite:///")
        assert "nothing was changed; check that it can be written" in reply.error
    for path in ("/", "/metrics", "/healthz", "/api/v1/openapi.json"):
        assert broken_site.get(path).status == 200


def test_billing_that_cannot_be_reached_is_told(site: Site) -> None:
    site.app.billing.close()
    (site.folder / "billmgr.db").rename(site.folder / "away.db")
    for change, body in (("resync", None), ("hold", {"reason": "x"}), ("release", None)):
        reply = site.post(f"/api/v1/services/4711/{change}", body)
        assert reply.status == 503
        assert "billing" in reply.error
    assert site.post(f"{SERVICE}/hold", {"reason": "x"}).status == 200


def test_a_message_of_several_lines_comes_out_as_one(site: Site) -> None:
    site.defect = BillingUnreachable("the billing database\nis \x1b[2J away")
    reply = site.get("/api/v1/status")
    assert reply.status == 503
    assert reply.error == "the billing database\\nis \\x1b[2J away"
