"""Canaries: texts that stand nowhere but in one secret or one personal field, and where they turned up."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.sandbox import accounts
from tests.integration.flow.conftest import World

KINDS = {
    "woocommerce": ("order", "customer", "refund"),
    "meta": ("lead",),
    "mailchimp": ("member", "activity"),
    "hubspot": ("contact", "owner"),
}
# Names of fields as the vendors write them; their values are replaced.
NAMES = (
    "first_name",
    "last_name",
    "firstname",
    "lastname",
    "firstName",
    "lastName",
    "FNAME",
    "LNAME",
    "full_name",
)
PLACES = ("company", "address_1", "address_2", "ADDRESS", "postcode")
TECHNICAL = (
    "username",
    "customer_ip_address",
    "customer_user_agent",
    "transaction_id",
    "ip_signup",
    "ip_opt",
    "ip",
)
PERSONAL = frozenset((*NAMES, *PLACES, *TECHNICAL, "customer_note", "reason"))
PHONES = frozenset({"phone", "PHONE", "phone_number"})
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
CLICK_ID = re.compile(r"\b(fbclid|gclid|ttclid|msclkid)=([\w-]+)")
DATABASE_PASSWORD = "qzvpassword0database"
SECRETS = {
    accounts.WOO_KEY,
    accounts.WOO_SECRET,
    accounts.META_TOKEN,
    accounts.MAILCHIMP_KEY,
    accounts.HUBSPOT_TOKEN,
    DATABASE_PASSWORD,
}


@dataclass
class Canaries:
    """What must turn up nowhere, by what it is."""

    planted: dict[str, str] = field(default_factory=dict)  # text, lower case → field
    _names: dict[str, str] = field(default_factory=dict)  # address → its new local part

    def __post_init__(self) -> None:
        self.planted.update((secret.lower(), "a secret") for secret in SECRETS)

    def text(self, what: str) -> str:
        made = f"Qzv{len(self.planted):05d}x"
        self.planted[made.lower()] = what
        return made

    def address(self, found: str) -> str:
        """Another address in its place, always the same for the same one."""
        local, _, host = found.lower().partition("@")
        if found.lower() not in self._names:
            self._names[found.lower()] = self.text("an address").lower() + f".{local[:1]}"
        return f"{self._names[found.lower()]}@{host}"

    def phone(self, value: str) -> None:
        """A number stays as it is: it must be one."""
        digits = "".join(filter(str.isdigit, value))
        self.planted.update(
            (text, "a phone") for text in (value.lower(), digits, digits[-9:]) if len(text) > 8
        )

    def told_in(self, text: str) -> dict[str, str]:
        """The canaries that stand in a text: secrets and personal data that somebody told."""
        shown = text.lower()
        return {canary: what for canary, what in self.planted.items() if canary in shown}

    def replaced(self, value: Any, name: str = "") -> Any:
        """A JSON value with a canary in each personal field, and in each address and click id within a text."""
        if isinstance(value, dict):
            if value.get("name") in PERSONAL | PHONES and isinstance(value.get("values"), list):
                return {**value, "values": [self.replaced(one, value["name"]) for one in value["values"]]}
            return {key: self.replaced(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [self.replaced(one, name) for one in value]
        if not isinstance(value, str):
            return value
        if name in PHONES:
            self.phone(value)
            return value
        if name in PERSONAL:
            return self.text(name)
        value = ADDRESS.sub(lambda found: self.address(found[0]), value)
        return CLICK_ID.sub(lambda found: f"{found[1]}={self.text('a click id')}", value)


def plant(world: World) -> Canaries:
    """Put a canary into every personal field that the vendors and the web form of `world` hold."""
    canaries = Canaries()
    for vendor, kinds in KINDS.items():
        for kind in kinds:
            docs, _ = world.state.select(vendor, kind)
            world.state.put(vendor, kind, [replace(doc, body=canaries.replaced(doc.body)) for doc in docs])
    with world.leads_csv.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with world.leads_csv.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, [*rows[0], "full_name", "note"])
        out.writeheader()
        for row in rows:
            out.writerow(
                canaries.replaced(row) | {"full_name": canaries.text("name"), "note": canaries.text("note")}
            )
    assert len(canaries.planted) > 400
    return canaries


def echo(canaries: Canaries) -> str:
    """A vendor's message that tells every secret and an address."""
    local = next(iter(canaries._names.values()))
    return json.dumps(f"{' '.join(sorted(SECRETS))} of {local}@example.com is not welcome")[1:-1]
