"""A provider with one server: a second one costs every cycle its time, where it shows nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from reconciler.sandbox.emulator import CloudEmulator
from tests.acceptance.conftest import MakeWorld, World


@pytest.fixture
def make_world(make_world: MakeWorld) -> MakeWorld:
    """Makes a world: by default with one Nextcloud."""

    def make(*, clouds: Sequence[CloudEmulator] | None = None, **options: Any) -> World:
        return make_world(clouds=clouds or [CloudEmulator("nextcloud")], **options)

    return make
