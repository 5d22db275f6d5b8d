"""Account names for other programs: they take each, and each leads back to its account alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from beancount.core import account as beancount
from hypothesis import example, given
from hypothesis import strategies as st

from sync.export import names
from sync.ledger import accounts

PARTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=3)
ROOTS = st.sampled_from([*names.BEANCOUNT_ROOTS, "Elsewhere", "Converted"])
NASTY = [
    "x",
    "X",
    "-x-",
    "-x5F-",
    "0-x-",
    "_",
    "Xł",
    "ł",
    "ß",
    "ǅ",
    "中",
    "",
    " ",
    "a  b",
    "-",
    "x-x",
    "%3A",
    "0ł",
]


def account_of(root: str, parts: list[str]) -> str:
    if root == "Converted":
        return accounts.converted("EUR", account_of("Credit", parts))
    return ":".join([root, *map(accounts.part, parts)])


@given(ROOTS, PARTS)
@example("Credit", NASTY)
def test_beancount_takes_every_name_and_it_leads_back(root: str, parts: list[str]) -> None:
    account = account_of(root, parts)
    name = names.to_beancount(account)
    assert beancount.is_valid(name), name
    assert name.partition(":")[0] in ("Assets", "Liabilities", "Equity", "Income", "Expenses")
    assert names.from_beancount(name) == account


@given(ROOTS, PARTS)
@example("Credit", NASTY)
def test_a_name_for_hledger_is_one_word_after_another_and_leads_back(root: str, parts: list[str]) -> None:
    account = account_of(root, parts)
    name = names.to_hledger(account)
    assert name.isprintable()
    assert "  " not in name
    assert ";" not in name
    assert not any(part == "" or part != part.strip() for part in name.split(":"))
    assert names.from_hledger(name) == account


def test_no_two_parts_get_the_same_component() -> None:
    made = [account_of("Credit", parts) for part in NASTY for parts in ([part], [part, "a"], ["a", part])]
    assert len({names.to_beancount(account) for account in made}) == len(made)
    assert len({names.to_hledger(account) for account in made}) == len(made)


def test_the_page_shows_the_roots_and_examples_as_they_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "finance.md").read_text("utf-8")
    examples = re.findall(r"^\| `([^`]+:[^`]+)` \| `([^`]+)` \|$", page, re.MULTILINE)
    assert len(examples) >= 3
    for account, name in examples:
        assert names.to_beancount(account) == name
    for root, theirs in {**names.BEANCOUNT_ROOTS, "any other": names.OTHER_ROOT}.items():
        [line] = re.findall(rf"^\| [^|]*{root}[^|]* \| `{theirs}:…`", page, re.MULTILINE)
        assert line


@pytest.mark.parametrize(
    ("account", "name"),
    [
        ("Revenue:Shop:shop", "Income:Revenue:Shop:Shop"),
        ("Credit:Campaign:meta:120330000", "Assets:Credit:Campaign:Meta:120330000"),
        ("Credit:Campaign:web:Spring fair", "Assets:Credit:Campaign:Web:Spring-x20-fair-x-"),
        ("Unattributed:no lead", "Assets:Unattributed:No-x20-lead"),
        ("Payable:meta", "Liabilities:Payable:Meta"),
        ("Converted:EUR:Revenue:Shop:shop", "Income:Converted:EUR:Revenue:Shop:Shop"),
        ("Spend:Campaign:meta:łąka", "Expenses:Spend:Campaign:Meta:Łąka"),
    ],
)
def test_names_as_the_docs_show_them(account: str, name: str) -> None:
    assert names.to_beancount(account) == name
