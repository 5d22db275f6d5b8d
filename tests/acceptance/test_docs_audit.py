"""The test vectors of the auditor's page are what we hash and sign, and what anybody can make of the page alone."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sync.ledger import encoding, heads, rules
from tests.acceptance.markdown import DOCS, blocks

PAGE = DOCS / "audit.md"
VECTORS = {b.notes["vector"]: b.text.strip() for b in blocks(PAGE) if "vector" in b.notes}


def _cell(name: str) -> str:
    [found] = re.findall(rf"^\| {name} \| `(\w+)` \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return str(found)


def test_vectors_follow_from_the_page_alone() -> None:
    entry, evidence = (VECTORS[name].encode() for name in ("entry", "evidence"))
    head = json.loads(VECTORS["head"])["head"]
    assert _cell("leaf") == sha256(b"\x00" + entry).hexdigest() == head["root"]
    assert _cell("hash, as the first of the chain") == sha256(bytes(32) + entry).hexdigest() == head["chain"]
    log = sha256(bytes(32) + sha256(evidence).digest()).hexdigest()
    assert ["evidence", 1, 7, log] in head["logs"]
    for text in VECTORS.values():
        written = json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        assert written == text
    signed = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(head["key"]))
    public.verify(bytes.fromhex(json.loads(VECTORS["head"])["signature"]), signed)


def test_vectors_are_what_we_make() -> None:
    fields = {
        "author": "leadledger",
        "booked_at": datetime(2026, 5, 2, 6, 0, 0, 250000, tzinfo=UTC),
        "business_day": date(2026, 5, 1),
        "connector": "shop",
        "currency": "PLN",
        "evidence_id": 7,
        "evidence_sha256": sha256(b"{}").digest(),
        "generation": 1,
        "happened_at": datetime(2026, 5, 1, 10, 30, tzinfo=UTC),
        "id": 1,
        "kind": "sale",
        "part": "sale",
        "policy_version": 1,
        "posted_on": date(2026, 5, 1),
        "reason": 'order paid: "żółć"',
        "refers_to": None,
        "reverses": None,
        "subject": "order:1001",
    }
    postings = (("Credit:Campaign:ads:spring", 10000), ("Revenue:Shop:shop", -10000))
    assert encoding.canonical_bytes(fields, postings).decode() == VECTORS["entry"]
    assert rules.seal(fields, postings, rules.GENESIS).leaf.hex() == _cell("leaf")
    signed = heads.decode_line(VECTORS["head"])
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    assert heads.sign(signed.head, key) == signed
    assert signed.line() == VECTORS["head"]
