"""The journal's tables. Alembic's revisions in ``migrations`` create them; a test holds both equal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware time kept as seconds since 1970, so that all three databases hold it alike."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> float | None:  # noqa: ARG002
        """Aware time to seconds."""
        return None if value is None else value.timestamp()

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Seconds to an aware time in UTC."""
        return None if value is None else datetime.fromtimestamp(value, UTC)


def _id() -> sa.Column[int]:
    # SQLite numbers rows by itself only for INTEGER, not for BIGINT.
    return sa.Column(
        "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    )


service: Final = sa.Table(
    "service",
    metadata,
    sa.Column("item_id", sa.BigInteger, primary_key=True, autoincrement=False),
    # What billing named when it was last read; the key is the user name without case.
    sa.Column("desired_server_id", sa.BigInteger),
    sa.Column("desired_key", sa.String(255)),
    sa.Column("wish", sa.String(16)),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", UtcTime),
    sa.Column("last_error", sa.Text),
    sa.Column("blocked_by", sa.Text),
    # Which guard, when it is one that keeps the service waiting or has quarantined it.
    sa.Column("blocked_guard", sa.String(32)),
    # The very step that waits: what an operator approves is good for no other.
    sa.Column("blocked_step", sa.Text),
    # Since when something is left to do, and what it was at first; NULL when nothing is, or only time passes.
    sa.Column("unconverged_since", UtcTime),
    sa.Column("unconverged_kind", sa.String(16)),
    # Where the account is that is ours.
    sa.Column("ownership", sa.String(16), nullable=False),
    sa.Column("account_server_id", sa.BigInteger),
    sa.Column("account_userid", sa.String(255)),
    sa.Column("is_provisioned", sa.Boolean, nullable=False),
    sa.Column("applied_email", sa.String(320)),
    sa.Column("quarantine_reason", sa.Text),
    # What billing wanted when it was quarantined: another wish lifts the quarantine.
    sa.Column("quarantine_mark", sa.String(64)),
    sa.Column("retired_since", UtcTime),
    sa.Column("stable_at", UtcTime),
    # What billing and server looked like when a scan last found nothing to do; gone with every change.
    sa.Column("quiet_mark", sa.String(32)),
    # Raised by every write: a bulk scan must not overwrite what a pass recorded meanwhile.
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("service_place", "desired_server_id", "desired_key"),
    sa.Index("service_state", "state"),
    sa.Index("service_count", "desired_server_id", "state"),
    sa.Index("service_due", "next_attempt_at"),
    sa.Index("service_unconverged", "desired_server_id", "unconverged_since"),
)

intent: Final = sa.Table(
    "intent",
    metadata,
    _id(),
    sa.Column("item_id", sa.BigInteger, nullable=False),
    sa.Column("server_id", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("userid", sa.String(255), nullable=False),
    sa.Column("before", sa.Text, nullable=False),
    sa.Column("after", sa.Text, nullable=False),
    sa.Column("is_decrease", sa.Boolean, nullable=False),
    sa.Column("is_recreation", sa.Boolean, nullable=False),
    sa.Column("password", sa.Text),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("begun_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    # NULL: begun, never finished (a crash). done, failed, unknown, refused: see intents.Outcome.
    sa.Column("outcome", sa.String(16)),
    sa.Column("error", sa.Text),
    sa.Index("intent_item", "item_id", "kind"),
    sa.Index("intent_server_time", "server_id", "begun_at"),
)

history: Final = sa.Table(
    "history",
    metadata,
    _id(),
    sa.Column("item_id", sa.BigInteger, nullable=False),
    sa.Column("server_id", sa.BigInteger),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("wanted", sa.Text, nullable=False),
    sa.Column("observed", sa.Text, nullable=False),
    sa.Column("result", sa.String(16), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Index("history_item", "item_id", "id"),
)

hold: Final = sa.Table(
    "hold",
    metadata,
    sa.Column("item_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("since", UtcTime, nullable=False),
)

server: Final = sa.Table(
    "server",
    metadata,
    sa.Column("server_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("product", sa.String(16)),
    sa.Column("version", sa.String(64)),
    sa.Column("instance_id", sa.String(32)),
    # Another identity than the recorded one, seen and not approved yet.
    sa.Column("strange_identity", sa.String(64)),
    sa.Column("breaker_cause", sa.String(32)),
    sa.Column("breaker_message", sa.Text),
    sa.Column("breaker_since", UtcTime),
    sa.Column("probe_at", UtcTime),
    # Which address and credentials the breaker opened for: new ones are tried at once.
    sa.Column("credentials_mark", sa.String(64)),
    # How many services billing had here in the latest full read, and in the latest good one.
    sa.Column("seen_services", sa.BigInteger),
    sa.Column("good_services", sa.BigInteger),
    sa.Column("scanned_at", UtcTime),
    # Accounts that look like ours and belong to no service, at the latest scan.
    sa.Column("orphans", sa.BigInteger),
    # The day of the latest usage that billing has, and the latest day it knows to be complete (ISO dates).
    sa.Column("usage_day", sa.String(10)),
    sa.Column("complete_day", sa.String(10)),
    # Ids of its groups as a JSON list, as BILLmanager's tariff form offers them while it does not answer.
    sa.Column("group_ids", sa.Text),
)

lease: Final = sa.Table(
    "lease",
    metadata,
    sa.Column("item_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("holder", sa.String(255), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
)

request: Final = sa.Table(
    "request",
    metadata,
    _id(),
    sa.Column("item_id", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("made_at", UtcTime, nullable=False),
    # Which daemon has taken it; one that has ended leaves it to the next.
    sa.Column("taken_by", sa.String(255)),
    sa.Column("finished_at", UtcTime),
    # What came of it, as JSON (see requests.Answer).
    sa.Column("answer", sa.Text),
    sa.Index("request_open", "finished_at", "id"),
)

approval: Final = sa.Table(
    "approval",
    metadata,
    _id(),
    sa.Column("guard", sa.String(32), nullable=False),
    sa.Column("item_id", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("used_at", UtcTime),
    # For which step it was given (service.blocked_step at that moment).
    sa.Column("step", sa.Text),
    # NULL: it can be used. used, expired, withdrawn, replaced: see approvals.ApprovalEnd.
    sa.Column("outcome", sa.String(16)),
    sa.Index("approval_item", "item_id", "guard"),
)

daemon: Final = sa.Table(
    "daemon",
    metadata,
    sa.Column("holder", sa.String(255), primary_key=True),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
    # What only the process itself knows, for `status`: its queue, its last turn (JSON).
    sa.Column("report", sa.Text, nullable=False),
)

usage: Final = sa.Table(
    "usage_now",
    metadata,
    sa.Column("item_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("server_id", sa.BigInteger, nullable=False),
    sa.Column("used_bytes", sa.BigInteger, nullable=False),
    # NULL: unlimited.
    sa.Column("quota_bytes", sa.BigInteger),
    sa.Column("seen_at", UtcTime, nullable=False),
    sa.Index("usage_server", "server_id"),
)
