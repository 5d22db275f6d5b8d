"""The invented shop's fixed side: its catalogue, salespeople, campaigns and mailings, and whom it knows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from connectors.sandbox.marketing_documents import SITE, Ad
from connectors.sandbox.shop_documents import Goods, Shop

ZONE_NAME = "Europe/Warsaw"
SHOP = Shop(currency="PLN", zone=ZoneInfo(ZONE_NAME), vat=23)
DAYS = 240
TILL_PHONE = "+48225550100"
INFO_EMAIL = "info@example.com"
REASONS = ("no budget", "wrong product", "not reachable", "competitor")
CATALOGUE = (
    Goods(11, "Kubek ceramiczny", "MUG-1", 4999),
    Goods(12, "Plakat A2", "POSTER-2", 1990),
    Goods(13, "Koc wełniany", "BLANKET-3", 24900),
    Goods(14, "Lampa biurkowa", "LAMP-4", 18950),
    Goods(15, "Dzbanek 1,5 l", "JUG-5", 7999),
    Goods(16, "Krzesło dębowe", "CHAIR-6", 64900),
    Goods(17, "Stolik kawowy", "TABLE-7", 119900),
    Goods(18, "Świeca sojowa", "CANDLE-8", 3499),
)
SHIPPING = 1499
_FIRST_NAMES = ("Anna", "Jan", "Maria", "Piotr", "Ewa", "Tomasz", "Zofia", "Marek", "Julia", "Adam", "Hanna")
_LAST_NAMES = (
    "Nowak",
    "Wójcik",
    "Kowalczyk",
    "Woźniak",
    "Mazur",
    "Krawczyk",
    "Pawlak",
    "Król",
    "Wieczorek",
    "Dąbek",
    "Łuczak",
)
_PLAIN = str.maketrans("ąćęłńóśźżĄĆĘŁŃÓŚŹŻ", "acelnoszzACELNOSZZ")
_CAMPAIGNS = ("Leads | Kitchen", "Leads | Living room", "Leads | Office", "Leads | Gifts")
_SEARCH = ("search_brand", "search_chairs", "search_gifts")


@dataclass(frozen=True, slots=True)
class Seller:
    """A salesperson: the id of the owner, and of the user who stands in a history."""

    owner: int
    user: int
    first: str
    last: str
    left: bool = False


SELLERS = (
    Seller(6100001, 910001, "Agata", "Lis"),
    Seller(6100002, 910002, "Borys", "Czech"),
    Seller(6100003, 910003, "Celina", "Bak"),
    Seller(6100004, 910004, "Dawid", "Sikora", left=True),
)


@dataclass(frozen=True, slots=True)
class Mailing:
    """A newsletter that everyone who is a member at `sent` gets."""

    number: int
    title: str
    sent: datetime

    @property
    def url(self) -> str:
        return f"{SITE}/news?utm_source=newsletter&utm_medium=email&utm_campaign={self.title}"


@dataclass(frozen=True, slots=True)
class World:
    """What there is before anybody comes. Everything lies in [start, today)."""

    start: datetime
    today: datetime
    ads: tuple[Ad, ...]
    search: tuple[str, ...]
    mailings: tuple[Mailing, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody; `email` and `phone` may be shared with others or be empty."""

    number: int
    first: str
    last: str
    email: str
    phone: str
    seller: Seller

    @property
    def local_phone(self) -> str:
        """The phone as people type it in a shop: without the country's code."""
        digits = self.phone.removeprefix("+48")
        return f"{digits[:3]} {digits[3:6]} {digits[6:]}".strip()


def world(today: datetime) -> World:
    """The shop's past `DAYS` days. Raises ValueError for a time without a zone."""
    if today.tzinfo is None:
        raise ValueError("`today` needs a time zone")
    midnight = datetime.combine(today.astimezone(SHOP.zone).date(), time(), SHOP.zone)
    start = midnight - timedelta(days=DAYS)
    ads = tuple(
        Ad(
            id=120_200_000_500_000 + 10 * campaign + place,
            name=f"{name} | {kind}",
            adset=120_200_000_400_000 + campaign,
            campaign=120_200_000_300_000 + campaign,
            campaign_name=name,
        )
        for campaign, name in enumerate(_CAMPAIGNS, start=1)
        for place, kind in enumerate(("video", "carousel"), start=1)
    )
    sendings = [start + timedelta(days=days, hours=9) for days in range(10, DAYS, 14)]
    mailings = tuple(
        Mailing(number, f"newsletter_{sent.date():%Y_%m_%d}", sent)
        for number, sent in enumerate(sendings, start=1)
        if sent < today
    )
    return World(start, today, ads, _SEARCH, mailings)


def people(count: int, seed: int) -> list[Person]:
    """`count` people; some have no phone, some stand behind one till's phone or one office's address."""
    return [_person(number, random.Random(f"{seed}|who|{number}")) for number in range(1, count + 1)]  # noqa: S311


def days_between(start: datetime, end: datetime) -> Sequence[date]:
    """The shop's business days from `start`'s to that before `end`'s."""
    first, last = start.astimezone(SHOP.zone).date(), end.astimezone(SHOP.zone).date()
    return [first + timedelta(days=place) for place in range((last - first).days)]


def _person(number: int, chance: random.Random) -> Person:
    first, last = chance.choice(_FIRST_NAMES), chance.choice(_LAST_NAMES)
    email = f"{first}.{last}.{number}@example.com".lower().translate(_PLAIN)
    phone = f"+485{chance.randrange(10**8):08d}" if chance.random() < 0.7 else ""
    if number % 45 == 0:
        phone = TILL_PHONE
    if number % 35 == 7:
        # Whoever writes from an office's common address leaves a number of his or her own.
        email, phone = INFO_EMAIL, f"+487{number:08d}"
    # A family shares one phone: two people in a row.
    elif number % 30 == 1 and number > 1:
        phone = f"+486{number // 30:08d}"
    elif number % 30 == 2 and number > 2:
        phone = f"+486{(number - 1) // 30:08d}"
    return Person(number, first, last, email, phone, chance.choice(SELLERS))
