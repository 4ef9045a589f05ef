"""Nextcloud's and ownCloud's side: which accounts exist, and the calls that change them.

`CloudClient` is all that ``reconciler`` needs; `nc.errors` says what can go wrong. Below it:
`nc.nextcloud` and `nc.owncloud` (what calls and codes mean), `nc.exchange` (one call, HTTP and OCS
together), `nc.transport` (HTTP, TLS, time-outs, limits).
"""

from nc import errors
from nc.client import CloudClient
from nc.model import OPERATIONS, ApiCall, Product, ServerConnection, ServerIdentity

__all__ = [
    "OPERATIONS",
    "ApiCall",
    "CloudClient",
    "Product",
    "ServerConnection",
    "ServerIdentity",
    "errors",
]
