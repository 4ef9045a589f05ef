"""Time-outs, limits, sessions and redirects of the transport, against real sockets."""

from __future__ import annotations

import gzip
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from nc import transport as transport_module
from nc.calls import Call
from nc.errors import (
    AddressRefused,
    BadAnswer,
    CloudError,
    OutcomeUnknown,
    RedirectRefused,
    ServerTimeout,
    ServerUnreachable,
)
from tests.contract.replay import HttpServer, Reply, Seen, ocs
from tests.unit.nc.raw_server import (
    CHANGE,
    OK_BODY,
    READ,
    RawServer,
    http_answer,
    read_request,
    transport_to,
)

GENEROUS_SECONDS = 8.0
"""Far above every limit set here, far below "for ever": the machine may be busy."""


def head_drip(server: RawServer, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    server.drip(connection, b"a")


def many_heads(server: RawServer, connection: socket.socket) -> None:
    server.drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n")


def body_drip(server: RawServer, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    server.drip(connection, b" ")


def chunk_drip(server: RawServer, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    server.drip(connection, b"1\r\n \r\n")


def endless_drip(server: RawServer, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    server.drip(connection, b" ")


def zipped_drip(server: RawServer, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\n")
    connection.sendall(gzip.compress(OK_BODY, mtime=0)[:15])
    server.stopped.wait(20)


def silence(server: RawServer, connection: socket.socket) -> None:
    server.stopped.wait(20)


DRIPS = [head_drip, many_heads, body_drip, chunk_drip, endless_drip, zipped_drip, silence]


@pytest.mark.parametrize("drip", DRIPS)
@pytest.mark.parametrize("call", [READ, CHANGE], ids=["read", "change"])
def test_total_time_out_holds_however_the_answer_drips(
    drip: Callable[[RawServer, socket.socket], None], call: Call
) -> None:
    def talk(connection: socket.socket, number: int) -> None:
        read_request(connection)
        drip(server, connection)

    with RawServer(talk) as server, transport_to(server.url, total_timeout_seconds=0.3) as transport:
        started = time.monotonic()
        with pytest.raises(CloudError) as caught:
            transport.send(call)
        assert 0.25 < time.monotonic() - started < GENEROUS_SECONDS
        assert server.connections == 1
    if call.is_mutating:
        assert type(caught.value) is OutcomeUnknown
        assert type(caught.value.__cause__) is ServerTimeout
    else:
        assert type(caught.value) is ServerTimeout
        assert "0.3 seconds" in str(caught.value)


def test_total_time_out_holds_for_a_tls_handshake_that_never_comes() -> None:
    def talk(connection: socket.socket, number: int) -> None:
        server.stopped.wait(20)

    with RawServer(talk) as server:
        url = server.url.replace("http", "https")
        with transport_to(url, total_timeout_seconds=0.3) as transport:
            started = time.monotonic()
            with pytest.raises(ServerTimeout):
                transport.send(CHANGE)  # nothing was sent yet: no OutcomeUnknown
            assert time.monotonic() - started < GENEROUS_SECONDS


def test_read_time_out_limits_a_silence() -> None:
    def talk(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1")
        server.stopped.wait(20)

    with RawServer(talk) as server, transport_to(server.url, read_timeout_seconds=0.2) as transport:
        with pytest.raises(ServerTimeout, match="stopped answering"):
            transport.send(READ)
        with pytest.raises(OutcomeUnknown):
            transport.send(CHANGE)


def test_connecting_that_is_not_answered_is_a_time_out_without_effect() -> None:
    # A listener whose queue is full leaves the next connection unanswered.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        try:
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
            with (
                transport_to(f"http://127.0.0.1:{port}", connect_timeout_seconds=0.2) as transport,
                pytest.raises(ServerTimeout, match="did not accept"),
            ):
                transport.send(CHANGE)
        finally:
            for filler in fillers:
                filler.close()


def test_a_call_may_have_its_own_limit() -> None:
    def talk(connection: socket.socket, number: int) -> None:
        read_request(connection)
        server.stopped.wait(20)

    slow = Call("delete_account", "DELETE", "/slow", subject="account a", timeout_seconds=0.2)
    with RawServer(talk) as server, transport_to(server.url) as transport, pytest.raises(OutcomeUnknown):
        transport.send(slow)


def test_refused_connection_is_unreachable_and_without_effect() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with transport_to(url) as transport, pytest.raises(ServerUnreachable, match="refused"):
            transport.send(CHANGE)


def test_unknown_name_is_unreachable_and_names_the_cure() -> None:
    with (
        transport_to("http://no-such-host.invalid") as transport,
        pytest.raises(ServerUnreachable, match="cannot be resolved; check the server's URL"),
    ):
        transport.send(CHANGE)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cloud.example.com",
        "ftp://cloud.example.com",
        "https://",
        "https://:443",
        "https://host:99999",
        "https://host:0",
        "https://host:port",
        "https://[::1",
        "https://me:hidden@cloud.example.com",
        "https://cloud.example.com/?x=1",
        "https://cloud.example.com/#x",
        "https://cloud.exam\nple.com/",
        "https://a b",
        "https://.example.com",
        "https://" + "a" * 300 + ".example.com",
    ],
)
def test_address_that_cannot_be_called_is_refused_without_its_password(url: str) -> None:
    with transport_to(url) as transport, pytest.raises((AddressRefused, ServerUnreachable)) as caught:
        transport.send(READ)
    assert "hidden" not in str(caught.value)
    assert not caught.value.is_transient or "resolved" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"", ServerUnreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12", BadAnswer),
        (b"220 mail.example.com ESMTP\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 200 + b"\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: br\r\n\r\n1234", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip\r\n\r\n1234", BadAnswer),
        (
            http_answer(gzip.compress(OK_BODY, mtime=0)[:20], "HTTP/1.1 200 OK", "Content-Encoding: gzip"),
            BadAnswer,
        ),
    ],
)
def test_broken_answer_is_typed_and_leaves_a_change_unknown(answer: bytes, cause: type[CloudError]) -> None:
    def talk(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(answer)

    with RawServer(talk) as server, transport_to(server.url) as transport:
        with pytest.raises(cause) as caught:
            transport.send(READ)
        assert type(caught.value) is cause
        with pytest.raises(OutcomeUnknown) as unknown:
            transport.send(CHANGE)
        assert type(unknown.value.__cause__) is cause


def test_reset_after_the_request_leaves_a_change_unknown() -> None:
    def talk(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with RawServer(talk) as server, transport_to(server.url) as transport:
        with pytest.raises(OutcomeUnknown) as caught:
            transport.send(CHANGE)
        assert type(caught.value.__cause__) is ServerUnreachable
        assert server.connections == 1


@pytest.mark.parametrize("packing", ["", "gzip"])
def test_large_answer_is_cut_off_at_the_limit(packing: str) -> None:
    body = b"[" + b" " * 10_000_000 + b"]"
    if packing:
        body = gzip.compress(body)
    sent = Reply(body=body, headers={"Content-Encoding": packing} if packing else {})
    with HttpServer(lambda _: sent) as server, transport_to(server.url) as transport:
        with pytest.raises(BadAnswer, match="more than 8388608 bytes"):
            transport.send(READ)
        with pytest.raises(OutcomeUnknown):
            transport.send(CHANGE)


def test_decompression_bomb_is_stopped_early() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(400)) + packer.flush()
    sent = Reply(body=bomb, headers={"Content-Encoding": "gzip"})
    with (
        HttpServer(lambda _: sent) as server,
        transport_to(server.url, max_response_bytes=1_000_000) as transport,
        pytest.raises(BadAnswer, match="more than 1000000 bytes"),
    ):
        transport.send(READ)


@pytest.mark.parametrize("body", [b"", OK_BODY, OK_BODY * 20_000])
def test_compressed_answer_is_unpacked(body: bytes) -> None:
    half = len(body) // 2
    packed = gzip.compress(body[:half]) + gzip.compress(body[half:])
    sent = Reply(body=packed, headers={"Content-Encoding": "gzip"})
    with HttpServer(lambda _: sent) as server, transport_to(server.url) as transport:
        assert transport.send(READ).body == body
        assert transport.send(READ).body == body
    assert len({seen.port for seen in server.requests}) == 1


def test_kept_connection_survives_an_empty_answer() -> None:
    with HttpServer(lambda _: Reply(429)) as server, transport_to(server.url) as transport:
        assert [transport.send(READ).status for _ in range(3)] == [429] * 3
    assert len({seen.port for seen in server.requests}) == 1


def test_request_says_what_the_servers_need_and_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password wrong\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with (
        HttpServer(lambda _: Reply(body=ocs(200))) as server,
        transport_to(server.url, username="ädmin", password="pässwörd:x") as transport,
    ):
        call = Call(
            "set_email", "POST", "/x%2Fy", (("format", "json"),), (("a[]", "ü&="), ("a[]", "2")), "it"
        )
        transport.send(call)
        transport.send(Call("status", "GET", "/status.php", is_anonymous=True))
    seen, anonymous = server.requests
    assert (seen.method, seen.path, seen.query) == ("POST", "/x%2Fy", {"format": "json"})
    assert seen.form == [("a[]", "ü&="), ("a[]", "2")]
    assert seen.headers["ocs-apirequest"] == "true"
    assert seen.headers["accept"] == "application/json"
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert seen.headers["authorization"] == "Basic w6RkbWluOnDDpHNzd8O2cmQ6eA=="
    assert "authorization" not in anonymous.headers


@pytest.mark.parametrize("path", ["", "/", "/cloud", "/cloud/", "/a/b//"])
def test_path_of_the_url_is_kept_and_trailing_slashes_are_not(path: str) -> None:
    with (
        HttpServer(lambda _: Reply(body=ocs(200))) as server,
        transport_to(f" {server.url}{path} ") as transport,
    ):
        transport.send(Call("status", "GET", "/status.php"))
    assert server.paths == [f"GET {path.rstrip('/')}/status.php"]


def test_cookies_are_kept_so_that_one_login_is_enough() -> None:
    logins = []

    def answer(seen: Seen) -> Reply:
        if "ocwk7gl88h12=abc" in seen.headers.get("cookie", ""):
            return Reply(body=ocs(200))
        logins.append(seen)
        return Reply(
            body=ocs(200), cookies=("oc_sessionPassphrase=x; path=/", "ocwk7gl88h12=abc; path=/; HttpOnly")
        )

    with HttpServer(answer) as server, transport_to(server.url) as transport:
        answers = [transport.send(READ) for _ in range(5)]
        assert {one.instance_id for one in answers} == {"ocwk7gl88h12"}
        assert len(logins) == 1
        transport.renew()
        transport.send(READ)
        assert len(logins) == 2
        assert transport.send_as(READ, "user", "x").instance_id == "ocwk7gl88h12"
        assert len(logins) == 3
    assert len({seen.port for seen in server.requests}) == 3


def test_a_login_is_not_kept_longer_than_allowed() -> None:
    logins = []

    def answer(seen: Seen) -> Reply:
        if "ocwk7gl88h12=abc" not in seen.headers.get("cookie", ""):
            logins.append(seen)
        return Reply(body=ocs(200), cookies=("ocwk7gl88h12=abc; path=/; HttpOnly",))

    with HttpServer(answer) as server, transport_to(server.url, login_seconds=0.0) as transport:
        for _ in range(3):
            transport.send(READ)
    assert len(logins) == 3


def test_refused_login_forgets_its_cookies() -> None:
    def answer(seen: Seen) -> Reply:
        return Reply(401, cookies=("ocwk7gl88h12=abc; path=/",))

    with HttpServer(answer) as server, transport_to(server.url) as transport:
        transport.send(READ)
        transport.send(READ)
    assert "cookie" not in server.requests[1].headers


def test_no_more_than_the_allowed_requests_run_at_once_and_each_keeps_its_session() -> None:
    gate = threading.Barrier(3)
    running: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def answer(seen: Seen) -> Reply:
        with lock:
            running.append(1)
            most.append(len(running))
        gate.wait(10)
        with lock:
            running.pop()
        return Reply(body=ocs(200))

    with HttpServer(answer) as server, transport_to(server.url, concurrency=3) as transport:
        threads = [threading.Thread(target=transport.send, args=(READ,)) for _ in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert max(most) == 3
    assert len({seen.port for seen in server.requests}) == 3


def close_after_first(idle: threading.Event) -> Callable[[socket.socket, int], None]:
    """Answers the first request of a connection, then closes it without having said so."""

    def talk(connection: socket.socket, number: int) -> None:
        if read_request(connection):
            connection.sendall(http_answer())
            connection.shutdown(socket.SHUT_RDWR)
            idle.set()

    return talk


@pytest.mark.parametrize("call", [READ, CHANGE], ids=["read", "change"])
def test_connection_that_the_server_closed_meanwhile_is_replaced(call: Call) -> None:
    idle = threading.Event()
    with RawServer(close_after_first(idle)) as server, transport_to(server.url) as transport:
        for _ in range(3):
            idle.clear()
            assert transport.send(call).status == 200
            assert idle.wait(10)
        assert server.connections == 3


def drop_second_request(connection: socket.socket, number: int) -> None:
    """A server that closes a kept connection in the very moment the next request arrives."""
    if read_request(connection):
        connection.sendall(http_answer())
        read_request(connection)


def test_reading_is_tried_again_when_a_kept_connection_dies_and_changing_is_not() -> None:
    with RawServer(drop_second_request) as server, transport_to(server.url) as transport:
        assert transport.send(READ).status == 200
        assert transport.send(READ).status == 200
        assert server.connections == 2
        with pytest.raises(OutcomeUnknown):
            transport.send(CHANGE)
        assert server.connections == 2


def test_change_does_not_trust_a_connection_that_was_long_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "MAX_IDLE_SECONDS", 0.0)
    with RawServer(drop_second_request) as server, transport_to(server.url) as transport:
        for number in range(1, 4):
            assert transport.send(CHANGE).status == 200
            assert server.connections == number


def test_login_returned_after_a_renewal_is_not_kept() -> None:
    entered, leave = threading.Event(), threading.Event()

    def answer(seen: Seen) -> Reply:
        entered.set()
        leave.wait(10)
        return Reply(body=ocs(200), cookies=("ocwk7gl88h12=abc; path=/",))

    with HttpServer(answer) as server, transport_to(server.url) as transport:
        thread = threading.Thread(target=transport.send, args=(READ,))
        thread.start()
        assert entered.wait(10)
        transport.renew()
        leave.set()
        thread.join(10)
        transport.send(READ)
    assert ["cookie" in seen.headers for seen in server.requests] == [False, False]


def test_redirect_to_another_host_is_refused_and_gets_no_credentials() -> None:
    with HttpServer(lambda _: Reply(body=ocs(200))) as other:
        there = f"http://user:pw@127.0.0.1:{other.port}/cloud/status.php"
        with (
            HttpServer(lambda _: Reply(302, b"x" * 100, {"Location": there})) as server,
            transport_to(server.url) as transport,
        ):
            call = Call("status", "GET", "/status.php")
            with pytest.raises(RedirectRefused) as caught:
                transport.send(call)
        assert other.requests == []
    assert re.search(
        rf"redirects to http://127\.0\.0\.1:{other.port}/cloud: put this address into the server's URL",
        str(caught.value),
    )


def test_redirect_to_another_scheme_is_refused() -> None:
    def answer(seen: Seen) -> Reply:
        return Reply(301, headers={"Location": f"https://127.0.0.1:{server.port}{seen.path}"})

    with (
        HttpServer(answer) as server,
        transport_to(server.url) as transport,
        pytest.raises(RedirectRefused, match="https://127"),
    ):
        transport.send(READ)


@pytest.mark.parametrize("location", ["/new?x=1", "http://127.0.0.1:{port}/new?x=1"])
def test_reading_follows_a_redirect_to_the_same_server(location: str) -> None:
    def answer(seen: Seen) -> Reply:
        if seen.path == "/new":
            return Reply(body=b"here")
        return Reply(307, b"moved", {"Location": location.format(port=server.port)})

    with HttpServer(answer) as server, transport_to(server.url) as transport:
        assert transport.send(READ).body == b"here"
    assert server.requests[-1].query == {"x": "1"}
    assert server.requests[-1].headers["authorization"].startswith("Basic ")


def test_changing_follows_no_redirect_at_all() -> None:
    with (
        HttpServer(lambda _: Reply(302, headers={"Location": "/new"})) as server,
        transport_to(server.url) as transport,
        pytest.raises(RedirectRefused),
    ):
        transport.send(CHANGE)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "headers"), [(303, {"Location": "/done"}), (302, {}), (303, {})])
def test_a_redirect_that_does_not_say_that_nothing_was_done_leaves_a_change_unknown(
    status: int, headers: dict[str, str]
) -> None:
    with (
        HttpServer(lambda _: Reply(status, headers=headers)) as server,
        transport_to(server.url) as transport,
        pytest.raises(OutcomeUnknown),
    ):
        transport.send(CHANGE)


def test_a_redirect_does_not_bring_our_secrets_into_a_message() -> None:
    call = Call("set_password", "PUT", "/x", form=(("value", "hidden"),), secrets=("hidden",))
    with (
        HttpServer(
            lambda _: Reply(302, headers={"Location": "http://evil.example/hidden/s3cret-admin"})
        ) as server,
        transport_to(server.url) as transport,
        pytest.raises(RedirectRefused, match=r"redirects to http://evil\.example/\*\*\*/\*\*\*: "),
    ):
        transport.send(call)


def test_redirects_in_a_circle_end() -> None:
    with (
        HttpServer(lambda seen: Reply(302, headers={"Location": seen.path})) as server,
        transport_to(server.url) as transport,
        pytest.raises(RedirectRefused, match="more than 3 times"),
    ):
        transport.send(READ)
    assert len(server.requests) == 4


@pytest.mark.parametrize("headers", [{}, {"Location": "http://[bad"}, {"Location": "http://host:port/"}])
def test_redirect_to_nowhere_is_a_bad_answer(headers: dict[str, str]) -> None:
    with (
        HttpServer(lambda _: Reply(302, headers=headers)) as server,
        transport_to(server.url) as transport,
        pytest.raises(BadAnswer, match="without saying where"),
    ):
        transport.send(READ)


def test_nothing_secret_is_in_a_representation() -> None:
    call = Call("set_password", "PUT", "/x", form=(("value", "hidden"),), secrets=("hidden",))
    assert "hidden" not in repr(call)
    with transport_to("http://127.0.0.1:1") as transport:
        assert "s3cret-admin" not in repr(transport._connection)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_descriptors_do_not_leak() -> None:
    with HttpServer(lambda _: Reply(body=ocs(200))) as server, transport_to(server.url) as transport:
        transport.send(READ)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(30):
            transport.send(READ)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
