"""What can go wrong on BILLmanager's side, named by situation.

Raised by every module of ``bm_db`` and caught in ``reconciler``. No exception of SQLAlchemy, a database
driver, ``cryptography`` or ``subprocess`` leaves the package: each is wrapped in one of these, the
original staying in ``__cause__``. A message is one line that names the thing and the cure and never
holds a secret. The type alone says whether another try makes sense (``is_transient``)::

    BillingError
    ├── BillingUnreachable      transient  no server, connection lost, no such database or file
    ├── BillingBusy             transient  deadlock, lock or statement time-out, pool used up
    ├── BillingAccessDenied                wrong password, or a GRANT is missing
    ├── BillingStatementFailed             the database refused a statement for another reason
    ├── SchemaMismatch                     a table or column that is needed is not there
    ├── DatabaseUrlInvalid                 database_url cannot be used
    ├── DbConfUnreadable                   BILLmanager's db.conf cannot be used
    ├── QuotaSourceInvalid                 quota_sources names a source that does not exist
    ├── PrivateKeyUnusable                 billmgr.pem is missing or not an RSA private key
    ├── ValueUndecryptable                 an encrypted value was not made for this key
    └── WriteFailed             transient  BILLmanager did not accept what it was told
        ├── WriteTimedOut       transient  no answer in time: the effect is unknown
        ├── WriterUnavailable              mgrctl is not there or not executable
        ├── ValueRefused                   a value that may not be passed on (control characters, too long)
        └── ServiceMissing                 the service's row is gone

A row that is merely wrong (no quota, unknown status) is none of these: it becomes a `states.model.Fault`
of its service, or a line in `BillingServer.faults`.
"""

from __future__ import annotations

from typing import ClassVar


class BillingError(Exception):
    """Something failed on BILLmanager's side."""

    is_transient: ClassVar[bool] = False


class BillingUnreachable(BillingError):
    """The billing database cannot be reached, or the connection to it was lost."""

    is_transient = True


class BillingBusy(BillingError):
    """The billing database did not finish in time: a deadlock, a lock, a slow statement, no connection."""

    is_transient = True


class BillingAccessDenied(BillingError):
    """The billing database refused the user, or a right is missing."""


class BillingStatementFailed(BillingError):
    """The billing database refused a statement."""


class SchemaMismatch(BillingError):
    """The billing database lacks a table or column that is needed."""


class DatabaseUrlInvalid(BillingError):
    """The database URL cannot be used."""


class DbConfUnreadable(BillingError):
    """BILLmanager's db.conf cannot be used."""


class QuotaSourceInvalid(BillingError):
    """The configuration names a quota source that does not exist."""


class PrivateKeyUnusable(BillingError):
    """BILLmanager's private key is missing or cannot be used."""


class ValueUndecryptable(BillingError):
    """An encrypted value was not made for this key."""


class WriteFailed(BillingError):
    """BILLmanager did not accept what it was told."""

    is_transient = True


class WriteTimedOut(WriteFailed):
    """BILLmanager did not answer in time; whether it did what it was told is unknown."""


class WriterUnavailable(WriteFailed):
    """The program that writes to BILLmanager cannot be run."""

    is_transient = False


class ValueRefused(WriteFailed):
    """A value may not be passed on to BILLmanager."""

    is_transient = False


class ServiceMissing(WriteFailed):
    """The service that was to be written is not in BILLmanager."""

    is_transient = False
