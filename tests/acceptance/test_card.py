"""The state and the used space on the service's card: true, and written only when they change."""

from __future__ import annotations

import threading

import pytest

from bm_db import Card
from reconciler.dispatcher import SharedApplication
from reconciler.metrics import Metrics, Snapshot
from reconciler.sandbox.emulator import CloudEmulator, Fault
from reconciler.scan import read_desired, scan_server
from reconciler.scans import Scans
from reconciler.usage import refresh_cards
from reconciler.workqueue import WorkQueue
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import wait_until
from tests.acceptance.panel import install_mgrctl, list_calls, misbehave

GB = 1024**3


def read_card(world: World, item: int) -> tuple[str | None, str | None]:
    params = world.billing.get_params(item)
    return params.get("nextcloud_status"), params.get("nextcloud_used")


def use(world: World, item: int, used_bytes: int) -> None:
    account = world.nextcloud.accounts[f"user_{item}"]
    account.used_bytes, account.has_logged_in = used_bytes, True


def refresh(world: World, *, budget_seconds: float | None = None) -> int:
    """What the daemon does with the first scan of a server in an hour; how many cards were written."""
    with world.open() as app:
        app.fleet.refresh()
        server = app.fleet.get(world.land.server_ids[0])
        assert server is not None
        server.ensure_ready()
        scan = scan_server(app, server, lambda: read_desired(app, server_id=server.id))
        if budget_seconds is None:
            refreshed = refresh_cards(app, scan.usage)
        else:
            refreshed = refresh_cards(app, scan.usage, budget_seconds=budget_seconds)
        assert refreshed.is_done is (budget_seconds is None)
        return refreshed.written


@pytest.fixture
def plan(world: World) -> int:
    return world.billing.add_plan("Basic", 5, group="basic")


def test_card_follows_the_account(world: World, plan: int) -> None:
    item = world.sell(plan)
    for status, text in ((2, "работает"), (3, "приостановлен"), (2, "работает")):
        world.billing.set_status(item, status)
        world.once()
        assert read_card(world, item) == (text, None)


def test_card_of_what_is_not_sold_is_left_alone(world: World, plan: int) -> None:
    ordered, closed = world.sell(plan, status=1), world.sell(plan, status=4)
    world.once()
    refresh(world)
    assert [read_card(world, item) for item in (ordered, closed)] == [(None, None)] * 2


def test_card_says_that_an_administrator_must_help(world: World) -> None:
    item = world.sell(world.billing.add_plan("Without storage", None))
    world.once()
    assert read_card(world, item)[0] == "ошибка: требуется вмешательство администратора"


def test_card_says_that_something_fails_only_when_it_goes_on_failing(world: World, plan: int) -> None:
    item = world.sell(plan)
    world.nextcloud.faults.append(Fault("create", "status", status=500, times=None))
    shown = []
    for _ in range(4):
        world.once()
        shown.append(read_card(world, item)[0])
        world.wait(hours=1)
    error = "ошибка: сервер пока не принимает изменения, попытки продолжаются"
    assert shown == [None, None, error, error]
    world.nextcloud.faults.clear()
    world.once()
    assert read_card(world, item)[0] == "работает"


def test_card_speaks_english_when_it_is_told_to(world: World, plan: int) -> None:
    item = world.sell(plan)
    world.once()
    world.land.configure({"billmanager": {"card_language": "en"}})
    use(world, item, 3 * GB)
    assert refresh(world) == 1
    assert read_card(world, item) == ("active", "3.0 GB")


def test_nothing_is_written_without_a_change(world: World, plan: int) -> None:
    item = world.sell(plan)
    world.land.configure(install_mgrctl(world))
    world.once()
    use(world, item, 3 * GB)
    refresh(world)
    assert read_card(world, item) == ("работает", "3,0 ГБ")
    calls = len(list_calls(world))
    use(world, item, 3 * GB + 1024)
    assert refresh(world) == 0
    world.once()
    with world.open() as app:
        app.fleet.refresh()
        assert app.reconciler.reconcile_service(item, actor="test").error is None
    assert len(list_calls(world)) == calls
    use(world, item, 4 * GB)
    assert refresh(world) == 1
    assert [call[2] for call in list_calls(world)[calls:]] == ["nextcloud_used=4,0 ГБ"]


def test_services_that_no_pass_has_touched_get_their_card_with_the_usage(world: World, plan: int) -> None:
    """After an upgrade, and where somebody has changed a card by hand."""
    items = [world.sell(plan) for _ in range(3)]
    world.once()
    table = world.billing.table("itemparam")
    with world.billing.engine.begin() as connection:
        connection.execute(table.delete().where(table.c.intname == "nextcloud_status"))
    assert refresh(world) == 3
    assert {read_card(world, item) for item in items} == {("работает", "менее 10 МБ")}


def test_refreshing_ends_in_time_and_goes_on_the_next_time(world: World, plan: int) -> None:
    item = world.sell(plan)
    world.once()
    assert refresh(world, budget_seconds=-1) == 0
    assert refresh(world) == 1
    assert read_card(world, item) == ("работает", "менее 10 МБ")


def test_an_account_that_is_not_ours_shows_nothing_of_its_use(world: World, plan: int) -> None:
    item = world.sell(plan)
    world.nextcloud.add_account(f"user_{item}", password="Theirs-20-characters!")
    use(world, item, 3 * GB)
    world.once()
    refresh(world)
    assert read_card(world, item) == ("ошибка: требуется вмешательство администратора", None)


def test_a_service_that_is_worked_on_is_left_to_who_does(world: World, plan: int) -> None:
    item = world.sell(plan)
    world.once()
    with world.open() as app:
        lease = app.journal.leases.acquire(item, "another host/boot/1/1", world.now)
        assert lease is not None
        assert refresh(world) == 0
        app.journal.leases.release(lease, world.now)
    assert refresh(world) == 1


def test_observing_writes_no_card(world: World, plan: int) -> None:
    item = world.sell(plan)
    world.once()
    before = read_card(world, item)
    for settings in ({"reconciler": {"mode": "observe"}}, {"billmanager": {"writer": "none"}}):
        world.land.configure(settings)
        use(world, item, 3 * GB)
        assert refresh(world) == 0
        world.billing.set_status(item, 3)
        world.once()
        world.billing.set_status(item, 2)
        world.once()
        assert read_card(world, item) == before


def test_a_card_that_cannot_be_written_fails_no_pass(world: World, plan: int) -> None:
    item = world.sell(plan)
    world.land.configure(install_mgrctl(world))
    world.once()
    world.billing.set_status(item, 3)
    misbehave(world, service_saveparam={"fail": "no such function"})
    assert world.once().is_converged
    assert read_card(world, item)[0] == "работает"
    misbehave(world)
    refresh(world)
    assert read_card(world, item)[0] == "приостановлен"


def test_servers_cards_are_written_one_after_the_other(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that has to wait gets its cards with its next scan, not only after another hour."""
    world = make_world(clouds=[CloudEmulator("nextcloud"), CloudEmulator("nextcloud")])
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number) for number in (0, 1)]
    world.once()
    for cloud, item in zip(world.land.clouds, items, strict=True):
        account = cloud.accounts[f"user_{item}"]
        account.used_bytes, account.has_logged_in = 3 * GB, True
    first, second = world.land.server_ids
    is_writing, may_write = threading.Event(), threading.Event()
    app = world.open()
    write = app.writer.write_card

    def write_slowly(item_id: int, card: Card) -> None:
        if item_id == items[0]:
            is_writing.set()
            assert may_write.wait(60)
        write(item_id, card)

    monkeypatch.setattr(app.writer, "write_card", write_slowly)
    app.fleet.refresh()
    shared = SharedApplication(app)
    scans = Scans(WorkQueue(), shared, Metrics(make_no_snapshot, dict))
    scan(scans, first)
    assert is_writing.wait(60)
    scan(scans, second)
    wait_until(lambda: scans.count_running() == 1, "the second server's scan has ended")
    assert [read_card(world, item)[1] for item in items] == [None, None]
    may_write.set()
    wait_until(lambda: scans.count_running() == 0, "the first server's scan has ended, too")
    assert [read_card(world, item)[1] for item in items] == ["3,0 ГБ", None]
    scan(scans, second)
    wait_until(lambda: scans.count_running() == 0, "the second server was scanned again")
    assert [read_card(world, item)[1] for item in items] == ["3,0 ГБ", "3,0 ГБ"]
    shared.release(app)


def scan(scans: Scans, server_id: int) -> None:
    scans.want(server_id)
    scans.turn()


def make_no_snapshot() -> Snapshot:
    raise AssertionError("nobody asks for metrics")
