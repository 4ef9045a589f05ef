"""A clock that is set while changes are under way. How the daemon bears it: tests/acceptance/daemon."""

from __future__ import annotations

import pytest

from reconciler.sandbox.emulator import Call, Fault
from tests.acceptance.faults.stage import Stage


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
def test_a_clock_that_jumps_by_an_hour_in_the_middle_of_a_change(stage: Stage, hours: int) -> None:
    jumped: list[Call] = []

    def jump(call: Call) -> bool:
        if call.is_mutating and not jumped:
            jumped.append(call)
            stage.world.wait(hours=hours)
        return False

    stage.sick.faults.append(Fault(jump))
    report = stage.world.once()
    stage.check_nothing_wrong()
    if hours > 0:
        assert report.busy, "whose lease has run out gives up"
    stage.world.wait(minutes=1)
    assert stage.world.once().is_converged
    for services in (stage.mine, stage.others):
        stage.check_served(services)
    stage.recover()
