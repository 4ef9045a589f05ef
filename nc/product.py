"""Which product answers behind a URL, by its anonymous status.php; used by `nc.client`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nc.calls import Call
from nc.envelope import clean_text
from nc.errors import BadAnswer, Maintenance, UnknownProduct
from nc.exchange import Exchange
from nc.model import Product

STATUS: Final = Call("status", "GET", "/status.php", subject="the server", is_anonymous=True)

_FIRST_NEXTCLOUD_AFTER_OWNCLOUD: Final = 12
_OWNCLOUD_MAJORS: Final = frozenset({10, 11})
_OTHER_SUCCESSORS: Final = ("infinite scale", "opencloud")


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What status.php says of a server that is ready for use."""

    product: Product
    version: str


def read_status(exchange: Exchange) -> ServerStatus:
    """Ask the server what it is.

    Raises:
        Maintenance: maintenance mode, an upgrade or the installation is pending.
        UnknownProduct: neither of the two products.
        BadAnswer: the URL leads to something else.
    """
    host = exchange.host
    status = exchange.fetch_json(STATUS)
    if not isinstance(status, dict) or "installed" not in status or "version" not in status:
        raise BadAnswer(
            f"status.php of {host} is not that of Nextcloud or ownCloud; check the path in the server's URL"
        )
    for key, is_ready, situation in (
        ("installed", True, "is not installed yet"),
        ("maintenance", False, "is in maintenance mode"),
        ("needsDbUpgrade", False, "waits for its upgrade to be run (occ upgrade)"),
    ):
        value = status.get(key, is_ready)
        if not isinstance(value, bool):
            raise BadAnswer(f"status.php of {host} has no yes or no for {key}")
        if value is not is_ready:
            raise Maintenance(f"{host} {situation}")
    version = clean_text(str(status.get("versionstring") or status["version"]), 40)
    return ServerStatus(_tell_product(status, version, host), version)


def _tell_product(status: dict[str, object], version: str, host: str) -> Product:
    name = f"{status.get('productname', '')} {status.get('product', '')}".lower()
    if not any(other in name for other in _OTHER_SUCCESSORS):
        for product in Product:
            if product.value in name:
                return product
        # A themed server shows its own name: the rest of status.php tells the two apart.
        major = int(match[0]) if (match := re.match(r"[0-9]{1,4}", version)) else 0
        if "extendedSupport" in status or major >= _FIRST_NEXTCLOUD_AFTER_OWNCLOUD:
            return Product.NEXTCLOUD
        if major in _OWNCLOUD_MAJORS:
            return Product.OWNCLOUD
    raise UnknownProduct(
        f'{host} calls itself "{clean_text(name, 60)}" version {version}: '
        "neither Nextcloud nor ownCloud 10 or 11"
    )
