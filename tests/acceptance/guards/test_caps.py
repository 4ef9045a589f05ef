"""Caps: so many steps of a kind on one server in a time; the rest waits, is shown, and goes on by itself."""

from __future__ import annotations

from reconciler.guards import Guard
from tests.acceptance.conftest import MakeWorld
from tests.acceptance.guards.mishaps import MOMENT, Mishap, each_mishap, get_record, make_both, sell


@each_mishap
def test_so_many_pass_on_each_server_and_what_is_beyond_waits(make_world: MakeWorld, mishap: Mishap) -> None:
    world = make_world(clouds=make_both(), settings=mishap.limit(2))
    items, others = [sell(world) for _ in range(5)], [sell(world, 1) for _ in range(2)]
    world.once()
    mishap.strike(world, items[0])
    assert world.once().is_converged, "below the limit"

    with world.open() as app:
        app.fleet.refresh()
        mishap.strike(world, *items[1:], *others)
        report = world.once()
        done = mishap.list_done(world, items)
        assert len(done) == 2, "at the limit: several workers wanted the last place"
        assert mishap.list_done(world, others) == others, "another server has a limit of its own"
        waiting = [item for item in items if item not in done]
        assert [record.item_id for record in report.blocked] == waiting
        result = app.reconciler.reconcile_service(waiting[0], actor="test")
        assert result.guard is Guard(mishap.guard), "a program that ran before counts what others did"

    assert mishap.list_done(world, items) == done
    for record in report.blocked:
        assert record.blocked_guard == mishap.guard
        assert record.blocked_step == mishap.name_step(record.item_id, 1)
        assert f"guard {mishap.guard}: 2 of 2 in " in str(record.blocked_by)
        assert f"`reconciler approve {mishap.option} --server 1`" in str(record.blocked_by)


@each_mishap
def test_what_waits_goes_on_when_the_window_has_moved_on_also_over_restarts(
    make_world: MakeWorld, mishap: Mishap
) -> None:
    world = make_world(settings=mishap.limit(1))
    items = [sell(world) for _ in range(2)]
    world.once()
    mishap.strike(world, *items)
    world.once()
    world.now += mishap.window - MOMENT
    assert not world.once().is_converged  # each by a program that was started anew
    assert len(mishap.list_done(world, items)) == 1
    world.now += MOMENT
    assert world.once().is_converged
    assert mishap.list_done(world, items) == items
    record = get_record(world, items[0])
    assert (record.blocked_by, record.blocked_guard, record.blocked_step) == (None, None, None)
