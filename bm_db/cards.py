"""What a service's card says of the account besides the credentials: two parameters of the service.

BILLmanager shows a service's parameters by their names' texts in the module's XML file.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from bm_db.schema import Schema
from bm_db.service_rows import CARD_STATE, read_parameters

CARD_USED: Final = "nextcloud_used"


@dataclass(frozen=True, slots=True)
class Card:
    """Texts for the client; None where there is none.

    Attributes:
        state: how the account stands.
        used: how much of its storage is used.
    """

    state: str | None = None
    used: str | None = None


def read_cards(connection: Connection, schema: Schema, item_ids: Collection[int]) -> dict[int, Card]:
    """The cards of these services, by item id."""
    found: dict[int, dict[str, str]] = {item_id: {} for item_id in item_ids}
    for item_id, name, text in read_parameters(
        connection, schema, "itemparam", item_ids, (CARD_STATE, CARD_USED)
    ):
        found[item_id].setdefault(name, text)
    return {item_id: Card(values.get(CARD_STATE), values.get(CARD_USED)) for item_id, values in found.items()}


def name_card_values(card: Card) -> dict[str, str | None]:
    """The card's texts by the names of their parameters."""
    return {CARD_STATE: card.state, CARD_USED: card.used}
