"""Names the gap between what was sold and what the server has. Pure and total.

Called by ``reconciler`` for every service of a bulk scan and for every turn of a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from states.model import (
    DEFAULT,
    UNKNOWN_QUOTA,
    UNLIMITED,
    DesiredService,
    FaultField,
    Memory,
    ObservedAccount,
    ObservedQuota,
    Ownership,
    ServiceState,
    SoldQuota,
    Wish,
)
from states.policy import ADMIN_GROUP, Circumstances, Mode
from states.quota import format_quota, to_storable_bytes

_CACHED: Final = 4096
"""What is asked of few different values for very many services is computed once for so many of them."""

_FLOAT_TOLERANCE: Final = 2**-50
"""Servers calculate in floating point: less than a byte below 1 PB, some bytes from there up."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which account and sale differ.

    Attributes:
        field: existence, enabled, quota, group or email.
        wanted, observed: short texts for the operator.
        is_enforced: False when the policy only reports it.
    """

    field: str
    wanted: str
    observed: str
    is_enforced: bool


COLLISION: Final = "collision"
"""How the reason begins when another's account has the name of a service's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of `classify`.

    Attributes:
        state: the one state that describes the service now.
        reason: one line, why.
        differences: what is not as sold.
        notes: what the operator should know though nothing waits for it.
    """

    state: ServiceState
    reason: str
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()


def classify(
    desired: DesiredService | None,
    observed: ObservedAccount | None,
    memory: Memory,
    circumstances: Circumstances,
) -> Verdict:
    """Name the gap between what was sold and what the server has.

    Total and pure: every combination has exactly one answer; nothing is read or changed.
    ``desired`` is None when the service's row is gone from billing. ``observed`` is None only when
    the server said "no such user", never when it could not be asked. A quota that billing does not
    name is never read as unlimited: it quarantines the service.
    """
    if desired is None:
        return _vanished(memory)
    stopped = _stopped(desired, observed, memory, circumstances)
    if stopped is not None:
        return stopped
    if observed is not None and not observed.is_conclusive:
        return Verdict(ServiceState.UNKNOWN, "the server's answer about the account is incomplete")
    if desired.wish is Wish.NONE:
        return _unpaid(observed, desired, memory)
    if observed is not None and not is_ours(desired, memory):
        return _not_proved(desired, observed, memory)
    if desired.wish is Wish.ABSENT:
        return _retired(observed, memory, circumstances)
    if observed is None:
        return _missing(desired, memory, circumstances)
    return _present(desired, observed, memory, circumstances)


def is_ours(desired: DesiredService, memory: Memory) -> bool:
    """Whether the account named by the service may be changed: by the journal or by itemparam."""
    return memory.ownership is not Ownership.NONE or desired.is_username_recorded


def is_same_place(desired: DesiredService, memory: Memory) -> bool:
    """Whether billing still names the server and account that the journal knows, or it knows none."""
    if memory.ownership is Ownership.NONE or memory.userid is None:
        return True
    return memory.server_id == desired.server_id and _is_same_word(memory.userid, desired.username)


def _is_same_word(one: str, other: str) -> bool:
    """Whether two names or addresses differ in case at most."""
    return one == other or one.lower() == other.lower()


def _vanished(memory: Memory) -> Verdict:
    if memory.ownership is Ownership.NONE:
        return Verdict(ServiceState.ABSENT, "no such service in billing, and no account of it is known")
    return Verdict(
        ServiceState.ORPHANED,
        f"the service is gone from billing; its account {memory.userid} is left as it is",
    )


def _stopped(
    desired: DesiredService,
    observed: ObservedAccount | None,
    memory: Memory,
    circumstances: Circumstances,
) -> Verdict | None:
    """What keeps every step from being taken, whatever is wanted; None when nothing does."""
    if memory.hold_reason is not None:
        return Verdict(ServiceState.HELD, f"held by an operator: {memory.hold_reason}")
    fault = desired.get_fault(FaultField.STATUS, FaultField.USERNAME)
    if fault is not None:
        return Verdict(ServiceState.QUARANTINED, fault.message)
    if desired.wish is Wish.AS_IS:
        what = f"operation {desired.operation!r} says nothing to us" if desired.operation else "no operation"
        return Verdict(ServiceState.HELD, f"in progress in BILLmanager, {what}: left as it is")
    reason = memory.quarantine_reason or _obstacle(desired, observed, memory, circumstances)
    return None if reason is None else Verdict(ServiceState.QUARANTINED, reason)


def _obstacle(
    desired: DesiredService,
    observed: ObservedAccount | None,
    memory: Memory,
    circumstances: Circumstances,
) -> str | None:
    if not is_same_place(desired, memory):
        return (
            f"the account {memory.userid} is on server {memory.server_id}, billing now names "
            f"{desired.username} on server {desired.server_id}: data does not move by itself; "
            "move it, or delete the old account"
        )
    is_unwanted = desired.wish is Wish.NONE and not is_ours(desired, memory)
    if circumstances.namesake is not None and not is_unwanted:
        return (
            f"service {circumstances.namesake} names the same account {desired.username}: rename one of them"
        )
    return None if observed is None or is_unwanted else explain_protection(observed, circumstances.api_user)


def explain_protection(observed: ObservedAccount, api_user: str) -> str | None:
    """Why an account is never touched, whosever it is; None when it may be."""
    if _is_same_word(observed.userid, api_user):
        return f"{observed.userid} is the account we work with: never touched"
    if ADMIN_GROUP in (observed.groups or ()) or observed.is_subadmin:
        return f"{observed.userid} is an administrator of the server: never touched"
    return None


def _unpaid(observed: ObservedAccount | None, desired: DesiredService, memory: Memory) -> Verdict:
    if observed is not None and is_ours(desired, memory):
        return Verdict(ServiceState.HELD, "ordered, not paid: its account is left as it is")
    return Verdict(ServiceState.ABSENT, "ordered, not paid: no account is wanted")


def _not_proved(desired: DesiredService, observed: ObservedAccount, memory: Memory) -> Verdict:
    is_retired = desired.wish is Wish.ABSENT
    if memory.has_open_create:
        state = ServiceState.RETIRING if is_retired else ServiceState.PROVISIONING
        return Verdict(state, f"a create of {observed.userid} was never answered: to be proved ours")
    if is_retired:
        return Verdict(ServiceState.ABSENT, f"no longer sold; the account {observed.userid} is not ours")
    return Verdict(
        ServiceState.QUARANTINED,
        f"{COLLISION}: an account {observed.userid} exists that is not ours; "
        "adopt it, or name another user for the service",
    )


def _retired(observed: ObservedAccount | None, memory: Memory, circumstances: Circumstances) -> Verdict:
    if observed is None:
        if memory.ownership is Ownership.NONE or memory.state in {ServiceState.UNKNOWN, ServiceState.ABSENT}:
            return Verdict(ServiceState.ABSENT, "no longer sold, and no account is there")
        return Verdict(ServiceState.DELETED, "no longer sold, and its account is gone")
    to_be_gone = _existence_differences("absent", "present", circumstances)
    if memory.state in {ServiceState.RETIRING, ServiceState.DELETING} and is_grace_over(
        memory, circumstances
    ):
        return Verdict(ServiceState.DELETING, "no longer sold, its grace is over", tuple(to_be_gone))
    reason = "no longer sold: disabled until its grace is over"
    differences = to_be_gone if circumstances.deletion_grace.total_seconds() == 0 else []
    if observed.is_enabled and circumstances.policy.enabled is not Mode.IGNORE:
        differences.insert(0, _enabled_difference(is_wanted=False, circumstances=circumstances))
    return Verdict(ServiceState.RETIRING, reason, tuple(differences))


def is_grace_over(memory: Memory, circumstances: Circumstances) -> bool:
    """Whether a service that is no longer sold may be deleted now."""
    if memory.retired_since is None:
        return False
    # Without a grace nothing is waited for, whatever the clock says.
    wait = circumstances.deletion_wait
    return not wait or circumstances.now - memory.retired_since >= wait


def has_existed(desired: DesiredService, memory: Memory) -> bool:
    """Whether the account was once there: by the journal, or by the credentials in billing."""
    return memory.is_provisioned or (desired.is_username_recorded and desired.is_password_recorded)


def _missing(desired: DesiredService, memory: Memory, circumstances: Circumstances) -> Verdict:
    needed = [FaultField.QUOTA, FaultField.PASSWORD]
    if circumstances.policy.email is Mode.ENFORCE:
        needed.append(FaultField.EMAIL)
    fault = desired.get_fault(*needed)
    if fault is not None:
        return Verdict(ServiceState.QUARANTINED, fault.message)
    is_lost = has_existed(desired, memory)
    return Verdict(
        ServiceState.PROVISIONING,
        "the account that was there is gone" if is_lost else "sold, and no account is there yet",
        tuple(_existence_differences("present", "absent", circumstances)),
        _notes(desired, circumstances),
    )


def _present(
    desired: DesiredService, observed: ObservedAccount, memory: Memory, circumstances: Circumstances
) -> Verdict:
    is_enabled_wanted = desired.wish is Wish.ENABLED
    quota_fault = desired.get_fault(FaultField.QUOTA)
    if quota_fault is not None and is_enabled_wanted:
        return Verdict(ServiceState.QUARANTINED, quota_fault.message)
    found = (
        _compare_quota(desired, observed, circumstances),
        _compare_group(desired, observed, circumstances),
        _compare_email(desired, observed, memory, circumstances),
    )
    differences = [each for each in found if each is not None]
    notes = _notes(desired, circumstances)
    if observed.quota is UNKNOWN_QUOTA:
        notes += ("the server does not say the account's quota",)
    mode = circumstances.policy.enabled
    if observed.is_enabled is not is_enabled_wanted and mode is not Mode.IGNORE:
        differences.insert(0, _enabled_difference(is_wanted=is_enabled_wanted, circumstances=circumstances))
        if is_enabled_wanted:
            return Verdict(ServiceState.RESUMING, "to be enabled", tuple(differences), notes)
        return Verdict(ServiceState.SUSPENDING, "to be disabled", tuple(differences), notes)
    if differences:
        fields = ", ".join(difference.field for difference in differences)
        if was_complete(memory):
            return Verdict(ServiceState.DRIFTED, f"differs in {fields}", tuple(differences), notes)
        return Verdict(ServiceState.PROVISIONING, f"incomplete: {fields}", tuple(differences), notes)
    # Here they differ only when the policy ignores enablement: then the state says what is there.
    is_ignored = observed.is_enabled is not is_enabled_wanted
    if observed.is_enabled:
        return Verdict(
            ServiceState.ACTIVE, "enabled, though not paid" if is_ignored else "as sold", (), notes
        )
    reason = "disabled, though paid" if is_ignored else "disabled, as billing wants it"
    return Verdict(ServiceState.SUSPENDED, reason, (), notes)


def was_complete(memory: Memory) -> bool:
    """Whether the account was once as sold; one that is yet to be adopted counts as such.

    After a create whose outcome is unknown it may be a new and half-made one.
    """
    return not memory.has_open_create and (memory.is_provisioned or memory.ownership is Ownership.NONE)


def _existence_differences(wanted: str, observed: str, circumstances: Circumstances) -> list[Difference]:
    mode = circumstances.policy.existence
    if mode is Mode.IGNORE:
        return []
    return [Difference("existence", wanted, observed, mode is Mode.ENFORCE)]


def _enabled_difference(*, is_wanted: bool, circumstances: Circumstances) -> Difference:
    words = ("enabled", "disabled") if is_wanted else ("disabled", "enabled")
    return Difference("enabled", *words, circumstances.policy.enabled is Mode.ENFORCE)


@lru_cache(_CACHED)
def is_quota_as_sold(sold: SoldQuota, observed: ObservedQuota) -> bool:
    """Whether an observed quota is what a server holds after it was sent the sold one.

    An unknown quota counts as equal: nothing may be repaired that was not seen to differ.
    """
    wanted = round_up_quota(sold)
    if isinstance(observed, int) and isinstance(wanted, int):
        return math.isclose(observed, wanted, rel_tol=_FLOAT_TOLERANCE)
    return observed is UNKNOWN_QUOTA or observed == wanted


@lru_cache(_CACHED)
def round_up_quota(sold: SoldQuota) -> SoldQuota:
    """What a server is to hold for a sold quota: never less (see `states.quota`)."""
    return sold if sold is UNLIMITED else to_storable_bytes(sold)


@lru_cache(_CACHED)
def describe_quota(quota: ObservedQuota | None) -> str:
    """A quota as an operator reads it ("10 GB", "none", "unknown")."""
    if quota is None:
        return "undefined"
    return format_quota(quota) if isinstance(quota, int) else quota.value


def _compare_quota(
    desired: DesiredService, observed: ObservedAccount, circumstances: Circumstances
) -> Difference | None:
    mode = circumstances.policy.quota
    if desired.quota is None or mode is Mode.IGNORE or is_quota_as_sold(desired.quota, observed.quota):
        return None
    wanted = round_up_quota(desired.quota)
    words = describe_quota(wanted), describe_quota(observed.quota)
    if words[0] == words[1] and observed.quota is not DEFAULT:
        words = f"{wanted} B", f"{observed.quota} B"
    return Difference("quota", *words, mode is Mode.ENFORCE)


def _compare_group(
    desired: DesiredService, observed: ObservedAccount, circumstances: Circumstances
) -> Difference | None:
    mode = circumstances.policy.group
    missing, surplus = compare_groups(desired, observed, circumstances)
    if mode is Mode.IGNORE or not (missing or surplus):
        return None
    have = ", ".join(sorted(surplus)) or "none"
    return Difference("group", desired.group or "none", have, mode is Mode.ENFORCE)


def compare_groups(
    desired: DesiredService, observed: ObservedAccount, circumstances: Circumstances
) -> tuple[str | None, frozenset[str]]:
    """The group to be joined (None: nothing) and the managed groups to be left.

    Groups that no tariff names, the administrators' group, and memberships that were not observed
    are never touched. While the server lacks the wanted group the old one is kept.
    """
    if observed.groups is None or desired.get_fault(FaultField.GROUP) is not None:
        return None, frozenset()
    return _compare_memberships(
        desired.group,
        observed.groups,
        circumstances.managed_groups,
        circumstances.server_groups,
        circumstances.policy.create_missing_groups,
    )


@lru_cache(_CACHED)
def _compare_memberships(
    wanted: str | None,
    have: frozenset[str],
    managed: frozenset[str],
    on_server: frozenset[str] | None,
    is_made_when_missing: bool,
) -> tuple[str | None, frozenset[str]]:
    if wanted is not None and not _can_join(wanted, on_server, is_made_when_missing):
        return None, frozenset()
    missing = wanted if wanted not in have else None
    return missing, (have & managed) - {wanted or "", ADMIN_GROUP}


def is_group_missing(desired: DesiredService, circumstances: Circumstances) -> bool:
    """Whether the tariff names a group that the server is known to lack."""
    return (
        desired.group is not None
        and circumstances.server_groups is not None
        and desired.group not in circumstances.server_groups
    )


def can_join(group: str, circumstances: Circumstances) -> bool:
    """Whether an account may be put into a group; nobody is ever made an administrator."""
    return _can_join(group, circumstances.server_groups, circumstances.policy.create_missing_groups)


def _can_join(group: str, on_server: frozenset[str] | None, is_made_when_missing: bool) -> bool:
    is_there = on_server is None or group in on_server
    return group.lower() != ADMIN_GROUP and (is_there or is_made_when_missing)


def _compare_email(
    desired: DesiredService, observed: ObservedAccount, memory: Memory, circumstances: Circumstances
) -> Difference | None:
    """Three-way: what billing says, what the account has, what we set last."""
    mode = circumstances.policy.email
    wanted, have = desired.email, observed.email or ""
    if wanted is None or mode is Mode.IGNORE or _is_same_word(wanted, have):
        return None
    if was_complete(memory) and not _is_same_word(memory.applied_email or "", have):
        return None
    return Difference("email", wanted, have or "none", mode is Mode.ENFORCE)


def _notes(desired: DesiredService, circumstances: Circumstances) -> tuple[str, ...]:
    notes = [fault.message for fault in desired.faults] if desired.faults else []
    if (
        is_group_missing(desired, circumstances)
        and not circumstances.policy.create_missing_groups
        and circumstances.policy.group is not Mode.IGNORE
    ):
        notes.append(f"the server has no group {desired.group!r}: make it, or change the tariff's group")
    return tuple(notes)
