"""The tables. `metadata` is what the migrations must arrive at (a test compares them).

Canonical tables have the columns of their record (`mappings.canonical`), the connector it came from and the
raw record it was made of. Everything derived from them (persons, stages, credits) can be made anew; the
journal (`entries`, `postings`) cannot and is append-only by trigger.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

from sync.store.canonical_tables import CANONICAL, ORIGIN, PLURALS, Time, metadata
from sync.store.journal_tables import entries, periods, postings, seal_copies, seal_tiles, seals

__all__ = ["CANONICAL", "ORIGIN", "PLURALS", "Time", "metadata"]
__all__ += ["entries", "periods", "postings", "seal_copies", "seal_tiles", "seals"]

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # pull | push | backfill | retry | reread
    sa.Column("due_at", Time),  # set for scheduled runs only
    sa.Column("status", sa.Text, nullable=False),  # queued | running | done | partial | failed | abandoned
    sa.Column("fence", sa.Uuid, nullable=False),
    sa.Column("worker", sa.Text),
    sa.Column("waits_for", sa.Text),
    sa.Column("created_at", Time, nullable=False, server_default=sa.func.now()),
    sa.Column("started_at", Time),
    sa.Column("finished_at", Time),
    sa.Column("counts", JSONB, nullable=False, server_default="{}"),
    sa.Column("cursors", JSONB, nullable=False, server_default="{}"),
    sa.Column("error", sa.Text),
    sa.Column("hint", sa.Text),
    sa.UniqueConstraint("connector", "kind", "due_at"),
    sa.CheckConstraint(
        "status IN ('queued', 'running', 'done', 'partial', 'failed', 'abandoned')", name="status"
    ),
)
sa.Index(None, runs.c.connector, runs.c.id)

schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("connector", sa.Text, primary_key=True),
    sa.Column("cron", sa.Text, nullable=False),
    sa.Column("timezone", sa.Text, nullable=False),
    sa.Column("catch_up", sa.Text, nullable=False),
    sa.Column("next_due_at", Time, nullable=False),
)

cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("at", Time),
    sa.Column("state", JSONB, nullable=False, server_default="{}"),
    sa.Column("mapped_with", sa.Text),
    sa.Column("run_id", sa.BigInteger, nullable=False),
    sa.Column("moved_at", Time, nullable=False, server_default=sa.func.now()),
    sa.PrimaryKeyConstraint("connector", "stream"),
)

backfill_slices = sa.Table(
    "backfill_slices",
    metadata,
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("since", Time, nullable=False),
    sa.Column("until", Time, nullable=False),
    sa.Column("done_at", Time),
    sa.Column("run_id", sa.BigInteger),
    sa.PrimaryKeyConstraint("connector", "stream", "since", "until"),
)

evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("sha256", BYTEA, nullable=False),  # of the body
    sa.Column("digest", BYTEA, nullable=False),  # of body and context
    sa.Column("body", BYTEA, nullable=False),
    sa.Column("context", JSONB, nullable=False, server_default="{}"),
    sa.Column("version", Time),
    sa.Column("fetched_at", Time, nullable=False),
    sa.Column("run_id", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("connector", "stream", "external_id", "digest"),
)

heads = sa.Table(  # which evidence is the latest of each raw record
    "heads",
    metadata,
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("evidence_id", sa.BigInteger, sa.ForeignKey("evidence.id"), nullable=False),
    sa.Column("digest", BYTEA, nullable=False),
    sa.Column("version", Time),
    sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("run_id", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("connector", "stream", "external_id"),
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("evidence_id", sa.BigInteger, sa.ForeignKey("evidence.id"), nullable=False),
    sa.Column("field", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("problems", JSONB, nullable=False),
    sa.Column("run_id", sa.BigInteger, nullable=False),
    sa.Column("set_aside_at", Time, nullable=False, server_default=sa.func.now()),
    sa.Column("dropped_at", Time),
    sa.Column("dropped_why", sa.Text),
    sa.UniqueConstraint("connector", "stream", "external_id"),
)

pending = sa.Table(  # what a step has still to take; rows are only ever inserted and deleted
    "pending",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("step", sa.Text, nullable=False),  # match | funnel | attribute | book | push
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("connector", sa.Text, nullable=False, server_default=""),
    sa.Column("ref", sa.Text, nullable=False),
    sa.Index(None, "step", "id"),
)

campaign_names = sa.Table(  # every name that a campaign ever had, its present one among them
    "campaign_names",
    metadata,
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("seen_at", Time, nullable=False, server_default=sa.func.now()),
    sa.PrimaryKeyConstraint("connector", "external_id", "name"),
)

sightings = sa.Table(
    "sightings",
    metadata,
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("key_kind", sa.Text, nullable=False),
    sa.Column("key_value", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("kind", "connector", "external_id", "key_kind", "key_value"),
    sa.Index(None, "key_kind", "key_value"),
)

ignored_keys = sa.Table(
    "ignored_keys",
    metadata,
    sa.Column("key_kind", sa.Text, nullable=False),
    sa.Column("key_value", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("key_kind", "key_value"),
)

members = sa.Table(  # which record belongs to which person
    "members",
    metadata,
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("kind", "connector", "external_id"),
    sa.Index(None, "person_id"),
)

person_events = sa.Table(
    "person_events",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),  # merge | split
    sa.Column("person_id", sa.Text, nullable=False, index=True),
    sa.Column("others", ARRAY(sa.Text), nullable=False),
    sa.Column("keys", ARRAY(sa.Text), nullable=False),
    sa.Column("at", Time, nullable=False, server_default=sa.func.now()),
)

stage_events = sa.Table(
    "stage_events",
    metadata,
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("at", Time, nullable=False),
    sa.Column("who", sa.Text),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("fact_kind", sa.Text, nullable=False),
    sa.Column("fact_connector", sa.Text, nullable=False),
    sa.Column("fact_id", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("person_id", "seq"),
)

journeys = sa.Table(  # one row a person in the funnel: where it stands and where it came from
    "journeys",
    metadata,
    sa.Column("person_id", sa.Text, primary_key=True),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("campaign", sa.Text),  # campaign key, None: no campaign is known
    sa.Column("lead_at", Time, nullable=False),
    sa.Column("mql_at", Time),
    sa.Column("sql_at", Time),
    sa.Column("won_at", Time),
    sa.Column("rejected_at", Time),
    sa.Column("rejected_reason", sa.Text),
    sa.Column("lost_at", Time),
    sa.Column("recycled_at", Time),
)

journey_log = sa.Table(  # every journey as it was known: `stage` None from when there was none any more
    "journey_log",
    metadata,
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("known_at", Time, nullable=False),
    *[sa.Column(c.name, c.type) for c in journeys.c if c.name != "person_id"],
    sa.PrimaryKeyConstraint("person_id", "known_at"),
    sa.Index(None, "known_at"),
)

applied_rules = sa.Table(  # by which rules of the config what is derived was derived
    "applied_rules",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),  # identity | funnel | push
    sa.Column("sha256", BYTEA, nullable=False),
    sa.Column("applied_at", Time, nullable=False, server_default=sa.func.now()),
)

policies = sa.Table(
    "policies",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("body", JSONB, nullable=False),
    sa.Column("sha256", BYTEA, nullable=False),
    sa.Column("valid_from", Time, nullable=False),
)

attributions = sa.Table(
    "attributions",
    metadata,
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("person_id", sa.Text),
    sa.Column("policy_version", sa.Integer, nullable=False),
    sa.Column("revenue_minor", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("connector", "order_id"),
    sa.Index(None, "person_id"),
)

credits = sa.Table(
    "credits",
    metadata,
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("line", sa.Integer, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("campaign", sa.Text),
    sa.Column("reason", sa.Text),  # why unattributed
    sa.Column("touch_connector", sa.Text),
    sa.Column("touch_id", sa.Text),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("connector", "order_id", "line"),
    sa.CheckConstraint("(campaign IS NULL) <> (reason IS NULL)", name="campaign_or_reason"),
)

outbox = sa.Table(  # what a destination should hold of a person, and what it last accepted
    "outbox",
    metadata,
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("remote_id", sa.Text),
    sa.Column("desired", JSONB, nullable=False),
    sa.Column("accepted", JSONB, nullable=False, server_default="{}"),
    sa.Column("status", sa.Text, nullable=False),  # pending | acknowledged | refused | superseded
    sa.Column("reason", sa.Text),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("changed_at", Time, nullable=False, server_default=sa.func.now()),
    sa.PrimaryKeyConstraint("destination", "person_id"),
    sa.CheckConstraint("status IN ('pending', 'acknowledged', 'refused', 'superseded')", name="status"),
)
sa.Index(None, outbox.c.destination, outbox.c.status)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("run_id", sa.BigInteger, nullable=False),
    sa.Column("remote_id", sa.Text),
    sa.Column("sent", JSONB, nullable=False),
    sa.Column("shown", JSONB, nullable=False, server_default="{}"),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("version", Time),  # the destination's own time of this change
    sa.Column("reason", sa.Text),
    sa.Column("sent_at", Time, nullable=False),
    sa.Column("answered_at", Time, nullable=False),
    sa.Index(None, "destination", "person_id"),
    sa.Index(None, "destination", "remote_id"),
)
