"""Every guard is in the configuration and in `status`; a refusal at its service, in `status` and metrics."""

from __future__ import annotations

from typing import Any

from reconciler.config_sections import GuardsSection
from reconciler.sandbox.emulator import Call, Fault
from reconciler.status import describe_status
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import make_settings, running
from tests.acceptance.evidence import check_words, invoke
from tests.acceptance.guards.mishaps import MISHAPS, get_record, make_both, resize, sell

NEVER = {"resync_interval": "24h", "poll_interval": "1h"}


def say(world: World, *arguments: str) -> str:
    result = invoke(world.land.config_path, *arguments)
    check_words(result)
    assert result.returncode == 0, result
    return result.stdout


def test_every_setting_of_the_guards_is_shown_with_what_is_used_of_it(make_world: MakeWorld) -> None:
    settings: dict[str, Any] = {
        "deletion_grace": "71h",
        "deletion_confirm_interval": "7m",
        "min_deletions": 6,
        "max_deletions_percent": 0,
        "min_disables": 1,
        "max_disables_percent": 100,
        "min_recreations": 12,
        "max_recreations_percent": 0,
        "min_quota_decreases": 14,
        "max_quota_decreases_percent": 0,
        "max_desired_shrink_percent": 17,
        "hot_loop_mutations": 18,
        "breaker_failures": 19,
        "breaker_probe_interval": "23s",
        "credentials_probe_interval": "29m",
        "approval_ttl": "31m",
    }
    assert settings.keys() == GuardsSection.model_fields.keys()
    world = make_world(clouds=make_both(), settings={"guards": settings})
    items = [sell(world, number) for number in (0, 0, 0, 1)]
    world.once()
    world.billing.set_status(items[0], 3)
    resize(world, items[1], 1)
    world.get_cloud(items[3]).remove_account(f"user_{items[3]}")
    world.once()
    with world.open() as app:
        status = describe_status(app)
    assert status.limits.keys() == settings.keys()
    used = {(use.guard, use.server_id): (use.used, use.limit, use.hours) for use in status.caps}
    assert used == {
        ("deletions", 1): (0, 6, 24),
        ("disables", 1): (1, 3, 1),
        ("recreations", 1): (0, 12, 1),
        ("quota_decreases", 1): (1, 14, 1),
        ("deletions", 2): (0, 6, 24),
        ("disables", 2): (0, 1, 1),
        ("recreations", 2): (1, 12, 1),
        ("quota_decreases", 2): (0, 14, 1),
    }
    lines = say(world, "status").splitlines()
    (limits,) = (line for line in lines if line.startswith("limits: "))
    assert limits == (
        "limits: deleted after 71 h, wanted in two reads 7 min apart; a read of billing may shrink by 17 %; "
        "18 changes of one service an hour; a server is left alone after 19 failures and tried every 23 s, "
        "after a refused password every 29 min; an approval is good for 31 min"
    )
    assert [line for line in lines if line.startswith("used up")] == [
        f"used up\tserver {server}\tdeletions 0 of 6 in 24 h\tdisables 0 of {disables} in 1 h\t"
        "recreations 0 of 12 in 1 h\tquota_decreases 0 of 14 in 1 h"
        for server, disables in ((1, 3), (2, 1))
    ], "the program's own clock is days later: nothing is used any more"


def test_every_refusal_is_shown_at_its_service_in_status_and_in_metrics(make_world: MakeWorld) -> None:
    limits: dict[str, Any] = {"hot_loop_mutations": 1, "deletion_grace": "0s"}
    for mishap in MISHAPS:
        limits |= {mishap.minimum: 0, mishap.percent: 0}
    world = make_world(clouds=make_both(), settings=make_settings(guards=limits, reconciler=NEVER))
    items = {mishap.guard: sell(world) for mishap in MISHAPS}
    looping, elsewhere = sell(world), sell(world, 1)
    world.once()
    world.wait(hours=2)
    for mishap in MISHAPS:
        mishap.strike(world, items[mishap.guard])

    def is_its_edit(call: Call) -> bool:
        return call.operation == "edit:quota" and call.userid == f"user_{looping}"

    world.nextcloud.faults.append(Fault(is_its_edit, status=200, body="{}", times=None))
    resize(world, looping, 50)
    items["hot_loop"] = looping
    world.once()
    world.owncloud.set_instance_id("ocsecondone0")
    world.billing.set_status(elsewhere, 3)
    for _ in range(2):
        world.once()
        world.wait(minutes=1)

    for guard, item in items.items():
        record = get_record(world, item)
        assert record.blocked_guard == guard
        assert f"guard {guard}: " in f"{record.blocked_by} {record.reason}"
    for mishap in MISHAPS:
        facts = dict(line.split("\t") for line in say(world, "status", str(items[mishap.guard])).splitlines())
        assert facts["guard"] == mishap.guard
        assert facts["step that waits"] == mishap.name_step(items[mishap.guard], 1)
    text = say(world, "status")
    for mishap in MISHAPS:
        command = f"`reconciler approve {mishap.option} --server 1`"
        assert f"guard {mishap.guard}: 1 services wait on server 1: {command}\n" in text
    assert "guard hot_loop: 1 services wait on server 1: `reconciler release ITEM`\n" in text
    command = "`reconciler approve identity --server 2 --instance ocsecondone0`"
    assert f"guard identity: 0 services wait on server 2: {command}\n" in text

    with running(world) as daemon:
        for guard, server in [*((guard, 1) for guard in items), ("identity", 2)]:
            name = f'reconciler_guard_active{{guard="{guard}",server="{server}"}}'
            daemon.wait_for(lambda name=name: daemon.get_metrics()[name] == 1, name)  # type: ignore[misc]
        for mishap in MISHAPS:
            name = f'reconciler_guard_trips_total{{guard="{mishap.guard}"}}'
            daemon.wait_for(lambda name=name: daemon.get_metrics()[name] >= 1, name)  # type: ignore[misc]
        assert daemon.get_metrics()['reconciler_guard_active{guard="desired_read",server="all"}'] == 0
    assert [mishap.guard for mishap in MISHAPS if mishap.is_done(world, items[mishap.guard])] == []
