"""An entry as it is hashed: its canonical bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import msgspec

from sync.ledger.rates import Used, stored

Postings = tuple[tuple[str, int], ...]  # (account, amount_minor), by account


class _Canonical(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An entry as it is hashed: these names, sorted. Those with a default are left out where they say nothing
    more than the rest."""

    author: str
    booked_at: str
    business_day: str
    connector: str
    currency: str
    evidence_id: int | None
    evidence_sha256: str | None
    generation: int
    happened_at: str
    id: int
    kind: str
    part: str
    policy_version: int | None
    posted_on: str | None = None
    postings: Postings
    rate: tuple[Used, ...] | None = None
    reason: str
    refers_to: int | None = None
    reverses: int | None
    subject: str


_ENCODER = msgspec.json.Encoder()


def canonical_bytes(fields: Mapping[str, Any], postings: Postings) -> bytes:
    """What is hashed: JSON with sorted keys, without white space, of text, integers and null only.

    Times are ISO 8601 in UTC with microseconds, hashes lower hex. ``posted_on`` is there only where it is
    another day than ``business_day``, ``refers_to`` only where there is an entry to refer to,
    ``rate`` only where an amount was converted.
    """
    digest, day, posted = fields["evidence_sha256"], fields["business_day"], fields["posted_on"]
    return _ENCODER.encode(
        _Canonical(
            author=fields["author"],
            booked_at=_same_stamp(fields["booked_at"]),
            business_day=_same_day(day),
            connector=fields["connector"],
            currency=fields["currency"],
            evidence_id=fields["evidence_id"],
            evidence_sha256=None if digest is None else bytes(digest).hex(),
            generation=fields["generation"],
            happened_at=_stamp(fields["happened_at"]),
            id=fields["id"],
            kind=fields["kind"],
            part=fields["part"],
            policy_version=fields["policy_version"],
            posted_on=None if posted == day else _same_day(posted),
            postings=postings,
            rate=stored(fields.get("rate")),
            reason=fields["reason"],
            refers_to=fields["refers_to"],
            reverses=fields["reverses"],
            subject=fields["subject"],
        )
    )


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


# Neighbours were booked at one time, and often happened on one day: the text is made once.
_same_stamp = lru_cache(1_000)(_stamp)
_same_day = lru_cache(1_000)(date.isoformat)
