"""What `explain` found, as text for a terminal: the first rows of each list, and how many there are in all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from sync.cli import output


@dataclass(frozen=True)
class Some:
    """The first rows of a list; `cut` when there are more."""

    rows: list[dict[str, Any]]
    cut: bool


def first(rows: Iterator[dict[str, Any]], count: int) -> Some:
    taken = list(islice(rows, count + 1))
    return Some(taken[:count], cut=len(taken) > count)


def when(text: str | None, zone: ZoneInfo) -> str:
    """A time in ISO 8601 as a reader in `zone` has it; – for none."""
    return output.local(datetime.fromisoformat(text) if text else None, zone)


def amount(language: str, minor: int | None, currency: str) -> str:
    return f"{output.money(minor, currency, language)} {currency}"


def show(found: dict[str, Any], zone: ZoneInfo, language: str, *, with_body: bool) -> None:
    """Print an order, an account or a campaign; `found` has `Some` in place of each iterator."""
    match found["what"]:
        case "account":
            _account(found, zone, language)
        case "campaign":
            _campaign(found, zone, language)
        case _:
            _Order(found, zone, language, with_body).show()
    head = found["head"]
    if head:
        output.line()
        output.line(f"As of {found['as_of']}; the last entry is {head['entry']}, sealed {head['hash']}")


def _more(some: Some) -> None:
    if some.cut:
        output.note(
            f"The first {len(some.rows)} are shown; --top shows more, --format json and html have all."
        )


def _of_period(found: dict[str, Any]) -> str:
    return f", {found['period']}" if found["period"] else ""


def _account(found: dict[str, Any], zone: ZoneInfo, language: str) -> None:
    money = partial(amount, language)
    listed = found["accounts"]
    rows = [
        [
            r["account"],
            *(money(r[f"{n}_minor"], r["currency"]) for n in ("opening", "moved", "closing")),
            r["postings"],
        ]
        for r in (listed if len(listed) > 1 else ())
    ]
    rows += [
        [
            found["account"] if len(listed) == 1 else f"in all, {r['currency']}",
            *(money(r[f"{n}_minor"], r["currency"]) for n in ("opening", "moved", "closing")),
            f"{r['postings']:,}",
        ]
        for r in found["balances"]
    ]
    output.table(
        f"Account {found['account']}{_of_period(found)}",
        ["account", "opening", "moved", "closing", "postings"],
        rows,
        right=(1, 2, 3, 4),
    )
    entries = found["entries"]
    columns = ["entry", "counts on", "kind", "of", "why, by whom", "amount", "balance"]
    cells = [
        [
            r["entry"],
            r["posted_on"]
            + (f"\nhappened {r['business_day']}" if r["posted_on"] != r["business_day"] else ""),
            r["kind"],
            f"{r['connector']} {r['subject']}".strip()
            + (f"\n{r['account']}" if r["account"] != found["account"] else ""),
            f"{r['reason']}{_links(r)}\n{r['author']}, booked {when(r['booked_at'], zone)}",
            money(r["amount_minor"], r["currency"]),
            money(r["balance_minor"], r["currency"]),
        ]
        for r in entries.rows
    ]
    output.table("Postings", columns, cells, right=(0, 5, 6))
    _more(entries)


def _links(entry: dict[str, Any]) -> str:
    back = f" (reverses {entry['reverses']})" if entry["reverses"] else ""
    return back + (f" (refers to {entry['refers_to']})" if entry["refers_to"] else "")


def _campaign(found: dict[str, Any], zone: ZoneInfo, language: str) -> None:
    money, totals = partial(amount, language), found["totals"]
    output.heading(f"Campaign {found['campaign']} ({found['key']}){_of_period(found)}")
    if len(found["names"]) > 1:
        output.line("it was called " + ", ".join(row["name"] for row in found["names"]))
    counts = ", ".join(f"{totals[name]:,} {name}" for name in ("leads", "mql", "sql", "won", "rejected"))
    spent, sold = (money(totals[f"{n}_minor"], totals["currency"]) for n in ("spend", "revenue"))
    output.line(f"{counts}; spend {spent}, revenue {sold}")
    for row in found["money"]:
        if row["currency"] != totals["currency"]:
            spent, sold = (money(row[f"{n}_minor"], row["currency"]) for n in ("spend", "revenue"))
            output.line(f"beside it, in {row['currency']}: spend {spent}, revenue {sold}")
    days = [
        [
            day["posted_on"],
            money(day["amount_minor"], day["currency"]),
            "\n".join(
                f"entry {e['entry']}, {e['reason']}{_links(e)}"
                + (
                    f"; evidence {e['evidence']['id']}, SHA-256 {e['evidence']['sha256']}"
                    if e["evidence"]
                    else ""
                )
                for e in day["entries"]
            ),
        ]
        for day in found["spend"].rows
    ]
    if days:
        output.table("Spend by day", ["counts on", "amount", "by"], days, right=(1,))
        _more(found["spend"])
    output.heading("Credits by order")
    for order in found["orders"].rows:
        _credited(order, zone, language)
    if not found["orders"].rows:
        output.line("none")
    _more(found["orders"])
    people = [
        [
            r["person"],
            *(when(r[f"{n}_at"], zone) for n in ("lead", "mql", "sql", "won", "rejected")),
            r["rejected_reason"],
        ]
        for r in found["people"].rows
    ]
    if people:
        output.table("People", ["person", "lead", "MQL", "SQL", "won", "rejected", "why"], people)
        _more(found["people"])


def _credited(order: dict[str, Any], zone: ZoneInfo, language: str) -> None:
    money = partial(amount, language, currency=order["currency"])
    whole = f" of {money(order['order_revenue_minor'])}" if order["order_revenue_minor"] else ""
    if order["converted_from"]:
        whole += f", converted from {', '.join(order['converted_from'])}"
    output.line(f"  {order['connector']} {order['subject']}: {money(order['amount_minor'])}{whole}")
    for credit in order["credits"]:
        if touch := credit["touch"]:
            output.line(
                f"    {money(credit['amount_minor'])} by {touch['kind']} {touch['id']} at {when(touch['at'], zone)}"
                f" ({order['model']} touch, policy {order['policy_version']}), evidence {touch['evidence']['id']}"
            )
        if credit["share"]:
            output.line(f"    {_share(credit['share'])}")
    if order["held"]:
        output.line(f"    {order['held']}")
    for entry in order["entries"]:
        output.line(
            f"    entry {entry['entry']}, {entry['kind']} on {entry['posted_on']}: "
            f"{money(entry['amount_minor'])}, {entry['reason']}{_links(entry)}"
        )


def _share(share: dict[str, Any]) -> str:
    rest = f" + {share['rest_minor']}" if share["rest_minor"] != "0" else ""
    return (
        f"weight {share['weight']} of {share['weights_in_all']}: exactly {share['exact_minor']} minor units = "
        f"{share['whole_minor']}{rest}; {share['why']}"
    )


@dataclass(frozen=True)
class _Order:
    found: dict[str, Any]
    zone: ZoneInfo
    language: str
    with_body: bool

    def money(self, minor: int) -> str:
        return amount(self.language, minor, self.found["currency"])

    def when(self, text: str | None) -> str:
        return when(text, self.zone)

    def show(self) -> None:
        found, order = self.found, self.found["order"]
        output.heading(f"Order {found['order_id']} of {found['connector']}")
        if found["then"]:
            output.line(found["then"])
        if order is None:
            output.line("The shop no longer has it.")
        else:
            total, at = self.money(order["total_minor"]), self.when(order["ordered_at"])
            output.line(f"{order['status']}, {total}, ordered {at}")
            self.source(found["evidence"])
        self.credits()
        if found["person"]:
            self.person()
        self.refunds()
        self.journal()

    def source(self, evidence: dict[str, Any]) -> None:
        output.line(
            f"    evidence {evidence['id']}: {evidence['source']}, fetched {self.when(evidence['fetched_at'])} "
            f"in run {evidence['run']}, SHA-256 {evidence['sha256']}"
        )
        if self.with_body:
            output.line(f"    {evidence['body']}")

    def credits(self) -> None:
        output.heading("Credits")
        found, policy = self.found, self.found["policy"]
        if policy:
            output.line(
                f"policy {policy['version']}: {policy['model']} touch, lookback {policy['lookback_days']} days, "
                f"in force since {self.when(policy['valid_from'])}"
            )
        for credit in found["credits"]:
            to = f"{credit['campaign']} ({credit['source']})"
            if not credit["campaign"]:
                to = f"unattributed: {credit['reason']}"
            output.line(f"  {self.money(credit['amount_minor'])} to {to}")
            if credit["share"]:
                output.line(f"    {_share(credit['share'])}")
            if touch := credit["touch"]:
                output.line(f"    by {touch['kind']} {touch['id']} at {self.when(touch['at'])}")
                self.path(credit)
                self.source(touch["evidence"])
        if found["held"]:
            output.line(f"  {found['held']}")
        if not found["credits"]:
            output.line("none: the order is no sale")

    def path(self, credit: dict[str, Any]) -> None:
        if credit["no_path"]:
            output.line(f"    {credit['no_path']}")
            return
        start = f"order {self.found['connector']}:{self.found['order_id']}"
        steps = [f"{step['by']} {step['key']} — {step['record']}" for step in credit["path"]]
        output.line("    why this person: " + " — ".join([start, *steps]))

    def person(self) -> None:
        found = self.found
        output.heading(f"Person {found['person']}")
        for record in found["identity"]["records"]:
            keys = ", ".join(record["keys"]) or "no key"
            ignored = f" (ignored: {', '.join(record['ignored_keys'])})" if record["ignored_keys"] else ""
            output.line(f"  {record['record']} by {keys}{ignored}")
        for change in found["identity"]["changes"]:
            by = f" by {', '.join(change['by'])}" if change["by"] else ""
            output.line(f"  {self.when(change['at'])}  {change['kind']} with {', '.join(change['with'])}{by}")
        for event in found["journey"]:
            reason = f", {event['reason']}" if event["reason"] else ""
            why = f"{event['why']}{reason}"
            output.line(f"  {self.when(event['at'])}  {event['stage']} by {event['who']} ({why})")

    def refunds(self) -> None:
        for refund in self.found["refunds"]:
            output.heading(f"Refund {refund['id']}")
            paid = f"{refund['amount']} {self.found['currency']} at {self.when(refund['at'])}"
            output.line(f"{paid}: {refund['reason'] or 'no reason'}")
            self.source(refund["evidence"])
        for refund in self.found["refund_shares"]:
            output.heading(f"Refund {refund['refund']} was taken from (entry {refund['entry']})")
            for account, taken in refund["taken"].items():
                share = refund["shares"].get(account)
                how = _share(share) if share else "by the shop's own split, or above the sale"
                output.line(f"  {account} {self.money(taken)}: {how}")

    def journal(self) -> None:
        output.heading("Journal")
        for entry in self.found["entries"]:
            back = f", reverses entry {entry['reverses']}" if entry["reverses"] else ""
            back += f", refers to entry {entry['refers_to']}" if entry["refers_to"] else ""
            output.line(
                f"  entry {entry['entry']}, {entry['kind']} of {self.when(entry['happened_at'])}, counts on "
                f"{entry['posted_on']}, booked {self.when(entry['booked_at'])} by {entry['author']}: "
                f"{entry['reason']}{back}"
            )
            for posting in entry["postings"]:
                output.line(f"    {self.money(posting['amount_minor']):>18}  {posting['account']}")
            output.line(f"    sealed {entry['hash']}")
