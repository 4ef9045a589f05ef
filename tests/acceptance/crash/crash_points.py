"""The test of both products: any scenario, killed at any of its effects, ends as if nothing had happened.

All points of all scenarios take half an hour (``make crash``). The suite tries all of some scenarios, and of
the others a share: scenarios begin alike, so each has another share.
"""

from __future__ import annotations

from multiprocessing.context import ForkServerContext
from typing import Any, Final

from reconciler.sandbox.emulator import CloudEmulator
from tests.acceptance.conftest import MakeWorld
from tests.acceptance.crash.effects import Fate
from tests.acceptance.crash.harness import IS_THOROUGH, Harness
from tests.acceptance.crash.scenarios import SCENARIOS
from tests.acceptance.panel import install_mgrctl

_SECOND_CRASHES: Final = 3 if IS_THOROUGH else 1
_WHOLE: Final = ("create", "tariff up", "suspend", "close without a grace")
_ONE_IN: Final = 10


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
    tries: list[tuple[Fate, Fate | None]] = [
        (fate, None) for fate in _choose(harness.list_fates(), name, number)
    ]
    tries += harness.list_second_fates(_SECOND_CRASHES)
    failures = []
    for first, second in tries:
        try:
            harness.try_fate(first, second)
        except AssertionError as error:
            failures.append(f"{harness.effects[first.number]} {first}, then {second}: {error}")
    record_property("crash points", len(tries))
    assert not failures, f"{len(failures)} of {len(tries)}:\n" + "\n".join(failures)


def _choose(fates: list[Fate], name: str, number: int) -> list[Fate]:
    """Which fates of a scenario are tried on a product."""
    if IS_THOROUGH or (name in _WHOLE and number == 0):
        return fates
    return fates[(list(SCENARIOS).index(name) + 3 * number) % _ONE_IN :: _ONE_IN]
