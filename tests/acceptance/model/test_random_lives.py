"""Random interleavings of everything that can happen: the laws hold, and in the end all is as sold."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.acceptance.model.machine import Lives

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "6"))
PHASES = [Phase.generate, Phase.shrink] if "MODEL_SHRINK" in os.environ else [Phase.generate]
STEPS = int(os.environ.get("MODEL_STEPS", "50"))


def test_whatever_happens_the_laws_hold_and_everything_ends_as_it_was_sold() -> None:
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize="MODEL_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        phases=PHASES,
    )
    run_state_machine_as_test(Lives, settings=chosen)
