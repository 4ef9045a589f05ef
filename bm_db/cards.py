"""What a service's card says of the account besides the credentials: two parameters of the service.

BILLmanager shows a service's parameters by their names' texts in the module's XML file.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from bm_db.schema import Schema
from bm_db.service_rows import CARD_STATE, read_parameters
from bm_db.values import read_filled_text

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
    cards = dict.fromkeys(item_ids, Card())
    names = {CARD_STATE: "state", CARD_USED: "used"}
    for item_id, (name, value) in read_parameters(connection, schema, "itemparam", item_ids, names):
        attribute = names.get(read_filled_text(name) or "")
        if attribute is not None:
            cards[item_id] = replace(cards[item_id], **{attribute: read_filled_text(value)})
    return cards


def name_card_values(card: Card) -> dict[str, str]:
    """The parameters to be saved: those that the card has."""
    values = {CARD_STATE: card.state, CARD_USED: card.used}
    return {name: value for name, value in values.items() if value is not None}
