"""What surrounds one decision: the operator's policy, the clock's reading, the server's facts.

Built by ``reconciler`` for each pass; read by `states.classify` and `states.plan`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

ADMIN_GROUP: Final = "admin"
"""Nextcloud's and ownCloud's group of administrators: its members are never touched."""


class Mode(enum.StrEnum):
    """What is done about a field that differs."""

    ENFORCE = "enforce"
    REPORT = "report"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Policy:
    """The ``[policy]`` section: one mode a field, and whether missing groups are made."""

    existence: Mode = Mode.ENFORCE
    quota: Mode = Mode.ENFORCE
    enabled: Mode = Mode.ENFORCE
    group: Mode = Mode.ENFORCE
    email: Mode = Mode.ENFORCE
    create_missing_groups: bool = False


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything a decision depends on besides the service, the account and the memory.

    Attributes:
        now: aware time of the reading.
        policy: what is enforced.
        deletion_grace: how long a service that is no longer sold stays disabled before deletion.
        confirm_interval: how far apart two reads must be that want it gone (unless the grace is 0).
        managed_groups: groups that some tariff names; all other memberships are left alone.
        server_groups: groups the server has; None when they could not be listed.
        api_user: the account we work with; never touched.
        namesake: item id of another service that names the same account, None without one.
    """

    now: datetime
    policy: Policy = Policy()
    deletion_grace: timedelta = timedelta(hours=72)
    confirm_interval: timedelta = timedelta(minutes=5)
    managed_groups: frozenset[str] = frozenset()
    server_groups: frozenset[str] | None = None
    api_user: str = ""
    namesake: int | None = None

    @property
    def deletion_wait(self) -> timedelta:
        """How long after the first read that wants an account gone it may be deleted."""
        if self.deletion_grace <= timedelta():
            return timedelta()
        return max(self.deletion_grace, self.confirm_interval)
