"""The groups of each server, for BILLmanager's tariff form."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column; it is filled when the groups are asked for first."""
    op.add_column("server", sa.Column("group_ids", sa.Text(), nullable=True))
