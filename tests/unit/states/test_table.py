"""The transition table as data: complete, without doubles, and without a short way to a deletion."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from states import STABLE_STATES, ServiceState
from states.table import TRANSITIONS

S = ServiceState
PAIRS = [(source, row.target) for row in TRANSITIONS for source in row.sources]


def test_no_two_rows_give_the_same_move() -> None:
    assert [pair for pair, count in Counter(PAIRS).items() if count > 1] == []


def test_no_row_leads_from_a_state_to_itself_or_from_nowhere() -> None:
    assert [pair for pair in PAIRS if pair[0] is pair[1]] == []
    assert all(row.sources for row in TRANSITIONS)


def test_every_row_has_a_reason_of_its_own_in_one_line() -> None:
    reasons = [row.reason for row in TRANSITIONS]
    assert len(set(reasons)) == len(reasons)
    for reason in reasons:
        assert reason == reason.strip() != ""
        assert "\n" not in reason
        assert "|" not in reason


def test_nothing_but_retiring_leads_to_deleting() -> None:
    assert [source for source, target in PAIRS if target is S.DELETING] == [S.RETIRING]


def test_what_was_never_seen_cannot_have_been_deleted() -> None:
    sources = {source for source, target in PAIRS if target is S.DELETED}
    assert sources == set(S) - {S.DELETED, S.UNKNOWN, S.ABSENT}


def test_every_other_state_can_be_reached_from_everywhere() -> None:
    for target in set(S) - {S.DELETING, S.DELETED}:
        assert {source for source, to in PAIRS if to is target} == set(S) - {target}


def test_the_usual_rows_lead_a_service_from_its_first_look_through_its_whole_life() -> None:
    usual = {(source, row.target) for row in TRANSITIONS if row.is_usual for source in row.sources}
    life = [
        S.UNKNOWN, S.PROVISIONING, S.ACTIVE, S.DRIFTED, S.ACTIVE, S.SUSPENDING, S.SUSPENDED, S.DRIFTED,
        S.SUSPENDED, S.RESUMING, S.ACTIVE, S.RETIRING, S.RESUMING, S.ACTIVE, S.RETIRING, S.DELETING,
        S.DELETED,
    ]  # fmt: skip
    assert [move for move in pairwise(life) if move not in usual] == []
    assert {state for state in STABLE_STATES if state not in {target for _, target in usual}} == set()
