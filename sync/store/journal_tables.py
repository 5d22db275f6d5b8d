"""The tables of the journal: entries and their postings, closed periods, and the seals over them. All are append-only
by trigger."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, JSONB

from sync.store.canonical_tables import Time, metadata

entries = sa.Table(
    "entries",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),  # order:ID or spend:ID
    sa.Column("part", sa.Text, nullable=False),  # sale | refund:ID | spend
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("happened_at", Time, nullable=False),
    sa.Column("business_day", sa.Date, nullable=False),
    sa.Column("posted_on", sa.Date, nullable=False),  # the day it counts on: its business day, or an open one
    sa.Column("booked_at", Time, nullable=False),
    sa.Column("policy_version", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("reverses", sa.BigInteger, sa.ForeignKey("entries.id")),
    # Of a refund its sale; of others what they replace.
    sa.Column("refers_to", sa.BigInteger, sa.ForeignKey("entries.id")),
    sa.Column("evidence_id", sa.BigInteger),
    sa.Column("evidence_sha256", BYTEA),
    sa.Column("prev_hash", BYTEA, nullable=False),
    sa.Column("hash", BYTEA, nullable=False),
    sa.Column("rate", JSONB),  # by which rates an entry of kind fx was converted
    sa.UniqueConstraint("reverses"),
    sa.Index("ix_entries_subject", "connector", "subject"),
    sa.Index(None, "posted_on"),
)
sa.Index(  # what was learnt of a day after its period was closed
    "ix_entries_late",
    entries.c.business_day,
    postgresql_where=entries.c.posted_on != entries.c.business_day,
)
sa.Index(
    "uq_entries_live_part",
    entries.c.connector,
    entries.c.subject,
    entries.c.part,
    entries.c.generation,
    unique=True,
    postgresql_where=entries.c.reverses.is_(None),
)

postings = sa.Table(
    "postings",
    metadata,
    sa.Column("entry_id", sa.BigInteger, sa.ForeignKey("entries.id"), nullable=False),
    sa.Column("line", sa.Integer, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("entry_id", "line"),
    sa.Index(None, "account"),
)

periods = sa.Table(  # what is closed: every day before `until`, for good
    "periods",
    metadata,
    sa.Column("until", sa.Date, primary_key=True),
    sa.Column("since", sa.Date),  # None: from the first day of the books
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("body", JSONB, nullable=False),  # the figures it was closed on
    sa.Column("sha256", BYTEA, nullable=False),
    sa.Column("closed_at", Time, nullable=False),
)

seal_tiles = sa.Table(  # the whole nodes of the Merkle tree over the entries, sixteen neighbours a row
    "seal_tiles",
    metadata,
    sa.Column("height", sa.SmallInteger, nullable=False),  # level of the hashes, in steps of four; 0: leaves
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("hashes", BYTEA, nullable=False),
    sa.PrimaryKeyConstraint("height", "number"),
)

seals = sa.Table(  # the signed heads of the tree
    "seals",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("head", sa.Text, nullable=False),  # what is signed, byte for byte
    sa.Column("signature", BYTEA, nullable=False),
    sa.Column("sealed_at", Time, nullable=False),  # as the head says
)

seal_copies = sa.Table(  # which head was copied where
    "seal_copies",
    metadata,
    sa.Column("witness", sa.Text, nullable=False),
    sa.Column("number", sa.BigInteger, sa.ForeignKey("seals.number"), nullable=False),
    sa.Column("copied_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("witness", "number"),
)
