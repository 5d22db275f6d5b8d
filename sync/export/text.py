"""The journal as the text of plain-text accounting: beancount, and hledger or ledger. Pure.

What the accounts held at the begin is one transaction on the first day; what they must hold at the end is
asserted, account by account and exactly, so that the other program proves the file itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from mappings.currencies import exponent
from sync.export import names
from sync.export.rules import Balance, Cover, Entry, Export, amount_text

OPENING = "opening balances"
CLOSING = "closing balances"


def facts(cover: Cover) -> Iterator[tuple[str, str]]:
    """What the head of a file says of it: names and values, the same in every format."""
    yield "workspace", cover.workspace
    if cover.note:
        yield "note", cover.note
    yield "period", f"{cover.asked} ({cover.since} to {cover.until - timedelta(days=1)}, both included)"
    yield "time zone of its days", cover.zone
    yield "reporting currency", cover.currency
    yield "exported at", stamp(cover.exported_at)
    yield "seal: last entry of the journal", str(cover.seal_entry)
    yield "seal: its hash", cover.seal_hash.hex()
    for policy in cover.policies:
        said = f"valid from {stamp(policy.valid_from)}, SHA-256 {policy.sha256.hex()}"
        yield f"attribution policy {policy.version}", f"{policy.body.get('model')}, {said}"


def control_totals(cover: Cover) -> Iterator[tuple[str, str]]:
    """The control totals as names and values."""
    for total in cover.totals:
        debit, credit = (amount_text(n, total.currency) for n in (total.debit_minor, total.credit_minor))
        said = f"{total.entries} entries, {total.postings} postings, debit {debit}, credit {credit}"
        yield f"control total {total.currency}", said


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _by_account(balances: Sequence[Balance]) -> dict[str, list[str]]:
    """Each account's currencies."""
    found: dict[str, list[str]] = {}
    for balance in balances:
        found.setdefault(balance.account, []).append(balance.currency)
    return found


def _currencies(balances: Iterable[Balance]) -> list[str]:
    return sorted({balance.currency for balance in balances})


# beancount


def beancount(export: Export) -> Iterator[str]:
    """The lines of a beancount file (syntax: beancount's language reference)."""
    cover = export.cover
    for name, value in (*facts(cover), *control_totals(cover)):
        yield f"; {name}: {_one_line(value)}"
    yield f'option "title" {_quoted(f"{cover.workspace} {cover.asked}")}'
    yield f'option "operating_currency" "{cover.currency}"'
    # What is inferred by default would let half a minor unit pass.
    yield 'option "tolerance_multiplier" "0"'
    yield ""
    for currency in _currencies(export.balances):
        yield f"{cover.since} commodity {currency}"
    for account, currencies in _by_account(export.balances).items():
        yield f"{cover.since} open {names.to_beancount(account)} {','.join(currencies)}"
        yield f"  account: {_quoted(account)}"
    if export.opening:
        yield ""
        yield f'{cover.since} * "{OPENING}" #opening'
        yield from map(_beancount_opening, export.opening)
    for entry in export.entries():
        yield ""
        yield from _beancount_entry(entry)
    yield ""
    for balance in export.balances:
        amount = amount_text(balance.closing_minor, balance.currency)
        account = names.to_beancount(balance.account)
        yield f"{cover.until} balance {account} {amount} ~ 0 {balance.currency}"


def _beancount_opening(balance: Balance) -> str:
    amount = amount_text(balance.opening_minor, balance.currency)
    return f"  {names.to_beancount(balance.account)} {amount} {balance.currency}"


def _beancount_entry(entry: Entry) -> Iterator[str]:
    if not entry.accounts:
        yield f"; {_memo(entry)}"
        return
    links = f"^entry-{entry.id}" + (f" ^entry-{entry.reverses}" if entry.reverses is not None else "")
    yield (
        f"{entry.posted_on} * {_quoted(f'{entry.connector} {entry.subject}')}"
        f" {_quoted(f'{entry.kind}: {entry.reason}')} #{entry.kind} {links}"
    )
    for name, value in _tags(entry):
        yield f"  {name}: {_quoted(value)}"
    for account, amount in zip(entry.accounts, entry.amounts, strict=True):
        yield f"  {names.to_beancount(account)} {amount_text(amount, entry.currency)} {entry.currency}"


def _memo(entry: Entry) -> str:
    """A decision that the books rest on, in a line: it has no amounts, so it is no transaction."""
    digest = "" if entry.evidence_sha256 is None else f", SHA-256 {bytes(entry.evidence_sha256).hex()}"
    said = f"{entry.subject} ({entry.reason}), booked {stamp(entry.booked_at)} by {entry.author}{digest}"
    return _one_line(f"{entry.posted_on} entry {entry.id}, {entry.kind}: {said}, hash {entry.hash.hex()}")


def _tags(entry: Entry) -> Iterator[tuple[str, str]]:
    """What the journal says of an entry beside its postings."""
    yield "entry", str(entry.id)
    yield "hash", entry.hash.hex()
    yield "happened", stamp(entry.happened_at)
    if entry.posted_on != entry.business_day:
        yield "business-day", entry.business_day.isoformat()
    yield "booked", stamp(entry.booked_at)
    yield "connector", entry.connector
    yield "subject", entry.subject
    yield "part", entry.part
    yield "author", entry.author
    if entry.policy_version is not None:
        yield "policy", str(entry.policy_version)
    if entry.rate is not None:
        yield "rate", entry.rate
    if entry.reverses is not None:
        yield "reverses", str(entry.reverses)
    if entry.evidence_id is not None:
        yield "evidence", str(entry.evidence_id)
    if entry.evidence_sha256 is not None:
        yield "evidence-sha256", bytes(entry.evidence_sha256).hex()


def _quoted(text: str) -> str:
    r"""A string of beancount's: ``\`` and ``"`` escaped, line ends and tabs as ``\n`` and ``\t``."""
    for char, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(char, escaped)
    return f'"{_one_line(text)}"'


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


# hledger and ledger


def hledger(export: Export) -> Iterator[str]:
    """The lines of a journal that hledger and ledger both read (what only one of them knows is not used)."""
    cover = export.cover
    for name, value in (*facts(cover), *control_totals(cover)):
        yield f"; {name}: {_one_line(value)}"
    yield ""
    for currency in _currencies(export.balances):
        digits = exponent(currency)
        yield f"commodity {currency}"
        yield f"    format 1000.{'0' * digits} {currency}"
    for account in _by_account(export.balances):
        yield f"account {names.to_hledger(account)}"
    if export.opening:
        yield ""
        yield f"{cover.since} * {OPENING}"
        yield from (_posting(b.account, b.opening_minor, b.currency) for b in export.opening)
    for entry in export.entries():
        yield ""
        yield from _hledger_entry(entry)
    if export.balances:
        yield ""
        yield f"{cover.until - timedelta(days=1)} * {CLOSING}"
        for balance in export.balances:
            amount = amount_text(balance.closing_minor, balance.currency)
            yield f"{_posting(balance.account, 0, balance.currency)} = {amount} {balance.currency}"


def _hledger_entry(entry: Entry) -> Iterator[str]:
    if not entry.accounts:
        yield f"; {_memo(entry)}"
        return
    who = names.percent(f"{entry.connector} {entry.subject}", also=";|")
    what = names.percent(f"{entry.kind}: {entry.reason}", also=";|")
    yield f"{entry.posted_on} * ({entry.id}) {who} | {what}"
    for name, value in _tags(entry):
        yield f"    ; {name}: {names.percent(value, also=',;')}"
    for account, amount in zip(entry.accounts, entry.amounts, strict=True):
        yield _posting(account, amount, entry.currency)


def _posting(account: str, amount_minor: int, currency: str) -> str:
    return f"    {names.to_hledger(account)}  {amount_text(amount_minor, currency)} {currency}"
