"""What must never happen in a soak, seen from the servers' side, and what must be so in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from reconciler.sandbox.emulator import Call, CloudEmulator
from reconciler.sandbox.landscape import Landscape
from tests.soak.chaos import LEGAL_SECONDS, Service

STRANGERS: Final = 20
"""On each server: accounts of nobody's service, that nothing may touch."""


class Watching(threading.Thread):
    """Looks at every request that had an effect, soon after it, and collects violations."""

    def __init__(self, land: Landscape, services: Mapping[int, Service]) -> None:
        super().__init__(daemon=True)
        self._land: Final = land
        self._services: Final = services
        self._strangers: Final = [_add_strangers(cloud) for cloud in land.clouds]
        self._over: Final = threading.Event()
        self._open: list[tuple[float, CloudEmulator, Call]] = []
        self.writes = 0
        self.violations: Final[list[str]] = []

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.look()

    def end(self) -> None:
        self._over.set()
        self.join()
        self.look()

    def look(self) -> None:
        now = time.monotonic()
        for cloud, strangers in zip(self._land.clouds, self._strangers, strict=True):
            self._open += [(now, cloud, call) for call in cloud.take_calls() if call.is_mutating]
            if describe(cloud, strangers) != strangers:
                self.violations.append(f"{cloud.base_url}: a stranger's account was changed")
        # An effect may come after its call: what has none yet is looked at again.
        for _, cloud, call in self._open:
            if call.had_effect:
                self.writes += 1
                self._judge(cloud, call)
        self._open = [one for one in self._open if not one[2].had_effect and one[0] > now - LEGAL_SECONDS]

    def _judge(self, cloud: CloudEmulator, call: Call) -> None:
        name = (call.userid or "").lower()
        service = (
            self._services.get(int(name.removeprefix("user_") or 0)) if name.startswith("user_") else None
        )
        if service is None or self._land.clouds[service.number] is not cloud:
            self.violations.append(f"{cloud.base_url}: {call.operation} of {name}, which is no service's")
        elif call.operation == "delete" and not service.was(4):
            self.violations.append(f"service {service.item_id}: deleted, and billing never said so")
        elif call.operation == "disable" and not (service.was(3) or service.was(4)):
            self.violations.append(f"service {service.item_id}: disabled although it is paid")
        elif call.operation == "enable" and not service.was(2):
            self.violations.append(f"service {service.item_id}: enabled although it is not paid")


def _add_strangers(cloud: CloudEmulator) -> dict[str, object]:
    """Accounts like ours that belong to no service, some of them administrators'; with the API user's own."""
    names = [f"stranger{number}" for number in range(STRANGERS)]
    for number, name in enumerate(names):
        cloud.add_account(name, quota="1 GB", groups=["admin"] if number % 5 == 0 else [])
    return describe(cloud, [*names, cloud.admin_user])


def describe(cloud: CloudEmulator, userids: Iterable[str]) -> dict[str, object]:
    """What a server holds of some accounts."""
    with cloud.lock:
        return {
            userid: (
                account.password,
                account.quota_definition,
                account.email,
                account.is_enabled,
                set(account.groups),
            )
            for userid in userids
            if (account := cloud.accounts.get(userid)) is not None
        }


def list_unconverged(land: Landscape, services: Sequence[Service], quotas: Sequence[str]) -> list[Service]:
    """The services whose account is not as billing wants it."""
    return [service for service in services if not _is_right(land, service, quotas)]


def _is_right(land: Landscape, service: Service, quotas: Sequence[str]) -> bool:
    cloud = land.clouds[service.number]
    with cloud.lock:
        account = cloud.accounts.get(f"user_{service.item_id}")
        if service.status == 4:
            return account is None
        return (
            account is not None
            and account.is_enabled is (service.status == 2)
            and account.quota_definition == quotas[service.plan]
            and (account.email or "").endswith("@example.net")
        )


def wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.5)
