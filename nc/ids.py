"""Which ids of accounts and groups can exist at all, and how they are put into a URL; used by the dialects.

Source: answers recorded from Nextcloud 25/27 and ownCloud 10.7 to creates with bad names, and the
servers' route tables: an id that the router reads as another call can never be looked up, so it is
refused here, before a request is made whose answer would be about something else.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from nc.envelope import clean_text
from nc.errors import AccountIdRefused, GroupIdRefused
from nc.model import Product

MAX_ID_LENGTH: Final = 64
_MAX_GROUP_LENGTH: Final = 255
_ALLOWED: Final = {
    Product.NEXTCLOUD: re.compile(r"[a-zA-Z0-9 _.@'-]+"),
    Product.OWNCLOUD: re.compile(r"[a-zA-Z0-9 _.@'+-]+"),
}
_MIN_LENGTH: Final = {Product.NEXTCLOUD: 1, Product.OWNCLOUD: 3}
_ROUTES: Final = {
    Product.NEXTCLOUD: frozenset({"details", "disabled", "recent"}),
    Product.OWNCLOUD: frozenset[str](),
}


def encode_id(value: str) -> str:
    """One path segment that holds the id and nothing else."""
    return quote(value, safe="")


def check_userid(userid: str, product: Product) -> str:
    """Give the id back if an account of that product can have it.

    Raises:
        AccountIdRefused: none can; says which rule forbids it.
    """
    fault = _userid_fault(userid, product)
    if fault:
        raise AccountIdRefused(f'the account name "{clean_text(userid, 40)}" cannot be used: {fault}')
    return userid


def _userid_fault(userid: str, product: Product) -> str | None:
    if not userid:
        return "it is empty"
    if userid in {".", ".."}:
        return "it is a path, not a name"
    if len(userid) > MAX_ID_LENGTH:
        return f"it has {len(userid)} characters, {MAX_ID_LENGTH} are allowed"
    if userid != userid.strip():
        return "it begins or ends with a blank"
    if not _ALLOWED[product].fullmatch(userid):
        signs = "_.@-'" if product is Product.NEXTCLOUD else "+_.@-'"
        return f"only a-z, A-Z, 0-9, blanks and {signs} are allowed"
    if len(userid) < _MIN_LENGTH[product]:
        return f"it needs at least {_MIN_LENGTH[product]} characters"
    if userid in _ROUTES[product]:
        return "the server's interface uses it for another call"
    return None


def check_groupid(groupid: str) -> str:
    """Give the id back if a group can have it and be asked for.

    Raises:
        GroupIdRefused: it is blank, a path, or endless.
    """
    if not groupid.strip() or groupid in {".", ".."} or len(groupid) > _MAX_GROUP_LENGTH:
        raise GroupIdRefused(f'the group name "{clean_text(groupid, 40)}" cannot be used')
    return groupid
