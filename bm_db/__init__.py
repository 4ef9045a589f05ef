"""BILLmanager's side: what is wanted (read) and what is told back (write).

`open_billing` gives a `Billing`, which reads servers and services, and a `ChangeTracker`, which tells what
changed since it was last asked; a `BillingWriter` writes credentials, finished operations and usage. Only
``reconciler`` calls this package; SQLAlchemy, the database drivers and ``cryptography`` do not show outside
of it, nor do their exceptions (see `bm_db.errors`).
"""

from bm_db import errors
from bm_db.billing import Billing, open_billing
from bm_db.cards import Card
from bm_db.changes import Changes, ChangeTracker
from bm_db.db_conf import DbConf, read_db_conf
from bm_db.mgrctl_writer import MgrctlWriter
from bm_db.operations import Order, apply_order
from bm_db.servers import BillingServer
from bm_db.sold_quota import DEFAULT_QUOTA_SOURCES
from bm_db.sql_writer import SqlWriter
from bm_db.usage_writer import Usage
from bm_db.writers import BillingWriter, ReadOnlyWriter

__all__ = [
    "DEFAULT_QUOTA_SOURCES",
    "Billing",
    "BillingServer",
    "BillingWriter",
    "Card",
    "ChangeTracker",
    "Changes",
    "DbConf",
    "MgrctlWriter",
    "Order",
    "ReadOnlyWriter",
    "SqlWriter",
    "Usage",
    "apply_order",
    "errors",
    "open_billing",
    "read_db_conf",
]
