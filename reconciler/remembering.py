"""How a service's memory changes by what billing says and by what was done; pure, besides the words.

Used by the pass and by the bulk scan, so that both judge a service by the same memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime
from typing import Any, Final

from reconciler.journal import ServiceRecord
from states import DesiredService, Memory, ObservedAccount, Ownership, ServiceState, Step, StepKind, Wish

_WITHOUT_ACCOUNT: Final = (ServiceState.ABSENT, ServiceState.DELETED)


def recall(desired: DesiredService | None, record: ServiceRecord) -> Memory:
    """The journal's memory, in the light of what billing says now.

    A read that wants the account back ends its grace; a quarantine is lifted once billing wants something
    else than what led to it.
    """
    memory = record.memory
    if desired is None:
        return memory
    if desired.wish not in {Wish.ABSENT, Wish.AS_IS}:
        memory = dataclasses.replace(memory, retired_since=None)
    if memory.quarantine_reason is not None and record.quarantine_mark != make_mark(desired):
        memory = dataclasses.replace(memory, quarantine_reason=None)
    return memory


def enter(memory: Memory, state: ServiceState, now: datetime) -> Memory:
    """The memory of a service that a look found to be in a state.

    The grace of an account begins when it is first seen though nobody wants it, and anew when it comes back
    after it was gone (a restored backup).
    """
    since = memory.retired_since
    if state is ServiceState.RETIRING and (since is None or memory.state in _WITHOUT_ACCOUNT):
        since = now
    elif state in _WITHOUT_ACCOUNT:
        since = None
    return dataclasses.replace(memory, state=state, retired_since=since)


def make_mark(desired: DesiredService | None) -> str | None:
    """A mark of what billing wants (no secret goes into it): another mark is another wish."""
    if desired is None:
        return None
    wanted = (
        desired.wish.value,
        desired.server_id,
        desired.username,
        desired.quota,
        desired.group,
        desired.email,
    )
    return hashlib.sha256(repr(wanted).encode()).hexdigest()


def forget_account(memory: Memory) -> Memory:
    """The memory of a service whose account is known to be gone from where it was."""
    return dataclasses.replace(
        memory,
        ownership=Ownership.NONE,
        server_id=None,
        userid=None,
        is_provisioned=False,
        applied_email=None,
    )


def remember_creation(memory: Memory, server_id: int, userid: str) -> Memory:
    """The memory once an account is known to be made by us: new, and not yet known to be complete."""
    return dataclasses.replace(
        forget_account(memory),
        ownership=Ownership.CREATED,
        server_id=server_id,
        userid=userid,
        has_open_create=False,
    )


def remember_effect(memory: Memory, step: Step, server_id: int) -> Memory:
    """The memory after a step that the server says is done."""
    if step.kind is StepKind.CREATE:
        return remember_creation(memory, server_id, step.userid)
    if step.kind is StepKind.SET_EMAIL:
        return dataclasses.replace(memory, applied_email=step.email)
    return memory


def get_agreed_email(desired: DesiredService | None, observed: ObservedAccount | None) -> str | None:
    """The e-mail that billing and account agree on; None when they do not."""
    if desired is None or observed is None or not desired.email or not observed.email:
        return None
    return desired.email if desired.email.lower() == observed.email.lower() else None


def to_values(memory: Memory) -> dict[str, Any]:
    """The columns of the journal's ``service`` table that hold a memory."""
    values: dict[str, Any] = {
        "state": memory.state.value,
        "ownership": memory.ownership.value,
        "account_server_id": memory.server_id,
        "account_userid": memory.userid,
        "is_provisioned": memory.is_provisioned,
        "applied_email": memory.applied_email,
        "quarantine_reason": memory.quarantine_reason,
        "retired_since": memory.retired_since,
    }
    if memory.quarantine_reason is None:
        values["quarantine_mark"] = None
    return values
