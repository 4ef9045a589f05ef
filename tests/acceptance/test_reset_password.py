"""A new password: in force and on the service's card, or neither, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.emulator import CloudEmulator, Fault
from states import StepKind
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import check_failure, check_journal, check_words, invoke, make_clouds
from tests.executables import write_python_program

NUMBERS = (0, 1)
"""The Nextcloud and the ownCloud of the usual world."""
GIVEN = "Given-on-standard-input-7"
DEADLINE_SECONDS = 60


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(clouds=make_clouds())


def sell(world: World, number: int = 0, *, status: int = 2) -> int:
    """A service, with its account made and its credentials delivered."""
    item = world.sell(world.billing.add_plan("Basic", 5, group="basic"), number, status)
    world.once()
    assert world.is_delivered(item) is (status == 2)
    return item


def get_password(world: World, item: int) -> str:
    """The password that is in force."""
    account = world.get_account(item)
    assert account is not None
    return account.password


def reset(world: World, item: int, *, exit_code: int = 0) -> dict[str, Any]:
    result = world.run("reset-password", str(item), "--json")
    check_words(result, secrets=[get_password(world, item)])
    assert result.returncode == exit_code, result
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def count_kept(world: World, item: int) -> int:
    """Passwords that the journal still keeps for a service."""
    with world.open() as app:
        return int(item in app.journal.intents.list_undelivered())


# -- as it should be


@pytest.mark.parametrize("number", NUMBERS)
def test_a_new_password_is_in_force_and_on_the_card_and_said_nowhere(world: World, number: int) -> None:
    item = sell(world, number)
    old = get_password(world, item)
    result = world.run("reset-password", str(item))
    new = get_password(world, item)
    said = check_words(result, secrets=[old, new])
    assert result.returncode == 0
    assert result.stdout == f"user_{item} of service {item} has a new password; it is on the service's card\n"
    assert f"service={item} server={number + 1} step=set_password account=user_{item} result=done" in said
    assert new != old
    assert len(new) == 20
    assert world.billing.get_password(item) == new
    assert world.is_delivered(item)
    assert count_kept(world, item) == 0, "erased once delivered"
    check_journal(world.land.folder, secrets=[old, new])
    entry = world.run_json("history", str(item))[-1]
    assert (entry["action"], entry["wanted"], entry["result"]) == ("set_password", "a new password", "done")
    assert entry["actor"].startswith("operator:")
    world.once_quietly()


def test_the_answer_in_json_has_no_password_when_it_is_on_the_card(world: World) -> None:
    item = sell(world)
    assert reset(world, item) == {
        "item_id": item,
        "server_id": 1,
        "userid": f"user_{item}",
        "is_delivered": True,
        "password": None,
    }


def test_a_password_given_on_standard_input_is_taken(world: World) -> None:
    item = sell(world, 1)
    result = world.run("reset-password", str(item), "--stdin", given=f"{GIVEN}\n")
    check_words(result, secrets=[GIVEN])
    assert result.returncode == 0
    assert get_password(world, item) == world.billing.get_password(item) == GIVEN


def test_without_a_writer_it_is_shown_and_delivered_once_there_is_one(world: World) -> None:
    item = sell(world)
    card = world.billing.get_password(item)
    world.land.configure({"billmanager": {"writer": "none"}})
    result = world.run("reset-password", str(item))
    new = get_password(world, item)
    assert result.stdout == (
        f"user_{item} of service {item} has a new password; billing is not written to "
        f'(writer = "none"): tell it to the client: {new}\n'
    )
    assert new not in result.stderr
    assert world.billing.get_password(item) == card
    given = world.run("reset-password", str(item), "--stdin", given=GIVEN)
    assert (given.returncode, GIVEN in given.stdout + given.stderr) == (0, False), "who gave it has it"
    world.land.configure({})
    world.once()
    assert world.billing.get_password(item) == GIVEN == get_password(world, item)
    assert count_kept(world, item) == 0


def test_a_suspended_account_gets_its_new_password_too(world: World) -> None:
    item = sell(world)
    world.billing.set_status(item, 3)
    world.once()
    reset(world, item)
    assert world.billing.get_password(item) == get_password(world, item)
    world.billing.set_status(item, 2)
    world.once()
    assert world.is_delivered(item)


def test_an_account_of_an_earlier_module_is_ours_with_an_empty_journal(world: World) -> None:
    item = sell(world)
    for path in world.land.folder.glob("journal*"):
        path.unlink()
    reset(world, item)
    assert world.is_delivered(item)
    assert [entry["action"] for entry in world.run_json("history", str(item))] == ["adopt", "set_password"]


def test_an_account_that_is_made_again_has_the_new_password(world: World) -> None:
    item = sell(world)
    reset(world, item)
    new = world.billing.get_password(item)
    world.nextcloud.remove_account(f"user_{item}")
    world.once()
    assert get_password(world, item) == new


# -- refused: one line, and nothing is changed


def refuse(world: World, item: int, pattern: str, *arguments: str, **options: Any) -> None:
    cards = world.billing.get_password(item)
    accounts = [{name: a.password for name, a in cloud.accounts.items()} for cloud in world.land.clouds]
    result = world.run("reset-password", str(item), *arguments, **options)
    check_failure(result, pattern)
    assert world.billing.get_password(item) == cards
    assert [{n: a.password for n, a in cloud.accounts.items()} for cloud in world.land.clouds] == accounts
    assert count_kept(world, item) == 0


def test_a_service_without_an_account_of_its_own_has_no_password_to_set(world: World) -> None:
    plan = world.billing.add_plan("Basic", 5)
    unpaid, fresh, closed, foreign, moved, held = (
        world.sell(plan, status=1),
        world.sell(plan),
        sell(world),
        world.sell(plan),
        sell(world),
        sell(world),
    )
    refuse(world, unpaid, f"service {unpaid} is absent: ordered, not paid")
    world.billing.set_status(fresh, 1)
    world.billing.set_status(closed, 4)
    refuse(world, closed, f"service {closed} is retiring: no longer sold")
    world.nextcloud.remove_account(f"user_{foreign}")
    world.billing.set_param(foreign, "username", None)
    with world.open() as app:
        app.journal.services.update(foreign, ownership="none", account_userid=None, is_provisioned=False)
    world.nextcloud.add_account(f"user_{foreign}")
    refuse(world, foreign, "collision: an account user_.* exists that is not ours")
    world.billing.change("item", moved, processingmodule=2)
    refuse(world, moved, f"service {moved} is quarantined: the account user_{moved} is on server 1")
    invoke(world.land.config_path, "hold", str(held), "--reason", "moves house")
    refuse(world, held, f"service {held} is held: held by an operator: moves house")


@pytest.mark.parametrize("number", NUMBERS)
def test_administrators_are_never_touched(world: World, number: int) -> None:
    item = sell(world, number)
    account = world.get_account(item)
    assert account is not None
    account.groups.add("admin")
    refuse(world, item, f"user_{item} is an administrator of the server: never touched")
    account.groups.discard("admin")
    account.subadmin_of.add("basic")
    refuse(world, item, f"user_{item} is an administrator of the server: never touched")


def test_an_account_that_is_gone_is_made_again_by_a_pass_not_here(world: World) -> None:
    item = sell(world)
    world.nextcloud.remove_account(f"user_{item}")
    refuse(world, item, f"server 1 .* has no account of service {item}: the account that was there is gone")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_password_that_the_server_finds_weak_is_one_clear_line(make_world: MakeWorld, number: int) -> None:
    clouds = [
        CloudEmulator("nextcloud", password_policy=True),
        CloudEmulator("owncloud", password_policy=True),
    ]
    world = make_world(clouds=clouds)
    item = sell(world, number)
    refuse(world, item, "password", "--stdin", given="short")
    assert world.is_delivered(item)
    world.once_quietly()


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "one line is expected on standard input"),
        ("\n", "an empty password is none"),
        ("two\nlines\n", "one line is expected on standard input"),
        ("bell\x07\n", "control characters"),
        ("x" * 500, "a value of 500 bytes cannot be encrypted: the key holds 245"),
    ],
    ids=["nothing", "empty", "two lines", "control", "too long for the key"],
)
def test_a_password_that_billing_could_not_be_told_is_not_set(world: World, text: str, pattern: str) -> None:
    refuse(world, sell(world), pattern, "--stdin", given=text)


def test_without_billings_key_nothing_is_set_that_could_not_be_saved(world: World) -> None:
    item = sell(world)
    world.land.configure({"billmanager": {"private_key_file": ""}})
    old = get_password(world, item)
    result = world.run("reset-password", str(item))
    check_failure(result, "private_key_file|cannot be decrypted|no private key")
    assert get_password(world, item) == old


def test_in_mode_observe_nothing_is_set(world: World) -> None:
    item = sell(world)
    world.land.configure({"reconciler": {"mode": "observe"}})
    refuse(world, item, 'nothing is changed in mode "observe"')


def test_a_server_that_limits_edits_says_so_and_the_old_password_stays(make_world: MakeWorld) -> None:
    world = make_world(clouds=[CloudEmulator("nextcloud", edit_limit=1), CloudEmulator("owncloud")])
    item, other = sell(world), sell(world)
    reset(world, item)
    refuse(world, other, "limits how often set_password may be called .*raise or switch off the limit")


def test_a_service_that_another_worker_has_is_waited_for(world: World) -> None:
    item = sell(world)
    with world.open() as app:
        lease = app.journal.leases.acquire(item, "other-host/boot.namespace/1/1", datetime.now(UTC))
        assert lease is not None
        with subprocess.Popen(
            world.get_command("reset-password", str(item)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                wait_until(lambda: world.nextcloud.call_counts["status"] >= 1 or process.poll() is not None)
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(3)
                assert world.nextcloud.call_counts["edit:password"] == 0
                app.journal.leases.release(lease, datetime.now(UTC))
                assert process.wait(DEADLINE_SECONDS) == 0
            finally:
                process.kill()
    assert world.is_delivered(item)


# -- answers that say nothing


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["drop", "status"])
def test_an_effect_whose_answer_is_lost_is_found_out_at_once(world: World, number: int, kind: Any) -> None:
    item = sell(world, number)
    old = get_password(world, item)
    world.land.clouds[number].faults.append(Fault("edit:password", kind=kind, after_effect=True))
    reset(world, item)
    assert get_password(world, item) != old
    assert world.is_delivered(item)
    world.once_quietly()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_request_that_is_lost_leaves_the_old_password_and_is_forgotten_after_a_while(
    world: World, number: int
) -> None:
    item = sell(world, number)
    old = get_password(world, item)
    world.land.clouds[number].faults.append(Fault("edit:password", kind="drop"))
    result = world.run("reset-password", str(item))
    check_failure(result, "whether the new password is in force nobody knows: the next pass finds out")
    world.now = datetime.now(UTC)
    world.once()
    assert get_password(world, item) == world.billing.get_password(item) == old
    assert count_kept(world, item) == 1, "it may yet have its effect"
    world.wait(minutes=11)
    world.once()
    assert count_kept(world, item) == 0
    assert "it is forgotten" in world.run_json("history", str(item))[-1]["why"]
    world.once_quietly()
    assert get_password(world, item) == world.billing.get_password(item) == old


def test_an_effect_that_comes_late_is_found_out_by_a_later_pass(world: World) -> None:
    item = sell(world)
    world.nextcloud.faults.append(Fault("edit:password", kind="drop"))
    world.run("reset-password", str(item))
    world.now = datetime.now(UTC)
    world.once()
    with world.open() as app:
        (kept,) = app.journal.intents.list_open(StepKind.SET_PASSWORD, item, 1, f"user_{item}")
    account = world.get_account(item)
    assert account is not None
    account.password = kept.password  # the late effect, as the server would have it
    world.once()
    assert world.is_delivered(item)
    assert world.billing.get_password(item) == kept.password


def test_the_latest_of_several_resets_counts(world: World) -> None:
    item = sell(world)
    world.nextcloud.faults.append(Fault("edit:password", kind="drop"))
    world.run("reset-password", str(item))
    reset(world, item)
    assert world.is_delivered(item)
    assert count_kept(world, item) == 0, "the unanswered one is settled by it"
    world.once_quietly()


def test_what_happened_to_a_disabled_account_is_found_out_once_it_is_enabled(world: World) -> None:
    item = sell(world)
    world.billing.set_status(item, 3)
    world.once()
    world.nextcloud.faults.append(Fault("edit:password", kind="drop", after_effect=True))
    result = world.run("reset-password", str(item))
    check_failure(result, "nobody knows")
    refused = world.nextcloud.logins.refused_count
    world.now = datetime.now(UTC)
    for _ in range(2):
        world.wait(hours=1)
        world.once()
    assert count_kept(world, item) == 1
    assert world.nextcloud.logins.refused_count == refused, "a disabled account is not asked"
    world.billing.set_status(item, 2)
    world.once()
    assert world.is_delivered(item)
    assert count_kept(world, item) == 0


def test_a_card_that_cannot_be_written_is_told_and_written_by_the_next_pass(world: World) -> None:
    item = sell(world)
    old = get_password(world, item)
    tool = write_python_program(world.land.folder / "mgrctl", FAILING)
    world.land.configure({"billmanager": {"writer": "mgrctl", "mgrctl": str(tool)}})
    result = world.run("reset-password", str(item))
    new = get_password(world, item)
    check_failure(result, "the new password is in force, but billing was not told: .*no licence")
    check_words(result, secrets=[new])
    assert new != old
    world.land.configure({})
    world.once()
    assert world.is_delivered(item)
    assert world.billing.get_password(item) == new


def test_what_a_guard_keeps_waiting_does_not_keep_a_password_from_the_card(world: World) -> None:
    """A quota cut that waits for hours; the reset was cut off by a crash."""
    item = sell(world)
    world.land.configure({"guards": {"min_quota_decreases": 0, "max_quota_decreases_percent": 0}})
    world.billing.change_plan(item, world.billing.add_plan("Small", 1))
    world.nextcloud.faults.append(Fault("edit:password", kind="hang", after_effect=True))
    kill_when(world, item, lambda: world.nextcloud.call_counts["edit:password"] > 0)
    world.nextcloud.faults.clear()
    world.now = datetime.now(UTC)
    report = world.once()
    assert [record.item_id for record in report.blocked] == [item]
    assert world.is_delivered(item)
    assert count_kept(world, item) == 0


# -- killed


def kill_when(world: World, item: int, is_time: Callable[[], bool]) -> None:
    """Start `reset-password` and kill it (SIGKILL) as soon as the condition holds."""
    command = world.get_command("reset-password", str(item))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: is_time() or process.poll() is not None)
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()


def wait_until(is_time: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_time():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("operation", ["get", "edit:password"])
@pytest.mark.parametrize("is_after", [False, True], ids=["before the effect", "after the effect"])
def test_a_kill_around_the_change_leaves_the_password_on_the_card_in_force(
    world: World, number: int, operation: str, is_after: bool
) -> None:
    item = sell(world, number)
    old = get_password(world, item)
    cloud = world.land.clouds[number]
    cloud.clear_calls()
    cloud.faults.append(Fault(operation, kind="hang", after_effect=is_after))
    kill_when(world, item, lambda: any(call.operation == operation for call in cloud.calls))
    cloud.faults.clear()
    is_changed = operation == "edit:password" and is_after
    assert (get_password(world, item) != old) is is_changed
    world.now = datetime.now(UTC)  # at once: the dead worker's lease is not waited for
    assert world.once().is_converged
    assert world.is_delivered(item)
    assert world.billing.get_password(item) == get_password(world, item)
    assert (world.billing.get_password(item) != old) is is_changed
    world.wait(minutes=11)
    world.once()
    assert count_kept(world, item) == 0
    world.once_quietly()
    assert world.is_delivered(item)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("is_after", [False, True], ids=["before it is written", "after it was written"])
def test_a_kill_around_the_delivery_still_delivers_the_same_password(
    world: World, number: int, is_after: bool
) -> None:
    item = sell(world, number)
    old = get_password(world, item)
    marker = world.land.folder / "mgrctl.pid"
    source = HANGING.format(
        database=world.land.database_url.removeprefix("sqlite:///"),
        key=str(world.land.folder / "billmgr.pem"),
        marker=str(marker),
        is_after=is_after,
    )
    tool = write_python_program(world.land.folder / "mgrctl", source)
    world.land.configure({"billmanager": {"writer": "mgrctl", "mgrctl": str(tool)}})
    try:
        kill_when(world, item, marker.exists)
    finally:
        kill_tool(marker)
    new = get_password(world, item)
    assert new != old
    assert world.billing.get_password(item) == (new if is_after else old)
    world.land.configure({})
    world.now = datetime.now(UTC)
    assert world.once().is_converged
    assert world.billing.get_password(item) == get_password(world, item) == new
    assert world.is_delivered(item)
    assert count_kept(world, item) == 0
    world.once_quietly()


def kill_tool(marker: Path) -> None:
    """End the stand-in for mgrctl, which outlives its caller."""
    os.kill(int(marker.read_text()), signal.SIGKILL)


def test_a_new_password_reaches_the_card_when_the_operator_runs_it_again_after_a_kill(world: World) -> None:
    item = sell(world)
    cloud = world.nextcloud
    for is_after in (True, False):
        cloud.clear_calls()
        cloud.faults.append(Fault("edit:password", kind="hang", after_effect=is_after))
        kill_when(world, item, lambda: cloud.call_counts["edit:password"] > 0)
        cloud.faults.clear()
    reset(world, item)
    assert world.is_delivered(item)
    assert count_kept(world, item) == 0


def test_the_older_of_two_killed_resets_is_found_out_when_it_is_the_one_in_force(world: World) -> None:
    item = sell(world)
    old = get_password(world, item)
    cloud = world.nextcloud
    for is_after in (True, False):
        cloud.clear_calls()
        cloud.faults.append(Fault("edit:password", kind="hang", after_effect=is_after))
        kill_when(world, item, lambda: cloud.call_counts["edit:password"] > 0)
        cloud.faults.clear()
    world.now = datetime.now(UTC)
    world.once()
    assert get_password(world, item) != old
    assert world.is_delivered(item)
    assert count_kept(world, item) == 0


FAILING = """import json
print(json.dumps({"error": {"msg": "no licence"}}))
"""

HANGING = '''"""Stands in for mgrctl: saves as BILLmanager would, and hangs before or after it."""
import base64, os, pathlib, sqlite3, sys, time
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key

values = dict(argument.split("=", 1) for argument in sys.argv[6:])
name, value = next((n, v) for n, v in values.items() if n not in ("elid", "crypted", "sok"))
assert name == "userpassword"


def save():
    key = load_pem_private_key(open({key!r}, "rb").read(), None).public_key()
    text = base64.b64encode(key.encrypt(value.encode(), padding.PKCS1v15())).decode()
    database = sqlite3.connect({database!r}, timeout=30)
    item = int(values["elid"])
    change = "UPDATE itemcryptedparam SET value = ? WHERE item = ? AND intname = ?"
    database.execute(change, (text, item, name))
    database.commit()


if {is_after}:
    save()
marker = pathlib.Path({marker!r})
marker.with_suffix(".new").write_text(str(os.getpid()))
marker.with_suffix(".new").rename(marker)
time.sleep(600)
'''
