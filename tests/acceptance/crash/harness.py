"""Runs a scenario again and again, each time killed at another effect, and compares how the world ends.

A run is a process of its own, forked from one that has loaded everything (multiprocessing's fork server), and
is killed by a real SIGKILL. Before each run billing, journal and servers are put back to what they were.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from typing import Any

from reconciler.sandbox.emulator import Call, CloudEmulator, Fault
from tests.acceptance.conftest import World
from tests.acceptance.crash import victim
from tests.acceptance.crash.effects import Fate, When
from tests.acceptance.crash.scenarios import Scenario
from tests.acceptance.panel import read_calls
from tests.acceptance.saved_world import SavedWorld
from tests.forking import run_forked

IS_THOROUGH = "CRASH_POINTS" in os.environ
"""Whether everything is tried (``make crash``), and not the share that the suite has time for."""

_CHANGING = ("http POST", "http PUT", "http DELETE")
_LATE_AFTER: Mapping[When, int | None] = {"lost": None, "late": 0, "overtaken": 2}
"""When a server carries out a request that it does not answer: see `Fault.late_after`."""


class Harness:
    """One scenario in one world."""

    def __init__(
        self, world: World, scenario: Scenario, number: int, context: ForkServerContext, seed: int = 0
    ) -> None:
        self._world = world
        self._scenario = scenario
        self._context = context
        self._random = random.Random(seed)
        self._report_path = world.land.folder / "report.json"
        self.item = scenario.prepare(world, number)
        self._saved = SavedWorld(world)
        self.effects = self._run_undisturbed()
        self.expected = self.describe()

    # -- runs

    def _run_undisturbed(self) -> list[str]:
        self._saved.restore()
        report, recovery = self._command(None), self._recover(None)
        assert report is not None
        assert recovery is not None
        assert (report.error, recovery.error, recovery.rounds) == (None, None, 1), (report, recovery)
        return report.effects

    def list_fates(self) -> list[Fate]:
        """Every effect, with everything that can happen at it.

        A read changes nothing: a kill around it meets the world that the effect before it has left, and is
        tried by ``make crash`` only.
        """
        fates = [Fate(0, "before")]
        for number, name in enumerate(self.effects):
            is_read = name == "http GET"
            whens: list[When] = ["after"] if not is_read or IS_THOROUGH else []
            if not is_read:
                whens.append("lost")
            if name in {*_CHANGING, "mgrctl"}:
                whens.append("late")
            if name in _CHANGING:
                whens.append("overtaken")
            fates += [Fate(number, when) for when in whens]
        return fates

    def try_fate(self, fate: Fate, second: Fate | None = None) -> None:
        """Run the scenario with a fate, let it recover (with a second fate on the way), and compare.

        Raises:
            AssertionError: it ended otherwise than undisturbed.
        """
        self._saved.restore()
        report = self._command(fate)
        assert (report is None) == (fate.when in {"before", "after"}), "not everything repeats itself"
        self._carry_out_late(report)
        if self._scenario.command != "pass":  # the operator, who got no answer, asks again
            for again in (second, None) if second else (None,):
                self._command(again)
        elif second is not None:
            self._recover(second)
        report = self._recover(None)
        assert report is not None
        assert report.error is None, report.error
        found = self.describe()
        differences = {name: value for name, value in found.items() if value != self.expected[name]}
        assert not differences, (
            f"{differences} instead of { ({name: self.expected[name] for name in differences}) }"
        )

    def list_second_fates(self, count: int) -> list[tuple[Fate, Fate]]:
        """Some pairs: killed, and killed again while recovering."""
        fates = self.list_fates()
        numbers = range(len(self.effects))
        return [
            (self._random.choice(fates), Fate(self._random.choice(numbers), "after")) for _ in range(count)
        ]

    def _command(self, fate: Fate | None) -> victim.Report | None:
        arguments = (self.item, self._scenario.command, fate)
        with self._breaking(fate, self.effects if fate else ()):
            return self._fork(victim.run, arguments)

    def _recover(self, fate: Fate | None) -> victim.Report | None:
        return self._fork(victim.recover, (self.item, fate))

    def _fork(self, target: Any, arguments: tuple[Any, ...]) -> victim.Report | None:
        self._report_path.unlink(missing_ok=True)
        common = (str(self._world.land.config_path), str(self._report_path), self._world.now.isoformat())
        if not run_forked(self._context, target, *common, *arguments):
            return None
        return victim.read_report(self._report_path)

    @contextlib.contextmanager
    def _breaking(self, fate: Fate | None, effects: Sequence[str]) -> Iterator[None]:
        """Have the servers do wrong what belongs to a fate: break a connection, act late."""
        clouds = self._world.land.clouds
        first = self._scenario.fault() if self._scenario.fault else None
        faults = [] if first is None else [first]
        if fate and fate.when in _LATE_AFTER and effects[fate.number].startswith("http"):
            late_after = _LATE_AFTER[fate.when]
            nth = _Nth(sum(name.startswith("http") for name in effects[: fate.number]))
            faults.insert(
                0, Fault(nth, "drop", after_effect=fate.when == "lost", late_after=late_after, times=None)
            )
        for cloud in clouds:
            cloud.faults[:] = faults
        try:
            yield
        finally:
            for cloud in clouds:
                cloud.faults.clear()

    def _carry_out_late(self, report: victim.Report | None) -> None:
        for cloud in self._world.land.clouds:
            cloud.carry_out_late()
        for command in report.late if report else ():
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def get_state(self) -> str:
        """The state in which the undisturbed run ended."""
        journal: Any = self.expected["journal"]
        return str(journal["service"][0])

    # -- worlds

    def describe(self) -> dict[str, object]:
        """Everything that must be the same in the end."""
        world, item = self._world, self.item
        return {
            "accounts": [_describe_accounts(cloud) for cloud in world.land.clouds],
            "card": world.billing.get_params(item),
            "status": world.billing.get_status(item),
            "operation ended": [call for call in read_calls(world) if call.startswith("service.post")],
            "journal": self._describe_journal(),
            "delivered": self._is_delivered(),
        }

    def _is_delivered(self) -> bool:
        """Whether what is on the card logs in, once the account is enabled for the question."""
        account = self._world.get_account(self.item)
        if account is None:
            return False
        was_enabled, account.is_enabled = account.is_enabled, True
        try:
            return self._world.is_delivered(self.item)
        finally:
            account.is_enabled = was_enabled

    def _describe_journal(self) -> dict[str, object]:
        with contextlib.closing(sqlite3.connect(self._world.land.folder / "journal.db")) as journal:
            columns = "state, ownership, account_server_id, account_userid, is_provisioned, applied_email, "
            columns += "quarantine_reason, retired_since IS NOT NULL, blocked_by, last_error"
            query = f"SELECT {columns} FROM service WHERE item_id = ?"
            kept = "SELECT count(*) FROM intent WHERE password IS NOT NULL"
            unanswered = "SELECT count(*) FROM intent WHERE kind = 'create' AND outcome IN ('unknown')"
            return {
                "service": journal.execute(query, (self.item,)).fetchone(),
                "passwords kept": journal.execute(kept).fetchone()[0],
                "open creates": journal.execute(unanswered).fetchone()[0],
            }


class _Nth:
    """Matches one request, by its place among all that come from now on."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._seen = 0

    def __call__(self, _call: Call) -> bool:
        self._seen += 1
        return self._seen == self._place + 1


def _describe_accounts(cloud: CloudEmulator) -> dict[str, object]:
    with cloud.lock:
        return {
            key: (
                account.userid,
                account.quota_definition,
                account.email,
                account.is_enabled,
                sorted(account.groups),
            )
            for key, account in cloud.accounts.items()
        }
