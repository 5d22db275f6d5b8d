"""The chart of accounts: a readable tree of names, parts separated by colons.

Revenue:Shop:<connector>                 what the shop sold, gross (credit side: negative)
Tax:Shop:<connector>                     tax, where the policy leaves it out of revenue
Shipping:Shop:<connector>                shipping, where the policy leaves it out of revenue
Credit:Campaign:<connector>:<campaign>   revenue credited to a campaign
Unattributed:<reason>                    revenue that no campaign can claim, by reason
Spend:Campaign:<connector>:<campaign>    what a campaign cost
Payable:<connector>                      owed to the platform for it (credit side: negative)
Converted:<currency>:<account>           what an account holds in that currency, in the reporting currency
"""

from __future__ import annotations

from typing import Protocol


class Share(Protocol):
    @property
    def campaign(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...


def part(text: str) -> str:
    """One part of an account's name: a colon inside it is written ``%3A``."""
    return text.replace("%", "%25").replace(":", "%3A")


def unpart(text: str) -> str:
    return text.replace("%3A", ":").replace("%25", "%")


def revenue(connector: str) -> str:
    return f"Revenue:Shop:{part(connector)}"


def tax(connector: str) -> str:
    return f"Tax:Shop:{part(connector)}"


def shipping(connector: str) -> str:
    return f"Shipping:Shop:{part(connector)}"


def campaign(root: str, key: str) -> str:
    """The account of a campaign key (``connector:id``) under ``Credit`` or ``Spend``."""
    source, _, rest = key.partition(":")
    return f"{root}:Campaign:{part(source)}:{part(rest)}"


def campaign_key(account: str) -> str:
    """The campaign key in the name of a ``Credit:Campaign`` or ``Spend:Campaign`` account."""
    _, _, source, rest = account.split(":")
    return f"{unpart(source)}:{unpart(rest)}"


def unattributed(reason: str) -> str:
    return f"Unattributed:{part(reason)}"


def payable(connector: str) -> str:
    return f"Payable:{part(connector)}"


def converted(currency: str, account: str) -> str:
    """Where the worth of an account's `currency` stands in the reporting currency."""
    return f"Converted:{currency}:{account}"


def unconverted(account: str) -> tuple[str | None, str]:
    """Of a ``Converted`` account its currency and the account in it; of any other None and itself."""
    root, _, rest = account.partition(":")
    if root != "Converted":
        return None, account
    currency, _, inner = rest.partition(":")
    return currency, inner


def of_credit(share: Share) -> str:
    """The account a credit is booked to."""
    if share.campaign is not None:
        return campaign("Credit", share.campaign)
    return unattributed(share.reason or "unknown")
