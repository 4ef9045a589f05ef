"""Turns a planned step into the one call that takes it, and its failure into what is known of its effect."""

from __future__ import annotations

from typing import Final

from nc import CloudClient
from nc import errors as nc_errors
from reconciler.edits import EditRank
from reconciler.journal import Outcome
from states import ObservedAccount, ServiceState, Step, StepKind, describe_quota

_HARMLESS_CREATE_ERRORS: Final = (
    nc_errors.GroupMissing,
    nc_errors.WeakPassword,
    nc_errors.ServerUnreachable,
    nc_errors.TlsFailure,
    nc_errors.Maintenance,
    nc_errors.RateLimited,
    nc_errors.CredentialsRefused,
    nc_errors.PermissionRefused,
)
"""Errors of a create that certainly made no account; after any other only another look tells."""


def call(client: CloudClient, step: Step, password: str | None) -> None:
    """Take a mutating step: exactly one call that changes something.

    Raises:
        CloudError: it failed, or nobody knows (see `judge_failure`).
    """
    kind, userid = step.kind, step.userid
    plain = {
        StepKind.DISABLE: client.disable,
        StepKind.ENABLE: client.enable,
        StepKind.DELETE: client.delete_account,
    }
    if kind in plain:
        plain[kind](userid)
    elif kind is StepKind.CREATE and step.quota is not None and password is not None:
        client.create_account(userid, password, quota=step.quota, email=step.email, groups=step.groups)
    elif kind is StepKind.SET_QUOTA and step.quota is not None:
        client.set_quota(userid, step.quota)
    elif kind is StepKind.SET_EMAIL and step.email is not None:
        client.set_email(userid, step.email)
    elif kind is StepKind.ADD_GROUP:
        client.add_to_group(userid, step.groups[0])
    elif kind is StepKind.REMOVE_GROUP:
        client.remove_from_group(userid, step.groups[0])
    elif kind is StepKind.CREATE_GROUP:
        client.create_group(step.groups[0])
    elif kind is StepKind.SET_PASSWORD and password is not None:
        client.set_password(userid, password)
    else:
        raise AssertionError(f"{step} lacks what it needs")


def rank_edit(step: Step, state: ServiceState) -> EditRank:
    """Who comes first when a server's edits are scarce."""
    if state is ServiceState.PROVISIONING or step.kind is StepKind.SET_PASSWORD:
        return EditRank.PROMPT
    is_lack = step.kind is StepKind.SET_QUOTA and not step.is_decrease
    return EditRank.LACK if is_lack else EditRank.REST


def explain_refused_name(error: nc_errors.AccountIdRefused) -> str:
    """Why no account can have the name that billing gives a service, and what helps."""
    return f"{error}: correct the service's parameter username"


def judge_failure(step: Step, error: BaseException) -> Outcome:
    """What a failed call did, as far as the failure tells."""
    if isinstance(error, nc_errors.OutcomeUnknown):
        return Outcome.UNKNOWN
    if step.kind is StepKind.CREATE and not isinstance(error, _HARMLESS_CREATE_ERRORS):
        return Outcome.UNKNOWN
    return Outcome.FAILED


def describe_account(observed: ObservedAccount | None) -> str:
    """What was observed, in one line for the history."""
    if observed is None:
        return "absent"
    parts = [
        "enabled" if observed.is_enabled else "disabled",
        f"quota {describe_quota(observed.quota)}",
        f"groups {', '.join(sorted(observed.groups or ())) or 'none'}",
        f"e-mail {observed.email or 'none'}",
    ]
    return "; ".join(parts)


def identify_step(step: Step, server_id: int) -> str:
    """A step as an operator approves it: what it does, to which account, and to what end."""
    return f"{step.kind} {step.userid} on server {server_id}: {describe_step(step)}"


def describe_step(step: Step) -> str:
    """What a step is to reach, in one line for plan and history."""
    words = {
        StepKind.PROVE_OWNERSHIP: "log in with the password of the unanswered create",
        StepKind.ADOPT: "adopt the account that billing names",
        StepKind.DISABLE: "disabled",
        StepKind.ENABLE: "enabled",
        StepKind.DELETE: "absent",
        StepKind.SET_QUOTA: f"quota {describe_quota(step.quota)}",
        StepKind.SET_EMAIL: f"e-mail {step.email}",
        StepKind.ADD_GROUP: f"in group {', '.join(step.groups)}",
        StepKind.REMOVE_GROUP: f"not in group {', '.join(step.groups)}",
        StepKind.CREATE_GROUP: f"group {', '.join(step.groups)} exists",
        StepKind.SET_PASSWORD: "a new password",
    }
    if step.kind is StepKind.CREATE:
        groups = f"; groups {', '.join(step.groups)}" if step.groups else ""
        return f"present; quota {describe_quota(step.quota)}; e-mail {step.email or 'none'}{groups}"
    return words[step.kind]
