"""Runs the transition table with the ``transitions`` library.

``reconciler`` calls `advance` before it records a state, so that a move which the table does not
know stops the pass instead of being taken.
"""

from __future__ import annotations

import threading
from typing import Final

from transitions import Machine, MachineError

from states.model import ServiceState
from states.table import TRANSITIONS


class TransitionRefused(Exception):
    """A service was to make a move that the transition table does not know."""


class StateMachine:
    """One service's state, moved only along the table. Not for use by several threads at once."""

    def __init__(self, initial: ServiceState = ServiceState.UNKNOWN) -> None:
        self._machine: Final = Machine(
            states=[state.value for state in ServiceState],
            transitions=[
                {
                    "trigger": _trigger(row.target),
                    "source": sorted(source.value for source in row.sources),
                    "dest": row.target.value,
                }
                for row in TRANSITIONS
            ],
            initial=initial.value,
            auto_transitions=False,
        )

    def restart(self, state: ServiceState) -> None:
        """Take up another service's recorded state."""
        self._machine.set_state(state.value)

    def advance(self, target: ServiceState) -> ServiceState:
        """Move to a state; staying where one is is always right.

        Raises:
            TransitionRefused: the table has no such move. The state stays as it was.
        """
        source = ServiceState(self._machine.state)
        if source is not target:
            try:
                self._machine.trigger(_trigger(target))
            except MachineError as error:
                raise TransitionRefused(f"no move leads from {source} to {target}") from error
        return target


def _trigger(target: ServiceState) -> str:
    return f"become_{target.value}"


_local = threading.local()


def advance(source: ServiceState, target: ServiceState) -> ServiceState:
    """Move one service from its recorded state to another; safe in every thread.

    Raises:
        TransitionRefused: the table has no such move.
    """
    machine: StateMachine | None = getattr(_local, "machine", None)
    if machine is None:
        machine = _local.machine = StateMachine()
    machine.restart(source)
    return machine.advance(target)
