"""What the daemon needs: requests, approvals, who runs, usage, and since when a service is not as sold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _id() -> sa.Column[int]:
    return sa.Column(
        "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
    )


def upgrade() -> None:
    """Add tables, columns and indexes."""
    op.create_table(
        "request",
        _id(),
        sa.Column("item_id", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.Column("taken_by", sa.String(length=255), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )
    op.create_index("request_open", "request", ["finished_at", "id"])
    op.create_table(
        "approval",
        _id(),
        sa.Column("guard", sa.String(length=32), nullable=False),
        sa.Column("item_id", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )
    op.create_index("approval_item", "approval", ["item_id", "guard"])
    op.create_table(
        "daemon",
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("holder"),
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )
    op.create_table(
        "usage_now",
        sa.Column("item_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("item_id"),
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )
    op.create_index("usage_server", "usage_now", ["server_id"])
    for name, kind in (
        ("blocked_guard", sa.String(length=32)),
        ("unconverged_since", sa.Double()),
        ("unconverged_kind", sa.String(length=16)),
    ):
        op.add_column("service", sa.Column(name, kind, nullable=True))
    op.create_index("service_count", "service", ["desired_server_id", "state"])
    op.create_index("service_due", "service", ["next_attempt_at"])
    op.create_index("service_unconverged", "service", ["desired_server_id", "unconverged_since"])
    op.add_column("server", sa.Column("orphans", sa.BigInteger(), nullable=True))
    op.add_column("server", sa.Column("usage_day", sa.String(length=10), nullable=True))
    op.add_column("server", sa.Column("complete_day", sa.String(length=10), nullable=True))
