"""How things stand after the program has done what it could: as sold, or shown with a cause."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.cycle import CycleReport
from tests.acceptance.model.billed import TARIFF_GROUPS, Billed, Place
from tests.acceptance.model.provider import Provider
from tests.acceptance.model.watched import Facts

_STOPPED = {"backoff", "held", "quarantined", "orphaned"}


@dataclass(frozen=True)
class Shown:
    """What the program tells of a service."""

    item: int
    state: str
    reason: str
    last_error: str | None
    blocked_by: str | None
    blocked_guard: str | None
    quarantine_reason: str | None
    stable_at: float | None

    @property
    def cause(self) -> str | None:
        """Why it is not as sold; None when nothing is told."""
        return self.blocked_by or (self.reason if self.state in _STOPPED else None)

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}; blocked by {self.blocked_by}"


def find_faults(
    provider: Provider, shown: dict[int, Shown], report: CycleReport, healthy: set[int]
) -> list[str]:
    """What is wrong after a full cycle; an empty list when nothing is.

    Args:
        provider: whose services.
        shown: what the program tells of them.
        report: the cycle's.
        healthy: servers that were all right all the time.
    """
    faults = []
    left_out = {
        cloud.number
        for cloud in provider.clouds
        if any(name.startswith(f"server {cloud.server_id} ") for name in report.servers)
    }
    faults += [f"server {each} is well, and was left out: {report.servers}" for each in left_out & healthy]
    billed = provider.read_billed()
    for item, one in billed.items():
        row, missing = shown.get(item), find_difference(provider, one)
        if missing is None or one.server is None:
            continue
        obstacle = find_obstacle(provider, one, billed)
        told = f"service {item} ({one.wish} on {one.place}): {missing}; told is {row}; obstacle {obstacle}"
        if one.server in left_out:
            continue
        is_well = {one.server, *_list_homes(provider, item)} <= healthy
        if row is None or not row.cause:
            faults.append(f"not shown: {told}")
        elif is_well and not _is_excused(provider, item, row, obstacle):
            faults.append(f"not cured: {told}")
    for item in [item for item in provider.items if item not in billed]:
        row, home = shown.get(item), provider.book.homes.get(item)
        is_left = home is not None and provider.clouds[home[0]].find(home[1]) is not None
        expected = {"orphaned", "held"} if is_left else {"orphaned", "held", "absent", "deleted"}
        if row is not None and row.state not in expected:
            faults.append(f"service {item} has vanished, and is told as {row}")
    return faults


def _list_homes(provider: Provider, item: int) -> set[int]:
    """Servers that a service's account may be on."""
    book = provider.book
    return {home[0] for homes in (book.homes, book.likely_homes) if (home := homes.get(item)) is not None}


def _is_excused(provider: Provider, item: int, row: Shown, obstacle: str | None) -> bool:
    """Whether there is a good reason not to be as sold on a server that is well."""
    if row.blocked_guard is not None or row.quarantine_reason is not None:
        return True
    if row.state == "held":
        return item in provider.book.held
    return row.state == "quarantined" and obstacle is not None


def find_difference(provider: Provider, one: Billed, *, is_last: bool = False) -> str | None:
    """In what an account is not as billing wants it; None when it is.

    ``is_last``: every grace is over.
    """
    place = one.place
    if place is None or one.wish in {"none", "as is"}:
        return None
    account = provider.clouds[place[0]].find(place[1])
    if one.is_sold:
        return "it is not there" if account is None else _compare(provider, one, place, account)
    if account is None or not provider.book.is_claimed(place, one):
        return None
    if is_last:
        return "it is still there"
    return "it is enabled" if account.is_enabled else None


def _compare(provider: Provider, one: Billed, place: Place, account: Facts) -> str | None:
    """In what an account differs from what was sold; None when in nothing."""
    found = []
    if account.is_enabled is not (one.wish == "enabled"):
        found.append("enabled" if account.is_enabled else "disabled")
    if account.quota != one.tariff.quota and not (one.tariff.quota is None and one.wish == "disabled"):
        found.append(f"quota {account.quota}")
    if one.tariff.group is None or one.tariff.group in provider.clouds[place[0]].groups:
        has = account.groups & TARIFF_GROUPS
        if has != {one.tariff.group} - {None}:
            found.append(f"groups {sorted(has)}")
    life = place[0], account.serial
    is_ours_to_set = life in provider.book.made and life not in provider.book.free_emails
    if is_ours_to_set and account.email.lower() != (one.email or "").lower():
        found.append(f"e-mail {account.email}")
    return ", ".join(found) or None


def find_obstacle(provider: Provider, one: Billed, billed: dict[int, Billed]) -> str | None:
    """What keeps the program from serving a service, by all that is known outside; None when nothing does."""
    place, book = one.place, provider.book
    if place is None:
        return "no server of ours"
    for home in (book.homes.get(one.item), book.likely_homes.get(one.item)):
        if home is not None and home != place and provider.clouds[home[0]].find(home[1]) is not None:
            return f"its account is at {home}"
    for other in billed.values():
        if other.item != one.item and other.place == place and (other.wish != "none" or other.is_named):
            return f"service {other.item} has the same name"
    account = provider.clouds[place[0]].find(place[1])
    if account is not None:
        if "admin" in account.groups or account.subadmin_of or place[1] == "admin":
            return "an administrator's"
        if not provider.book.is_claimed(place, one):
            return "a stranger's"
    if one.tariff.quota is None:
        return "no quota"
    return None


def find_last_faults(provider: Provider, shown: dict[int, Shown]) -> list[str]:
    """What is wrong when everything is mended, approved and waited for; an empty list when nothing is."""
    faults = []
    billed = provider.read_billed()
    for item, one in billed.items():
        row, missing = shown.get(item), find_difference(provider, one, is_last=True)
        obstacle = find_obstacle(provider, one, billed)
        told = f"service {item} ({one.wish}): {missing}; told is {row}; obstacle {obstacle}"
        if missing is not None and not (obstacle and row and row.state == "quarantined" and row.reason):
            faults.append(f"not cured: {told}")
        elif row is not None and (row.blocked_by or row.state in {"backoff", "unknown"}):
            faults.append(f"still waiting: {told}")
        elif row is not None and row.state == "quarantined" and not obstacle:
            faults.append(f"quarantined for nothing: {told}")
        elif missing is None and not obstacle and one.wish == "enabled" and not _is_delivered(provider, one):
            faults.append(f"the card does not open the account: {told}")
    return faults


def _is_delivered(provider: Provider, one: Billed) -> bool:
    assert one.place is not None
    account = provider.clouds[one.place[0]].find(one.place[1])
    if account is None or (one.place[0], account.serial) not in provider.book.made:
        return True  # its password was never ours to know
    if (one.place[0], account.serial) in provider.book.lost_passwords:
        return True
    return provider.world.is_delivered(one.item)
