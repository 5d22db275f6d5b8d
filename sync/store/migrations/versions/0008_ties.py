"""the books tie to the shop and the platforms: late entries are found by their day, spend holds what is claimed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_entries_late", "entries", ["business_day"], postgresql_where=sa.text("posted_on <> business_day")
    )
    for name in ("claimed_orders", "claimed_minor", "claimed_view_minor"):
        op.add_column("spend", sa.Column(name, sa.BigInteger))
    op.create_index(
        "ix_spend_claimed", "spend", ["day"], postgresql_where=sa.text("claimed_minor IS NOT NULL")
    )
