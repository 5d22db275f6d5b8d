"""The canonical tables: one a kind of record, with the columns of `mappings.canonical` and where each row is from.

Everything hangs on the `metadata` that is made here.
"""

from __future__ import annotations

import types
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from mappings.canonical import KINDS, Record

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

Time = sa.DateTime(timezone=True)
PLURALS = {
    "lead": "leads",
    "touch": "touches",
    "campaign": "campaigns",
    "spend": "spend",
    "order": "orders",
    "refund": "refunds",
    "product": "products",
    "contact": "contacts",
    "stage_change": "stage_changes",
    "owner": "owners",
    "rate": "rates",
}
_COLUMN_TYPES: dict[Any, Any] = {
    str: sa.Text,
    datetime: Time,
    date: sa.Date,
    int: sa.BigInteger,
    Decimal: sa.Numeric,
    bool: sa.Boolean,
}
ORIGIN = ("connector", "stream", "raw_id", "evidence_id")


def _column(name: str, hint: Any, *, required: bool) -> sa.Column[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(arg for arg in args if arg is not type(None))
        return _column(name, inner, required=False)
    if origin is Literal:
        return sa.Column(name, sa.Text, nullable=not required)
    if origin is tuple:
        return sa.Column(name, ARRAY(sa.Text) if args[0] is str else JSONB, nullable=False)
    return sa.Column(name, _COLUMN_TYPES[hint], nullable=not required)


def _canonical(kind: str, record: type[Record]) -> sa.Table:
    hints = get_type_hints(record)
    columns = [_column(f.name, hints[f.name], required=True) for f in msgspec.structs.fields(record)]
    return sa.Table(
        PLURALS[kind],
        metadata,
        sa.Column("connector", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("raw_id", sa.Text, nullable=False),
        sa.Column("evidence_id", sa.BigInteger, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("connector", "external_id"),
        sa.Index(None, "connector", "stream", "raw_id"),
    )


CANONICAL: dict[str, sa.Table] = {kind: _canonical(kind, record) for kind, record in KINDS.items()}
sa.Index(None, CANONICAL["refund"].c.connector, CANONICAL["refund"].c.order_id)
sa.Index(None, CANONICAL["order"].c.occurred_at)
sa.Index(None, CANONICAL["rate"].c.connector, CANONICAL["rate"].c.day)
sa.Index(
    "ix_spend_claimed",
    CANONICAL["spend"].c.day,
    postgresql_where=CANONICAL["spend"].c.claimed_minor.is_not(None),
)
