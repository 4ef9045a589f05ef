"""Killed at any effect of any life-cycle step on ownCloud, it ends where it would have ended anyway."""

from __future__ import annotations

import os
from multiprocessing.context import ForkServerContext
from typing import Any, Final

import pytest

from tests.acceptance.conftest import MakeWorld
from tests.acceptance.crash.crash_points import try_all
from tests.acceptance.crash.scenarios import SCENARIOS

_SAME_CALLS: Final = (
    frozenset()
    if "CRASH_POINTS" in os.environ
    else {
        "create, credentials by sql",
        "create again",
        "close without a grace",
        "adoption by what billing names",
        "adoption by an operator",
        "server change",
        "two pending changes",
        "tariff down",
        "resume",
        "BILLmanager's module: open",
        "BILLmanager's module: setparam",
        "BILLmanager's module: close",
    }
)
"""Made of calls to the server that the others make, too: what differs is billing's and the journal's, and
tried on Nextcloud. With CRASH_POINTS=all they are tried here as well."""


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in _SAME_CALLS])
def test_a_crash_at_any_effect_changes_nothing_of_how_it_ends(
    make_world: MakeWorld, fork_server: ForkServerContext, record_property: Any, name: str
) -> None:
    try_all(make_world, fork_server, name, 1, record_property)
