"""BILLmanager's running operations: what a command of its asks for, and how often it was tried.

Called by `bm_db.billing` and `reconciler.passes`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, select

from bm_db.schema import Schema
from bm_db.values import UnreadableValue, read_integer
from states.model import DesiredService, FaultField, Wish

IN_PROGRESS: Final = 5
"""item.status while BILLmanager runs an operation."""
_ORDERED: Final = 1

OPERATION_WISHES: Final = {
    "open": Wish.ENABLED,
    "suspend": Wish.DISABLED,
    "resume": Wish.ENABLED,
    "setparam": Wish.ENABLED,
    "close": Wish.ABSENT,
}
"""What an operation wants of the account, by its intname."""


@dataclass(frozen=True, slots=True)
class Order:
    """An operation that BILLmanager has called the module for.

    Attributes:
        operation: its intname.
        operation_id: the running operation; None when BILLmanager has named none.
    """

    operation: str
    operation_id: int | None


@dataclass(frozen=True, slots=True)
class RunningOperation:
    """What stands of an operation in the database.

    Attributes:
        tries: how often BILLmanager has tried it; 0 when that is not recorded.
        is_tariff_change: the service had another tariff before, to which it can go back.
    """

    tries: int
    is_tariff_change: bool


def apply_order(desired: DesiredService, order: Order) -> DesiredService:
    """The service as an operation wants it, where billing leaves that to the operation.

    A status that is none of an operation's counts: the call is late then, and what it asked for is done or
    no longer wanted. A first payment may be confirmed by the call itself, when it names a running operation.
    """
    is_named = order.operation_id is not None
    is_first = order.operation == "open" and is_named and desired.status == _ORDERED
    if not (desired.status == IN_PROGRESS or is_first) or desired.get_fault(FaultField.STATUS):
        return desired
    wish = OPERATION_WISHES[order.operation]
    return replace(desired, wish=wish, operation=order.operation, status=IN_PROGRESS)


def read_operation(
    connection: Connection, schema: Schema, item_id: int, operation_id: int
) -> RunningOperation | None:
    """A service's running operation; None when it has ended, or is another's."""
    if not schema.has("runningoperation", "id"):
        return None
    running, item = schema.table("runningoperation"), schema.table("item")
    query = (
        select(
            *schema.pick(running, "runningoperation", "trycount"), *schema.pick(item, "item", "lastpricelist")
        )
        .select_from(running.join(item, running.c.item == item.c.id))
        .where(running.c.id == operation_id, running.c.item == item_id)
    )
    row = connection.execute(query).first()
    return None if row is None else RunningOperation(_count(row.trycount), _count(row.lastpricelist) > 0)


def _count(value: object) -> int:
    try:
        return read_integer(value) or 0
    except UnreadableValue:
        return 0
