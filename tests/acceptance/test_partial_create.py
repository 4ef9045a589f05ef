"""Creates that fail half-way, are not answered, or are cut off by a crash: one complete account, always."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from reconciler.sandbox.emulator import CloudEmulator, Fault
from states import ServiceState
from tests.acceptance.conftest import MakeWorld, World

NUMBERS = (0, 1)
DEADLINE_SECONDS = 60


def sell(world: World, number: int) -> int:
    return world.sell(world.billing.add_plan("Basic", 5, group="basic"), number)


def assert_complete(world: World, item: int) -> None:
    account = world.get_account(item)
    assert account is not None
    assert account.quota_definition == "5 GB", "not an unlimited one"
    assert (account.groups, account.is_enabled) == ({"basic"}, True)
    assert (account.email or "").startswith("client")
    assert world.is_delivered(item)
    assert account.created_serial == max(a.created_serial for a in world.get_cloud(item).accounts.values())
    world.once_quietly()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "fault",
    [
        Fault("create", status=500, partial=True),
        Fault("create", status=500, after_effect=True),
        Fault("create", status=502, content_type="text/html", body="<h1>Bad Gateway</h1>", after_effect=True),
        Fault("create", kind="drop", after_effect=True),
        Fault("create", kind="empty", after_effect=True),
        Fault("create", kind="truncate", after_effect=True),
        Fault("create", kind="html", after_effect=True),
    ],
    ids=["500 half-made", "500 made", "502 made", "answer lost", "empty", "truncated", "html"],
)
@pytest.mark.usefixtures("fault_row")
def test_a_create_that_failed_after_its_effect_ends_as_a_complete_account(
    world: World, number: int, fault: Fault
) -> None:
    item = sell(world, number)
    cloud = world.land.clouds[number]
    fault.times = 1
    cloud.faults.append(fault)
    report = world.once()
    assert report.is_converged, "within the same cycle"
    assert_complete(world, item)
    creates = [call for call in cloud.calls if call.operation == "create"]
    assert len(creates) <= 1, "never made twice"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "fault",
    [Fault("create", status=500), Fault("create", kind="drop"), Fault("create", status=503)],
    ids=["500", "dropped", "503"],
)
@pytest.mark.usefixtures("fault_row")
def test_a_create_that_failed_without_effect_is_made_by_the_next_cycle(
    world: World, number: int, fault: Fault
) -> None:
    item = sell(world, number)
    fault.times = 1
    world.land.clouds[number].faults.append(fault)
    report = world.once()
    assert world.get_account(item) is None
    assert not report.is_converged
    world.wait(hours=1)
    assert world.once().is_converged
    assert_complete(world, item)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.usefixtures("fault_row")
def test_an_answer_lost_before_the_effect_came_late_makes_no_second_account(
    world: World, number: int
) -> None:
    """The create reached the server, which carried it out only after we had looked."""
    item = sell(world, number)
    cloud = world.land.clouds[number]
    cloud.faults.append(Fault("create", kind="drop", times=1))
    world.once()
    password = read_open_password(world, item)
    cloud.add_account(f"user_{item}", password=password)  # the late effect, as the server would make it
    world.wait(hours=1)
    world.once()
    assert_complete(world, item)


def read_open_password(world: World, item: int) -> str:
    with world.open() as app:
        known = app.journal.intents.get_open_create(
            item, world.land.server_ids[world.land.clouds.index(world.get_cloud(item))], f"user_{item}"
        )
    assert known is not None
    return known[1]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.usefixtures("fault_row")
def test_a_stranger_who_came_first_is_told_from_our_unanswered_create(world: World, number: int) -> None:
    item = sell(world, number)
    cloud = world.land.clouds[number]
    cloud.faults.append(Fault("create", kind="drop", times=1))
    world.once()
    stranger = cloud.add_account(f"user_{item}", password="Not-ours-20-characters", quota="1 GB")
    world.wait(hours=1)
    report = world.once()
    assert [record.memory.state for record in report.attention] == [ServiceState.QUARANTINED]
    assert cloud.accounts[stranger.userid] is stranger
    assert (stranger.password, stranger.quota_definition) == ("Not-ours-20-characters", "1 GB")
    refused = cloud.logins.refused_count
    world.once()
    assert cloud.logins.refused_count == refused, "a password that was refused is not tried again"


@pytest.mark.parametrize(
    ("number", "operation"),  # Nextcloud sets everything in the one call that creates
    [(0, "create"), (1, "create"), (1, "edit:quota"), (1, "edit:email")],
)
@pytest.mark.parametrize("is_after", [False, True], ids=["before the effect", "after the effect"])
def test_a_kill_in_the_middle_loses_no_password_and_makes_no_second_account(
    make_world: MakeWorld, number: int, operation: str, is_after: bool
) -> None:
    world = make_world()
    item = sell(world, number)
    cloud = world.land.clouds[number]
    cloud.faults.append(Fault(operation, kind="hang", times=1, after_effect=is_after))
    kill_when(world, lambda: any(call.operation == operation for call in cloud.calls))
    cloud.faults.clear()
    world.now = datetime.now(UTC)  # at once: the dead worker's lease is not waited for
    assert world.once().is_converged
    assert_complete(world, item)


def test_a_kill_before_the_delivery_still_delivers_the_same_password(world: World) -> None:
    item = sell(world, 0)
    world.land.configure({"billmanager": {"writer": "none"}})
    world.once()
    account = world.get_account(item)
    assert account is not None
    assert world.billing.get_password(item) is None
    world.land.configure({})
    world.once()
    assert world.billing.get_password(item) == account.password
    with world.open() as app:
        assert app.journal.intents.list_undelivered() == set(), "erased once delivered"


def kill_when(world: World, is_time: Callable[[], bool]) -> None:
    """Start `reconciler once` and kill it (SIGKILL) as soon as the condition holds."""
    command = world.get_command("once")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_time():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()


def test_an_account_deleted_by_hand_is_made_again_with_the_password_that_the_client_knows(
    make_world: MakeWorld,
) -> None:
    world = make_world(clouds=[CloudEmulator("nextcloud"), CloudEmulator("owncloud")])
    items = [sell(world, number) for number in NUMBERS]
    world.once()
    passwords = [world.billing.get_password(item) for item in items]
    for item in items:
        world.get_cloud(item).remove_account(f"user_{item}")
    world.once()
    for item, password in zip(items, passwords, strict=True):
        account = world.get_account(item)
        assert account is not None
        assert account.password == password
        assert_complete(world, item)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_account_that_is_made_again_half_way_is_completed_too(world: World, number: int) -> None:
    item = sell(world, number)
    world.once()
    password = world.billing.get_password(item)
    cloud = world.land.clouds[number]
    cloud.remove_account(f"user_{item}")
    cloud.faults.append(Fault("create", status=500, partial=True, times=1))
    world.once()
    assert_complete(world, item)
    assert world.billing.get_password(item) == password
