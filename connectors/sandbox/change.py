"""Makes something happen at the sandbox's vendors, so that the next sync has something to bring.

Every record it touches is stamped with the time of the change, which is what incremental reads look at; nothing
is touched that its lines do not name.
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from connectors.sandbox import change_crm as crm
from connectors.sandbox import change_shop as orders
from connectors.sandbox import marketing_documents as marketing
from connectors.sandbox import shop_documents as shop
from connectors.sandbox.accounts import META_ACCOUNT, META_FORM
from connectors.sandbox.change_lines import masked
from connectors.sandbox.state import Doc, State

_RECENT = 400
"""How many of the newest records are looked at for one to take."""
_RESTATED_WITHIN = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What one change works with. `lines` collects what was done."""

    state: State
    now: datetime
    chance: random.Random
    shop: shop.Shop
    lines: list[str] = field(default_factory=list)


def change(
    state: Path, *, leads_csv: Path, seed: int | None = None, now: datetime | None = None
) -> list[str]:
    """Make orders, an edit, refunds, a cancellation, leads, decisions of sales and a restated spend.

    Parameters
    ----------
    state : the sandbox's SQLite file; a server may be running on it
    leads_csv : the web form's file; one row is appended
    seed : what is chosen; None takes it from `now`, so that each call chooses anew
    now : the time of all of it, aware, cut to whole seconds; the real time when None

    Returns
    -------
    list of str
        What was done, a line each, with the vendor's ids; e-mail addresses are masked.

    Raises
    ------
    OSError
        `leads_csv` cannot be read or written.
    ValueError
        The sandbox holds too little to change. Nothing is changed then.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    chance = random.Random(seed if seed is not None else int(moment.timestamp()))  # noqa: S311
    sandbox = State(state)
    with sandbox.writing():
        scene = _Scene(sandbox, moment, chance, _shop_of(sandbox))
        scene.lines.extend(
            orders.change_orders(sandbox, now=moment, chance=chance, shop=scene.shop, lead=_known_lead(scene))
        )
        ad = _some_ad(scene)
        leads = [_new_form_lead(scene, ad) for _ in range(2)]
        _new_member_with_a_click(scene)
        scene.lines.extend(crm.change_contacts(sandbox, now=moment, chance=chance, email=leads[1]))
        _restate_spend(scene)
        # The last step: a file knows no rollback.
        _new_web_lead(scene, leads_csv)
    return scene.lines


def _shop_of(state: State) -> shop.Shop:
    """The shop's zone, currency and rate of tax, as its documents have them."""
    newest, _ = state.select("woocommerce", "order", order="at", descending=True, limit=1)
    account = state.get("meta", "account", META_ACCOUNT)
    zone = state.get("woocommerce", "setting", "timezone")
    if not newest or account is None or zone is None:
        raise ValueError("the sandbox is empty: fill it first")
    taxes = newest[0].body["tax_lines"]
    return shop.Shop(
        currency=account.body["currency"],
        zone=ZoneInfo(zone.body["value"]),
        vat=int(taxes[0]["rate_percent"]) if taxes else 0,
    )


def _recent(scene: _Scene, vendor: str, kind: str) -> list[Doc]:
    docs, _ = scene.state.select(vendor, kind, order="at", descending=True, limit=_RECENT)
    if not docs:
        raise ValueError(f"the sandbox's {vendor} has no {kind}: fill it first")
    return docs


def _known_lead(scene: _Scene) -> str:
    """The e-mail address of one of the newest leads."""
    emails = [
        answer["values"][0]
        for doc in _recent(scene, "meta", "lead")
        for answer in doc.body["field_data"]
        if answer["name"] == "email" and doc.at < scene.now.timestamp()
    ]
    if not emails:
        raise ValueError("the sandbox has no lead with an e-mail address: fill it first")
    return str(scene.chance.choice(emails))


def _some_ad(scene: _Scene) -> marketing.Ad:
    """An ad that brought one of the newest leads."""
    bodies = [doc.body for doc in _recent(scene, "meta", "lead") if doc.body.get("ad_id")]
    if not bodies:
        raise ValueError("the sandbox has no lead of an ad: fill it first")
    body = scene.chance.choice(bodies)
    return marketing.Ad(
        id=int(body["ad_id"]),
        name=body["ad_name"],
        adset=int(body["adset_id"]),
        campaign=int(body["campaign_id"]),
        campaign_name=body["campaign_name"],
    )


def _new_form_lead(scene: _Scene, ad: marketing.Ad) -> str:
    number = scene.state.next_number("meta", "lead")
    email = f"lead.{number % 1_000_000}@example.com"
    given = {"email": email, "full_name": f"Lead {number % 1_000_000}"}
    form = scene.state.get("meta", "form", META_FORM)
    asked = {question["key"] for question in form.body["questions"]} if form else {"email"}
    answers = {key: text for key, text in given.items() if key in asked}
    scene.state.put("meta", "lead", [marketing.meta_lead(number, scene.now, ad, answers)])
    scene.lines.append(f"lead {number}: new, campaign {ad.campaign_name}, {masked(email)}")
    return email


def _new_member_with_a_click(scene: _Scene) -> None:
    mailing = _recent(scene, "mailchimp", "campaign")[0]
    number = scene.state.select("mailchimp", "member", limit=0)[1] + 1
    email = f"member.{number}@example.com"
    member = marketing.member(email, scene.now, number=number)
    click = marketing.clicked(scene.now, f"{marketing.SITE}/news")
    title = mailing.body["settings"]["title"]
    scene.state.put("mailchimp", "member", [member])
    scene.state.put("mailchimp", "activity", [marketing.activity(mailing.id, email, [click], sent=scene.now)])
    scene.lines.append(
        f"member {member.body['id']}: new, clicked in campaign {mailing.id} ({title}), {masked(email)}"
    )


def _restate_spend(scene: _Scene) -> None:
    """Another amount for a day and ad of the last days in the data, as Meta restates them."""
    latest = _recent(scene, "meta", "insight")[0].at
    rows, _ = scene.state.select(
        "meta", "insight", at_from=latest - _RESTATED_WITHIN.total_seconds(), order="at"
    )
    row = scene.chance.choice(rows)
    before = row.body["spend"]
    body: dict[str, Any] = {**row.body, "spend": shop.money(_restated(before, scene.chance))}
    changed = scene.now.timestamp()
    scene.state.put("meta", "insight", [Doc(row.id, body, at=row.at, changed=changed, parent=row.parent)])
    scene.lines.append(
        f"spend of {body['date_start']}, ad {body['ad_id']}: restated,"
        f" {before} -> {body['spend']} {body['account_currency']}"
    )


def _restated(spend: str, chance: random.Random) -> int:
    """Minor units: up to a twentieth more, and one at the least."""
    minor = shop.minor(spend)
    return minor + max(1, minor * chance.randint(10, 50) // 1000)


def _new_web_lead(scene: _Scene, path: Path) -> None:
    """Append a row to the web form's file, as its last row has it."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        header = reader.fieldnames
    if not header or not rows:
        raise ValueError(f"{path.name} has no leads: fill the sandbox first")
    number = len(rows) + 1
    email = f"web.{number}@example.com"
    row = {
        **scene.chance.choice(rows),
        "lead_id": f"web-new-{number:06d}",
        "email": email,
        "created": scene.now.astimezone(scene.shop.zone).strftime("%Y-%m-%d %H:%M:%S"),
    }
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.DictWriter(file, header, lineterminator="\n").writerow(row)
    campaign = row["campaign"] or "none"
    scene.lines.append(f"web lead {row['lead_id']}: new, campaign {campaign}, {masked(email)}")
