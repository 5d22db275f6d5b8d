"""the names that campaigns ever had, beginning with those of now"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "campaign_names",
        sa.Column("connector", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("connector", "external_id", "name", name=op.f("pk_campaign_names")),
    )
    op.execute(
        "INSERT INTO campaign_names (connector, external_id, name)"
        " SELECT connector, external_id, name FROM campaigns"
    )


def downgrade() -> None:
    op.drop_table("campaign_names")
