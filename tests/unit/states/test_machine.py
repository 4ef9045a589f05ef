"""The machine that runs the table: takes its moves, refuses every other, in every thread."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import pytest

from states import ServiceState, TransitionRefused, advance
from states.machine import StateMachine
from states.table import TRANSITIONS

S = ServiceState
MOVES = {(source, row.target) for row in TRANSITIONS for source in row.sources}


@pytest.mark.parametrize("source", S)
@pytest.mark.parametrize("target", S)
def test_a_move_is_taken_exactly_if_the_table_has_it(source: ServiceState, target: ServiceState) -> None:
    if source is target or (source, target) in MOVES:
        assert advance(source, target) is target
    else:
        with pytest.raises(TransitionRefused):
            advance(source, target)


@pytest.mark.parametrize("source", [one for one in S if one not in {S.RETIRING, S.DELETING}])
def test_nothing_is_deleted_that_was_not_retired(source: ServiceState) -> None:
    with pytest.raises(TransitionRefused) as caught:
        advance(source, S.DELETING)
    assert str(caught.value) == f"no move leads from {source.value} to deleting"
    assert caught.value.__cause__ is not None


def test_a_refused_move_leaves_the_state_as_it_was() -> None:
    machine = StateMachine(S.ACTIVE)
    with pytest.raises(TransitionRefused):
        machine.advance(S.DELETING)
    assert machine.advance(S.RETIRING) is S.RETIRING
    assert machine.advance(S.DELETING) is S.DELETING


def test_a_new_machine_has_not_looked_yet() -> None:
    machine = StateMachine()
    with pytest.raises(TransitionRefused, match="from unknown to deleted"):
        machine.advance(S.DELETED)


def test_a_machine_takes_up_another_services_state() -> None:
    machine = StateMachine(S.ACTIVE)
    machine.restart(S.RETIRING)
    assert machine.advance(S.DELETING) is S.DELETING


def test_no_move_exists_besides_the_tables() -> None:
    events = set(StateMachine()._machine.events)
    assert events == {f"become_{target.value}" for _, target in MOVES}
    assert [name for name in dir(StateMachine()._machine) if name.startswith("to_")] == []


def test_threads_do_not_see_each_others_services() -> None:
    workers, rounds = 4, 2000
    start = Barrier(workers)

    def count_deletions(source: ServiceState) -> int:
        start.wait(timeout=30)
        count = 0
        for _ in range(rounds):
            with suppress(TransitionRefused):
                count += advance(source, S.DELETING) is S.DELETING
        return count

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads that share anything will get into each other's way
    try:
        with ThreadPoolExecutor(workers) as pool:
            counts = list(pool.map(count_deletions, [S.RETIRING, S.ACTIVE] * (workers // 2)))
    finally:
        sys.setswitchinterval(interval)
    assert counts == [rounds, 0] * (workers // 2)
