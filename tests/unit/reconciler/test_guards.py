"""How much may happen before a person is asked; what counts is what the journal holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.config_sections import GuardsSection
from reconciler.guards import CapUse, Guard, Guards, ReadVerdict, Refusal
from reconciler.journal import Journal, Outcome, ServiceRecord
from states import Step, StepKind
from tests.unit.reconciler.samples import NOW, begin, do, make_desired, make_step, open_sqlite, take

HOUR, DAY = timedelta(hours=1), timedelta(hours=24)
MOMENT = timedelta(seconds=1)

DELETE = make_step(StepKind.DELETE)
DISABLE = make_step(StepKind.DISABLE)
RECREATE = make_step(StepKind.CREATE, quota=1, is_recreation=True)
DECREASE = make_step(StepKind.SET_QUOTA, quota=1, is_decrease=True)

CAPS = [
    pytest.param(DELETE, "deletions", "min_deletions", "max_deletions_percent", DAY, id="deletions"),
    pytest.param(DISABLE, "disables", "min_disables", "max_disables_percent", HOUR, id="disables"),
    pytest.param(
        RECREATE, "recreations", "min_recreations", "max_recreations_percent", HOUR, id="recreations"
    ),
    pytest.param(
        DECREASE,
        "quota_decreases",
        "min_quota_decreases",
        "max_quota_decreases_percent",
        HOUR,
        id="quota decreases",
    ),
]
each_cap = pytest.mark.parametrize(("step", "guard", "minimum", "percent", "window"), CAPS)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_sqlite(tmp_path)
    yield opened
    opened.close()


def make_guards(journal: Journal, **limits: Any) -> Guards:
    return Guards(journal, GuardsSection(**limits))


def sell(journal: Journal, count: int, *, server_id: int = 1) -> None:
    first = server_id * 10_000
    services = (make_desired(first + number, server_id=server_id) for number in range(count))
    journal.services.note_desired(services, NOW)


def refuse(guards: Guards, step: Step) -> str:
    """Why a step must not be taken a moment later."""
    refusal = guards.check_step(step, 1, NOW + MOMENT)
    assert refusal is not None
    return refusal.message


def get_record(journal: Journal, item_id: int = 7) -> ServiceRecord:
    journal.services.note_desired([make_desired(item_id)], NOW)
    return journal.services.load([item_id])[item_id]


# -- caps


@each_cap
def test_cap_lets_steps_through_below_it_and_none_at_or_above_it(
    journal: Journal, step: Step, guard: str, minimum: str, percent: str, window: timedelta
) -> None:
    guards = make_guards(journal, **{minimum: 3, percent: 0.0})
    for _ in range(3):
        assert guards.check_step(step, 1, NOW + MOMENT) is None
        do(journal, step)
    hours, name = int(window / HOUR), guard.replace("_", "-")
    expected = (
        f"guard {guard}: 3 of 3 in {hours} h are used on server 1: it waits; "
        f"if it is right, `reconciler approve {name} --server 1`"
    )
    assert guards.check_step(step, 1, NOW + MOMENT) == Refusal(Guard(guard), expected)
    do(journal, step)
    assert "4 of 3" in refuse(guards, step)


@each_cap
def test_cap_is_of_each_server(
    journal: Journal, step: Step, guard: str, minimum: str, percent: str, window: timedelta
) -> None:
    guards = make_guards(journal, **{minimum: 1, percent: 0.0})
    do(journal, step, server_id=1)
    assert guards.check_step(step, 1, NOW + MOMENT) is not None
    assert guards.check_step(step, 2, NOW + MOMENT) is None


@each_cap
def test_cap_slides_with_time(
    journal: Journal, step: Step, guard: str, minimum: str, percent: str, window: timedelta
) -> None:
    guards = make_guards(journal, **{minimum: 2, percent: 0.0})
    do(journal, step, now=NOW)
    do(journal, step, now=NOW + window / 2)
    assert guards.check_step(step, 1, NOW + window - MOMENT) is not None
    assert guards.check_step(step, 1, NOW + window) is None
    do(journal, step, now=NOW + window)
    assert guards.check_step(step, 1, NOW + 1.5 * window - MOMENT) is not None
    assert guards.check_step(step, 1, NOW + 1.5 * window) is None


@each_cap
def test_cap_survives_a_restart(
    tmp_path: Path, step: Step, guard: str, minimum: str, percent: str, window: timedelta
) -> None:
    for number in range(2):
        journal = open_sqlite(tmp_path)
        guards = make_guards(journal, **{minimum: 2, percent: 0.0})
        assert guards.check_step(step, 1, NOW + MOMENT) is None, number
        do(journal, step)
        journal.close()
    journal = open_sqlite(tmp_path)
    assert make_guards(journal, **{minimum: 2, percent: 0.0}).check_step(step, 1, NOW + MOMENT) is not None
    journal.close()


@each_cap
def test_cap_grows_with_the_services_of_the_server(
    journal: Journal, step: Step, guard: str, minimum: str, percent: str, window: timedelta
) -> None:
    guards = make_guards(journal, **{minimum: 1, percent: 10.0})
    sell(journal, 39)
    sell(journal, 500, server_id=2)
    for _ in range(3):
        assert guards.check_step(step, 1, NOW + MOMENT) is None
        do(journal, step)
    assert "3 of 3" in refuse(guards, step)


@each_cap
def test_cap_of_zero_stops_every_step(
    journal: Journal, step: Step, guard: str, minimum: str, percent: str, window: timedelta
) -> None:
    guards = make_guards(journal, **{minimum: 0, percent: 0.0})
    assert guards.check_step(step, 1, NOW) is not None


@each_cap
def test_only_its_own_steps_use_a_cap_up(
    journal: Journal, step: Step, guard: str, minimum: str, percent: str, window: timedelta
) -> None:
    guards = make_guards(journal, **{minimum: 1, percent: 0.0})
    for other in (DELETE, DISABLE, RECREATE, DECREASE):
        if other is not step:
            do(journal, other)
    for kind in (StepKind.CREATE, StepKind.SET_QUOTA, StepKind.ENABLE):
        do(journal, make_step(kind, quota=1))
    assert guards.check_step(step, 1, NOW + MOMENT) is None


@each_cap
def test_step_that_failed_for_certain_gives_its_place_back_and_an_unknown_one_keeps_it(
    journal: Journal, step: Step, guard: str, minimum: str, percent: str, window: timedelta
) -> None:
    guards = make_guards(journal, **{minimum: 2, percent: 0.0})
    do(journal, step, outcome=Outcome.FAILED)
    do(journal, step, outcome=Outcome.UNKNOWN)
    assert guards.check_step(step, 1, NOW + MOMENT) is None
    begin(journal, take(journal), step)  # a crash: nobody knows what became of it
    assert guards.check_step(step, 1, NOW + MOMENT) is not None


def test_how_far_each_cap_is_used_up_is_told_for_every_server(journal: Journal) -> None:
    guards = make_guards(journal, min_disables=2, max_disables_percent=10.0)
    do(journal, DELETE, now=NOW - HOUR)
    do(journal, DISABLE, now=NOW - HOUR)
    do(journal, DISABLE, outcome=Outcome.FAILED)
    for _ in range(3):
        do(journal, DISABLE, server_id=2)
    do(journal, RECREATE, server_id=2)
    do(journal, DECREASE)
    assert guards.list_uses({1: 10, 2: 40}, NOW + MOMENT) == [
        CapUse("deletions", 1, 1, 5, 24),
        CapUse("deletions", 2, 0, 5, 24),
        CapUse("disables", 1, 0, 2, 1),
        CapUse("disables", 2, 3, 4, 1),
        CapUse("recreations", 1, 0, 5, 1),
        CapUse("recreations", 2, 1, 5, 1),
        CapUse("quota_decreases", 1, 1, 20, 1),
        CapUse("quota_decreases", 2, 0, 20, 1),
    ]


@pytest.mark.parametrize(
    "step",
    [
        make_step(StepKind.CREATE, quota=1),
        make_step(StepKind.SET_QUOTA, quota=1),
        make_step(StepKind.ENABLE),
        make_step(StepKind.SET_EMAIL, email="a@example.net"),
        make_step(StepKind.ADD_GROUP, groups=("gold",)),
    ],
    ids=lambda step: step.kind.value,
)
def test_first_provisioning_and_repairs_are_not_capped(journal: Journal, step: Step) -> None:
    guards = make_guards(
        journal,
        min_deletions=0,
        min_disables=0,
        min_recreations=0,
        min_quota_decreases=0,
        max_deletions_percent=0.0,
        max_disables_percent=0.0,
        max_recreations_percent=0.0,
        max_quota_decreases_percent=0.0,
    )
    for _ in range(30):
        do(journal, step)
    assert guards.check_step(step, 1, NOW + MOMENT) is None


@pytest.mark.parametrize(
    ("step", "services", "limit"),
    [
        (DELETE, 10, 5),
        (DELETE, 599, 5),
        (DELETE, 600, 6),
        (DISABLE, 10, 20),
        (DISABLE, 420, 21),
        (RECREATE, 10, 5),
        (RECREATE, 300, 6),
        (DECREASE, 10, 20),
        (DECREASE, 210, 21),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Step) else None,
)
def test_defaults_are_those_of_the_design(journal: Journal, step: Step, services: int, limit: int) -> None:
    guards = make_guards(journal)
    sell(journal, services)
    lease = take(journal)
    for _ in range(limit - 1):
        begin(journal, lease, step)
    assert guards.check_step(step, 1, NOW + MOMENT) is None
    begin(journal, lease, step)
    assert f"{limit} of {limit}" in refuse(guards, step)


# -- the desired read


DESTRUCTIVE = [DELETE, DISABLE, DECREASE]


def is_stopped(guards: Guards) -> bool:
    """Whether the read stops what destroys (all of it or none), and never anything else."""
    refusals = [guards.check_step(step, 1, NOW) for step in DESTRUCTIVE]
    assert guards.check_step(RECREATE, 1, NOW) is None
    assert guards.check_step(make_step(StepKind.ENABLE), 1, NOW) is None
    assert all(refusals) or not any(refusals)
    told = [refusal for refusal in refusals if refusal is not None]
    assert all(refusal.guard is Guard.DESIRED_READ for refusal in told)
    assert all("guard desired_read: billing shows" in refusal.message for refusal in told)
    return all(refusals)


def test_first_read_is_good_whatever_it_holds(journal: Journal) -> None:
    guards = make_guards(journal)
    assert not is_stopped(guards)
    verdict = guards.record_read({1: 10})
    assert (verdict.seen, verdict.good, verdict.is_suspicious) == (10, 0, False)
    assert not is_stopped(guards)


def test_empty_first_read_is_no_reason_to_stop(journal: Journal) -> None:
    guards = make_guards(journal)
    assert not guards.record_read({}).is_suspicious
    assert not is_stopped(guards)


def test_empty_read_stops_everything_that_destroys(journal: Journal) -> None:
    guards = make_guards(journal)
    guards.record_read({1: 10})
    verdict = guards.record_read({})
    assert (verdict.seen, verdict.good, verdict.is_suspicious) == (0, 10, True)
    assert is_stopped(guards)


def test_empty_read_stops_even_when_any_shrinking_is_allowed(journal: Journal) -> None:
    guards = make_guards(journal, max_desired_shrink_percent=100.0)
    guards.record_read({1: 10})
    assert not guards.record_read({1: 1}).is_suspicious
    assert guards.record_read({}).is_suspicious


@pytest.mark.parametrize(
    ("seen", "is_suspicious"), [(100, False), (81, False), (80, False), (79, True), (150, False)]
)
def test_read_may_shrink_by_the_limit_and_no_more(journal: Journal, seen: int, is_suspicious: bool) -> None:
    guards = make_guards(journal)
    guards.record_read({1: 100})
    assert guards.record_read({1: seen}).is_suspicious is is_suspicious
    assert is_stopped(guards) is is_suspicious


def test_limit_is_exact_for_every_percentage(journal: Journal) -> None:
    for percent in range(1, 100):
        guards = make_guards(journal, max_desired_shrink_percent=float(percent))
        guards.record_read({1: 100})
        guards.accept_read()
        assert guards.record_read({1: 100 - percent - 1}).is_suspicious, percent
        assert not guards.record_read({1: 100 - percent}).is_suspicious, percent


def test_server_that_is_gone_counts_as_shrinking(journal: Journal) -> None:
    guards = make_guards(journal)
    guards.record_read({1: 70, 2: 30})
    verdict = guards.record_read({1: 70})
    assert (verdict.seen, verdict.good, verdict.is_suspicious) == (70, 100, True)
    assert is_stopped(guards)


def test_services_that_moved_to_another_server_are_not_missed(journal: Journal) -> None:
    guards = make_guards(journal)
    guards.record_read({1: 70, 2: 30})
    assert not guards.record_read({1: 100}).is_suspicious


def test_reads_that_follow_within_seconds_do_not_wear_the_measure_down(journal: Journal) -> None:
    """The daemon's polls: services that vanish bit by bit must not go unnoticed."""
    guards = make_guards(journal)
    guards.record_read({1: 100})
    for seen in (95, 90, 85, 80):
        assert not guards.record_read({1: seen}, is_measure=False).is_suspicious
    assert guards.record_read({1: 79}, is_measure=False).is_suspicious
    assert is_stopped(guards)
    assert not guards.record_read({1: 120}, is_measure=False).is_suspicious
    assert guards.get_read_verdict().good == 120, "they may raise it"


def test_suspicious_reads_do_not_wear_the_measure_down(journal: Journal) -> None:
    guards = make_guards(journal)
    guards.record_read({1: 100})
    for seen in (79, 65, 50):
        verdict = guards.record_read({1: seen})
        assert (verdict.good, verdict.is_suspicious) == (100, True)
    assert not guards.record_read({1: 100}).is_suspicious
    assert not is_stopped(guards)


def test_good_reads_move_the_measure(journal: Journal) -> None:
    guards = make_guards(journal)
    for seen in (100, 81, 66):
        assert not guards.record_read({1: seen}).is_suspicious
    assert guards.get_read_verdict().good == 66


def test_accepted_read_becomes_the_measure(journal: Journal) -> None:
    guards = make_guards(journal)
    guards.record_read({1: 70, 2: 30})
    guards.record_read({1: 10})
    assert is_stopped(guards)
    guards.accept_read()
    verdict = guards.get_read_verdict()
    assert (verdict.seen, verdict.good, verdict.is_suspicious) == (10, 10, False)
    assert not is_stopped(guards)


def test_only_a_read_that_is_no_worse_than_the_one_that_was_shown_is_accepted(journal: Journal) -> None:
    guards = make_guards(journal)
    guards.record_read({1: 70, 2: 30})
    shown = guards.record_read({1: 60})
    assert shown.command == "reconciler approve desired-read --services 60"
    guards.record_read({1: 59})
    assert guards.accept_read(at_least=60).seen == 59
    assert is_stopped(guards), "nobody has seen that one"
    guards.record_read({1: 61})
    guards.accept_read(at_least=60)
    assert guards.get_read_verdict() == ReadVerdict(61, 61, False)


def test_a_read_that_is_worse_than_the_accepted_one_is_suspicious_again(journal: Journal) -> None:
    guards = make_guards(journal)
    guards.record_read({1: 100})
    guards.record_read({1: 50})
    guards.accept_read()
    assert not guards.record_read({1: 50}).is_suspicious
    assert guards.record_read({1: 39}).is_suspicious
    assert is_stopped(guards)


def test_suspicious_read_is_remembered_over_a_restart(tmp_path: Path) -> None:
    journal = open_sqlite(tmp_path)
    guards = make_guards(journal)
    guards.record_read({1: 100})
    guards.record_read({1: 10})
    journal.close()
    again = open_sqlite(tmp_path)
    assert is_stopped(make_guards(again))
    again.close()


# -- the hot loop


def test_service_changed_again_and_again_to_no_end_is_left_to_a_person(journal: Journal) -> None:
    guards = make_guards(journal)
    record = get_record(journal)
    for minute in range(6):
        now = NOW + timedelta(minutes=minute)
        assert guards.check_hot_loop(record, now) is None
        do(journal, make_step(StepKind.SET_QUOTA, quota=1), now=now)
    refusal = guards.check_hot_loop(record, NOW + timedelta(minutes=6))
    assert refusal is not None
    assert refusal.guard is Guard.HOT_LOOP
    assert "guard hot_loop: changed 6 times within an hour" in refusal.message
    assert "reconciler release 7" in refusal.message


def test_passwords_that_a_person_asked_for_are_no_hot_loop(journal: Journal) -> None:
    guards = make_guards(journal, hot_loop_mutations=2)
    record = get_record(journal)
    for _ in range(5):
        do(journal, make_step(StepKind.SET_PASSWORD))
    do(journal, make_step())
    assert guards.check_hot_loop(record, NOW + MOMENT) is None
    do(journal, make_step())
    assert guards.check_hot_loop(record, NOW + MOMENT) is not None


def test_hot_loop_counts_one_service_only_and_every_server_of_it(journal: Journal) -> None:
    guards = make_guards(journal, hot_loop_mutations=2)
    record, other = get_record(journal), get_record(journal, 8)
    do(journal, make_step(), server_id=1)
    do(journal, make_step(), server_id=2)
    assert guards.check_hot_loop(record, NOW + MOMENT) is not None
    assert guards.check_hot_loop(other, NOW + MOMENT) is None


def test_hot_loop_cools_down_within_an_hour(journal: Journal) -> None:
    guards = make_guards(journal, hot_loop_mutations=1)
    record = get_record(journal)
    do(journal, make_step())
    assert guards.check_hot_loop(record, NOW + HOUR - MOMENT) is not None
    assert guards.check_hot_loop(record, NOW + HOUR) is None


def test_changes_before_the_last_stable_state_do_not_count(journal: Journal) -> None:
    guards = make_guards(journal, hot_loop_mutations=2)
    get_record(journal)
    do(journal, make_step(), now=NOW)
    do(journal, make_step(), now=NOW + 2 * MOMENT)
    journal.services.update(7, stable_at=NOW + MOMENT)
    assert guards.check_hot_loop(get_record(journal), NOW + 3 * MOMENT) is None
    do(journal, make_step(), now=NOW + 3 * MOMENT)
    assert guards.check_hot_loop(get_record(journal), NOW + 4 * MOMENT) is not None


def test_stable_state_of_long_ago_does_not_widen_the_window(journal: Journal) -> None:
    guards = make_guards(journal, hot_loop_mutations=1)
    get_record(journal)
    do(journal, make_step(), now=NOW)
    journal.services.update(7, stable_at=NOW - DAY)
    assert guards.check_hot_loop(get_record(journal), NOW + HOUR) is None
