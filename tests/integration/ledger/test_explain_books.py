"""What `explain` tells of books of every sort: rounding, ways of identity, closed periods, times, hostile texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from html.parser import HTMLParser
from typing import Any

import pytest
import sqlalchemy as sa

from sync.ledger import closing, store
from sync.report import (
    explain,
    explain_account,
    explain_campaign,
    explain_what,
    journal,
    known,
    page,
    unrolled,
)
from sync.report.campaigns import campaigns
from sync.report.period import EVER, Period, parse
from tests.integration.ledger.books import Books, campaign, lead, order, refund, rules, spend, touch
from tests.integration.ledger.test_periods import close, day_of

ANNA, BEN, PHONE = "anna@example.com", "ben@example.com", "+48601100200"


def of_order(books: Books, id: str, as_of: datetime | None = None) -> dict[str, Any]:
    with known.snapshot(books.engine) as connection:
        return explain.explain(connection, "shop", id, as_of=as_of)


def of_account(
    books: Books, account: str, period: Period = EVER, as_of: datetime | None = None
) -> dict[str, Any]:
    with known.snapshot(books.engine) as connection:
        found = explain_account.explain(connection, account, period, as_of=as_of)
        return found | {"entries": list(found["entries"])}


def of_campaign(
    books: Books, key: str, period: Period = EVER, as_of: datetime | None = None
) -> dict[str, Any]:
    with known.snapshot(books.engine) as connection:
        found = explain_campaign.explain(connection, key, period, books.rules.zone, "PLN", as_of=as_of)
        return found | {name: list(found[name]) for name in ("people", "spend", "orders")}


def moved(found: dict[str, Any]) -> dict[str, int]:
    return {row["account"]: row["moved_minor"] for row in found["accounts"] if row["moved_minor"]}


THREE = [touch(f"t{n}", day=n, email=ANNA, campaign_id=f"c{n}") for n in (1, 2, 3)]


# rounding


def test_shares_of_an_order_are_told_with_who_got_the_odd_unit(books: Books) -> None:
    books.rules = rules(model="linear")
    books.told(*THREE, order("o1", "100.00", day=9, email=ANNA, version=1))
    credits = of_order(books, "o1")["credits"]
    assert [c["amount_minor"] for c in credits] == [3334, 3333, 3333]
    assert [c["touch"]["id"] for c in credits] == ["ads:t1", "ads:t2", "ads:t3"]
    assert {c["share"]["exact_minor"] for c in credits} == {"10000/3"}
    assert [c["share"]["extra_minor"] for c in credits] == [1, 0, 0]
    assert "goes to the earlier" in credits[0]["share"]["why"]


@pytest.mark.parametrize("model", ["first", "last", "last_non_direct", "linear", "time_decay", "position"])
def test_every_model_is_told_by_its_weights(books: Books, model: str) -> None:
    books.rules = rules(model=model)
    books.told(
        *THREE, order("o1", "77.77", day=9, email=ANNA, version=1), refund("r1", "o1", "10.01", day=11)
    )
    found = of_order(books, "o1")
    assert not found["held"]
    assert sum(c["amount_minor"] for c in found["credits"]) == 7777
    assert sum(Fraction(c["share"]["exact_minor"]) for c in found["credits"]) == 7777
    for credit in found["credits"]:
        share = credit["share"]
        assert share["whole_minor"] + share["extra_minor"] == credit["amount_minor"]
        assert Fraction(7777 * share["weight"], share["weights_in_all"]) == Fraction(share["exact_minor"])
        key = credit["account"].removeprefix("Credit:Campaign:")
        [mine] = of_campaign(books, key)["orders"]
        [same] = mine["credits"]
        assert (same["share"], same["touch"]["id"]) == (share, credit["touch"]["id"])
    [taken] = found["refund_shares"]
    assert sum(taken["taken"].values()) == 1001
    assert set(taken["shares"]) == set(taken["taken"])


def test_minor_units_are_those_of_the_currency(books: Books) -> None:
    books.rules = rules(model="linear")
    for currency, total, wanted in (("JPY", "100", [34, 33, 33]), ("KWD", "0.100", [34, 33, 33])):
        books.told(*THREE, order(currency, total, day=9, email=ANNA, currency=currency, version=1))
        assert [c["amount_minor"] for c in of_order(books, currency)["credits"]] == wanted
    found = of_campaign(books, "ads:c1")
    assert found["totals"]["revenue_minor"] == 0
    assert {row["currency"]: row["revenue_minor"] for row in found["money"]} == {"JPY": 34, "KWD": 34}
    assert [row["currency"] for row in found["orders"]] == ["JPY", "KWD"]
    account = of_account(books, "Credit:")
    assert {row["currency"]: row["closing_minor"] for row in account["balances"]} == {"JPY": 100, "KWD": 100}
    assert {e["currency"]: e["balance_minor"] for e in account["entries"]} == {"JPY": 100, "KWD": 100}


def test_a_settled_order_keeps_its_credits_and_says_so(books: Books) -> None:
    books.rules = rules(model="linear", settle_after_days=1)
    sale = order("o1", "100.00", day=9, email=ANNA, version=1)
    books.told(*THREE[:2], sale)
    books.now += timedelta(days=30)
    books.told(THREE[2])
    found = of_order(books, "o1")
    assert [(c["account"], c["amount_minor"], c["touch"]) for c in found["credits"]] == [
        ("Credit:Campaign:ads:c1", 5000, None),
        ("Credit:Campaign:ads:c2", 5000, None),
    ]
    assert "later evidence" in found["held"]
    books.told(order("o1", "77.77", day=9, email=ANNA, version=2))
    edited = of_order(books, "o1")
    assert [c["share"]["exact_minor"] for c in edited["credits"]] == ["7777/2", "7777/2"]
    assert [c["amount_minor"] for c in edited["credits"]] == [3889, 3888]
    [mine] = of_campaign(books, "ads:c1")["orders"]
    assert mine["held"]
    assert mine["amount_minor"] == 3889


# identity


def test_the_way_to_a_touch_leads_over_the_keys_of_other_records(books: Books) -> None:
    books.told(
        touch("t1", day=1, phone=PHONE, campaign_id="c1"),
        lead("l1", day=2, email=ANNA, phone=PHONE, campaign_id="c1"),
        order("o1", "100.00", day=9, email=ANNA, version=1),
    )
    [credit] = of_order(books, "o1")["credits"]
    assert [(s["by"], s["record"]) for s in credit["path"]] == [
        ("email", "lead ads:l1"),
        ("phone", "touch ads:t1"),
    ]
    assert ANNA not in json.dumps(credit["path"])
    assert PHONE not in json.dumps(credit["path"])


def test_a_key_that_joins_nobody_is_no_way(books: Books) -> None:
    people = [
        lead(f"l{n}", day=1, email=f"p{n}@example.com", phone=PHONE, campaign_id="c9") for n in range(5)
    ]
    mine = touch("t1", day=1, email=ANNA, phone=PHONE, campaign_id="c1")
    books.told(*people, mine, order("o1", "9.00", day=9, email=ANNA, phone=PHONE, version=1))
    found = of_order(books, "o1")
    [credit] = found["credits"]
    assert [s["by"] for s in credit["path"]] == ["email"], "five share the phone"
    assert any(record["ignored_keys"] == ["phone"] for record in found["identity"]["records"])


# accounts


FACTS = [
    campaign("c1", "Spring"),
    lead("l1", day=1, email=ANNA, campaign_id="c1"),
    touch("t1", day=1, email=ANNA, campaign_id="c1"),
    order("o1", "100.00", day=9, email=ANNA, version=1),
    order("o2", "55.00", day=9, email=BEN, version=1),
    spend("s1", "12.34", day=7, campaign="c1", version=1),
    refund("r1", "o1", "30.00", day=20),
]


def test_an_account_leads_from_its_opening_to_its_closing_balance(books: Books) -> None:
    books.told(*FACTS)
    books.told(spend("s1", "13.00", day=7, campaign="c1", version=2))
    found = of_account(books, "Revenue:Shop:shop", parse("2026-05-10..2026-05-31"))
    [balance] = found["balances"]
    wanted = {"opening_minor": -15500, "moved_minor": 3000, "closing_minor": -12500, "postings": 1}
    assert balance == {"currency": "PLN", **wanted}
    [line] = found["entries"]
    assert (line["kind"], line["subject"], line["reason"], line["author"]) == (
        "refund",
        "order:o1",
        "refund",
        "leadledger",
    )
    assert (line["business_day"], line["posted_on"]) == ("2026-05-20", "2026-05-20")
    assert line["balance_minor"] == -12500
    sha = books.ask("SELECT encode(sha256, 'hex') FROM evidence WHERE id = :id", id=line["evidence"]["id"])
    assert line["evidence"]["sha256"] == sha[0][0]
    spent = of_account(books, "Spend:")["entries"]
    assert [line["balance_minor"] for line in spent] == [1234, 0, 1300]
    assert spent[1]["reverses"] == spent[2]["refers_to"] == spent[0]["entry"]


def test_an_entry_of_a_closed_period_is_told_with_both_days(books: Books) -> None:
    books.now += timedelta(days=1)
    books.told(*FACTS)
    with books.engine.begin() as connection:
        connection.execute(sa.text("UPDATE outbox SET status = 'acknowledged', accepted = desired"))
    close(books)
    books.told(refund("r2", "o1", "10.00", day=25))
    may = of_account(books, "Revenue:Shop:shop", parse("2026-05"))
    assert moved(may) == {"Revenue:Shop:shop": -12500}
    june = of_account(books, "Revenue:Shop:shop", parse("2026-06"))
    [line] = june["entries"]
    assert (line["business_day"], line["posted_on"]) == ("2026-05-25", "2026-06-01")
    [row] = of_campaign(books, "ads:c1", parse("2026-06"))["orders"]
    assert row["amount_minor"] == -1000
    assert row["entries"][0]["posted_on"] == "2026-06-01"


def test_an_adjustment_stands_by_itself_with_its_reason_and_author(books: Books) -> None:
    books.told(*FACTS)
    with books.engine.begin() as connection:
        store.lock(connection)
        closing.adjust(
            connection,
            debit="Credit:Campaign:ads:c1",
            credit="Unattributed:no lead",
            amount=500,
            currency="PLN",
            happened_at=datetime.fromisoformat(day_of(1)),
            why="ticket 812",
            author="anna of finance",
            zone=books.rules.zone,
            now=books.now,
        )
    [line] = of_account(books, "Unattributed:no lead", parse("2026-06"))["entries"]
    assert (line["amount_minor"], line["reason"], line["author"]) == (-500, "ticket 812", "anna of finance")
    found = of_campaign(books, "ads:c1")
    assert [row["subject"].partition(":")[0] for row in found["orders"]] == ["adjustment", "order"]
    assert found["totals"]["revenue_minor"] == 7500 == sum(row["amount_minor"] for row in found["orders"])


# times


def test_as_of_a_time_all_is_as_it_was_told_then(books: Books) -> None:
    books.rules = rules(model="last")
    books.told(*FACTS)
    with books.engine.connect() as connection:
        then = connection.execute(sa.text("SELECT max(booked_at) FROM entries")).scalar_one()
        last = journal.head(connection, None)
    before = {
        "account": of_account(books, "Credit:"),
        "campaign": of_campaign(books, "ads:c1", as_of=then),
        "entries": of_order(books, "o1")["entries"],
    }
    books.now += timedelta(hours=1)
    books.told(
        touch("t9", day=8, email=ANNA, campaign_id="c2"),
        spend("s1", "99.00", day=7, campaign="c1", version=3),
        order("o2", "56.00", day=9, email=BEN, version=2),
    )
    assert of_account(books, "Credit:", as_of=then) == before["account"]
    again = of_campaign(books, "ads:c1", as_of=then)
    for name in ("totals", "money", "people", "spend"):
        assert again[name] == before["campaign"][name], name
    [order_then] = again["orders"]
    assert order_then["amount_minor"] == 7000
    assert order_then["held"], "the touches of now are not those of then"
    assert of_order(books, "o1", as_of=then)["entries"] == before["entries"]
    assert [c["account"] for c in of_order(books, "o1", as_of=then)["credits"]] == ["Credit:Campaign:ads:c1"]
    assert [c["account"] for c in of_order(books, "o1")["credits"]] == ["Credit:Campaign:ads:c2"]
    with books.engine.connect() as connection:
        assert journal.head(connection, then) == last != journal.head(connection, None)


def test_every_campaign_and_account_ties_to_the_report_whatever_came(books: Books) -> None:
    books.rules = rules(model="position")
    books.told(*THREE, *FACTS, spend("s2", "5.00", day=31, campaign="c2", version=1))
    books.now += timedelta(hours=1)
    books.told(touch("t9", day=8, email=BEN, campaign_id="c9"), refund("r2", "o2", "55.00", day=30))
    for period in (EVER, parse("2026-05"), parse("2026-05-10..2026-05-31"), parse("2026-06")):
        with known.snapshot(books.engine) as connection:
            report = campaigns(connection, period, books.rules.zone, "PLN")
        for row in report["campaigns"]:
            found = of_campaign(books, row["key"], period)
            names = ("leads", "mql", "sql", "won", "rejected", "revenue_minor", "spend_minor")
            assert {n: found["totals"][n] for n in names} == {n: row[n] for n in names}
            assert sum(o["amount_minor"] for o in found["orders"]) == row["revenue_minor"]
            assert sum(d["amount_minor"] for d in found["spend"]) == row["spend_minor"]
        credited = moved(of_account(books, "Credit:", period))
        assert sum(credited.values()) == report["total"]["credited_minor"]


# what is meant


def test_what_is_meant_is_found_by_name_by_key_and_by_prefix(books: Books) -> None:
    books.told(*FACTS, touch("t7", day=8, email=BEN, utm_source="x", utm_campaign="a:b%c"))
    with books.engine.connect() as connection:

        def kinds(what: str) -> list[tuple[str, str]]:
            return [(s.kind, s.name) for s in explain_what.find(connection, what)]

        assert kinds("o1") == kinds("shop:o1") == [("order", "shop:o1")]
        assert kinds("spring") == kinds("ads:c1") == [("campaign", "ads:c1")]
        assert kinds("x/a:b%c") == kinds("utm:x/a:b%c") == [("campaign", "utm:x/a:b%c")]
        account = "Credit:Campaign:utm:x/a%3Ab%25c"
        assert kinds(account) == kinds("Credit:Campaign:utm:x/a:b%c") == [("account", account)]
        assert kinds("Credit:") == kinds("Credit") == [("account", "Credit:")]
        assert kinds("Cred") == kinds("Credit:Camp") == kinds("") == kinds(":") == kinds("%") == []


def test_an_account_does_not_take_in_one_whose_name_goes_on(books: Books) -> None:
    books.told(
        spend("s1", "1.00", day=7, campaign="c1", version=1),
        spend("s2", "2.00", day=7, campaign="c11", version=1),
    )
    assert moved(of_account(books, "Spend:Campaign:ads:c1")) == {"Spend:Campaign:ads:c1": 100}
    assert of_campaign(books, "ads:c1")["totals"]["spend_minor"] == 100


def test_two_campaigns_of_one_name_are_both_named(books: Books) -> None:
    books.told(campaign("c1", "Spring"), campaign("c2", "SPRING"), campaign("c1", "Autumn", version=2))
    with books.engine.connect() as connection:
        assert [s.name for s in explain_what.find(connection, "spring")] == ["ads:c2"], "present names first"
        books_now = explain_what.find(connection, "autumn")
    assert [s.name for s in books_now] == ["ads:c1"]


# the page


HOSTILE = """</title></style><script src="https://evil.example/x.js">alert(1)</script>"'<img src=x onerror=a(1)>&amp;"""
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "table",
        "thead",
        "tbody",
        "tr",
        "td",
        "th",
        "div",
        "br",
    ),
    *("span", "bdi", "main", "h1", "h2", "h3", "p", "pre", "ul", "li"),
}
ATTRIBUTES = {"class", "lang", "charset", "content", "name", "http-equiv", "role", "colspan"}


class Parsed(HTMLParser):
    """The text of a page, and whatever in it is no plain layout."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.foreign: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.foreign |= ({tag} - TAGS) | ({name for name, _ in attrs} - ATTRIBUTES)

    def handle_data(self, data: str) -> None:
        self.text += data


def _page(found: dict[str, Any]) -> str:
    heading = {
        "workspace": HOSTILE,
        "asked": HOSTILE,
        "called": HOSTILE,
        "period": "2026-05",
        "as_of": "2026-06-01T00:00:00+02:00",
        "timezone": "Europe/Warsaw",
        "head": {"entry": 1, "hash": "00" * 32},
        "note": HOSTILE,
        "with_body": True,
        "currency": "PLN",
        "then": "",
    }
    html = page.html(heading | found, money=lambda n, c: f"{n} {c}", time=lambda text: text or "–")
    return "".join(html)


@pytest.fixture
def hostile(books: Books) -> Books:
    """Books in which every text that others write is markup."""
    books.told(
        campaign(HOSTILE, HOSTILE),
        campaign(HOSTILE, HOSTILE + "2", version=2),
        lead(HOSTILE, day=1, email=ANNA, campaign_id=HOSTILE),
        touch(HOSTILE, day=1, email=ANNA, campaign_id=HOSTILE),
        order(HOSTILE, "100.00", day=9, email=ANNA, number=HOSTILE, version=1),
        spend(HOSTILE, "12.34", day=7, campaign=HOSTILE, version=1),
        refund(HOSTILE, HOSTILE, "30.00", day=20),
    )
    return books


def _pages(books: Books) -> Iterator[tuple[str, str]]:
    with known.snapshot(books.engine) as connection:
        yield "order", _page(explain.explain(connection, "shop", HOSTILE))
        for account in ("Credit:", f"Credit:Campaign:ads:{HOSTILE.replace(':', '%3A')}"):
            yield account, _page(explain_account.explain(connection, account, EVER))
        zone = books.rules.zone
        yield "campaign", _page(explain_campaign.explain(connection, f"ads:{HOSTILE}", EVER, zone, "PLN"))


def test_what_vendors_wrote_is_text_on_the_page_and_never_markup(hostile: Books) -> None:
    for name, html in _pages(hostile):
        parsed = Parsed(html)
        assert parsed.foreign == set(), name
        assert html.count("<style>") == html.count("</style>") == html.count("<title>") == 1
        assert "<script" not in html
        assert parsed.text.count(HOSTILE) >= 4, f"{name}: it is shown as it was written"


def test_a_page_asks_nothing_of_any_address(hostile: Books) -> None:
    for name, html in _pages(hostile):
        assert "default-src 'none'" in html
        style = html.partition("<style>")[2].partition("</style>")[0]
        assert "url(" not in style, name
        assert "@import" not in style
        assert "@media print" in style
        assert "counter(page)" in style
        assert "00" * 32 in html


def test_json_is_written_a_row_at_a_time(hostile: Books) -> None:
    with known.snapshot(hostile.engine) as connection:
        found = explain_account.explain(connection, "Credit:", EVER)
        text = b"".join(unrolled.json(found)).decode()
    read = json.loads(text)
    assert read["entries"] == of_account(hostile, "Credit:")["entries"]
    assert json.loads(b"".join(unrolled.json({"a": iter(()), "b": 1}))) == {"a": [], "b": 1}
    taken: list[int] = []

    def rows() -> Iterator[int]:
        for n in range(10):
            taken.append(n)
            yield n

    parts = unrolled.json({"rows": rows()})
    for _ in range(4):
        next(parts)
    assert len(taken) < 5, "no more is read than was written"
