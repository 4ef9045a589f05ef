"""`reconciler demo`: the real program against emulated servers, on loopback only.

Sells services in a small BILLmanager database (SQLite), lets the full cycle bring them to one
Nextcloud and one ownCloud emulator, tampers with the accounts by hand, shows what `plan` says, and
repairs it; then starts the daemon, which does all of it by itself. Leaves nothing behind unless it is asked
to stay.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from reconciler.application import Application
from reconciler.config import load_config
from reconciler.cycle import CycleReport, run_cycle
from reconciler.logs import set_up_logging
from reconciler.output import Output
from reconciler.planning import Plan, make_plan
from reconciler.process import obey_signals
from reconciler.sandbox.billing_sample import Sample, fill_sample
from reconciler.sandbox.emulator import CloudEmulator
from reconciler.sandbox.landscape import Landscape, find_free_port
from states import StepKind

_GROUPS: Final = ("basic", "pro")
_SHOWN_METRICS: Final = re.compile(
    r'reconciler_(mutations_total\{action="(create|set_quota)"|services\{.*state="(active|drifted)"'
    r'|convergence_duration_seconds_count\{kind="(provisioning|drifted)"|oldest_unconverged)'
)


def run_demo(output: Output, *, services: int, is_kept: bool, folder: Path | None) -> int:
    """Run the demo.

    Args:
        output: where to show it.
        services: how many to sell.
        is_kept: leave servers and files until Ctrl-C, to be played with from another terminal.
        folder: where its files go; a temporary folder when None.

    Returns:
        The exit code: 0 when everything converged and was repaired.
    """
    set_up_logging(is_json=False, level="error")
    started = time.monotonic()
    with _open_folder(folder) as place, _open_clouds(place) as land:
        output.line(f"a billing database and two cloud servers on this machine, in {place}")
        sample = fill_sample(land.billing, land.server_ids, services=services)
        output.line(f"{services} services sold: {_describe_sale(sample)}")
        output.line()
        reports = [_converge(output, land, "1. provision what was sold")]
        tampered = _tamper(land, sample)
        output.line("2. somebody tampers with accounts by hand:")
        for line in tampered:
            output.line(f"   {line}")
        output.line()
        plan = _show_plan(output, land)
        reports.append(_converge(output, land, "4. repair it"))
        reports.append(_converge(output, land, "5. look once more: nothing may be left to do"))
        is_good = _sum_up(output, land, reports, plan, len(tampered))
        output.line()
        is_good = _show_daemon(output, land, sample) and is_good
        output.line(f"{time.monotonic() - started:.1f} s in all")
        if is_kept:
            _stay(output, land)
    return 0 if is_good else 1


@contextlib.contextmanager
def _open_folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="bill-nextcloud-demo-") as name:
        yield Path(name)


@contextlib.contextmanager
def _open_clouds(folder: Path) -> Iterator[Landscape]:
    clouds = [
        CloudEmulator("nextcloud", path="/cloud", login_seconds=0.25),
        CloudEmulator("owncloud", login_seconds=0.25),
    ]
    for cloud in clouds:
        for group in _GROUPS:
            cloud.add_group(group)
    settings = {
        "reconciler": {"poll_interval": "1s", "resync_interval": "3s"},
        "http": {"listen": f"127.0.0.1:{find_free_port()}"},
    }
    with Landscape(folder, clouds, settings=settings) as land:
        yield land


def _describe_sale(sample: Sample) -> str:
    words = {1: "ordered", 2: "active", 3: "suspended", 4: "closed", 5: "being opened"}
    return ", ".join(f"{len(items)} {words[status]}" for status, items in sample.items_by_status.items())


def _converge(output: Output, land: Landscape, title: str) -> CycleReport:
    for cloud in land.clouds:
        cloud.clear_calls()
    with Application(load_config(land.config_path)) as app, output.progress(title) as progress:
        report = run_cycle(app, actor="demo", progress=progress)
    steps = ", ".join(f"{count} {kind}" for kind, count in sorted(report.steps.items())) or "nothing to do"
    output.line(f"{title}: {steps} ({report.duration_seconds:.1f} s)")
    calls = ", ".join(
        f"{cloud.product} {len(cloud.calls)} requests, {len(cloud.mutating_calls())} writes"
        for cloud in land.clouds
    )
    output.line(f"   {calls}")
    for record in [*report.attention, *report.blocked][:10]:
        output.line(
            f"   service {record.item_id} {record.memory.state}: {record.blocked_by or record.reason}"
        )
    output.line()
    return report


def _tamper(land: Landscape, sample: Sample) -> list[str]:
    """Change accounts behind the reconciler's back, on both servers; say what was done."""
    done: list[str] = []
    for cloud in land.clouds:
        with cloud.lock:
            ours = [cloud.accounts.get(f"user_{item}") for item in sample.items_by_status[2]]
            active = [account for account in ours if account is not None]
            ours = [cloud.accounts.get(f"user_{item}") for item in sample.items_by_status[3]]
            suspended = [account for account in ours if account is not None]
            grouped = [account for account in active[2:] if account.groups & set(_GROUPS)]
            active[0].quota_definition = "none"
            done.append(f"{cloud.product}: quota of {active[0].userid} set to unlimited")
            cloud.remove_account(active[1].userid)
            done.append(f"{cloud.product}: account {active[1].userid} deleted")
            if grouped:
                grouped[0].groups = set()
                done.append(f"{cloud.product}: {grouped[0].userid} taken out of its group")
            if suspended:
                suspended[0].is_enabled = True
                done.append(f"{cloud.product}: suspended {suspended[0].userid} enabled")
    return done


def _show_plan(output: Output, land: Landscape) -> Plan:
    with Application(load_config(land.config_path), is_dry_run=True) as app:
        plan = make_plan(app)
    output.line("3. what `reconciler plan` says:")
    rows = [
        (
            planned.item_id,
            planned.userid,
            planned.verdict.state,
            "; ".join(f"{item.field}: {item.observed} -> {item.wanted}" for item in planned.differences),
        )
        for planned in plan.planned
        if planned.changes
    ]
    output.table("", ("service", "account", "state", "difference"), rows)
    output.line()
    return plan


def _sum_up(output: Output, land: Landscape, reports: list[CycleReport], plan: Plan, tampered: int) -> bool:
    first, repair, last = reports
    found = sum(1 for planned in plan.planned if planned.changes)
    writes = sum(len(cloud.mutating_calls()) for cloud in land.clouds)
    is_good = first.is_converged and repair.is_converged and found == tampered and writes == 0
    rows = [
        ("services", last.services),
        ("states", ", ".join(f"{count} {state}" for state, count in sorted(last.states.items()))),
        ("accounts made", sum(report.steps[StepKind.CREATE] for report in reports)),
        ("tampered with, seen by plan", f"{tampered}, {found}"),
        ("repaired", "all" if repair.is_converged else "not all"),
        ("writes of the last look", writes),
        ("result", "converged" if is_good else "NOT converged"),
    ]
    output.table("summary", ("", ""), rows)
    return is_good


def _show_daemon(output: Output, land: Landscape, sample: Sample) -> bool:
    """The daemon healing by itself what is changed under it, and the metrics that tell of it."""
    output.line("6. the daemon, `reconciler run`: nobody starts anything by hand any more")
    billing, cloud = land.billing, land.clouds[0]
    with _run_daemon(land) as port:
        _wait_for(lambda: _scrape(port) is not None)
        plan = next(iter(sample.plan_ids.values()))
        client = billing.add_client("late@example.net", name="Latecomer")
        item = billing.add_service(plan, client, land.server_ids[0], 1)
        started = time.monotonic()
        billing.set_status(item, 2)
        is_good = _wait_for(lambda: bool(billing.get_password(item)))
        output.line(
            f"   paid: account made, credentials on the card after {time.monotonic() - started:.1f} s"
        )
        tampered = [f"user_{item}" for item in sample.items_by_status[2][:20]]
        with cloud.lock:
            ours = [account for name in tampered if (account := cloud.accounts.get(name)) is not None]
            for account in ours:
                account.quota_definition = "none"
        started = time.monotonic()
        is_good &= _wait_for(lambda: not any(account.quota_definition == "none" for account in ours))
        seconds = time.monotonic() - started
        output.line(f"   {len(ours)} quotas set to unlimited by hand: all put right after {seconds:.1f} s")
        is_good &= _wait_for(lambda: _is_told(port, len(ours)))
        lines = [line for line in (_scrape(port) or "").splitlines() if _SHOWN_METRICS.match(line)]
        output.line(f"   from http://127.0.0.1:{port}/metrics:")
        for line in lines:
            output.line(f"      {line}")
    output.line()
    return is_good


@contextlib.contextmanager
def _run_daemon(land: Landscape) -> Iterator[int]:
    """`reconciler run` as a process; its HTTP port."""
    command = [sys.executable, "-m", "reconciler.cli", "--config", str(land.config_path), "run"]
    with (
        (land.folder / "daemon.log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,  # noqa: S603
    ):
        try:
            yield load_config(land.config_path).http.port
        finally:
            process.terminate()


def _scrape(port: int) -> str | None:
    """The daemon's metrics once it is ready; None before."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
            pass
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def _is_told(port: int, repairs: int) -> bool:
    """Whether the metrics show so many quotas as set, and nothing as drifted any more."""
    text = _scrape(port) or ""
    done = re.findall(r'^reconciler_mutations_total{action="set_quota".*} (.*)$', text, re.MULTILINE)
    drifted = re.findall(r'^reconciler_services{.*state="drifted"} (.*)$', text, re.MULTILINE)
    return sum(map(float, done)) >= repairs and not any(map(float, drifted))


def _wait_for(condition: Callable[[], bool]) -> bool:
    """Wait until something holds; False when it does not within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _stay(output: Output, land: Landscape) -> None:
    output.line()
    output.line("left running; in another terminal, for example:")
    output.line(f"   reconciler --config {land.config_path} run")
    output.line(f"   reconciler --config {land.config_path} plan")
    output.line(f"   reconciler --config {land.config_path} status")
    for cloud in land.clouds:
        output.line(f"   {cloud.product}: {cloud.base_url} as {cloud.admin_user} / {cloud.admin_password}")
    output.line("Ctrl-C ends it.")
    stopped = threading.Event()
    obey_signals(lambda _: stopped.set(), signal.SIGINT, signal.SIGTERM)
    stopped.wait()
