"""Fixtures for the HTTP interface: a real provider that a cycle has run over, served on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.unit.reconciler.web.site import OpenSite, Provider, Site


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory, private_key_pem: bytes) -> Provider:
    return Provider(tmp_path_factory.mktemp("provider"), private_key_pem)


@pytest.fixture
def open_site(tmp_path: Path, provider: Provider) -> Iterator[OpenSite]:
    """Opens the provider's HTTP interface, with the options of `Site`."""
    with ExitStack() as closing:

        def make(**options: Any) -> Site:
            site = Site(provider, tmp_path / "site", **options)
            closing.callback(site.close)
            return site

        yield make


@pytest.fixture
def site(open_site: OpenSite) -> Site:
    """The usual one: on loopback, with a token."""
    return open_site()


@pytest.fixture(scope="session")
def shared_site(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Site]:
    """The same for tests that change nothing, and for those that must not be able to."""
    site = Site(provider, tmp_path_factory.mktemp("shared") / "site")
    yield site
    site.close()
