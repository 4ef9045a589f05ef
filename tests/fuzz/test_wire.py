"""Any bytes that come over the wire: a whole answer or a `CloudError`, and a change that is in doubt says so.

`make fuzz` runs the same properties for longer.
"""

from __future__ import annotations

import gzip
import logging
import queue
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nc.calls import Call, RawAnswer
from nc.errors import CloudError, OutcomeUnknown, RedirectRefused
from nc.transport import Transport
from tests.unit.nc.raw_server import CHANGE, READ, RawServer, connection_to, read_request

LIMIT_BYTES = 4096

lines = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 500 ",
        b"HTTP/1.1 302 x",
        b"HTTP/1.1 100 c",
        b"HTTP/1.1 204 x",
        b"HTTP/9 x",
    ]
) | st.binary(max_size=30)
heads = st.lists(
    st.sampled_from(
        [
            b"Content-Length: 5",
            b"Content-Length: -1",
            b"Content-Length: 99999999999999999999",
            b"Transfer-Encoding: chunked",
            b"Content-Encoding: gzip",
            b"Content-Encoding: deflate",
            b"Location: /other",
            b"Location: http://evil.example/",
            b"Location: \xff\x00//[",
            b"Set-Cookie: ocabcdefghij=1; path=/",
            b"Set-Cookie: \xff",
            b": no name",
            b" folded",
        ]
    )
    | st.binary(max_size=30),
    max_size=5,
)
bodies = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(lambda content: gzip.compress(content, mtime=0)),
    st.sampled_from(
        [b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"FFFFFFFFFFFFFFFF\r\nx", b"0\r\nX: y\r\n\r\n", b"hello"]
    ),
    st.just(b"x" * (LIMIT_BYTES + 1)),
)
wires = st.builds(
    lambda line, head, body: b"\r\n".join([line, *head, b"", body]), lines, heads, bodies
) | st.binary(max_size=200)


class Wire:
    """A server that answers with whatever it is given, and hangs up."""

    def __init__(self) -> None:
        self.to_send: queue.Queue[bytes] = queue.Queue()

    def talk(self, connection: socket.socket, _number: int) -> None:
        read_request(connection)
        connection.sendall(self.to_send.queue[0])


@pytest.fixture(scope="module")
def wire() -> Iterator[tuple[Wire, Transport]]:
    made = Wire()
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it complains of every bad header
    with RawServer(made.talk) as server:
        limits = {"max_response_bytes": LIMIT_BYTES, "read_timeout_seconds": 20, "total_timeout_seconds": 20}
        transport = Transport(connection_to(server.url, **limits))
        yield made, transport
        transport.renew()


# A connection that broke off is closed when its error is forgotten, which may wait for the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(sent=wires, call=st.sampled_from([READ, CHANGE]))
def test_whatever_comes_back_it_is_an_answer_or_a_typed_error(
    wire: tuple[Wire, Transport], sent: bytes, call: Call
) -> None:
    made, transport = wire
    made.to_send.queue.clear()
    made.to_send.put(sent)
    result: RawAnswer | CloudError
    try:
        result = transport.send(call)
    except CloudError as error:
        result = error
    if isinstance(result, RawAnswer):
        assert len(result.body) <= LIMIT_BYTES
        assert 100 <= result.status <= 999
        return
    assert str(result).isprintable()
    assert len(str(result)) < 900
    assert "s3cret-admin" not in str(result)
    assert not call.is_mutating or isinstance(result, OutcomeUnknown | RedirectRefused)
