"""The journal's account names as other programs take them, and back. Pure.

beancount wants one of five roots and components of letters, digits and dashes that begin with an upper-case
letter or a digit; hledger and ledger take nearly everything, but two spaces end a name. Both ways lose
nothing: no two accounts get the same name, and `from_beancount` and `from_hledger` give the account back.

>>> to_beancount("Credit:Campaign:web:paid_search/22c2")
'Assets:Credit:Campaign:Web:Paid-x5F-search-x2F-22c2'
>>> to_hledger("Credit:Campaign:web:spring;  sale")
'Credit:Campaign:web:spring%3B%20%20sale'
"""

from __future__ import annotations

import re

from sync.ledger import accounts

# Where each root of ours stands among beancount's five. Credits and the unattributed rest are what the revenue
# is held as; tax and shipping left out are taken off it: so income is what campaigns and nobody earned, less
# what they cost.
BEANCOUNT_ROOTS = {
    "Revenue": "Income",
    "Tax": "Income",
    "Shipping": "Income",
    "Credit": "Assets",
    "Unattributed": "Assets",
    "Spend": "Expenses",
    "Payable": "Liabilities",
}
OTHER_ROOT = "Equity"  # for a root that is in no list

_MARK = "-x-"  # at the end of a component that does not begin as its part does with a small letter or a digit
_FILLER = "0"  # before what no component may begin with
_ESCAPED = re.compile(r"-x([0-9A-F]*)-")
_PERCENT = re.compile(r"(?:%[0-9A-F]{2})+")


def to_beancount(account: str) -> str:
    """The account under one of beancount's roots; our own root is the second component."""
    currency, inner = accounts.unconverted(account)
    if currency is not None:
        root, _, rest_of_name = to_beancount(inner).partition(":")
        return f"{root}:Converted:{currency}:{rest_of_name}"
    first, *rest = account.split(":")
    root = BEANCOUNT_ROOTS.get(first, OTHER_ROOT)
    words = [_component(accounts.unpart(part), is_word=_is_word(at, rest)) for at, part in enumerate(rest)]
    return ":".join([root, first, *words])


def from_beancount(name: str) -> str:
    """The account that `to_beancount` gave this name."""
    root, first, *rest = name.split(":")
    if first == "Converted":
        return accounts.converted(rest[0], from_beancount(":".join([root, *rest[1:]])))
    _, first, *rest = name.split(":")
    return ":".join(
        [first, *(accounts.part(_part(c, is_word=_is_word(at, rest))) for at, c in enumerate(rest))]
    )


def _is_word(at: int, rest: list[str]) -> bool:
    """Whether a part is a word of the chart, as ``Campaign`` is, and not somebody's name for something."""
    return at == 0 and len(rest) > 1


def _component(part: str, *, is_word: bool) -> str:
    """Letters and digits stay, and a dash that no x follows; all else is ``-x<hex of its code point>-``.

    A name begins with a small letter and a word with a capital; a part that does not is marked at its end.
    """
    body = "".join(
        char if char.isalpha() or char.isdecimal() or (char == "-" and after != "x") else f"-x{ord(char):X}-"
        for char, after in zip(part, part[1:] + " ", strict=False)
    )
    first = part[:1]
    is_capital = first.isupper() and first.isalpha()
    if first.isdecimal() or (is_word and is_capital):
        return body
    if is_capital:
        return body + _MARK
    capital = first.upper()
    if (
        not is_word
        and first.isalpha()
        and len(capital) == 1
        and capital.isupper()
        and capital.lower() == first
    ):
        return capital + body[1:]
    return _FILLER + body + _MARK


def _part(component: str, *, is_word: bool) -> str:
    escapes = list(_ESCAPED.finditer(component))
    if escapes and not escapes[-1][1] and escapes[-1].end() == len(component):
        component = component[: -len(_MARK)].removeprefix(_FILLER)
    elif not is_word:
        component = component[:1].lower() + component[1:]
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), component)


def to_hledger(account: str) -> str:
    """The account with what hledger or ledger would take for the end of a name as ``%`` and two hex digits."""
    currency, inner = accounts.unconverted(account)
    if currency is not None:
        return accounts.converted(currency, to_hledger(inner))
    first, *rest = account.split(":")
    return ":".join([first, *(percent(accounts.unpart(part), also=":;") or "%" for part in rest)])


def from_hledger(name: str) -> str:
    """The account that `to_hledger` gave this name."""
    currency, inner = accounts.unconverted(name)
    if currency is not None:
        return accounts.converted(currency, from_hledger(inner))
    first, *rest = name.split(":")
    return ":".join([first, *("" if part == "%" else accounts.part(unpercent(part)) for part in rest)])


def percent(text: str, *, also: str) -> str:
    """`text` on one line: control characters, what is in `also`, ``%`` itself, and spaces that are more than
    one between two words, as ``%`` and two hex digits for each byte of their UTF-8."""
    return "".join(
        _hex(char)
        if char == "%" or char in also or not char.isprintable() or (char == " " and _is_odd(text, at))
        else char
        for at, char in enumerate(text)
    )


def _is_odd(text: str, at: int) -> bool:
    return at in (0, len(text) - 1) or " " in (text[at - 1], text[at + 1])


def _hex(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8"))


def unpercent(text: str) -> str:
    return _PERCENT.sub(lambda run: bytes.fromhex(run[0].replace("%", "")).decode("utf-8"), text)
