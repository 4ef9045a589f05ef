"""Billing shows far fewer services than before, or none: nothing destructive is done anywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.operations import NO_SERVICE, OperationRefused, approve_read
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import make_settings, running
from tests.acceptance.guards.mishaps import get_record, read_history, resize, sell

GRACE = timedelta(hours=72)


class Shop:
    """Ten services; four of them are to be closed, suspended, made smaller, and deleted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.items = [sell(world) for _ in range(10)]
        self.closed, self.unpaid, self.smaller, self.retired = self.items[:4]
        self.lost = self.items[4]
        self.gone: list[int] = []
        world.once()
        world.billing.set_status(self.retired, 4)
        world.once()
        world.now += GRACE

    def befall(self) -> None:
        """Everything destructive becomes due, and an account gets lost."""
        self.world.billing.set_status(self.closed, 4)
        self.world.billing.set_status(self.unpaid, 3)
        resize(self.world, self.smaller, 1)
        self.world.get_cloud(self.lost).remove_account(f"user_{self.lost}")

    def hide(self, count: int) -> None:
        """Have so many services vanish from billing: they look like add-ons now."""
        for item in self.items[10 - count :]:
            self.world.billing.change("item", item, parent=self.items[0])
            self.gone.append(item)

    def show(self) -> None:
        """Have them back."""
        for item in self.gone:
            self.world.billing.change("item", item, parent=None)
        self.gone = []

    def list_done(self) -> list[str]:
        """Which of the destructive things were done."""
        done = []
        for name, item in (("disabled", self.closed), ("disabled", self.unpaid)):
            account = self.world.get_account(item)
            if account is None or not account.is_enabled:
                done.append(name)
        smaller = self.world.get_account(self.smaller)
        if smaller is None or smaller.quota_definition != "5 GB":
            done.append("reduced")
        if self.world.get_account(self.retired) is None:
            done.append("deleted")
        return done


EVERYTHING = ["disabled", "disabled", "reduced", "deleted"]


@pytest.fixture
def shop(make_world: MakeWorld) -> Shop:
    return Shop(make_world())


@pytest.mark.parametrize(("hidden", "is_suspicious"), [(2, False), (3, True), (5, True)])
def test_a_read_may_be_a_fifth_smaller_and_no_more(shop: Shop, hidden: int, is_suspicious: bool) -> None:
    shop.befall()
    shop.hide(hidden)
    report = shop.world.once()
    assert report.read is not None
    assert report.read.is_suspicious is is_suspicious
    assert shop.list_done() == ([] if is_suspicious else EVERYTHING)
    assert shop.world.get_account(shop.lost) is not None, "what is sold is served all the same"
    assert all(map(shop.world.get_account, shop.items[4:])), "what vanished is left as it is"
    if is_suspicious:
        waiting = {shop.closed, shop.unpaid, shop.smaller, shop.retired}
        assert {record.item_id for record in report.blocked} == waiting
        assert {record.blocked_guard for record in report.blocked} == {"desired_read"}
    if hidden == 5:  # also with one more
        new = sell(shop.world)
        shop.world.once()
        assert shop.world.is_delivered(new)
        assert shop.list_done() == []


def test_an_empty_read_destroys_nothing_and_ends_by_itself(make_world: MakeWorld) -> None:
    """Also where any shrinking is allowed: another module's name, another database, an empty table."""
    shop = Shop(make_world(settings={"guards": {"max_desired_shrink_percent": 100}}))
    shop.befall()
    shop.hide(10)
    for _ in range(2):
        report = shop.world.once()
        assert report.read is not None
        assert (report.read.seen, report.read.is_suspicious) == (0, True)
    shop.show()
    shop.world.once()
    assert shop.list_done() == EVERYTHING
    assert shop.world.once().is_converged


def test_it_stays_suspicious_over_restarts_until_what_was_shown_is_approved(shop: Shop) -> None:
    world = shop.world
    shop.befall()
    shop.hide(3)
    for _ in range(2):
        world.once()
        world.wait(hours=1)
    assert shop.list_done() == []
    with world.open() as app:
        with pytest.raises(OperationRefused, match="billing shows 7 services now, fewer than the 8"):
            approve_read(app, "operator:ann", 8)
        assert app.reconciler.guards.get_read_verdict().is_suspicious
        approve_read(app, "operator:ann", 7)
    world.once()
    assert shop.list_done() == EVERYTHING
    (entry,) = read_history(world, NO_SERVICE)
    assert (entry.actor, entry.action) == ("operator:ann", "approve")
    assert entry.why == "guard desired_read: 7 services are right, 10 were seen before"


def test_a_read_that_is_worse_than_the_approved_one_is_suspicious_again(shop: Shop) -> None:
    world = shop.world
    shop.hide(3)
    world.once()
    with world.open() as app:
        approve_read(app, "operator:ann", 7)
    shop.befall()
    shop.hide(5)
    report = world.once()
    assert report.read is not None
    assert (report.read.seen, report.read.good, report.read.is_suspicious) == (5, 7, True)
    assert shop.list_done() == []


def test_a_running_daemon_goes_on_at_once_when_the_read_is_approved(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings())
    items = [sell(world) for _ in range(4)]
    world.now = datetime.now(UTC)
    world.once()
    account = world.get_account(items[0])
    assert account is not None
    for item in items[2:]:
        world.billing.change("item", item, parent=items[0])
    world.billing.set_status(items[0], 3)
    with running(world) as daemon, world.open() as app:
        daemon.wait_for(
            lambda: app.journal.overview.list_blocked_by_guard("desired_read", None), "it waits for the guard"
        )
        assert account.is_enabled
        assert get_record(world, items[0]).blocked_guard == "desired_read"
        name = 'reconciler_guard_active{guard="desired_read",server="all"}'
        assert daemon.get_metrics()[name] == 1
        approve_read(app, "operator:ann", 2)
        daemon.wait_for(lambda: not account.is_enabled, "it goes on long before its next look in 5 minutes")
        daemon.wait_for(lambda: daemon.get_metrics()[name] == 0, "the guard is quiet")
