"""Fixtures for the tests of the reconciler's parts: a provider with emulated clouds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.billing_data import generate_private_key_pem
from reconciler.sandbox.emulator import CloudEmulator
from tests.unit.reconciler.world import Maker, World


@pytest.fixture(scope="session")
def private_key_pem() -> bytes:
    return generate_private_key_pem()


@pytest.fixture
def make_world(tmp_path: Path, private_key_pem: bytes) -> Iterator[Maker]:
    made: list[World] = []

    def make(*clouds: CloudEmulator) -> World:
        made.append(World(tmp_path, private_key_pem, list(clouds) or [CloudEmulator("nextcloud")]))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def world(make_world: Maker) -> World:
    return make_world()
