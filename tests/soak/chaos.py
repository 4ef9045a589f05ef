"""Everything that goes wrong in a soak: failing servers, customers who change their minds, hands that tamper.

Each is a thread of its own with a seeded generator; all of them end when they are told to.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from reconciler.sandbox.emulator import Call, CloudEmulator, Fault
from reconciler.sandbox.landscape import Landscape

FAULTY_SHARE: Final = 0.2
"""Of all requests about accounts."""
LEGAL_SECONDS: Final = 30.0
"""How long after billing wanted something it may still be done: a pass that had read it may have slept."""


@dataclass
class Service:
    """One service as the soak knows it.

    Attributes:
        item_id, number: its id, and which server it is on.
        plan: index of its tariff.
        statuses: what billing said and when (monotonic seconds), the latest last.
    """

    item_id: int
    number: int
    plan: int
    statuses: list[tuple[float, int]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return self.statuses[-1][1]

    def was(self, status: int) -> bool:
        """Whether it has this status, or had it until a moment ago."""
        now = time.monotonic()
        ends = [began for began, _ in self.statuses[1:]] + [now]
        return any(
            each == status and end >= now - LEGAL_SECONDS
            for (_, each), end in zip(self.statuses, ends, strict=True)
        )


class Faults:
    """Has a share of all requests go wrong; counts how often."""

    def __init__(self, clouds: Sequence[CloudEmulator], seed: int) -> None:
        self._clouds: Final = clouds
        self._random: Final = random.Random(seed)
        self.count = 0

    def begin(self) -> None:
        kinds: list[dict[str, object]] = [
            {"status": 500},
            {"status": 500, "after_effect": True},
            {"status": 502, "after_effect": True},
            {"status": 503},
            {"kind": "drop"},
            {"kind": "drop", "after_effect": True},
            {"kind": "drop", "late_after": 3},
            {"kind": "cut"},
            {"kind": "html"},
            {"kind": "truncate"},
            {"kind": "empty", "after_effect": True},
            {"kind": "delay", "seconds": 0.3},
            {"status": 500, "partial": True},
        ]
        share = FAULTY_SHARE
        for cloud in self._clouds:
            for place, options in enumerate(kinds):
                # One fault after the other is asked: each takes its part of what is left.
                chance = share / len(kinds) / (1 - place * share / len(kinds))
                cloud.faults.append(Fault(self._make_match(chance), times=None, **options))  # type: ignore[arg-type]

    def _make_match(self, chance: float) -> Callable[[Call], bool]:
        def match(call: Call) -> bool:
            if call.userid is None or self._random.random() >= chance:
                return False
            self.count += 1
            return True

        return match

    def end(self) -> None:
        for cloud in self._clouds:
            cloud.faults.clear()
            cloud.carry_out_late()


class Changes(threading.Thread):
    """Billing and its customers, and somebody with a browser on each server."""

    def __init__(self, land: Landscape, services: Sequence[Service], plans: Sequence[int], seed: int) -> None:
        super().__init__(daemon=True)
        self._land: Final = land
        self._services: Final = services
        self._plans: Final = plans
        self._random: Final = random.Random(seed)
        self._over: Final = threading.Event()
        self.counts: Final[Counter[str]] = Counter()

    def run(self) -> None:
        acts = (self._change_status, self._change_status, self._change_plan, self._tamper)
        while not self._over.wait(self._random.uniform(0.0, 0.05)):
            self._random.choice(acts)(self._random.choice(self._services))

    def end(self) -> None:
        self._over.set()
        self.join()

    def _change_status(self, service: Service) -> None:
        status = self._random.choice({2: (3, 3, 3, 4), 3: (2, 2, 2, 4), 4: (2, 4, 4)}[service.status])
        # First noted, then told: whoever reads it in between does nothing that is not noted.
        service.statuses.append((time.monotonic(), status))
        self._land.billing.set_status(service.item_id, status)
        self.counts[f"status {status}"] += 1

    def _change_plan(self, service: Service) -> None:
        service.plan = self._random.randrange(len(self._plans))
        self._land.billing.change_plan(service.item_id, self._plans[service.plan])
        self.counts["tariff"] += 1

    def _tamper(self, service: Service) -> None:
        cloud = self._land.clouds[service.number]
        what = self._random.choice(("quota", "enabled", "gone"))
        with cloud.lock:
            account = cloud.accounts.get(f"user_{service.item_id}")
            if account is None:
                return
            if what == "quota":
                account.quota_definition = "77 GB"
            elif what == "enabled":
                account.is_enabled = not account.is_enabled
            elif self._random.random() < 0.2:
                cloud.remove_account(account.userid)
        self.counts[f"tampered {what}"] += 1
