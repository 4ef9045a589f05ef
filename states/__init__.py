"""The service state machine: states, transition table, classify, plan, quota.

Pure: standard library and ``transitions`` only; no I/O, no clock of its own. ``bm_db`` and ``nc``
describe their sides in the values of `states.model`; ``reconciler`` asks `states.classify` what the
gap is and `states.plan` for the next step.
"""

from states.classify import (
    COLLISION,
    Difference,
    Verdict,
    classify,
    describe_quota,
    explain_protection,
    is_ours,
    is_quota_as_sold,
    is_same_place,
)
from states.machine import TransitionRefused, advance
from states.model import (
    DEFAULT,
    SOLD_WISHES,
    STABLE_STATES,
    UNKNOWN_QUOTA,
    UNLIMITED,
    DesiredService,
    Fault,
    FaultField,
    Memory,
    ObservedAccount,
    ObservedQuota,
    Ownership,
    ServiceState,
    SoldQuota,
    Special,
    Wish,
)
from states.plan import Step, StepKind, plan, plan_steps
from states.policy import ADMIN_GROUP, Circumstances, Mode, Policy
from states.quota import format_quota, parse_quota_text, to_canonical_bytes, to_storable_bytes

__all__ = [
    "ADMIN_GROUP",
    "COLLISION",
    "DEFAULT",
    "SOLD_WISHES",
    "STABLE_STATES",
    "UNKNOWN_QUOTA",
    "UNLIMITED",
    "Circumstances",
    "DesiredService",
    "Difference",
    "Fault",
    "FaultField",
    "Memory",
    "Mode",
    "ObservedAccount",
    "ObservedQuota",
    "Ownership",
    "Policy",
    "ServiceState",
    "SoldQuota",
    "Special",
    "Step",
    "StepKind",
    "TransitionRefused",
    "Verdict",
    "Wish",
    "advance",
    "classify",
    "describe_quota",
    "explain_protection",
    "format_quota",
    "is_ours",
    "is_quota_as_sold",
    "is_same_place",
    "parse_quota_text",
    "plan",
    "plan_steps",
    "to_canonical_bytes",
    "to_storable_bytes",
]
