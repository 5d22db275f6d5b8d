"""rates of exchange, and by which one an entry was converted"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rates",
        sa.Column("connector", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("raw_id", sa.Text(), nullable=False),
        sa.Column("evidence_id", sa.BigInteger(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("table", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("quote", sa.Text(), nullable=False),
        sa.Column("rate", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("connector", "external_id", name=op.f("pk_rates")),
    )
    op.create_index(op.f("ix_rates_connector_day"), "rates", ["connector", "day"], unique=False)
    op.create_index(
        op.f("ix_rates_connector_stream_raw_id"), "rates", ["connector", "stream", "raw_id"], unique=False
    )
    op.add_column("entries", sa.Column("rate", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    op.drop_column("entries", "rate")
    op.drop_table("rates")
