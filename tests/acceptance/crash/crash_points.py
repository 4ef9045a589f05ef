"""The test of both products: any scenario, killed at any of its effects, ends as if nothing had happened."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext
from typing import Any

from reconciler.sandbox.emulator import CloudEmulator
from tests.acceptance.conftest import MakeWorld
from tests.acceptance.crash.effects import Fate
from tests.acceptance.crash.harness import Harness
from tests.acceptance.crash.scenarios import SCENARIOS
from tests.acceptance.panel import install_mgrctl

SECOND_CRASHES = 3


def try_all(
    make_world: MakeWorld, fork_server: ForkServerContext, name: str, number: int, record_property: Any
) -> None:
    """Try every fate of a scenario on one product, and some pairs; all failures are told at once.

    Raises:
        AssertionError: a run ended otherwise than the undisturbed one.
    """
    scenario = SCENARIOS[name]
    # Thousands of runs take less than ten minutes of a server's clock: its limit on edits is left out.
    world = make_world(clouds=[CloudEmulator("nextcloud", edit_limit=None), CloudEmulator("owncloud")])
    settings = install_mgrctl(world)
    for section, values in scenario.settings.items():
        settings.setdefault(section, {}).update(values)
    world.land.configure(settings)
    harness = Harness(world, scenario, number, fork_server)
    assert harness.get_state() == scenario.ends.value, harness.expected
    tries: list[tuple[Fate, Fate | None]] = [(fate, None) for fate in harness.list_fates()]
    tries += harness.list_second_fates(SECOND_CRASHES)
    failures = []
    for first, second in tries:
        try:
            harness.try_fate(first, second)
        except AssertionError as error:
            failures.append(f"{harness.effects[first.number]} {first}, then {second}: {error}")
    record_property("crash points", len(tries))
    assert not failures, f"{len(failures)} of {len(tries)}:\n" + "\n".join(failures)
