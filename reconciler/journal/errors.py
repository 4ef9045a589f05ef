"""Errors of the journal.

JournalError
 +-- JournalUnavailable   cannot be opened, read or written: nothing is changed anywhere
 +-- JournalTooNew        written by a newer version of this program
 +-- JournalKeyUnusable   the key file is missing, unreadable or does not fit
 +-- LeaseLost            another worker has taken the service meanwhile
"""

from __future__ import annotations


class JournalError(Exception):
    """The journal cannot be used."""


class JournalUnavailable(JournalError):
    """The journal cannot be opened, read or written; without it nothing is changed."""


class JournalTooNew(JournalError):
    """The journal was written by a newer version of this program."""


class JournalKeyUnusable(JournalError):
    """The journal's key file is missing, unreadable or does not fit."""


class LeaseLost(JournalError):
    """Another worker has taken the service meanwhile; this one must not change it any more."""
