"""TLS against real servers with certificates of a throw-away authority."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme

from nc.errors import OutcomeUnknown, ServerUnreachable, TlsFailure
from tests.contract.replay import HttpServer, Reply, ocs
from tests.unit.nc.raw_server import CHANGE, READ, RawServer, read_request, transport_to


def serve(authority: trustme.CA, *names: str) -> HttpServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return HttpServer(lambda _: Reply(body=ocs(200)), tls=context)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def test_certificate_of_the_own_authority_is_accepted_and_the_connection_kept(
    authority: trustme.CA, ca_file: str
) -> None:
    with serve(authority, "127.0.0.1") as server, transport_to(server.url, ca_file=ca_file) as transport:
        assert transport.send(READ).status == 200
        assert transport.send(CHANGE).status == 200
    assert len({seen.port for seen in server.requests}) == 1


def test_certificate_of_an_unknown_authority_is_refused_before_anything_is_sent(
    authority: trustme.CA,
) -> None:
    with serve(authority, "127.0.0.1") as server, transport_to(server.url) as transport:
        with pytest.raises(
            TlsFailure, match="correct the certificate, or give the authority's file as ca_file"
        ):
            transport.send(CHANGE)
        assert not server.requests


def test_certificate_for_another_name_is_refused(authority: trustme.CA, ca_file: str) -> None:
    with (
        serve(authority, "cloud.example.com") as server,
        transport_to(server.url, ca_file=ca_file) as transport,
    ):
        with pytest.raises(TlsFailure, match=r"(?i)ip address mismatch"):
            transport.send(READ)
        assert not server.requests


@pytest.mark.parametrize("with_ca_file", [False, True])
def test_checks_are_off_only_when_asked_and_then_silently(
    authority: trustme.CA, ca_file: str, with_ca_file: bool
) -> None:
    with (
        serve(authority, "cloud.example.com") as server,
        transport_to(server.url, verify_tls=False, ca_file=ca_file if with_ca_file else None) as transport,
    ):
        assert transport.send(READ).status == 200


def test_authorities_of_the_environment_do_not_count(
    authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
    monkeypatch.setenv("CURL_CA_BUNDLE", ca_file)
    with (
        serve(authority, "127.0.0.1") as server,
        transport_to(server.url) as transport,
        pytest.raises(TlsFailure),
    ):
        transport.send(READ)


def test_ca_file_that_is_none_is_named(authority: trustme.CA, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    with serve(authority, "127.0.0.1") as server:
        with (
            transport_to(server.url, ca_file=str(tmp_path / "missing.pem")) as transport,
            pytest.raises(TlsFailure, match=r"missing\.pem"),
        ):
            transport.send(READ)
        with transport_to(server.url, ca_file=str(garbage)) as transport, pytest.raises(TlsFailure):
            transport.send(READ)


def test_tls_that_breaks_in_the_middle_leaves_a_change_unknown(authority: trustme.CA, ca_file: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def talk(connection: socket.socket, number: int) -> None:
        wrapped = context.wrap_socket(connection, server_side=True)
        read_request(wrapped)
        with socket.socket(fileno=wrapped.detach()) as plain:
            plain.sendall(b"HTTP/1.1 200 OK\r\n\r\nthis is not TLS at all")

    with RawServer(talk) as server:
        url = server.url.replace("http", "https")
        with transport_to(url, ca_file=ca_file) as transport:
            with pytest.raises(ServerUnreachable, match="broke"):
                transport.send(READ)
            with pytest.raises(OutcomeUnknown):
                transport.send(CHANGE)


def test_https_on_a_plain_port_is_a_tls_failure() -> None:
    with (
        HttpServer(lambda _: Reply()) as server,
        transport_to(server.url.replace("http", "https")) as transport,
        pytest.raises(TlsFailure),
    ):
        transport.send(CHANGE)
