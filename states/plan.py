"""The steps from what a server has to what was sold; a pass takes the first and looks again. Pure.

Called by ``reconciler`` after `states.classify`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from states.classify import (
    Verdict,
    can_join,
    compare_groups,
    has_existed,
    is_group_missing,
    is_ours,
    round_up_quota,
    was_complete,
)
from states.model import (
    DesiredService,
    FaultField,
    Memory,
    ObservedAccount,
    Ownership,
    ServiceState,
    SoldQuota,
    Wish,
)
from states.policy import Circumstances, Mode


class StepKind(enum.StrEnum):
    """What one step does; the value stands in journal, log and metrics."""

    PROVE_OWNERSHIP = "prove_ownership"
    """Log in as the account with the password of an unanswered create. Changes nothing."""
    ADOPT = "adopt"
    """Record in the journal that billing names the account. Changes nothing on the server."""
    CREATE_GROUP = "create_group"
    CREATE = "create"
    DISABLE = "disable"
    ENABLE = "enable"
    SET_QUOTA = "set_quota"
    ADD_GROUP = "add_group"
    REMOVE_GROUP = "remove_group"
    SET_EMAIL = "set_email"
    DELETE = "delete"
    SET_PASSWORD = "set_password"  # noqa: S105 - the name of a step
    """Never planned: an operator asks for it (`reset-password`)."""

    @property
    def is_mutating(self) -> bool:
        """Whether the step changes the server."""
        return self not in {StepKind.PROVE_OWNERSHIP, StepKind.ADOPT}


@dataclass(frozen=True, slots=True)
class Step:
    """One step, with all it needs besides the password.

    Attributes:
        kind: what is done.
        userid: the account.
        quota: for CREATE and SET_QUOTA, what the account is to hold: the sold quota, rounded up to
            what a server can store.
        email: for CREATE and SET_EMAIL; None when there is none to set.
        groups: for CREATE the groups to start with; for the group steps the one group.
        is_decrease: SET_QUOTA below what a complete account has now.
        is_recreation: CREATE of an account that existed before.
    """

    kind: StepKind
    userid: str
    quota: SoldQuota | None = None
    email: str | None = None
    groups: tuple[str, ...] = field(default=())
    is_decrease: bool = False
    is_recreation: bool = False


_WORKING = frozenset(
    {
        ServiceState.PROVISIONING,
        ServiceState.DRIFTED,
        ServiceState.SUSPENDING,
        ServiceState.RESUMING,
    }
)
_UNTOUCHED = frozenset(
    {
        ServiceState.UNKNOWN,
        ServiceState.ABSENT,
        ServiceState.HELD,
        ServiceState.QUARANTINED,
    }
)


def plan(
    verdict: Verdict,
    desired: DesiredService | None,
    observed: ObservedAccount | None,
    memory: Memory,
    circumstances: Circumstances,
) -> Step | None:
    """The next single step, None when nothing is to be done or only time must pass."""
    steps = plan_steps(verdict, desired, observed, memory, circumstances)
    return steps[0] if steps else None


def plan_steps(
    verdict: Verdict,
    desired: DesiredService | None,
    observed: ObservedAccount | None,
    memory: Memory,
    circumstances: Circumstances,
) -> list[Step]:
    """All steps that can be foreseen, in order; fields whose policy is not "enforce" have none."""
    if desired is None:
        return []
    steps: list[Step] = []
    if observed is not None:
        steps += _ownership_steps(verdict, desired, observed, memory)
        if steps and steps[0].kind is StepKind.PROVE_OWNERSHIP:
            return steps
    if verdict.state is ServiceState.DELETING and observed is not None:
        if circumstances.policy.existence is Mode.ENFORCE:
            steps.append(Step(StepKind.DELETE, observed.userid))
    elif verdict.state is ServiceState.RETIRING and observed is not None:
        steps += _enablement_steps(observed, circumstances, is_wanted=False)
    elif verdict.state in _WORKING:
        if observed is None:
            steps += _create_steps(desired, memory, circumstances)
        else:
            steps += _field_steps(verdict, desired, observed, memory, circumstances)
    return steps


def _ownership_steps(
    verdict: Verdict, desired: DesiredService, observed: ObservedAccount, memory: Memory
) -> list[Step]:
    if verdict.state in _UNTOUCHED:
        return []
    if memory.has_open_create:
        return [Step(StepKind.PROVE_OWNERSHIP, observed.userid)]
    if memory.ownership is Ownership.NONE and is_ours(desired, memory):
        return [Step(StepKind.ADOPT, observed.userid)]
    return []


def _create_steps(desired: DesiredService, memory: Memory, circumstances: Circumstances) -> list[Step]:
    policy = circumstances.policy
    if policy.existence is not Mode.ENFORCE or desired.quota is None:
        return []
    steps = []
    groups: tuple[str, ...] = ()
    if (
        desired.group is not None
        and policy.group is Mode.ENFORCE
        and desired.get_fault(FaultField.GROUP) is None
        and can_join(desired.group, circumstances)
    ):
        groups = (desired.group,)
        if is_group_missing(desired, circumstances):
            steps.append(Step(StepKind.CREATE_GROUP, desired.username, groups=groups))
    steps.append(
        Step(
            StepKind.CREATE,
            desired.username,
            quota=round_up_quota(desired.quota),
            email=desired.email if policy.email is Mode.ENFORCE else None,
            groups=groups,
            is_recreation=has_existed(desired, memory),
        )
    )
    return steps


def _enablement_steps(
    observed: ObservedAccount, circumstances: Circumstances, *, is_wanted: bool
) -> list[Step]:
    if observed.is_enabled is is_wanted or circumstances.policy.enabled is not Mode.ENFORCE:
        return []
    return [Step(StepKind.ENABLE if is_wanted else StepKind.DISABLE, observed.userid)]


def _field_steps(
    verdict: Verdict,
    desired: DesiredService,
    observed: ObservedAccount,
    memory: Memory,
    circumstances: Circumstances,
) -> list[Step]:
    userid = observed.userid
    differing = {difference.field for difference in verdict.differences if difference.is_enforced}
    steps = _enablement_steps(observed, circumstances, is_wanted=desired.wish is Wish.ENABLED)
    if "quota" in differing and desired.quota is not None:
        quota = round_up_quota(desired.quota)
        # A new account that was never complete loses nothing by its first quota.
        is_decrease = was_complete(memory) and _is_decrease(quota, observed)
        steps.append(Step(StepKind.SET_QUOTA, userid, quota=quota, is_decrease=is_decrease))
    if "group" in differing:
        missing, surplus = compare_groups(desired, observed, circumstances)
        if missing is not None:
            if is_group_missing(desired, circumstances):
                steps.append(Step(StepKind.CREATE_GROUP, userid, groups=(missing,)))
            steps.append(Step(StepKind.ADD_GROUP, userid, groups=(missing,)))
        steps += [Step(StepKind.REMOVE_GROUP, userid, groups=(group,)) for group in sorted(surplus)]
    if "email" in differing:
        steps.append(Step(StepKind.SET_EMAIL, userid, email=desired.email))
    return steps


def _is_decrease(wanted: SoldQuota, observed: ObservedAccount) -> bool:
    """Whether an account would get less; an unlimited one, or one on an unknown default, gets less."""
    return isinstance(wanted, int) and (not isinstance(observed.quota, int) or wanted < observed.quota)
