"""Approvals are good for one step only; a grace begins when an account is seen that nobody wants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; what was approved before is good for no step, since nobody knows for which it was."""
    op.add_column("service", sa.Column("blocked_step", sa.Text(), nullable=True))
    op.add_column("approval", sa.Column("step", sa.Text(), nullable=True))
    op.add_column("approval", sa.Column("outcome", sa.String(length=16), nullable=True))
    op.execute("UPDATE approval SET outcome = 'used' WHERE used_at IS NOT NULL")
    # Where no account is no grace runs: one that comes back is kept as long as any other.
    op.execute("UPDATE service SET retired_since = NULL WHERE state IN ('absent', 'deleted')")
