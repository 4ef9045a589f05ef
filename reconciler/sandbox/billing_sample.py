"""Sample data for the sandbox: several servers, plans, add-ons, and services in every status.

Called by the demo and by tests that want a bit of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.sandbox.billing_data import SandboxBilling


@dataclass(frozen=True, slots=True)
class Sample:
    """What `fill_sample` made: ids of the plans by name, and of the services by status."""

    plan_ids: dict[str, int]
    items_by_status: dict[int, list[int]]

    @property
    def item_ids(self) -> list[int]:
        """Every service."""
        return sorted(item_id for items in self.items_by_status.values() for item_id in items)


def fill_sample(billing: SandboxBilling, server_ids: Sequence[int], *, services: int = 40) -> Sample:
    """Sell services on the servers, most active, some ordered, suspended, closed or running.

    Every tenth service is ordered, suspended, closed or in an operation (open) in turn; on the live schema
    every fourth has bought ten more units of disk.
    """
    plan_ids = add_sample_plans(billing)
    items_by_status: dict[int, list[int]] = {status: [] for status in (1, 2, 3, 4, 5)}
    odd_statuses = (1, 3, 4, 5)
    names = list(plan_ids)
    for number in range(services):
        status = odd_statuses[number // 10 % len(odd_statuses)] if number % 10 == 9 else 2
        account_id = billing.add_client(f"client{number + 1}@example.net", name=f"Client {number + 1}")
        plan_id = plan_ids[names[number % len(names)]]
        server_id = server_ids[(number // len(names) + number // 40) % len(server_ids)]
        item_id = billing.add_service(plan_id, account_id, server_id, status)
        if billing.variant == "live" and number % 4 == 3:
            billing.buy_addon(item_id, 10)
        if status == 5:
            billing.start_operation(item_id, "open")
        items_by_status[status].append(item_id)
    return Sample(plan_ids, items_by_status)


def add_sample_plans(billing: SandboxBilling) -> dict[str, int]:
    """Plans of awkward sizes: 5 GB, 1500 MiB, 1.44 GB (1474 MiB on live: whole units only), 1 TB."""
    if billing.variant == "live":
        return {
            "Start 5 GB": billing.add_plan("Start 5 GB", 5),
            "Basic 1500 MiB": billing.add_plan("Basic 1500 MiB", 1500, measure="mib", group="basic"),
            "Floppy 1.44 GB": billing.add_plan("Floppy 1.44 GB", 1474, measure="mib"),
            "Pro 1 TB": billing.add_plan("Pro 1 TB", 1, measure="tib", group="pro"),
        }
    return {
        "Start 5 GB": billing.add_plan("Start 5 GB", 5),
        "Basic 1500 MiB": billing.add_plan("Basic 1500 MiB", "1.46484375", group="basic"),
        "Floppy 1.44 GB": billing.add_plan("Floppy 1.44 GB", "1.44"),
        "Pro 1 TB": billing.add_plan("Pro 1 TB", 1000, group="pro"),
    }
