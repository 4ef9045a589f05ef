"""What an operator does by hand: resync, approve, orphans, adopt, usage, status."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.guards import Guard
from reconciler.journal import Answer, ServiceUsage
from reconciler.operations import approve_cap
from reconciler.remembering import make_mark
from reconciler.sandbox.emulator import CloudEmulator, Fault
from states import DesiredService, ServiceState, Wish
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import make_settings, running
from tests.acceptance.evidence import (
    check_failure,
    check_words,
    dump_world,
    invoke,
    make_clouds,
)

NUMBERS = (0, 1)
"""The Nextcloud and the ownCloud of the usual world."""
ELSEWHERE = "other-host/boot.namespace/42/4711"
DEADLINE_SECONDS = 90
GIB = 1024**3
NEVER = {"reconciler": {"resync_interval": "24h", "poll_interval": "1h"}}
"""A daemon that by itself looks at nothing while a test runs."""


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(clouds=make_clouds())


def say(world: World, *arguments: str, exit_code: int = 0) -> str:
    result = invoke(world.land.config_path, *arguments)
    check_words(result)
    assert result.returncode == exit_code, result
    return result.stdout


def say_json(world: World, *arguments: str, exit_code: int = 0) -> Any:
    return json.loads(say(world, *arguments, "--json", exit_code=exit_code))


def refuse(world: World, pattern: str, *arguments: str) -> None:
    """Be sure that a command ends with one clear line, and that no account and no card was changed."""
    before = dump_world(world)
    check_failure(invoke(world.land.config_path, *arguments), pattern)
    after = dump_world(world)
    assert (after["billing"], after["accounts"]) == (before["billing"], before["accounts"])


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- resync


def sell(world: World, number: int = 0, **params: str) -> int:
    return world.sell(world.billing.add_plan("Basic", 5, group="basic"), number, 2, **params)


def test_without_a_daemon_it_is_done_here_and_each_service_once(world: World) -> None:
    items = [sell(world, number) for number in NUMBERS]
    results = say_json(world, "resync", *map(str, [*items, items[0]]))
    assert [(one["item_id"], one["server_id"], one["state"], one["error"]) for one in results] == [
        (items[0], 1, "active", None),
        (items[1], 2, "active", None),
    ]
    assert all(map(world.is_delivered, items))


def test_it_lifts_a_quarantine_and_leaves_a_hold(world: World) -> None:
    quarantined, held = sell(world), sell(world)
    world.once()
    with world.open() as app:
        for item in (quarantined, held):
            reason = {"state": "quarantined", "quarantine_reason": "changed again and again"}
            mark = make_mark(app.billing.get_service(item))
            app.journal.services.update(item, **reason, quarantine_mark=mark)
    say(world, "hold", str(held), "--reason", "moves house")
    assert "changed again and again" in str(say_json(world, "status", str(quarantined)))
    results = say_json(world, "resync", str(quarantined), str(held))
    assert [(one["state"], one["error"]) for one in results] == [("active", None), ("held", None)]
    with world.open() as app:
        record = app.journal.services.get(held)
        assert record is not None
        assert record.memory.quarantine_reason == "changed again and again"


def test_a_running_daemon_is_asked_and_does_it(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings(**NEVER))
    items = [sell(world, number) for number in NUMBERS]
    with running(world) as daemon:
        daemon.wait_for(lambda: all(map(world.is_delivered, items)), "all are made")
        for cloud in world.land.clouds:
            cloud.remove_account(f"user_{items[world.land.clouds.index(cloud)]}")
        answer = say_json(world, "resync", *map(str, items))
        assert answer["asked"] == items
        with world.open() as app:
            # The account alone does not tell: the pass that made it may look once more.
            daemon.wait_for(
                lambda: all(one.answer for one in app.journal.requests.get([1, 2]).values()), "both are done"
            )
        assert all(map(world.get_account, items)), "the daemon has made them again"
        for cloud in world.land.clouds:
            cloud.remove_account(f"user_{items[world.land.clouds.index(cloud)]}")
        results = say_json(world, "resync", *map(str, items), "--wait")
        assert all(map(world.get_account, items)), "they are there when it says so"
        words = say(world, "resync", *map(str, items), "--wait").splitlines()
    assert [(one["item_id"], one["server_id"], one["state"], one["steps"][0]) for one in results] == [
        (items[0], 1, "active", "create"),
        (items[1], 2, "active", "create"),
    ]
    assert words == [f"service {item}: active, nothing to do; as sold" for item in items]
    inline = say_json(world, "resync", str(items[0]))
    assert results[0].keys() == inline[0].keys()
    actors = {entry["actor"] for entry in say_json(world, "history", str(items[0]))[-1:]}
    assert all(actor.startswith("operator:") for actor in actors)


def test_the_daemon_lifts_a_quarantine_and_says_what_is_still_wrong(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings(**NEVER))
    item, collision = sell(world), sell(world)
    world.nextcloud.add_account(f"user_{collision}")
    with running(world) as daemon:
        daemon.wait_for(lambda: world.is_delivered(item), "made")
        with world.open() as app:
            app.journal.services.update(
                item,
                state=ServiceState.QUARANTINED.value,
                quarantine_reason="changed again and again",
                quarantine_mark=None,
            )
        result = invoke(world.land.config_path, "resync", str(item), str(collision), "--wait")
    assert result.returncode == 1
    first, second = result.stdout.splitlines()
    assert first == f"service {item}: active, nothing to do; as sold"
    assert f"service {collision}: quarantined, nothing to do; collision" in second


def test_when_the_daemon_is_killed_meanwhile_its_work_is_done_here(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings(**NEVER))
    items = [sell(world) for _ in range(3)]
    with running(world) as daemon:
        daemon.wait_for(lambda: all(map(world.is_delivered, items)), "all are made")
        for item in items:
            world.nextcloud.remove_account(f"user_{item}")
        world.nextcloud.faults.append(Fault("*", kind="hang", times=None))
        with start(world, "resync", *map(str, items), "--wait", "--json") as process:
            with world.open() as app:
                daemon.wait_for(lambda: count_taken(app) == 3, "the daemon has taken them")
            daemon.wait_for(lambda: count_hung(world) > 0, "it is at work")
            daemon.kill()
            world.nextcloud.faults.clear()
            results = finish(process)
    assert [one["item_id"] for one in results] == items
    assert [one["error"] for one in results] == [None] * 3
    assert all(map(world.is_delivered, items))


def count_taken(app: Any) -> int:
    found = app.journal.requests.get(range(1, 100))
    return sum(request.taken_by is not None for request in found.values())


def count_hung(world: World) -> int:
    return sum(call.status is None for call in world.nextcloud.calls)


@contextlib.contextmanager
def start(world: World, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = world.get_command(*arguments)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str], *, exit_code: int = 0) -> Any:
    out, error = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == exit_code, error
    return json.loads(out)


def test_a_daemon_that_does_not_get_to_it_in_time_is_told(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings(**NEVER))
    item = sell(world)
    with running(world) as daemon:
        daemon.wait_for(lambda: world.is_delivered(item), "made")
        world.nextcloud.faults.append(Fault("*", kind="hang", times=None))
        started = time.monotonic()
        words = say(world, "resync", str(item), "--wait", "--timeout", "2", exit_code=1)
        assert 2 <= time.monotonic() - started < 30
        world.nextcloud.faults.clear()
        world.nextcloud.stop()
        world.nextcloud.start()
    assert words == (
        f"service {item}: unknown, nothing to do; not done within 2 s: the daemon still has it on its list\n"
    )


def test_a_daemon_of_another_host_answers_through_the_journal(world: World) -> None:
    item = sell(world)
    world.now = datetime.now(UTC)
    with world.open() as app:
        app.journal.daemons.beat(ELSEWHERE, world.now, world.now, {})
        with start(world, "resync", str(item), "--wait", "--json") as process:
            wait_until(lambda: app.journal.requests.get([1]))
            (request,) = app.journal.requests.take(ELSEWHERE)
            answer = Answer("backoff", "it failed", ("create",), "it failed", "guard deletions: waits")
            app.journal.requests.finish([request.id], answer, world.now)
            (result,) = finish(process, exit_code=1)
    assert (result["state"], result["steps"], result["error"]) == ("backoff", ["create"], "it failed")
    assert result["blocked_by"] == "guard deletions: waits"
    assert world.get_account(item) is None, "nothing was done here"


def test_when_a_daemon_of_another_host_leaves_its_work_is_done_here(world: World) -> None:
    item, taken = sell(world), sell(world)
    world.now = datetime.now(UTC)
    with world.open() as app:
        app.journal.daemons.beat(ELSEWHERE, world.now, world.now, {})
        with start(world, "resync", str(item), str(taken), "--wait", "--json") as process:
            wait_until(lambda: len(app.journal.requests.get([1, 2])) == 2)
            app.journal.requests.take(ELSEWHERE)
            assert process.poll() is None
            app.journal.daemons.leave(ELSEWHERE)
            results = finish(process)
    assert [one["error"] for one in results] == [None, None]
    assert world.is_delivered(item)
    assert world.is_delivered(taken)


def test_a_service_that_another_worker_has_is_waited_for_when_wanted(world: World) -> None:
    item = sell(world)
    with world.open() as app:
        lease = app.journal.leases.acquire(item, ELSEWHERE, datetime.now(UTC))
        assert lease is not None
        for arguments in ((), ("--wait", "--timeout", "1")):
            words = say(world, "resync", str(item), *arguments, exit_code=1)
            assert words.endswith("another worker has the service\n")
        with start(world, "resync", str(item), "--wait", "--json") as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(3)
            app.journal.leases.release(lease, datetime.now(UTC))
            (result,) = finish(process)
    assert (result["state"], result["error"]) == ("active", None)


# -- approve

CAPS = [
    ("deletions", "min_deletions", "max_deletions_percent"),
    ("disables", "min_disables", "max_disables_percent"),
    ("recreations", "min_recreations", "max_recreations_percent"),
    ("quota-decreases", "min_quota_decreases", "max_quota_decreases_percent"),
]


def strike(world: World, guard: str, item: int) -> None:
    """Have something befall a service that is capped."""
    if guard == "deletions":
        world.billing.set_status(item, 4)
    elif guard == "disables":
        world.billing.set_status(item, 3)
    elif guard == "recreations":
        world.get_cloud(item).remove_account(f"user_{item}")
    else:
        world.billing.change_plan(item, world.billing.add_plan("Small", 1, group="basic"))


def is_struck(world: World, guard: str, item: int) -> bool:
    """Whether it has taken its course."""
    account = world.get_account(item)
    if guard in {"deletions", "recreations"}:
        return (account is None) is (guard == "deletions")
    assert account is not None
    return not account.is_enabled if guard == "disables" else account.quota_definition == "1 GB"


@pytest.mark.parametrize(("guard", "minimum", "percent"), CAPS, ids=[each[0] for each in CAPS])
def test_services_that_wait_for_a_cap_may_pass_it_once(
    make_world: MakeWorld, guard: str, minimum: str, percent: str
) -> None:
    limits = {minimum: 1, percent: 0.0, "deletion_grace": "0s", "max_desired_shrink_percent": 100}
    world = make_world(settings={"guards": limits})
    items = [sell(world) for _ in range(4)]
    other = sell(world, 1)
    world.once()
    world.wait(days=2)
    for item in items[:3]:
        strike(world, guard, item)
    world.once()
    waiting = [item for item in items[:3] if not is_struck(world, guard, item)]
    assert len(waiting) == 2

    name = guard.replace("-", "_")
    assert f"guard {name}: 2 services wait on server 1: `reconciler approve {guard} --server 1`" in say(
        world, "status"
    )
    (active,) = say_json(world, "status")["guards"]
    command = f"reconciler approve {guard} --server 1"
    assert active == {"guard": name, "server_id": 1, "waiting": 2, "command": command}
    assert say_json(world, "status", str(waiting[0]))["blocked_guard"] == name

    assert say(world, "approve", guard, "--server", "2") == f"no service waits for guard {guard}\n"
    with world.open() as app:  # by the clock of this world
        given = approve_cap(app, Guard(name), 1, "operator:test")
    assert [each.item_id for each in given] == waiting
    assert all(f"user_{each.item_id} on server 1: " in each.step for each in given)
    for item in (items[3], other):
        strike(world, guard, item)
    world.once()
    assert all(is_struck(world, guard, item) for item in items[:3])
    assert not is_struck(world, guard, items[3]), "what began to wait later is not covered"
    assert is_struck(world, guard, other), "another server has its own cap"
    told = [
        (entry["result"], entry["actor"])
        for entry in say_json(world, "history", str(waiting[0]))
        if "may pass guard" in entry["why"]
    ]
    assert told == [("done", "operator:test"), ("approved", "test")]


def test_an_approval_says_how_many_and_which_and_is_in_the_history_of_each(make_world: MakeWorld) -> None:
    limits = {"min_disables": 0, "max_disables_percent": 0}
    world = make_world(settings={"guards": limits})
    items = [sell(world, number % 2) for number in range(6)]
    world.once()
    world.now = datetime.now(UTC)
    for item in items:
        world.billing.set_status(item, 3)
    world.once()
    assert say(world, "approve", "disables") == (
        "6 services may pass guard disables once within 60 min, each with what it waits for now: "
        f"{', '.join(map(str, items))}\n"
    )
    answer = say_json(world, "approve", "disables", "--server", "2")
    steps = {str(item): f"disable user_{item} on server 2: disabled" for item in items[1::2]}
    assert answer == {"guard": "disables", "server_id": 2, "services": items[1::2], "steps": steps}
    for item in items:
        entries = [entry for entry in say_json(world, "history", str(item)) if entry["action"] == "approve"]
        assert len(entries) == (2 if item in items[1::2] else 1)
        assert all("guard disables" in entry["why"] for entry in entries)
    world.now = datetime.now(UTC)
    assert world.once().is_converged
    assert not any(account.is_enabled for account in map(world.get_account, items) if account)


def test_an_approval_expires(make_world: MakeWorld) -> None:
    limits = {"min_disables": 0, "max_disables_percent": 0, "approval_ttl": "10m"}
    world = make_world(settings={"guards": limits})
    item = sell(world)
    world.once()
    world.now = datetime.now(UTC)
    world.billing.set_status(item, 3)
    world.once()
    assert "within 10 min" in say(world, "approve", "disables")
    world.now = datetime.now(UTC) + timedelta(minutes=10)
    world.once()
    account = world.get_account(item)
    assert account is not None
    assert account.is_enabled
    told = [entry for entry in say_json(world, "history", str(item)) if entry["action"] == "approve"]
    assert [entry["result"] for entry in told] == ["done", "expired"]
    assert all(entry["wanted"] == f"disable user_{item} on server 1: disabled" for entry in told)


def test_a_running_daemon_goes_on_at_once_with_what_is_approved(make_world: MakeWorld) -> None:
    limits = {"min_disables": 0, "max_disables_percent": 0}
    world = make_world(settings=make_settings(guards=limits))
    item = sell(world)
    account = None
    with running(world) as daemon:
        daemon.wait_for(lambda: world.is_delivered(item), "made")
        account = world.get_account(item)
        world.billing.set_status(item, 3)
        with world.open() as app:
            overview = app.journal.overview
            daemon.wait_for(lambda: overview.list_blocked_by_guard("disables", None), "it waits")
        assert account is not None
        assert account.is_enabled
        assert say_json(world, "approve", "disables")["services"] == [item]
        daemon.wait_for(lambda: not account.is_enabled, "it goes on")


# -- orphans


def list_orphans(world: World, *arguments: str, exit_code: int = 2) -> dict[str, dict[str, Any]]:
    report = say_json(world, "orphans", *arguments, exit_code=exit_code)
    return {f"{one['userid']}@{one['server_id']}": one for one in report["orphans"]}


def test_where_every_account_is_sold_there_are_no_orphans(world: World) -> None:
    for number in NUMBERS:
        sell(world, number)
    world.once()
    assert say(world, "orphans") == "every account is named by a service\n"
    assert say_json(world, "orphans") == {"orphans": [], "errors": {}}


def test_accounts_that_no_service_names_are_told_and_nothing_is_changed(world: World) -> None:
    for number, cloud in enumerate(world.land.clouds):
        sell(world, number)
        cloud.add_account("user_999")
        cloud.add_account("Bob")
        cloud.add_account("user_1000", groups=["admin"])
    unpaid = sell(world)
    world.billing.set_status(unpaid, 1)
    world.nextcloud.add_account(f"USER_{unpaid}")
    world.once()
    before = dump_world(world)
    for cloud in world.land.clouds:
        cloud.clear_calls()
    found = list_orphans(world)
    assert found.keys() == {"user_999@1", "user_999@2"}
    assert all(one["why"] == "no service names it" and one["is_there"] for one in found.values())
    everything = list_orphans(world, "--all")
    assert everything.keys() == {
        f"{name}@{server}" for name in ("user_999", "Bob", "user_1000", "admin") for server in (1, 2)
    }
    told = {name: one["is_administrator"] for name, one in everything.items()}
    assert [name for name, is_administrator in told.items() if is_administrator] == [
        "admin@1",
        "user_1000@1",
        "admin@2",
        "user_1000@2",
    ]
    assert everything["admin@1"]["why"] == "admin is the account we work with: never touched"
    assert list_orphans(world, "--server", "2").keys() == {"user_999@2"}
    lines = say(world, "orphans", exit_code=2).splitlines()
    assert lines == ["1\tuser_999\tthere\tno service names it", "2\tuser_999\tthere\tno service names it"]
    assert [cloud.mutating_calls() for cloud in world.land.clouds] == [[], []]
    assert dump_world(world) == before


def test_a_service_that_is_sold_meanwhile_is_no_orphan(world: World) -> None:
    sell(world)
    world.once()
    world.nextcloud.clear_calls()
    world.nextcloud.faults.append(Fault("details", kind="delay", seconds=4))
    with start(world, "orphans", "--json") as process:
        wait_until(lambda: world.nextcloud.call_counts["details"])
        item = sell(world)
        say(world, "resync", str(item))
        assert process.poll() is None, "it is still listing"
        assert finish(process) == {"orphans": [], "errors": {}}
    assert world.is_delivered(item)


def test_administrators_alone_are_nothing_to_report(world: World) -> None:
    assert {one["userid"] for one in say_json(world, "orphans", "--all")["orphans"]} == {"admin"}


def test_services_that_vanished_are_told_with_their_accounts(world: World) -> None:
    items = [sell(world, 0, username="Carl"), sell(world, 1), sell(world), sell(world)]
    for _ in range(20):
        sell(world)
    world.once()
    for item in items[:3]:
        world.billing.delete_service(item)
    world.nextcloud.remove_account(f"user_{items[2]}")
    found = list_orphans(world)
    why = "service {} is gone from billing"
    assert {name: (one["item_id"], one["why"], one["is_there"]) for name, one in found.items()} == {
        "Carl@1": (items[0], why.format(items[0]), True),
        f"user_{items[1]}@2": (items[1], why.format(items[1]), True),
        f"user_{items[2]}@1": (items[2], why.format(items[2]), False),
    }
    world.once()
    assert list_orphans(world) == found, "also once they are known to be orphaned"
    world.owncloud.stop()
    result = invoke(world.land.config_path, "orphans")
    world.owncloud.start()
    assert result.returncode == 1
    assert f"2\tuser_{items[1]}\tnot looked for\t{why.format(items[1])}" in result.stdout
    assert "server 2 (owncloud-2) cannot be listed: " in result.stdout


def test_the_account_that_a_moved_service_left_behind_is_told(make_world: MakeWorld) -> None:
    world = make_world(clouds=[CloudEmulator("nextcloud"), CloudEmulator("nextcloud")])
    item = sell(world)
    world.once()
    world.billing.change("item", item, processingmodule=2)
    assert list_orphans(world)[f"user_{item}@1"]["why"] == f"service {item} is user_{item} on server 2 now"


# -- adopt


@pytest.mark.parametrize("number", NUMBERS)
def test_an_existing_account_becomes_that_of_a_service(world: World, number: int) -> None:
    item = sell(world, number)
    cloud = world.land.clouds[number]
    bob = cloud.add_account(
        "Bob", password="Known-to-bob", quota="1 GB", email="bob@home.example", used_bytes=GIB // 2
    )
    result = invoke(world.land.config_path, "adopt", str(item), "bob")
    check_words(result, secrets=["Known-to-bob"])
    assert result.returncode == 0
    assert result.stdout == (
        f"service {item} has the account bob; its password is not known here: "
        f"`reconciler reset-password {item}` sets a new one\n"
        f"service {item}: active, set_quota, add_group; as sold\n"
    )
    assert cloud.accounts["bob"] is bob
    assert (bob.quota_definition, bob.groups, bob.password) == ("5 GB", {"basic"}, "Known-to-bob")
    assert bob.email == "bob@home.example", "his own e-mail is left alone"
    params = world.billing.get_params(item)
    assert (params["username"] or "").lower() == "bob"
    assert params["url"] == cloud.base_url
    assert f"user_{item}" not in cloud.accounts
    status = say_json(world, "status", str(item))
    assert (status["memory"]["ownership"], status["memory"]["state"]) == ("adopted", "active")
    (entry,) = [one for one in say_json(world, "history", str(item)) if one["action"] == "adopt"]
    assert entry["actor"].startswith("operator:")
    assert "enabled; quota 1 GB" in entry["observed"]
    say(world, "reset-password", str(item))
    assert world.is_delivered(item)
    world.once_quietly()


def test_a_collision_ends_when_the_account_is_adopted(world: World) -> None:
    item = sell(world)
    account = world.nextcloud.add_account(f"user_{item}", quota="2 GB")
    assert [record.item_id for record in world.once().attention] == [item]
    answer = say_json(world, "adopt", str(item), f"user_{item}")
    assert (answer["item_id"], answer["userid"]) == (item, f"user_{item}")
    assert [(one["state"], one["error"]) for one in answer["passes"]] == [("active", None)]
    assert account.quota_definition == "5 GB"
    assert world.billing.get_params(item)["username"] == f"user_{item}"
    world.once_quietly()


def test_the_account_of_a_service_that_vanished_can_be_given_to_another(world: World) -> None:
    former = sell(world)
    for _ in range(10):
        sell(world)
    world.once()
    account = world.get_account(former)
    world.billing.delete_service(former)
    world.once()
    item = sell(world)
    answer = say_json(world, "adopt", str(item), f"user_{former}")
    assert [(one["item_id"], one["state"]) for one in answer["passes"]] == [
        (item, "active"),
        (former, "absent"),
    ]
    assert world.nextcloud.accounts[f"user_{former}"] is account
    assert say(world, "orphans") == "every account is named by a service\n"
    assert f"given to service {item}" in say_json(world, "history", str(former))[-1]["why"]
    world.once_quietly()


def test_with_a_daemon_the_pass_is_the_daemons(make_world: MakeWorld) -> None:
    world = make_world(settings=make_settings(**NEVER))
    item = sell(world)
    world.nextcloud.add_account(f"user_{item}", quota="1 GB")
    with running(world) as daemon:
        with world.open() as app:
            daemon.wait_for(
                lambda: app.journal.services.list_in_states([ServiceState.QUARANTINED]), "collision"
            )
        answer = say_json(world, "adopt", str(item), f"user_{item}")
        assert answer["passes"][0]["state"] == "active"
        assert f"service={item} server=1 state=active" in daemon.log
    assert world.nextcloud.accounts[f"user_{item}"].quota_definition == "5 GB"


def test_a_suspended_service_can_be_given_an_account_which_is_disabled_then(world: World) -> None:
    item = sell(world)
    world.billing.set_status(item, 3)
    bob = world.nextcloud.add_account("bob")
    assert say_json(world, "adopt", str(item), "bob")["passes"][0]["state"] == "suspended"
    assert not bob.is_enabled


def test_a_service_that_wants_no_account_gets_none(world: World) -> None:
    world.nextcloud.add_account("bob")
    unpaid, closed, busy, strange = (sell(world) for _ in range(4))
    world.billing.set_status(unpaid, 1)
    world.billing.set_status(closed, 4)
    world.billing.set_status(busy, 5)
    world.billing.set_status(strange, 9)
    refuse(world, f"service {unpaid} is not paid", "adopt", str(unpaid), "bob")
    refuse(world, f"service {closed} is no longer sold", "adopt", str(closed), "bob")
    refuse(world, f"service {busy} is being worked on by BILLmanager", "adopt", str(busy), "bob")
    refuse(world, f"service {strange}: status '?9'? is not one of", "adopt", str(strange), "bob")


@pytest.mark.parametrize("number", NUMBERS)
def test_only_an_account_that_is_there_and_may_be_touched_is_adopted(world: World, number: int) -> None:
    item, cloud = str(sell(world, number)), world.land.clouds[number]
    cloud.add_account("boss", groups=["admin"])
    cloud.add_account("chief", subadmin_of=["basic"])
    refuse(world, rf"server {number + 1} \(.*\) has no account nobody", "adopt", item, "nobody")
    refuse(world, "boss is an administrator of the server: never touched", "adopt", item, "boss")
    refuse(world, "chief is an administrator of the server: never touched", "adopt", item, "chief")
    refuse(world, "admin is the account we work with: never touched", "adopt", item, "ADMIN".lower())
    refuse(world, "no account can|cannot be", "adopt", item, "a/b")


def test_an_account_that_another_service_names_stays_that_ones(world: World) -> None:
    named, owned, closed, item = sell(world, 0, username="bob"), sell(world), sell(world), sell(world)
    other_server = sell(world, 1, username="carl")
    unpaid = sell(world)
    world.billing.set_status(unpaid, 1)
    world.nextcloud.add_account(f"user_{unpaid}")
    world.once()
    world.billing.set_status(closed, 4)
    world.once()
    for userid, owner in (
        ("bob", named),
        ("BOB", named),
        (f"user_{owned}", owned),
        (f"user_{closed}", closed),
        (f"user_{unpaid}", unpaid),
    ):
        refuse(
            world,
            f"the account (?i:{userid}) is that of service {owner}, by its name in billing",
            "adopt",
            str(item),
            userid,
        )
    world.billing.change("item", owned, processingmodule=2)
    refuse(world, f"is that of service {owned}$", "adopt", str(item), f"user_{owned}")
    fresh = sell(world)
    world.nextcloud.add_account("carl")
    assert say_json(world, "adopt", str(fresh), "carl")["passes"][0]["error"] is None
    assert world.is_delivered(other_server)


def test_a_service_that_has_an_account_keeps_it(world: World) -> None:
    item, recorded = sell(world), sell(world)
    world.once()
    world.nextcloud.add_account("bob")
    refuse(
        world, f"service {item} has the account user_{item} on server 1 .*delete", "adopt", str(item), "bob"
    )
    with world.open() as app:  # as with an empty journal: only billing names it
        app.journal.services.update(
            recorded, ownership="none", account_userid=None, account_server_id=None, is_provisioned=False
        )
    refuse(world, f"service {recorded} has the account user_{recorded}", "adopt", str(recorded), "bob")
    world.nextcloud.remove_account(f"user_{item}")
    assert say_json(world, "adopt", str(item), "bob")["passes"][0]["state"] == "active"
    assert world.billing.get_params(item)["username"] == "bob"
    assert f"user_{item}" not in world.nextcloud.accounts


def test_adopting_what_it_has_already_changes_nothing(world: World) -> None:
    item = sell(world)
    world.once()
    for cloud in world.land.clouds:
        cloud.clear_calls()
    assert say_json(world, "adopt", str(item), f"USER_{item}")["passes"][0]["steps"] == []
    assert world.nextcloud.mutating_calls() == []
    assert say_json(world, "status", str(item))["memory"]["ownership"] == "created"
    assert world.is_delivered(item)


def test_an_unanswered_create_comes_first(world: World) -> None:
    item = sell(world)
    world.nextcloud.faults.append(Fault("create", kind="drop"))
    world.once()
    world.nextcloud.add_account("bob")
    refuse(world, f"a create of user_{item} was never answered", "adopt", str(item), "bob")


def test_an_account_with_more_data_than_was_sold_is_adopted_by_force_only(world: World) -> None:
    item = sell(world)
    bob = world.nextcloud.add_account("bob", quota="20 GB", used_bytes=8 * GIB)
    refuse(world, f"bob uses 8 GB, service {item} is sold 5 GB: .*--force", "adopt", str(item), "bob")
    assert say_json(world, "adopt", str(item), "bob", "--force")["passes"][0]["state"] == "active"
    assert bob.quota_definition == "5 GB"


def test_where_the_quota_stays_as_it_is_no_force_is_needed(world: World) -> None:
    item, other = sell(world), sell(world)
    world.nextcloud.add_account("full", quota="5 GB", used_bytes=8 * GIB)
    assert say_json(world, "adopt", str(item), "full")["passes"][0]["error"] is None
    world.nextcloud.add_account("free", quota="none", used_bytes=8 * GIB)
    world.land.configure({"policy": {"quota": "report"}})
    say_json(world, "adopt", str(other), "free")
    assert world.nextcloud.accounts["free"].quota_definition == "none"


def test_without_a_writer_billing_must_name_the_account_first(world: World) -> None:
    item = sell(world)
    world.nextcloud.add_account("bob")
    world.land.configure({"billmanager": {"writer": "none"}})
    refuse(world, f"set the parameter username of service {item} to bob", "adopt", str(item), "bob")
    world.billing.set_param(item, "username", "Bob")
    assert say_json(world, "adopt", str(item), "bob")["passes"][0]["state"] == "active"


def test_in_mode_observe_nothing_is_adopted(world: World) -> None:
    item = sell(world)
    world.nextcloud.add_account("bob")
    world.land.configure({"reconciler": {"mode": "observe"}})
    refuse(world, 'nothing is changed in mode "observe"', "adopt", str(item), "bob")


def test_the_password_of_an_earlier_account_is_not_handed_out_with_the_adopted_one(world: World) -> None:
    world.land.configure({"billmanager": {"writer": "none"}})
    item = sell(world)
    world.once()
    account = world.get_account(item)
    assert account is not None
    world.nextcloud.remove_account(account.userid)
    world.nextcloud.add_account("bob", password="Known-to-bob")
    world.land.configure({})
    say(world, "adopt", str(item), "bob")
    assert world.billing.get_password(item) is None
    world.once()
    assert world.billing.get_password(item) is None


# -- usage and status


@pytest.fixture
def crowd(world: World) -> World:
    """A journal of 250 servers and 20 000 services, of which 300 need a person and 5000 are nearly full."""
    now = datetime.now(UTC)
    with world.open() as app:
        journal = app.journal
        services = (
            DesiredService(item, 1 + item % 250, Wish.ENABLED, f"user_{item}", 10 * GIB)
            for item in range(1, 20_001)
        )
        journal.services.note_desired(services, now)
        with journal._store.write() as connection:
            connection.exec_driver_sql("UPDATE service SET state = 'active', unconverged_since = NULL")
            connection.exec_driver_sql(
                "UPDATE service SET state = 'quarantined', reason = 'no quota', blocked_by = 'it waits' "
                "WHERE item_id <= 300"
            )
        for server_id in range(1, 251):
            journal.servers.update(
                server_id, product="nextcloud", version="27.1.0", scanned_at=now, orphans=server_id % 2
            )
        for server_id in (7, 240):
            journal.servers.update(server_id, breaker_cause="transport", breaker_message="no route to it")
        journal.usage.record(
            [
                ServiceUsage(item, 1 + item % 250, used * GIB, 10 * GIB, now)
                for item in range(1, 20_001)
                for used in (11 if item < 50 else 9 if item <= 5000 else 1,)
            ]
        )
        report = {"queue": {"command": 0, "change": 2, "drift": 31}, "running": 4, "last_turn_seconds": 0.2}
        journal.daemons.beat(ELSEWHERE, now, now, {**report, "config_error": "[http] port: not a number"})
    return world


def test_a_large_provider_is_shown_at_a_glance_and_quickly(crowd: World) -> None:
    started = time.monotonic()
    lines = say(crowd, "status").splitlines()
    assert time.monotonic() - started < 20
    assert len(lines) < 270
    assert [line.split("\t")[0] for line in lines[:2]] == ["7", "240"], "servers in trouble first"
    assert lines[0].split("\t")[4] == "no route to it"
    assert "servers: and 190 more, none of them in trouble" in lines
    assert "services: 19700 active, 300 quarantined" in lines
    assert "needs a person: and 240 more" in lines
    assert "waits: and 240 more" in lines
    assert "nearly full: and 4940 more" in lines
    (usage,) = [line for line in lines if line.startswith("usage: ")]
    assert usage.endswith("; 5000 at 80 % or above, 49 full")
    (daemon,) = [line for line in lines if line.startswith("daemon on other-host since ")]
    assert "; queue: 2 change, 31 drift; 4 at work; last turn 0.2 s before " in daemon
    assert daemon.endswith("; works with its old configuration: [http] port: not a number")

    status = say_json(crowd, "status")
    assert (status["attention_total"], status["blocked_total"]) == (300, 300)
    assert (len(status["attention"]), len(status["blocked"]), len(status["near_quota"])) == (200, 200, 200)
    assert status["usage"]["near"] == [5000, 49]
    assert len(status["servers"]) == 250
    assert status["daemons"][0]["report"]["queue"]["drift"] == 31


def test_usage_of_a_large_provider_is_cut_for_people_and_whole_in_json(crowd: World) -> None:
    lines = say(crowd, "usage").splitlines()
    assert len(lines) < 130
    assert lines[0].startswith("server 1\t")
    assert "servers: and 190 more" in lines
    assert lines[-1] == "services: and 19940 more"
    first = lines[61].split("\t")
    assert first[:5] == ["1", "2", "11 GB", "10 GB", "110"], "the fullest first"
    everything = say_json(crowd, "usage")
    assert (len(everything["servers"]), len(everything["services"])) == (250, 20_000)
    near = say_json(crowd, "usage", "--near", "--server", "8")
    assert list(near["servers"]) == ["8"]
    assert {one["server_id"] for one in near["services"]} == {8}
    assert len(near["services"]) == 20
    assert near["services"][0]["percent"] == 110


def test_what_is_used_is_shown_with_the_service(world: World) -> None:
    item, unlimited = sell(world), world.sell(world.billing.add_plan("All", None))
    world.once()
    with world.open() as app:
        app.journal.usage.record(
            [
                ServiceUsage(item, 1, 4 * GIB, 5 * GIB, world.now),
                ServiceUsage(unlimited, 1, GIB, None, world.now),
            ]
        )
    facts = dict(line.split("\t") for line in say(world, "status", str(item)).splitlines())
    assert facts["usage"] == "4 GB of 5 GB (80 %), seen 2026-11-22 12:00 UTC"
    facts = dict(line.split("\t") for line in say(world, "status", str(unlimited)).splitlines())
    assert facts["usage"].startswith("1 GB of none, seen")
    assert say_json(world, "status", str(item))["usage"]["percent"] == 80
    rows = [line.split("\t") for line in say(world, "usage").splitlines()]
    assert [row[:5] for row in rows] == [
        ["server 1", "5 GB", "5 GB", "1", "0"],
        [str(item), "1", "4 GB", "5 GB", "80"],
        [str(unlimited), "1", "1 GB", "none", "-"],
    ]
    assert [line.split("\t")[0] for line in say(world, "usage", "--near").splitlines()] == [
        "server 1",
        str(item),
    ]
