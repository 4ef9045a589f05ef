"""Certificates that stop being right while everything else stays as it was."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from reconciler.sandbox.emulator import CloudEmulator
from reconciler.sandbox.landscape import Landscape
from tests.acceptance.conftest import World
from tests.acceptance.faults.stage import Stage


@dataclass(frozen=True)
class Secured:
    """A world whose servers speak TLS only, with certificates of an authority of their own."""

    stage: Stage
    authority: trustme.CA
    contexts: list[ssl.SSLContext]

    def certify(self, number: int, name: str = "127.0.0.1", *, not_after: datetime | None = None) -> None:
        """Give a server a certificate; it counts from the next connection on."""
        self.authority.issue_cert(name, not_after=not_after).configure_cert(self.contexts[number])
        self.stage.world.land.clouds[number].stop()
        self.stage.world.land.clouds[number].start()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, private_key_pem: bytes) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("world")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2)]
    for context in contexts:
        authority.issue_cert("127.0.0.1").configure_cert(context)
    clouds = [
        CloudEmulator("nextcloud", tls_context=contexts[0]),
        CloudEmulator("owncloud", tls_context=contexts[1]),
    ]
    for cloud in clouds:
        for group in ("basic", "pro"):
            cloud.add_group(group)
    settings = {"nextcloud": {"ca_file": str(folder / "ca.pem")}}
    with Landscape(folder, clouds, private_key_pem=private_key_pem, settings=settings) as land:
        yield Secured(Stage(World(land), settings), authority, contexts)


def expire(secured: Secured, number: int) -> None:
    secured.certify(number, not_after=datetime.now(UTC) - timedelta(hours=1))


def rename(secured: Secured, number: int) -> None:
    secured.certify(number, "cloud.example.com")


@pytest.mark.parametrize("number", [0, 1], ids=["nextcloud", "owncloud"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [(expire, "certificate has expired"), (rename, "(?:IP|ip) address mismatch")],
    ids=["expired", "for another host"],
)
def test_a_certificate_that_is_not_valid(
    secured: Secured, spoil: Callable[[Secured, int], None], words: str, number: int
) -> None:
    stage = secured.stage
    stage.begin(number)
    spoil(secured, number)
    stage.suffer(f"the TLS connection to .* was refused .*{words}.*; correct the certificate")
    assert stage.sick.calls == [], "no password, and nothing else, was sent"
    secured.certify(number)
    stage.recover()
