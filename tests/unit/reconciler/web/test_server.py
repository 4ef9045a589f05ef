"""The server's life: where it listens, how it shares its threads, how it ends."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from reconciler.config import ConfigInvalid
from reconciler.web import WebServer
from tests.unit.reconciler.web.site import TOKEN, OpenSite, Site, collecting_log, wait_until

SERVICE = "/api/v1/services/1"


def list_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(("http", "waitress"))}


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_stopping_frees_the_port_and_ends_every_thread(open_site: OpenSite) -> None:
    before = list_threads()
    site = open_site()
    assert list_threads() > before
    port = site.server.port
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        # The server ends this connection first, so the system remembers the port for a minute.
        while connection.recv(1000):
            pass
    started = time.monotonic()
    site.server.stop()
    assert time.monotonic() - started < 10
    assert not is_listening(port)
    wait_until(lambda: list_threads() == before, "its threads have ended")
    site.server.stop()
    again = WebServer("127.0.0.1", port, token=TOKEN, backend=site)
    again.start()
    try:
        assert is_listening(port)
    finally:
        again.stop()


def test_the_loop_that_ends_at_once_leaves_nothing_to_write_to_that_is_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the caller is: the loop closes what wakes it, and nobody uses it afterwards."""
    server = site.server
    end = server._is_closed.set

    def end_and_dawdle() -> None:
        end()
        if threading.current_thread() is not server._thread:
            server._thread.join(60)

    monkeypatch.setattr(server._is_closed, "set", end_and_dawdle)
    server.stop()
    assert not server._thread.is_alive()


def test_stopping_a_server_that_never_started_does_nothing(site: Site) -> None:
    WebServer("127.0.0.1", 0, token=None, backend=site).stop()
    assert site.get("/healthz").status == 200


def test_connections_that_say_nothing_or_half_a_request_do_not_keep_it_from_stopping(
    open_site: OpenSite,
) -> None:
    before = list_threads()
    site = open_site()
    connections = [socket.create_connection(("127.0.0.1", site.server.port), timeout=60) for _ in range(3)]
    try:
        connections[1].sendall(b"GET /metrics HT")
        connections[2].sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        assert site.get("/healthz").status == 200
        started = time.monotonic()
        site.server.stop()
        assert time.monotonic() - started < 10
        wait_until(lambda: list_threads() == before, "its threads have ended")
        assert [connection.recv(100) for connection in connections] == [b""] * 3
    finally:
        for connection in connections:
            connection.close()


def test_whoever_waits_for_an_answer_gets_one_when_it_stops(site: Site) -> None:
    replies = []
    thread = threading.Thread(target=lambda: replies.append(site.post(f"{SERVICE}/resync?wait=60")))
    thread.start()
    wait_until(lambda: site.app.journal.requests.get([1]), "the request was made")
    started = time.monotonic()
    site.server.stop()
    assert time.monotonic() - started < 10
    thread.join()
    assert [(reply.status, reply.json["answer"]) for reply in replies] == [(202, None)]


def test_a_port_that_is_taken_is_one_clear_error(site: Site) -> None:
    before = list_threads()
    other = WebServer("127.0.0.1", site.server.port, token=None, backend=site)
    with pytest.raises(ConfigInvalid) as caught:
        other.start()
    [line] = caught.value.errors
    assert line == (
        f"http.listen: 127.0.0.1:{site.server.port} cannot be listened on: Address already in use; "
        "another program listens there; end it, or set another port"
    )
    other.stop()
    assert list_threads() == before
    assert site.get("/healthz").status == 200


@pytest.mark.parametrize(
    ("host", "end"),
    [
        ("192.0.2.1", "this machine has no such address; set one that it has"),
        ("no-such-host.invalid", "set a name or an address of this machine"),
    ],
)
def test_an_address_that_is_not_here_is_one_clear_error(shared_site: Site, host: str, end: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        WebServer(host, 9645, token=None, backend=shared_site).start()
    [line] = caught.value.errors
    assert line.startswith(f"http.listen: {host}:9645 cannot be listened on: ")
    assert line.endswith(end)


def test_localhost_is_listened_on_at_every_address_that_it_has(open_site: OpenSite) -> None:
    site = open_site(host="localhost")
    assert is_listening(site.server.port)
    assert site.get("/metrics").status == 200


def test_an_ipv6_address_is_listened_on(open_site: OpenSite) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    site = open_site(host="::1")
    assert site.get("/metrics").status == 200
    assert site.post(f"{SERVICE}/hold", {"reason": "x"}).status == 200
    assert site.list_history(1)[-1][0] == "http:::1"


def test_one_connection_serves_many_requests(shared_site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared_site.server.port, timeout=60)
    try:
        for path, status in (
            ("/metrics", 200),
            ("/nothing", 404),
            ("/api/v1/status", 200),
            ("/healthz", 200),
        ):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            assert response.status == status
            assert connection.sock is not None
    finally:
        connection.close()


def test_many_at_once_are_all_served(shared_site: Site) -> None:
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda _: shared_site.get("/api/v1/services").status, range(120)))
    assert replies == [200] * 120


def test_where_a_forwarded_request_says_it_comes_from_is_not_believed(site: Site) -> None:
    sent = {
        "Authorization": f"Bearer {TOKEN}",
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Host": "evil.example",
    }
    assert site.ask("POST", f"{SERVICE}/resync", None, sent).status == 202
    [request] = site.app.journal.requests.take("test")
    assert request.actor == "http:127.0.0.1"


def test_what_waitress_says_stands_in_our_log_but_not_that_it_is_busy(site: Site) -> None:
    with collecting_log() as lines:
        logging.getLogger("waitress").warning("odd %s", "thing")
        logging.getLogger("waitress.queue").warning("Task queue depth is %d", 1)
    # Once for each server that listens in this process.
    assert {(event, fields["message"]) for event, fields in lines} == {("waitress", "odd thing")}
