"""periods can be closed: an entry counts on a day that is open; who stood where is kept as it was known"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
STAGES = ("lead_at", "mql_at", "sql_at", "won_at", "rejected_at", "lost_at", "recycled_at")

OPEN = """
CREATE FUNCTION entries_in_open_periods() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong entries%ROWTYPE;
BEGIN
    SELECT a.* INTO wrong FROM added a
     WHERE a.posted_on < (SELECT max(until) FROM periods) ORDER BY a.id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % counts on %, in a period that is closed', wrong.id, wrong.posted_on
            USING HINT = 'Book it in the open period.', ERRCODE = 'restrict_violation';
    END IF;
    SELECT a.* INTO wrong FROM added a
     WHERE a.booked_at < (SELECT e.booked_at FROM entries e WHERE e.id = a.id - 1) ORDER BY a.id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % is booked before the entry before it', wrong.id
            USING HINT = 'Set the clock right.', ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$
"""

KNOWN_FROM_NOW = """
INSERT INTO journey_log (person_id, known_at, stage, campaign, lead_at, mql_at, sql_at, won_at, rejected_at,
                         rejected_reason, lost_at, recycled_at)
SELECT person_id, now(), stage, campaign, lead_at, mql_at, sql_at, won_at, rejected_at, rejected_reason, lost_at,
       recycled_at
  FROM journeys
"""

JOURNEYS_KNOWN = """
CREATE FUNCTION journeys_known(known timestamptz) RETURNS SETOF journeys LANGUAGE sql STABLE AS $$
    SELECT * FROM journeys WHERE known IS NULL
     UNION ALL
    SELECT person_id, stage, campaign, lead_at, mql_at, sql_at, won_at, rejected_at, rejected_reason, lost_at,
           recycled_at
      FROM (SELECT DISTINCT ON (person_id) * FROM journey_log
             WHERE known IS NOT NULL AND known_at <= known ORDER BY person_id, known_at DESC) AS latest
     WHERE stage IS NOT NULL
$$
"""


def upgrade() -> None:
    op.add_column("entries", sa.Column("posted_on", sa.Date))
    op.add_column("entries", sa.Column("refers_to", sa.BigInteger, sa.ForeignKey("entries.id")))
    op.execute("ALTER TABLE entries DISABLE TRIGGER entries_append_only")
    op.execute("UPDATE entries SET posted_on = business_day")
    op.execute("ALTER TABLE entries ENABLE TRIGGER entries_append_only")
    op.alter_column("entries", "posted_on", nullable=False)
    op.create_index("ix_entries_posted_on", "entries", ["posted_on"])
    op.drop_index("ix_entries_business_day", "entries")
    op.create_table(
        "periods",
        sa.Column("until", sa.Date, primary_key=True),
        sa.Column("since", sa.Date),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("body", JSONB, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("closed_at", TIME, nullable=False),
    )
    op.create_table(
        "journey_log",
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("known_at", TIME, nullable=False),
        sa.Column("stage", sa.Text),
        sa.Column("campaign", sa.Text),
        *[sa.Column(name, TIME) for name in STAGES[:5]],
        sa.Column("rejected_reason", sa.Text),
        *[sa.Column(name, TIME) for name in STAGES[5:]],
        sa.PrimaryKeyConstraint("person_id", "known_at"),
    )
    op.create_index("ix_journey_log_known_at", "journey_log", ["known_at"])
    op.execute(KNOWN_FROM_NOW)
    for table in ("periods", "journey_log"):
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_never_truncated BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(OPEN)
    op.execute(
        "CREATE TRIGGER entries_open AFTER INSERT ON entries REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION entries_in_open_periods()"
    )
    op.execute(JOURNEYS_KNOWN)
