"""What billing wants, read by plain SQL and understood by the facts alone: nothing of ``bm_db`` is used."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Wish = Literal["none", "enabled", "disabled", "absent", "as is"]
Place = tuple[int, str]
"""The number of a server, and an account's name without case."""

_STATUSES: Final[dict[int, Wish]] = {1: "none", 2: "enabled", 3: "disabled", 4: "absent"}
_OPERATIONS: Final[dict[str, Wish]] = {
    "open": "enabled",
    "resume": "enabled",
    "setparam": "enabled",
    "suspend": "disabled",
    "close": "absent",
}
_QUERY: Final = """
    SELECT i.id, i.processingmodule, i.status, plan.name,
           (SELECT r.intname FROM runningoperation r WHERE r.item = i.id),
           (SELECT p.value FROM itemparam p WHERE p.item = i.id AND p.intname = 'username'),
           (SELECT p.value FROM itemparam p WHERE p.item = i.id AND p.intname = 'url'),
           (SELECT p.value FROM itemcryptedparam p WHERE p.item = i.id AND p.intname = 'userpassword'),
           (SELECT u.email FROM user u WHERE u.account = i.account AND u.email IS NOT NULL)
    FROM item i JOIN pricelist plan ON plan.id = i.pricelist
    WHERE i.parent IS NULL ORDER BY i.id
"""


@dataclass(frozen=True)
class Tariff:
    """A plan: what billing calls it, and what an account of it is to have.

    ``quota`` is the text that a server keeps for it; None: the plan names none, which is a mistake.
    """

    limit: int | None
    measure: str
    quota: str | None
    group: str | None


TARIFFS: Final = {
    "small": Tariff(1, "gib", "1 GB", "basic"),
    "big": Tariff(5, "gib", "5 GB", "basic"),
    "pro": Tariff(5, "gib", "5 GB", "pro"),
    "bare": Tariff(2, "gib", "2 GB", None),
    "odd": Tariff(1450, "mib", "1.5 GB", "basic"),
    "broken": Tariff(None, "gib", None, "basic"),
}
TARIFF_GROUPS: Final = frozenset({"basic", "pro"})
UNLIMITED_GB: Final = 1e9
QUOTA_SIZES: Final = {
    "1 GB": 1.0,
    "1.5 GB": 1.5,
    "2 GB": 2.0,
    "3 GB": 3.0,
    "5 GB": 5.0,
    "none": UNLIMITED_GB,
    "default": UNLIMITED_GB,
}
"""How much room a text stands for that a server keeps for a quota, in GB."""


@dataclass(frozen=True)
class Billed:
    """One service as billing has it.

    Attributes:
        server: number of its server; None for one that is none of ours.
        name: of its account: what stands on its card, else the usual one.
        is_named: the card names it.
    """

    item: int
    server: int | None
    status: int
    operation: str | None
    tariff: Tariff
    name: str
    is_named: bool
    url: str | None
    has_password: bool
    email: str | None

    @property
    def wish(self) -> Wish:
        if self.status == 5:
            return _OPERATIONS.get(self.operation or "", "as is")
        return _STATUSES[self.status]

    @property
    def is_sold(self) -> bool:
        return self.wish in {"enabled", "disabled"}

    @property
    def place(self) -> Place | None:
        return None if self.server is None else (self.server, self.name.lower())

    @property
    def mark(self) -> tuple[object, ...]:
        """What billing wants of the account: another mark is another wish."""
        return self.wish, self.server, self.name, self.tariff, self.email


def read_billed(path: Path, server_ids: list[int]) -> dict[int, Billed]:
    """All services, by item id."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        rows = connection.execute(_QUERY).fetchall()
    found = {}
    for item, server_id, status, plan, operation, name, url, password, email in rows:
        server = server_ids.index(server_id) if server_id in server_ids else None
        found[item] = Billed(
            item,
            server,
            int(status),
            operation if int(status) == 5 else None,
            TARIFFS[plan],
            name or f"user_{item}",
            bool(name),
            url,
            bool(password),
            email,
        )
    return found
