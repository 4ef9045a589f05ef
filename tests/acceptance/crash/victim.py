"""The process that is killed: one pass, one operator's command, or the recovery, with its effects counted.

Run by `tests.acceptance.crash.harness` in processes of their own, forked from one that has loaded everything.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from bm_db import Order
from bm_db.errors import BillingError
from nc.errors import CloudError
from reconciler import application
from reconciler.adoption import adopt_account
from reconciler.application import Application
from reconciler.config import PATH_VARIABLE, load_config
from reconciler.fleet import ServerStopped
from reconciler.journal import JournalError
from reconciler.logs import ROOT
from reconciler.operations import OperationRefused
from reconciler.panel import services
from reconciler.panel.errors import PanelError
from reconciler.passwords import reset_password
from tests.acceptance.crash.effects import Effects, Fate, count_effects

MAX_ROUNDS = 8
"""More tries, an hour apart, than any recovery may need."""


@dataclass
class Report:
    """What a process that was not killed says of itself.

    Attributes:
        effects: in order.
        late: command lines to be carried out after its end.
        rounds: how many passes the recovery took; the last one found nothing to do.
        error: what ended a command; passes record their errors elsewhere.
    """

    effects: list[str] = field(default_factory=list)
    late: list[list[str]] = field(default_factory=list)
    rounds: int = 0
    error: str | None = None


Command = Callable[[Application, int], None]


def make_pass(app: Application, item_id: int) -> None:
    app.reconciler.reconcile_service(item_id, actor="test")


def make_new_password(app: Application, item_id: int) -> None:
    reset_password(app, item_id, "operator:test")


def adopt(app: Application, item_id: int) -> None:
    for each in adopt_account(app, item_id, "Elena", "operator:test", is_forced=False):
        app.reconciler.reconcile_service(each, actor="operator:test")


def call_module(operation: str, app: Application, item_id: int) -> None:
    """BILLmanager calls its module for a running operation."""
    for module, name, value in (
        (services, "LEASE_SECONDS", 0.0),
        (application, "Application", partial(Application, clock=app.clock)),
    ):
        setattr(module, name, value)
    services.run_operation(Order(operation, 1), item_id, "en")


COMMANDS: dict[str, Command] = {
    "pass": make_pass,
    "reset-password": make_new_password,
    "adopt": adopt,
    **{
        f"module {operation}": partial(call_module, operation)
        for operation in ("open", "setparam", "suspend", "resume", "close")
    },
}


def run(config_path: str, report_path: str, now: str, item_id: int, command: str, fate: Fate | None) -> None:
    """One command; the report is written unless the process is killed."""
    effects, report = count_effects(fate), Report()
    os.environ[PATH_VARIABLE] = config_path
    try:
        with _open(config_path, lambda: datetime.fromisoformat(now)) as app:
            app.fleet.refresh()
            COMMANDS[command](app, item_id)
    except (BillingError, JournalError, CloudError, ServerStopped, OperationRefused, PanelError) as error:
        report.error = str(error)
    _write(report_path, report, effects)


def recover(config_path: str, report_path: str, now: str, item_id: int, fate: Fate | None) -> None:
    """Passes an hour apart, as the daemon makes them, until one finds nothing to do."""
    effects, report = count_effects(fate), Report()
    clock = datetime.fromisoformat(now)
    with _open(config_path, lambda: clock) as app:
        app.fleet.refresh()
        is_done = False
        while not is_done and report.rounds < MAX_ROUNDS:
            report.rounds += 1
            try:
                result = app.reconciler.reconcile_service(item_id, actor="recovery")
                is_done = not (result.steps or result.error or result.blocked_by or result.is_busy)
            except (BillingError, JournalError) as error:
                report.error = str(error)
            clock += timedelta(hours=1)
    report.error = None if is_done else report.error or f"not done after {report.rounds} passes: {result}"
    _write(report_path, report, effects)


def _open(config_path: str, clock: Callable[[], datetime]) -> Application:
    logging.getLogger(ROOT).setLevel(logging.CRITICAL)
    return Application(load_config(config_path), clock=clock)


def _write(path: str, report: Report, effects: Effects) -> None:
    report.effects, report.late = effects.done, effects.late
    Path(path).write_text(json.dumps(asdict(report)), "utf-8")


def read_report(path: Path) -> Report:
    values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return Report(**values)
