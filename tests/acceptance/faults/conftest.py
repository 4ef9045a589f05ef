"""Every test of this folder is a row of the fault matrix (docs/safety.md), and is counted as one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.sandbox.billing_data import generate_private_key_pem
from reconciler.sandbox.emulator import CloudEmulator
from reconciler.sandbox.landscape import Landscape
from tests.acceptance.conftest import World
from tests.acceptance.faults.stage import Stage


@pytest.fixture(autouse=True)
def _row(fault_row: None) -> None:
    """Each test is one."""


@pytest.fixture(scope="session")
def private_key_pem() -> bytes:
    """A short key: it is checked whenever it is loaded, which is in each of hundreds of cycles."""
    return generate_private_key_pem(1024)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, private_key_pem: bytes) -> Iterator[Stage]:
    """A world that the rows of a file use one after the other."""
    clouds = [CloudEmulator("nextcloud"), CloudEmulator("owncloud")]
    for cloud in clouds:
        for group in ("basic", "pro"):
            cloud.add_group(group)
    with Landscape(tmp_path_factory.mktemp("world"), clouds, private_key_pem=private_key_pem) as land:
        yield Stage(World(land))


@pytest.fixture(params=[0, 1], ids=["nextcloud", "owncloud"])
def stage(request: pytest.FixtureRequest, scene: Stage) -> Stage:
    """The server that suffers is once the Nextcloud and once the ownCloud."""
    scene.begin(request.param)
    return scene
