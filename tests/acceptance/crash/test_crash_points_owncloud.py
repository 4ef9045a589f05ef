"""Killed at any effect of any life-cycle step on ownCloud, it ends where it would have ended anyway."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext
from typing import Any

import pytest

from tests.acceptance.conftest import MakeWorld
from tests.acceptance.crash.crash_points import try_all
from tests.acceptance.crash.scenarios import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_at_any_effect_changes_nothing_of_how_it_ends(
    make_world: MakeWorld, fork_server: ForkServerContext, record_property: Any, name: str
) -> None:
    try_all(make_world, fork_server, name, 1, record_property)
