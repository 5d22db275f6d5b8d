"""Checks a bundle of leadledger's books, without leadledger.

    python verify_bundle.py BUNDLE.zip [--key PUBLIC_KEY_HEX] [--head HEADS.jsonl]

It needs Python 3.9 or newer and its standard library alone; the signatures (Ed25519, RFC 8032) need the library
`cryptography` too, and without it the last line says that they were not checked. Exit code 0: all that the bundle
holds is right. 1: something is wrong, and the first wrong thing is named. 2: called wrongly.
  --key    the public key that you were given, by another way than this bundle: every head must be signed with it
  --head   heads that you kept (lines as the witness got them): each must be in the bundle as you have it

What is checked: each entry balances and follows the one before by its hash; the Merkle tree over all (RFC 6962) has
the root that each head names; heads follow each other; evidence, deliveries, policies and closed periods come to what
the heads name; entries rest on evidence and policies that are there; proofs and balances hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ZERO = "00" * 32
FILES = ["balances", "bundle", "deliveries", "entries", "evidence", "heads", "periods", "policies", "proofs"]


class Wrong(Exception):
    """The first wrong thing."""


def check(holds: Any, what: str) -> None:
    if not holds:
        raise Wrong(what)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no white space, of text, whole numbers, null, arrays and objects of them."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


def lines(bundle: zipfile.ZipFile, name: str) -> Iterator[Any]:
    """The objects of a file of the bundle, one a line, each in its one encoding."""
    with bundle.open(f"{name}.jsonl") as file:
        for number, line in enumerate(file, 1):
            found = json.loads(line.decode("utf-8"))
            check(canonical(found) + b"\n" == line, f"{name}.jsonl, line {number}: not in its encoding")
            yield found


def node(left: bytes, right: bytes) -> bytes:
    """A node of the tree of RFC 6962; a leaf begins with 0x00."""
    return sha256(b"\x01" + left + right)


class Tree:
    """The Merkle tree of RFC 6962: of the leaves so far only the roots of the perfect subtrees are kept."""

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        self.peaks.append(leaf)
        self.size = size = self.size + 1
        while size % 2 == 0:
            right = self.peaks.pop()
            self.peaks.append(node(self.peaks.pop(), right))
            size //= 2

    def root(self) -> bytes:
        root = self.peaks[-1] if self.peaks else sha256(b"")
        for peak in reversed(self.peaks[:-1]):
            root = node(peak, root)
        return root


def climb(place: int, last: int, start: bytes, hashes: list[bytes]) -> Any:
    """Follow a proof upwards from `place` of a level that ends at `last` (RFC 9162, 2.1.3 and 2.1.4). Gives the
    root over what ends with `place`, and the root over all; None if the proof does not fit."""
    before = after = start
    for sibling in hashes:
        if last == 0:
            return None
        if place & 1 or place == last:
            before, after = node(sibling, before), node(sibling, after)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            after = node(after, sibling)
        place, last = place >> 1, last >> 1
    return (before, after) if last == 0 else None


def is_consistent(old: int, new: int, old_root: bytes, new_root: bytes, hashes: list[bytes]) -> bool:
    if old == 0 or old >= new or not hashes:
        return old == 0 and not hashes
    rest = list(hashes) if old & (old - 1) else [old_root, *hashes]
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    return bool(climb(place, last, rest[0], rest[1:]) == (old_root, new_root))


def read_heads(bundle: zipfile.ZipFile, key: str | None) -> list[Any]:
    """The signed heads, each following the one before. A head with another key than `key` is wrong."""
    found: list[Any] = []
    for line in lines(bundle, "heads"):
        head, name = line["head"], f"head {line['head']['number']}"
        before: Any = found[-1]["head"] if found else {"number": 0, "size": 0, "sealed_at": ""}
        check(head["format"] == "leadledger-head-1", f"{name}: unknown format {head['format']}")
        check(head["number"] == before["number"] + 1, f"{name} is out of order, or one is missing")
        previous = sha256(canonical(before)).hex() if found else ZERO
        check(head["previous"] == previous, f"{name} does not follow the head before it")
        check(head["size"] >= before["size"], f"{name} has fewer entries than the head before it")
        check(head["sealed_at"] >= before["sealed_at"], f"{name} was signed before the head before it")
        check(key is None or head["key"] == key, f"{name} is signed with another key: {head['key']}")
        found.append(line)
    check(found, "there is no signed head")
    return found


def check_signatures(heads: list[Any]) -> bool:
    """Returns whether they could be checked."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return False
    for line in heads:
        head = line["head"]
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(head["key"]))
            public.verify(bytes.fromhex(line["signature"]), canonical(head))
        except (InvalidSignature, ValueError):
            raise Wrong(f"head {head['number']}: the signature is not one of its key") from None
    return True


def read_log(
    bundle: zipfile.ZipFile, name: str, heads: list[Any], row_of: Callable[[Any], Any], whole: bool
) -> dict[int, Any]:
    """Go through a log in the order of its ids and compare it with what the heads say of it; gives its rows by
    id. Of a bundle of one period evidence and deliveries are parts, which no hash can be compared with."""
    states, rows, last, until, digest = {0: (0, ZERO)}, {}, 0, 0, bytes(32)
    for line in lines(bundle, name):
        id_, row_hash, kept = row_of(line)
        check(id_ > last, f"{name} {id_} is out of order")
        last, digest, rows[id_] = id_, sha256(digest + row_hash), kept
        states[last] = (len(rows), digest.hex())
    for line in heads if whole else ():
        for _, count, until, told in (log for log in line["head"]["logs"] if log[0] == name):
            what = f"{name} up to {until} are not those that head {line['head']['number']} was signed over"
            check(states.get(until) == (count, told), f"{what}: one was changed, added or removed")
    check(not whole or last == until, f"{name} {last} came after the last head")
    return rows


def plain_row(line: Any) -> tuple[int, bytes, str]:
    return line["id"], sha256(canonical(line)), line["sha256"]


def policy_row(line: Any) -> tuple[int, bytes, str]:
    told = sha256(line["body"].encode("utf-8")).hex()
    check(told == line["sha256"], f"policy {line['version']}: its body is not what its hash says")
    del line["body"]
    return line["version"], sha256(canonical(line)), line["sha256"]


def read_proofs(bundle: zipfile.ZipFile, heads: list[Any]) -> dict[int, list[bytes]]:
    """The inclusion proofs by entry; the consistency proofs are checked here."""
    roots = {line["head"]["size"]: bytes.fromhex(line["head"]["root"]) for line in heads}
    inclusion, proven = {}, set()
    for line in lines(bundle, "proofs"):
        hashes = [bytes.fromhex(text) for text in line["hashes"]]
        if "entry" in line:
            inclusion[line["entry"]] = hashes
            continue
        old, new = pair = line["from"], line["to"]
        check(old in roots and new in roots, f"a proof of {old} and {new} entries, which no head has")
        holds = is_consistent(old, new, roots[old], roots[new], hashes)
        check(holds, f"the tree of {new} entries does not continue that of {old}")
        proven.add(pair)
    sizes = sorted(roots)
    for pair in zip(sizes, sizes[1:]):  # noqa: B905, RUF007 - for Python 3.9
        check(pair in proven, f"the proof that {pair[1]} entries continue {pair[0]} is missing")
    return inclusion


def read_entries(
    bundle: zipfile.ZipFile, heads: list[Any], evidence: Any, policies: Any, proofs: Any, whole: bool
) -> tuple[int, dict[Any, int]]:
    """Every entry by itself and after the one before it; returns how many, and the balances."""
    tree, chain, last, count, newest = Tree(), bytes(32), 0, 0, heads[-1]["head"]
    balances: dict[Any, int] = {}
    reached: dict[int, Any] = {}
    for line in heads:
        reached.setdefault(line["head"]["size"], []).append(line["head"])

    def signed_at(before: str) -> str:
        """Compare the heads over as many entries as the tree has; gives when the last of them was signed."""
        for head in reached.get(tree.size, ()) if whole else ():
            name = f"head {head['number']}"
            check(head["root"] == tree.root().hex(), f"an entry up to {tree.size} is not that of {name}")
            check(head["chain"] == chain.hex(), f"{name} names another last entry")
            before = head["sealed_at"]
        return before

    signed = signed_at("")
    for entry in lines(bundle, "entries"):
        count, name = count + 1, f"entry {entry['id']}"
        check(not whole or entry["id"] == last + 1, f"entry {last + 1} is missing")
        check(entry["id"] > last, f"{name} is out of order")
        last, told = entry["id"], entry.pop("hash")
        amounts = [[posting["account"], posting["amount_minor"]] for posting in entry["postings"]]
        bare = not amounts and entry["kind"] not in ("close", "policy")  # decisions, which move no money
        check(not bare and sum(amount for _, amount in amounts) == 0, f"{name} does not balance")
        for account, amount in amounts:
            balances[account, entry["currency"]] = balances.get((account, entry["currency"]), 0) + amount
        encoded = canonical({**entry, "postings": amounts})
        leaf, id_, version = sha256(b"\x00" + encoded), entry["evidence_id"], entry["policy_version"]
        check(id_ is None or id_ in evidence, f"{name} rests on evidence {id_}, which is missing")
        same = id_ is None or evidence[id_] == entry["evidence_sha256"]
        check(same, f"{name} rests on other bytes than those of evidence {id_}")
        check(version is None or version in policies, f"{name} names policy {version}, which is missing")
        if whole:
            chain = sha256(chain + encoded)
            check(chain.hex() == told, f"{name} was changed, or does not follow the entry before it")
            check(entry["booked_at"] >= signed, f"{name} was booked before a head without it was signed")
            tree.add(leaf)
            signed = signed_at(signed)
        else:
            check(last in proofs, f"{name}: the proof is missing")
            _, root = climb(last - 1, newest["size"] - 1, leaf, proofs[last]) or ("", b"")
            holds = last <= newest["size"] and root.hex() == newest["root"]
            check(holds, f"{name} is not in the tree of the last head")
    check(not whole or last == newest["size"], f"entry {last + 1} is missing, or the last head lacks {last}")
    return count, balances


def verify(path: str, key: str | None, kept: list[Any]) -> list[str]:
    """Returns what was checked, in words. Raises Wrong."""
    with zipfile.ZipFile(path) as bundle:
        names = sorted(name.partition(".")[0] for name in bundle.namelist())
        check(names == FILES, "the files are not those of a bundle, each once")
        about = json.loads(bundle.read("bundle.json").decode("utf-8"))
        check(about["format"] == "leadledger-bundle-1", f"unknown format {about['format']}")
        whole = about["period"] is None
        heads = read_heads(bundle, key)
        signed = check_signatures(heads)
        for line in kept:
            check(line in heads, f"head {line['head']['number']} as you kept it is not in the bundle")
        policies = read_log(bundle, "policies", heads, policy_row, True)
        evidence = read_log(bundle, "evidence", heads, plain_row, whole)
        read_log(bundle, "periods", heads, plain_row, True)
        read_log(bundle, "deliveries", heads, lambda row: (row["id"], bytes.fromhex(row["sha256"]), 0), whole)
        proofs = read_proofs(bundle, heads)
        count, balances = read_entries(bundle, heads, evidence, policies, proofs, whole)
        for row in lines(bundle, "balances"):
            found = balances.pop((row["account"], row["currency"]), None)
            said = f"{row['account']} in {row['currency']}: the bundle says {row['amount_minor']}"
            check(found == row["amount_minor"], f"{said}, its entries come to {found}")
        check(not balances, f"{next(iter(balances), '')}: the balance is missing")
    newest, report = heads[-1]["head"], [f"{count} entries, {len(heads)} heads: all right."]
    if not whole:
        report.append(f"They are of {about['period']}: that none is missing, only a whole bundle shows.")
    report.append(f"Last head: number {newest['number']}, of {newest['sealed_at']}, root {newest['root']}")
    report.append(f"Public key: {newest['key']}" + ("" if key else " (is it the one that you were given?)"))
    if not signed:
        report.append("SIGNATURES WERE NOT CHECKED: that needs the Python library `cryptography`.")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks a bundle of leadledger's books, without leadledger.")
    parser.add_argument("bundle", help="the file that leadledger ledger export wrote")
    parser.add_argument("--key", help="the public key (hex) that every head must be signed with")
    parser.add_argument("--head", help="a file of heads that you kept, a line each")
    given = parser.parse_args()
    try:
        kept = Path(given.head).read_text("utf-8") if given.head else ""
        report = verify(given.bundle, given.key, [json.loads(line) for line in kept.splitlines()])
    except Wrong as wrong:
        report = [f"WRONG: {wrong}"]
    except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
        report = [f"WRONG: not a bundle as leadledger writes it: {error!r}"]
    sys.stdout.write("\n".join(report) + "\n")
    return int(report[0].startswith("WRONG"))


if __name__ == "__main__":
    sys.exit(main())
