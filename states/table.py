"""The transition table: every move a service may make, as data, with a reason per row.

`states.machine` runs it, `states.diagram` draws it. A pair of states that stands in no row is a
move that must not happen: above all, nothing but RETIRING leads to DELETING.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from states.model import ServiceState as S


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: from each of ``sources`` to ``target``, because of ``reason``.

    ``is_usual`` rows are a service's ordinary life; the diagram draws only these.
    """

    sources: frozenset[S]
    target: S
    reason: str
    is_usual: bool = False


def _row(sources: set[S], target: S, reason: str, *, usual: bool = False) -> Transition:
    return Transition(frozenset(sources), target, reason, usual)


_NEVER_MADE: Final = {S.UNKNOWN, S.ABSENT}
_MADE: Final = {S.PROVISIONING, S.ACTIVE, S.DRIFTED, S.SUSPENDING, S.SUSPENDED, S.RESUMING}
_LEAVING: Final = {S.RETIRING, S.DELETING}
_STOPPED: Final = {S.BACKOFF, S.HELD, S.QUARANTINED, S.ORPHANED}
_ANY: Final = set(S)

TRANSITIONS: Final[tuple[Transition, ...]] = (
    _row(_ANY - {S.UNKNOWN}, S.UNKNOWN, "the server's answer was too incomplete to tell"),
    # --- no account wanted, none there
    _row({S.UNKNOWN}, S.ABSENT, "first look: nothing is wanted and nothing of ours is there", usual=True),
    _row(_MADE | _LEAVING, S.ABSENT, "nothing is wanted, and no account is known to be ours any more"),
    _row(_STOPPED, S.ABSENT, "what stopped it is gone, and nothing is wanted"),
    _row({S.DELETED}, S.ABSENT, "nothing is wanted, and the account is forgotten"),
    # --- provisioning
    _row(_NEVER_MADE, S.PROVISIONING, "sold: an account is to be made or completed", usual=True),
    _row(_MADE - {S.PROVISIONING}, S.PROVISIONING, "the account that was there is gone: it is made again"),
    _row({S.DELETED}, S.PROVISIONING, "sold again after its account was deleted"),
    _row(_LEAVING, S.PROVISIONING, "sold again, and the account is gone already"),
    _row({S.BACKOFF}, S.PROVISIONING, "a failed provisioning is tried again", usual=True),
    _row(_STOPPED - {S.BACKOFF}, S.PROVISIONING, "what stopped it is gone: an account is to be made"),
    # --- as sold
    _row({S.PROVISIONING}, S.ACTIVE, "the account is complete", usual=True),
    _row({S.DRIFTED}, S.ACTIVE, "the difference is repaired", usual=True),
    _row({S.RESUMING}, S.ACTIVE, "the account is enabled again", usual=True),
    _row(_NEVER_MADE, S.ACTIVE, "first look: the account is as sold already", usual=True),
    _row({S.SUSPENDED, S.SUSPENDING}, S.ACTIVE, "paid again, and somebody enabled the account already"),
    _row(_LEAVING | {S.DELETED}, S.ACTIVE, "sold again, and the account is as sold"),
    _row(_STOPPED, S.ACTIVE, "what stopped it is gone, and the account is as sold"),
    # --- drift
    _row({S.ACTIVE}, S.DRIFTED, "somebody changed the account, or the tariff was changed", usual=True),
    _row({S.SUSPENDED}, S.DRIFTED, "the suspended account differs in another field", usual=True),
    _row(_NEVER_MADE | {S.DELETED}, S.DRIFTED, "first look: the account is there and differs"),
    _row({S.PROVISIONING, S.SUSPENDING, S.RESUMING}, S.DRIFTED, "only other fields differ now"),
    _row(_LEAVING, S.DRIFTED, "sold again, and another field differs"),
    _row(_STOPPED, S.DRIFTED, "what stopped it is gone, and the account differs"),
    # --- suspension
    _row({S.ACTIVE, S.DRIFTED}, S.SUSPENDING, "not paid: the account is to be disabled", usual=True),
    _row({S.SUSPENDED}, S.SUSPENDING, "somebody enabled the suspended account", usual=True),
    _row({S.PROVISIONING}, S.SUSPENDING, "suspended before it was complete"),
    _row({S.RESUMING}, S.SUSPENDING, "suspended again"),
    _row(_NEVER_MADE | {S.DELETED}, S.SUSPENDING, "first look: the account is enabled and not paid for"),
    _row(_LEAVING, S.SUSPENDING, "sold again but not paid: no longer to be deleted"),
    _row(_STOPPED, S.SUSPENDING, "what stopped it is gone: the account is to be disabled"),
    _row({S.SUSPENDING}, S.SUSPENDED, "the account is disabled", usual=True),
    _row({S.DRIFTED}, S.SUSPENDED, "the suspended account's other field is repaired", usual=True),
    _row({S.PROVISIONING}, S.SUSPENDED, "made and disabled: it was sold suspended"),
    _row({S.ACTIVE, S.RESUMING}, S.SUSPENDED, "not paid, and somebody disabled the account already"),
    _row(_NEVER_MADE | {S.DELETED}, S.SUSPENDED, "first look: the account is disabled already"),
    _row(_LEAVING, S.SUSPENDED, "sold again but not paid: it stays disabled, and is kept"),
    _row(_STOPPED, S.SUSPENDED, "what stopped it is gone, and the account is disabled"),
    # --- resumption
    _row({S.SUSPENDED}, S.RESUMING, "paid again: the account is to be enabled", usual=True),
    _row({S.ACTIVE, S.DRIFTED}, S.RESUMING, "somebody disabled a paid account", usual=True),
    _row({S.PROVISIONING, S.SUSPENDING}, S.RESUMING, "paid again before the last change was done"),
    _row(_NEVER_MADE | {S.DELETED}, S.RESUMING, "first look: the account is disabled and paid for"),
    _row(_LEAVING, S.RESUMING, "sold again within its grace: the account is to be enabled", usual=True),
    _row(_STOPPED, S.RESUMING, "what stopped it is gone: the account is to be enabled"),
    # --- end of life
    _row(_MADE, S.RETIRING, "no longer sold: disabled at once, deleted after the grace", usual=True),
    _row(_NEVER_MADE, S.RETIRING, "first look: no longer sold, and its account is there"),
    _row(
        {S.DELETED}, S.RETIRING, "the deleted account came back (a restored backup): its grace starts again"
    ),
    _row({S.DELETING}, S.RETIRING, "its grace was made longer"),
    _row(_STOPPED, S.RETIRING, "what stopped it is gone, and it is no longer sold"),
    _row({S.RETIRING}, S.DELETING, "the grace is over and billing still wants it gone", usual=True),
    _row({S.DELETING}, S.DELETED, "the account is deleted", usual=True),
    _row({S.RETIRING}, S.DELETED, "somebody deleted the account within its grace"),
    _row(_MADE, S.DELETED, "no longer sold, and somebody deleted the account already"),
    _row(_STOPPED, S.DELETED, "no longer sold, and the account is gone"),
    # --- stopped
    _row(_ANY - {S.BACKOFF}, S.BACKOFF, "a call failed: the next try is scheduled"),
    _row(_ANY - {S.HELD}, S.HELD, "an operator's pause, or BILLmanager is working on it"),
    _row(_ANY - {S.QUARANTINED}, S.QUARANTINED, "a person must decide"),
    _row(_ANY - {S.ORPHANED}, S.ORPHANED, "the service's row vanished from billing"),
)
