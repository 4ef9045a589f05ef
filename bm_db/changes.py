"""Which services may have changed since the last look, without reading them all.

BILLmanager records no times of modification. So the database itself computes checksums over ranges of 256
item ids; only ranges that differ from the last poll are read service by service and compared with what is
remembered. What is found is suspicion: whoever hears of it reads the service. The daemon polls a
`ChangeTracker`, made by `Billing.track_changes`, every few seconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sqlalchemy import Connection

from bm_db.checksums import BUCKET_BITS, END_BUCKET, ChecksumReader, ServiceSum
from bm_db.schema import Schema
from bm_db.service_rows import count_services
from bm_db.sold_quota import QuotaSource

RARE_EVERY_POLLS: Final = 24
"""How many polls it takes by default to look at everything that changes rarely: two minutes at 5 s a poll."""

_BUCKETS_A_READ: Final = 64
_BUCKETS_LEARNT_A_POLL: Final = 128
"""How many buckets are learnt service by service in one poll: a second's work for some 30,000 services."""

Reading = Callable[[], AbstractContextManager[tuple[Connection, Schema]]]


@dataclass(frozen=True, slots=True)
class Changes:
    """What one poll found.

    Attributes:
        items: services whose wanted state may have changed, new ones and vanished ones among them.
        is_tariff_change: a plan, a parameter or add-on line of one, or a measure changed, whoever has it.
        is_server_change: a server of the module came, went, or was edited.
        counts: services by server id, of all servers of the module.
        is_first: nothing was known before: everything else says "unchanged", and all is to be read.
    """

    items: frozenset[int]
    is_tariff_change: bool
    is_server_change: bool
    counts: dict[int, int]
    is_first: bool = False


class ChangeTracker:
    """Remembers checksums of billing's rows. One per daemon; not thread-safe.

    Each poll sees the services' own rows, their bought add-ons and running operations, tariffs and servers;
    in a database without add-on quotas also the parameters that hold quotas, for there a purchase shows
    nowhere else. What changes rarely (the clients' users with their e-mail addresses, the services'
    ``username`` and, beside add-on quotas, quotas in parameters) is costly to look at: each poll looks at a
    part of it, so that a change there is seen after ``rare_every`` polls at the latest.

    The first poll remembers all buckets, but only some of them service by service; the next ones learn the
    rest, so that a million services do not keep the daemon from beginning. A change in a bucket not learnt
    yet makes all its services suspects, and a service that vanishes from it is left to the scans.

    It holds 24 bytes a service. Its queries lock nothing and need only SELECT.
    """

    def __init__(
        self, reading: Reading, module: str, quota_sources: Sequence[QuotaSource], rare_every: int
    ) -> None:
        """Remember nothing yet; see `Billing.track_changes`."""
        if rare_every < 1:
            raise ValueError(f"rare_every must be at least 1, not {rare_every}")
        self._reading = reading
        self._module = module
        self._quota_sources = quota_sources
        self._rare_every = rare_every
        self._is_first = True
        self._tariffs: tuple[int, ...] = ()
        self._servers: tuple[int, ...] = ()
        self._frequent: dict[int, int] = {}
        self._rare: dict[int, int] = {}
        self._next_rare = 0
        self._plans: set[int] = set()
        self._services = _Services()
        self._unlearnt: dict[int, None] = {}
        self._counts: dict[int, int] = {}

    @property
    def is_learning(self) -> bool:
        """Whether polls to come have services to learn yet."""
        return bool(self._unlearnt) or self._is_first

    def poll(self) -> Changes:
        """Find out what has changed since the last poll that succeeded, all as of one moment.

        Raises:
            BillingError: not everything could be looked at; what is remembered stays as it was, so that the
                next poll finds what this one missed.
        """
        with self._reading() as (connection, schema):
            reader = ChecksumReader(connection, schema, self._module, self._quota_sources)
            tariffs, servers = reader.sum_tariffs(), reader.sum_servers()
            plans = reader.list_plans() if self._is_first else self._plans
            frequent = reader.sum_frequent(plans)
            first, end = self._choose_rare(sorted(frequent))
            rare = reader.sum_rare(first, end)
            known = {bucket: self._rare[bucket] for bucket in self._rare if first <= bucket < end}
            if self._is_first:
                suspects, unlearnt = set(), dict.fromkeys(sorted(frequent.keys() | rare.keys()))
            else:
                suspects = _differ(self._frequent, frequent) | _differ(known, rare)
                unlearnt = self._unlearnt
            buckets = sorted(suspects.union(islice(unlearnt, _BUCKETS_LEARNT_A_POLL)))
            chunks = [buckets[at : at + _BUCKETS_A_READ] for at in range(0, len(buckets), _BUCKETS_A_READ)]
            read = [(chunk, _Services(reader.list_services(chunk))) for chunk in chunks]
            found_plans = plans.union(*(services.plans for _, services in read))
            if found_plans != plans:
                # What is remembered of the new plans' add-ons must be of this moment too.
                frequent = reader.sum_frequent(found_plans)
            counts = None
            if not unlearnt.keys() <= set(buckets):  # else what is remembered counts them
                # Counting takes a second at a million services.
                is_same = not self._is_first and not suspects and servers == self._servers
                counts = self._counts if is_same else count_services(connection, schema, self._module)
        changed: set[int] = set()
        for chunk, services in read:
            for bucket in chunk:
                found = self._services.take_over(bucket, services)
                if bucket in suspects:
                    changed |= found
        changes = Changes(
            items=frozenset(changed),
            is_tariff_change=not self._is_first and tariffs != self._tariffs,
            is_server_change=not self._is_first and servers != self._servers,
            counts=counts or {each: self._services.counts[each] for each in reader.server_ids},
            is_first=self._is_first,
        )
        self._counts, self._unlearnt = changes.counts, unlearnt
        for bucket in buckets:
            unlearnt.pop(bucket, None)
        self._is_first, self._tariffs, self._servers = False, tariffs, servers
        self._frequent = frequent
        for bucket in known:
            del self._rare[bucket]
        self._rare.update(rare)
        self._next_rare = end if end < END_BUCKET else 0
        self._plans = found_plans
        return changes

    def _choose_rare(self, buckets: list[int]) -> tuple[int, int]:
        """From which bucket to which the rare sources are looked at now: all at first, then a part."""
        if self._is_first:
            return 0, END_BUCKET
        ahead = buckets[bisect_left(buckets, self._next_rare) :]
        share = -(-len(buckets) // self._rare_every)
        return self._next_rare, ahead[share] if share < len(ahead) else END_BUCKET


def _differ(old: dict[int, int], new: dict[int, int]) -> set[int]:
    return {bucket for bucket, _ in old.items() ^ new.items()}


class _Services:
    """Services by id, with their server and the checksum of all that was seen of them."""

    def __init__(self, services: Iterable[ServiceSum] = ()) -> None:
        """Take up services, which come by id."""
        self.ids, self.servers, self.checksums = array("q"), array("q"), array("q")
        self.counts: Counter[int] = Counter()
        self.plans: set[int] = set()
        for each in services:
            self.ids.append(each.item_id)
            self.servers.append(each.server_id)
            self.checksums.append(each.checksum)
            if each.plan_id is not None:
                self.plans.add(each.plan_id)

    def take_over(self, bucket: int, other: _Services) -> set[int]:
        """Replace a bucket by the other's; the services that are new, gone or changed by that."""
        mine, theirs = self.find(bucket), other.find(bucket)
        old = dict(zip(self.ids[mine], self.checksums[mine], strict=True))
        new = dict(zip(other.ids[theirs], other.checksums[theirs], strict=True))
        self.counts.subtract(self.servers[mine])
        self.counts.update(other.servers[theirs])
        self.ids[mine] = other.ids[theirs]
        self.servers[mine] = other.servers[theirs]
        self.checksums[mine] = other.checksums[theirs]
        return {item_id for item_id, _ in old.items() ^ new.items()}

    def find(self, bucket: int) -> slice:
        """Where a bucket's services are."""
        low, high = bucket << BUCKET_BITS, (bucket + 1) << BUCKET_BITS
        return slice(bisect_left(self.ids, low), bisect_left(self.ids, high))
