"""What holds for every situation that can be put together, also for those that should never be."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import Phase, given, settings

from states import (
    Fault,
    FaultField,
    Mode,
    Ownership,
    ServiceState,
    Step,
    StepKind,
    Verdict,
    Wish,
    plan,
)
from states.table import TRANSITIONS
from tests.unit.states.situations import Situation, situations

S = ServiceState
MOVES = {(source, row.target) for row in TRANSITIONS for source in row.sources}
STEPLESS = {S.HELD, S.QUARANTINED, S.ORPHANED, S.ABSENT, S.DELETED, S.UNKNOWN}
FIELDS = {
    StepKind.CREATE: "existence",
    StepKind.DELETE: "existence",
    StepKind.ENABLE: "enabled",
    StepKind.DISABLE: "enabled",
    StepKind.SET_QUOTA: "quota",
    StepKind.ADD_GROUP: "group",
    StepKind.REMOVE_GROUP: "group",
    StepKind.CREATE_GROUP: "group",
    StepKind.SET_EMAIL: "email",
}

many = settings(max_examples=200)


def is_destructive(step: Step) -> bool:
    return step.is_decrease or step.kind in {StepKind.DELETE, StepKind.DISABLE, StepKind.REMOVE_GROUP}


# --- the generator is worth its name --------------------------------------------------------------


def test_the_generator_meets_every_state_and_every_kind_of_step() -> None:
    states: set[ServiceState] = set()
    kinds: set[StepKind] = set()

    @settings(max_examples=2000, derandomize=True, database=None, phases=[Phase.generate])
    @given(situations)
    def look(one: Situation) -> None:
        retiring = one.in_state(S.RETIRING)
        states.update({one.classify().state, retiring.classify().state})
        kinds.update(step.kind for step in [*one.plan_steps(), *retiring.plan_steps()])

    look()
    assert states == set(S) - {S.BACKOFF}
    assert kinds == set(StepKind) - {StepKind.SET_PASSWORD}, "that one is never planned"


# --- classify -------------------------------------------------------------------------------------


@many
@given(situations)
def test_every_situation_is_one_state_with_a_reason_whatever_was_recorded(one: Situation) -> None:
    for state in S:
        verdict = one.in_state(state).classify()
        assert isinstance(verdict, Verdict)
        assert verdict.state in set(S) - {S.BACKOFF}
        assert verdict.reason
        assert "\n" not in verdict.reason


@many
@given(situations)
def test_the_table_allows_the_move_from_every_recorded_state(one: Situation) -> None:
    for state in S:
        target = one.in_state(state).classify().state
        assert target is state or (state, target) in MOVES


@many
@given(situations)
def test_a_pass_that_sees_nothing_new_stays_where_it_is_after_three_turns(one: Situation) -> None:
    for state in S:
        settled, met = one.in_state(state).settle()
        assert len(met) <= 3
        assert settled.classify().state is settled.memory.state


@many
@given(situations)
def test_the_same_situation_is_always_judged_the_same(one: Situation) -> None:
    assert one.classify() == one.classify()
    assert one.plan_steps() == one.plan_steps()


@many
@given(situations)
def test_only_what_is_ours_and_no_longer_sold_and_past_its_grace_is_ever_to_be_deleted(
    one: Situation,
) -> None:
    if one.classify().state is S.DELETING:
        assert one.desired is not None
        assert one.observed is not None
        assert one.desired.wish is Wish.ABSENT
        assert one.is_ours
        assert not one.is_untouchable
        assert one.is_grace_over
        assert one.memory.state in {S.RETIRING, S.DELETING}
        assert one.memory.hold_reason is None
        assert one.memory.quarantine_reason is None


@many
@given(situations)
def test_a_row_that_vanished_deletes_nothing(one: Situation) -> None:
    vanished = replace(one, desired=None)
    is_known = one.memory.ownership is not Ownership.NONE
    assert vanished.classify().state is (S.ORPHANED if is_known else S.ABSENT)
    assert vanished.plan_steps() == []


@many
@given(situations)
def test_a_stable_state_has_no_difference(one: Situation) -> None:
    verdict = one.classify()
    if verdict.state.is_stable:
        assert verdict.differences == ()


@many
@given(situations)
def test_no_difference_of_an_ignored_field_is_shown(one: Situation) -> None:
    for difference in one.classify().differences:
        mode = Mode(getattr(one.circumstances.policy, difference.field))
        assert mode is not Mode.IGNORE
        assert difference.is_enforced is (mode is Mode.ENFORCE)
        assert difference.wanted != difference.observed


# --- plan -----------------------------------------------------------------------------------------


@many
@given(situations)
def test_the_next_step_is_the_first_that_is_foreseen(one: Situation) -> None:
    steps = one.plan_steps()
    next_step = plan(one.classify(), one.desired, one.observed, one.memory, one.circumstances)
    assert next_step == (steps[0] if steps else None)


@many
@given(situations)
def test_nothing_destructive_befalls_an_account_that_is_not_ours_or_an_administrators_or_not_there(
    one: Situation,
) -> None:
    if not one.is_ours or one.is_untouchable or one.observed is None:
        assert [step for step in one.plan_steps() if is_destructive(step)] == []


@many
@given(situations)
def test_nothing_changes_for_an_account_that_is_there_and_not_ours_or_not_to_be_touched(
    one: Situation,
) -> None:
    if one.observed is not None and (not one.is_ours or one.is_untouchable):
        assert [step for step in one.plan_steps() if step.kind.is_mutating] == []


@many
@given(situations)
def test_a_proof_is_asked_only_of_a_create_that_was_never_answered(one: Situation) -> None:
    kinds = [step.kind for step in one.plan_steps()]
    if StepKind.PROVE_OWNERSHIP in kinds:
        assert kinds == [StepKind.PROVE_OWNERSHIP]
        assert one.memory.has_open_create
        assert not one.is_untouchable


@many
@given(situations)
def test_nothing_changes_for_an_account_before_an_unanswered_create_of_it_is_proved(one: Situation) -> None:
    if one.observed is not None and one.memory.has_open_create:
        assert {step.kind for step in one.plan_steps()} <= {StepKind.PROVE_OWNERSHIP}


@many
@given(situations)
def test_a_stopped_service_has_no_step_at_all(one: Situation) -> None:
    if one.classify().state in STEPLESS:
        assert one.plan_steps() == []


@many
@given(situations)
def test_a_stable_service_has_no_step_but_its_adoption_or_proof(one: Situation) -> None:
    if one.classify().state.is_stable:
        assert [step for step in one.plan_steps() if step.kind.is_mutating] == []


@many
@given(situations)
def test_an_adoption_comes_first_and_once_and_only_of_what_billing_names(one: Situation) -> None:
    kinds = [step.kind for step in one.plan_steps()]
    if StepKind.ADOPT in kinds:
        assert kinds.index(StepKind.ADOPT) == 0
        assert kinds.count(StepKind.ADOPT) == 1
        assert one.desired is not None
        assert one.desired.is_username_recorded
        assert one.memory.ownership is Ownership.NONE
        assert not one.is_untouchable


@many
@given(situations)
def test_steps_are_planned_only_for_fields_that_are_enforced(one: Situation) -> None:
    for step in one.plan_steps():
        field = FIELDS.get(step.kind)
        assert field is None or getattr(one.circumstances.policy, field) is Mode.ENFORCE


@many
@given(situations)
def test_no_group_is_joined_or_left_but_the_tariffs(one: Situation) -> None:
    for step in one.plan_steps():
        assert "admin" not in step.groups
        if step.kind is StepKind.REMOVE_GROUP:
            assert set(step.groups) <= one.circumstances.managed_groups
        elif step.groups:
            assert one.desired is not None
            assert step.groups == (one.desired.group,)


@many
@given(situations)
def test_an_account_is_made_only_where_none_is_and_one_is_sold(one: Situation) -> None:
    for step in one.plan_steps():
        if step.kind is StepKind.CREATE:
            assert one.observed is None
            assert one.desired is not None
            assert one.desired.wish in {Wish.ENABLED, Wish.DISABLED}
            assert step.quota is not None


@many
@given(situations)
def test_every_step_names_the_account_that_was_seen_or_that_is_wanted(one: Situation) -> None:
    for step in one.plan_steps():
        assert one.desired is not None
        assert step.userid == (one.desired.username if one.observed is None else one.observed.userid)


@many
@given(situations)
def test_a_service_without_a_quota_is_neither_made_nor_enabled_nor_resized(one: Situation) -> None:
    if one.desired is not None:
        fault = Fault(FaultField.QUOTA, "no quota is named")
        unmeasured = replace(one, desired=replace(one.desired, quota=None, faults=(fault,)))
        kinds = {step.kind for step in unmeasured.plan_steps()}
        assert not kinds & {StepKind.CREATE, StepKind.ENABLE, StepKind.SET_QUOTA}
