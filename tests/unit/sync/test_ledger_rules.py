"""The journal's arithmetic: entries balance, refunds bring every account back to zero, corrections converge."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.attribute.rules import Credit
from sync.ledger import accounts, encoding, rules
from sync.ledger.rules import Draft, Live, Refund, Sale

PAID = datetime(2024, 2, 1, 10, tzinfo=UTC)
EXCESS = accounts.unattributed(rules.EXCESS)
REVENUE, TAX, SHIPPING = (f("shop") for f in (accounts.revenue, accounts.tax, accounts.shipping))
CREDITED = ["Credit:Campaign:ads:1", "Credit:Campaign:ads:2", "Unattributed:direct"]


def sale(
    credits: Sequence[tuple[str, int]] = ((CREDITED[0], 100),), *, tax: int = 0, shipping: int = 0, **more
) -> Sale:
    gross = sum(amount for _, amount in credits) + tax + shipping
    fields = {"connector": "shop", "currency": "PLN", "happened_at": PAID, "policy_version": 1}
    evidence = {"evidence_id": 5, "evidence_sha256": b"\x05" * 32}
    return Sale(
        **fields | evidence | {"gross": gross, "tax": tax, "shipping": shipping, "credits": credits} | more
    )


def refund(
    id_: str, amount: int, *, tax: int | None = None, shipping: int | None = None, day: int = 1
) -> Refund:
    return Refund(id_, PAID + timedelta(days=day), amount, tax, shipping, None, 6, b"\x06" * 32)


@st.composite
def sales(draw: st.DrawFn) -> Sale:
    credits = draw(
        st.lists(st.tuples(st.sampled_from(CREDITED), st.integers(0, 10_000)), min_size=1, max_size=4)
    )
    return sale(credits, tax=draw(st.integers(0, 3_000)), shipping=draw(st.integers(0, 2_000)))


@st.composite
def refunds(draw: st.DrawFn, total: int) -> list[Refund]:
    """Refunds that make up `total`, each with or without a split, however wrong."""
    cuts = sorted(draw(st.lists(st.integers(0, total), max_size=4)))
    parts = [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]
    split = st.none() | st.integers(-50, 4_000)
    return [
        refund(str(i), part, tax=draw(split), shipping=draw(split), day=draw(st.integers(-2, 3)))
        for i, part in enumerate(parts)
    ]


def balances(entries: Sequence[Draft | Live]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for entry in entries:
        for account, amount in entry.postings:
            sums[account] += amount
    return {account: amount for account, amount in sums.items() if amount}


@given(sales(), st.data())
def test_a_full_refund_in_any_parts_brings_every_account_to_zero(sold, data):
    given_back = data.draw(refunds(sold.gross))
    drafts = rules.desired(sold, given_back)
    assert balances(drafts) == {}
    assert all(account != EXCESS for draft in drafts for account, _ in draft.postings)


@given(sales(), st.data())
def test_every_entry_balances_and_no_account_is_overdrawn(sold, data):
    given_back = data.draw(st.integers(0, sold.gross * 2).flatmap(refunds))
    drafts = rules.desired(sold, given_back)
    assert all(sum(amount for _, amount in d.postings) == 0 for d in drafts)
    assert all(d.postings == tuple(sorted(d.postings)) and all(n for _, n in d.postings) for d in drafts)
    left = balances(drafts)
    back = sum(r.amount for r in given_back)
    assert sum(n for a, n in left.items() if a not in (REVENUE, EXCESS)) == max(0, sold.gross - back)
    if sold.gross:
        assert left.get(REVENUE, 0) == back - sold.gross
        assert -left.get(EXCESS, 0) == max(0, back - sold.gross)
    assert all(n > 0 for a, n in left.items() if a not in (REVENUE, EXCESS))


@given(sales(), st.data())
def test_the_order_in_which_refunds_arrive_does_not_matter(sold, data):
    given_back = data.draw(refunds(sold.gross))
    mixed = data.draw(st.permutations(given_back))
    assert rules.desired(sold, given_back) == rules.desired(sold, mixed)


def test_a_sale_by_hand():
    sold = sale([(CREDITED[0], 70), (CREDITED[1], 10), (CREDITED[0], 20)], tax=23, shipping=7)
    (draft,) = rules.desired(sold, [])
    assert (draft.kind, draft.part, draft.currency, draft.happened_at) == ("sale", "sale", "PLN", PAID)
    assert (draft.evidence_id, draft.evidence_sha256, draft.policy_version) == (5, b"\x05" * 32, 1)
    assert draft.postings == (
        ("Credit:Campaign:ads:1", 90),
        ("Credit:Campaign:ads:2", 10),
        ("Revenue:Shop:shop", -130),
        ("Shipping:Shop:shop", 7),
        ("Tax:Shop:shop", 23),
    )


def test_a_refund_follows_its_split_and_takes_the_rest_in_proportion():
    sold = sale([(CREDITED[0], 75), (CREDITED[1], 25)], tax=23, shipping=10)
    _, draft = rules.desired(sold, [refund("17", 53, tax=9, shipping=4)])
    assert (draft.kind, draft.part, draft.reason) == ("refund", "refund:17", "refund")
    assert draft.happened_at == PAID + timedelta(days=1)
    assert dict(draft.postings) == {REVENUE: 53, TAX: -9, SHIPPING: -4, CREDITED[0]: -30, CREDITED[1]: -10}


def test_a_refund_without_a_split_goes_by_what_is_left_on_each_account():
    sold = sale([(CREDITED[0], 80)], tax=20)
    first, second = rules.desired(sold, [refund("1", 50), refund("2", 25, day=2)])[1:]
    assert dict(first.postings) == {REVENUE: 50, CREDITED[0]: -40, TAX: -10}
    assert dict(second.postings) == {REVENUE: 25, CREDITED[0]: -20, TAX: -5}


def test_a_split_that_does_not_add_up_gives_way_before_anything_is_called_excess():
    sold = sale([(CREDITED[0], 100)], tax=23)
    _, draft = rules.desired(sold, [refund("1", 123, tax=0)])
    assert dict(draft.postings) == {REVENUE: 123, CREDITED[0]: -100, TAX: -23}


def test_what_exceeds_the_sale_goes_to_an_account_of_its_own():
    drafts = rules.desired(sale([(CREDITED[0], 100)]), [refund("1", 90), refund("2", 30, day=2)])
    assert dict(drafts[2].postings) == {REVENUE: 30, CREDITED[0]: -10, EXCESS: -20}
    assert balances(drafts) == {REVENUE: 20, EXCESS: -20}


def test_without_a_sale_or_a_price_there_is_nothing_to_book():
    assert rules.desired(None, [refund("1", 10)]) == []
    assert rules.desired(sale([(CREDITED[0], 0)]), []) == []
    assert len(rules.desired(sale(), [refund("1", 0)])) == 1


def test_postings_that_do_not_balance_are_refused():
    with pytest.raises(rules.Unbalanced, match="sum to 1,"):
        rules.tidy({"a": 2, "b": -1})
    with pytest.raises(rules.Unbalanced):
        rules.desired(replace(sale(), gross=101), [])
    assert rules.tidy({"b": -2, "c": 0, "a": 2}) == (("a", 2), ("b", -2))


@dataclass
class Journal:
    """The smallest journal: entries are only appended; what is in force is what nothing reverses."""

    entries: list[Draft] = field(default_factory=list)

    def live(self) -> list[Live]:
        reversed_ = {e.reverses for e in self.entries}
        return [
            Live(i, e.kind, e.part, e.currency, e.happened_at, e.postings, e.policy_version, PAID)
            for i, e in enumerate(self.entries)
            if e.reverses is None and i not in reversed_
        ]

    def follow(self, wanted: Sequence[Draft]) -> list[Draft]:
        made = rules.corrections(self.live(), wanted, why_gone="the shop cancelled the order")
        self.entries += made
        return made


def in_force(entries: Sequence[Draft | Live]) -> list[tuple[object, ...]]:
    return sorted((e.part, e.currency, e.happened_at, e.postings) for e in entries)


@st.composite
def states(draw: st.DrawFn) -> list[Draft]:
    """What an order should look like at some moment: paid or not, any credits, any refunds."""
    sold = draw(st.none() | sales())
    if sold is None:
        return []
    moved = replace(sold, happened_at=PAID + timedelta(hours=draw(st.integers(0, 1))))
    return rules.desired(moved, draw(refunds(draw(st.integers(0, sold.gross)))))


@settings(deadline=None)
@given(st.lists(states(), min_size=1, max_size=6))
def test_whatever_happened_before_the_journal_ends_where_it_should(history):
    journal = Journal()
    for wanted in history:
        journal.follow(wanted)
        assert in_force(journal.live()) == in_force(wanted)
        assert balances(journal.entries) == balances(wanted)
        assert all(sum(n for _, n in e.postings) == 0 for e in journal.entries)
        before = len(journal.entries)
        assert journal.follow(wanted) == []
        assert len(journal.entries) == before
    direct = Journal()
    direct.follow(history[-1])
    assert balances(direct.entries) == balances(journal.entries)


@settings(deadline=None)
@given(st.lists(states(), min_size=2, max_size=4))
def test_an_entry_is_reversed_at_most_once_and_by_its_opposite(history):
    journal = Journal()
    for wanted in history:
        journal.follow(wanted)
    reversals = [e for e in journal.entries if e.reverses is not None]
    assert len({e.reverses for e in reversals}) == len(reversals)
    for entry in reversals:
        original = journal.entries[entry.reverses]
        assert original.reverses is None
        assert entry.postings == tuple((a, -n) for a, n in original.postings)
        assert (entry.part, entry.currency, entry.happened_at) == (
            original.part,
            original.currency,
            original.happened_at,
        )


def test_only_what_changed_is_touched():
    journal = Journal()
    journal.follow(rules.desired(sale(), [refund("1", 10)]))
    made = journal.follow(rules.desired(sale(), [refund("1", 10), refund("2", 20, day=2)]))
    assert [(d.kind, d.part, d.reverses) for d in made] == [("refund", "refund:2", None)]


@pytest.mark.parametrize(
    ("wanted", "kinds", "reason"),
    [
        (
            rules.desired(sale([(CREDITED[1], 100)]), []),
            [("reattribution", 0), ("sale", None)],
            "evidence or policy changed who is credited",
        ),
        (
            rules.desired(sale([(CREDITED[0], 120)]), []),
            [("correction", 0), ("sale", None)],
            "the shop edited the amount",
        ),
        (
            rules.desired(sale(happened_at=PAID + timedelta(days=1)), []),
            [("correction", 0), ("sale", None)],
            "the shop edited the date or the currency",
        ),
        (
            rules.desired(sale(currency="EUR"), []),
            [("correction", 0), ("sale", None)],
            "the shop edited the date or the currency",
        ),
        ([], [("cancellation", 0)], "the shop cancelled the order"),
    ],
)
def test_a_correction_says_why(wanted, kinds, reason):
    journal = Journal()
    journal.follow(rules.desired(sale(), []))
    made = journal.follow(wanted)
    assert [(d.kind, d.reverses) for d in made] == kinds
    assert {d.reason for d in made} == {reason}


def test_a_refund_that_the_shop_withdrew():
    journal = Journal()
    journal.follow(rules.desired(sale(), [refund("1", 10)]))
    (made,) = journal.follow(rules.desired(sale(), []))
    assert (made.kind, made.part, made.reason) == ("cancellation", "refund:1", "the shop withdrew the refund")


def test_of_two_entries_in_force_for_one_part_one_is_reversed():
    entry = Journal(list(rules.desired(sale(), []))).live()[0]
    made = rules.corrections([entry, replace(entry, id=9)], rules.desired(sale(), []), why_gone="doubled")
    assert [(d.reverses, d.kind) for d in made] == [(9, "cancellation")]


def test_spend_is_booked_restated_and_withdrawn():
    def day(amount: int) -> list[Draft]:
        return rules.spend(
            connector="ads", campaign_id="a:b", amount=amount, currency="PLN", happened_at=PAID,
            evidence_id=1, evidence_sha256=b"x",
        )  # fmt: skip

    journal = Journal()
    journal.follow(day(500))
    assert balances(journal.entries) == {"Spend:Campaign:ads:a%3Ab": 500, "Payable:ads": -500}
    assert {d.reason for d in journal.follow(day(480))} == {"the platform restated its figure"}
    assert balances(journal.entries) == {"Spend:Campaign:ads:a%3Ab": 480, "Payable:ads": -480}
    assert [d.kind for d in journal.follow(day(0))] == ["spend_correction"]
    assert balances(journal.entries) == {}


@given(sales(), sales())
def test_a_settled_sale_keeps_the_proportions_of_its_credits(old, new):
    if not old.gross:
        return
    (entry,) = Journal(rules.desired(replace(old, policy_version=3), [])).live()
    kept = rules.keep_credits(new, entry)
    wanted = sum(n for _, n in new.credits)
    held = {a: n for a, n in entry.postings if a in CREDITED}
    if old.gross == new.gross:
        assert dict(kept.credits) == held
        assert (kept.tax, kept.shipping, kept.policy_version) == (old.tax, old.shipping, 3)
        return
    assert sum(n for _, n in kept.credits) == wanted
    if not held or not wanted:
        assert kept == new
        return
    assert kept.policy_version == 3
    assert [a for a, _ in kept.credits] == sorted(held)
    for account, amount in kept.credits:
        assert abs(amount - wanted * held[account] / sum(held.values())) < 1
    (again,) = Journal(rules.desired(kept, [])).live()
    assert rules.keep_credits(kept, again).credits == [c for c in kept.credits if c[1]]


@given(sales())
def test_a_settled_sale_that_was_not_edited_does_not_move_when_its_evidence_does(old):
    journal = Journal()
    journal.follow(rules.desired(old, []))
    if not journal.entries:
        return
    elsewhere = replace(old, credits=[("Credit:Campaign:new:1", sum(n for _, n in old.credits))])
    kept = rules.keep_credits(elsewhere, journal.live()[0])
    assert sum(n for _, n in old.credits) == 0 or journal.follow(rules.desired(kept, [])) == []


def test_a_settled_sale_in_another_currency_is_credited_anew():
    (entry,) = Journal(rules.desired(sale(), [])).live()
    euros = sale([(CREDITED[1], 10)], currency="EUR")
    assert rules.keep_credits(euros, entry) is euros


ENTRY = {
    "id": 1,
    "kind": "sale",
    "connector": "shop",
    "subject": "order:Żółw",
    "part": "sale",
    "generation": 1,
    "currency": "PLN",
    "happened_at": datetime(2024, 1, 31, 23, 5, 6, 7, tzinfo=timezone(timedelta(hours=1))),
    "business_day": date(2024, 2, 1),
    "posted_on": date(2024, 2, 1),
    "booked_at": datetime(2024, 2, 2, tzinfo=UTC),
    "policy_version": 3,
    "reason": "order paid",
    "author": "leadledger",
    "reverses": None,
    "refers_to": None,
    "evidence_id": 9,
    "evidence_sha256": bytes(range(4)),
}
OTHER = {
    date: date(2020, 1, 1),
    datetime: datetime(2020, 1, 1, tzinfo=UTC),
    bytes: b"x",
    int: 77,
    str: "else",
}
POSTINGS = (("Credit:Campaign:ads:1", 100), ("Revenue:Shop:shop", -100))
# Written by hand; the digests come from `sha256sum` of 32 zero bytes and this text, and of the digest and it.
BYTES = (
    '{"author":"leadledger","booked_at":"2024-02-02T00:00:00.000000Z","business_day":"2024-02-01",'
    '"connector":"shop","currency":"PLN","evidence_id":9,"evidence_sha256":"00010203","generation":1,'
    '"happened_at":"2024-01-31T22:05:06.000007Z","id":1,"kind":"sale","part":"sale","policy_version":3,'
    '"postings":[["Credit:Campaign:ads:1",100],["Revenue:Shop:shop",-100]],'
    '"reason":"order paid","reverses":null,"subject":"order:Żółw"}'
).encode()
FIRST = "1d67ca44a17e6e761c718e937f4379bd923218b6f69e2b8dd06704fb0f035b67"
SECOND = "af4402d33754162b6f9b4f2e7c1a0f339668457d06603acfe279f7bfa3bb9003"


def test_what_is_hashed_is_fixed_for_ever():
    assert encoding.canonical_bytes(ENTRY, POSTINGS) == BYTES
    shuffled = dict(reversed(ENTRY.items())) | {"evidence_sha256": memoryview(bytes(range(4)))}
    shuffled["happened_at"] = ENTRY["happened_at"].astimezone(UTC)
    assert encoding.canonical_bytes(shuffled, POSTINGS) == BYTES


def test_another_day_to_count_on_and_the_entry_referred_to_are_hashed_in_their_place():
    entry = ENTRY | {"posted_on": date(2024, 3, 1), "refers_to": 7}
    said = BYTES.replace(b'"postings":', b'"posted_on":"2024-03-01","postings":')
    said = said.replace(b'"reverses":', b'"refers_to":7,"reverses":')
    assert encoding.canonical_bytes(entry, POSTINGS) == said
    assert list(json.loads(said)) == sorted(json.loads(said))


def test_each_seal_covers_the_entry_and_the_seal_before():
    first = rules.seal(ENTRY, POSTINGS, rules.GENESIS)
    second = rules.seal(ENTRY, POSTINGS, first.hash)
    assert (first.hash.hex(), second.hash.hex()) == (FIRST, SECOND)
    assert second.prev_hash == first.hash == hashlib.sha256(bytes(32) + BYTES).digest()


@given(st.sampled_from(sorted(ENTRY)), st.integers(0, 1))
def test_a_seal_changes_with_anything_in_the_entry(name, line):
    whole = rules.seal(ENTRY, POSTINGS, rules.GENESIS).hash
    changed = ENTRY | {name: OTHER.get(type(ENTRY[name]), 77)}
    assert rules.seal(changed, POSTINGS, rules.GENESIS).hash != whole
    moved = tuple((a, n + (i == line)) for i, (a, n) in enumerate(POSTINGS))
    assert rules.seal(ENTRY, moved, rules.GENESIS).hash != whole


@given(st.text(), st.text().filter(lambda s: ":" not in s))
def test_account_names_give_back_the_campaign_key(rest, source):
    key = f"{source}:{rest}"
    account = accounts.campaign("Credit", key)
    assert account.count(":") == 3
    assert accounts.campaign_key(account) == key
    assert accounts.unpart(accounts.part(rest)) == rest


def test_the_account_of_a_credit():
    assert accounts.of_credit(Credit(1, campaign="ads:1")) == "Credit:Campaign:ads:1"
    assert accounts.of_credit(Credit(1, reason="no lead")) == "Unattributed:no lead"
    assert accounts.payable("ads") == "Payable:ads"
