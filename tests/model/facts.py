"""What may happen at the vendors: few people, campaigns and orders, so that they meet often."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tests.integration.ledger.books import Fact, at

PAID = ("processing", "completed")
Strategy = st.SearchStrategy[Any]

# More addresses than a phone's cap, so that one may come to stand beside too many.
_emails = st.sampled_from([f"{name}@example.com" for name in ("anna", "bert", "cleo", "dora", "emil")])
_phones = st.sampled_from(["+48600100200", "+48600100201"])
_names = st.sampled_from(["Spring", "Summer", "Autumn"])
_campaign_ids = st.sampled_from(["c1", "c2", "c3"])
_ids = st.integers(1, 3).map(str)
_moments = st.integers(1, 28).map(at)
_amounts = st.integers(0, 20_000).map(lambda minor: f"{Decimal(minor) / 100:.2f}")

_known_by = st.one_of(
    st.fixed_dictionaries({"email": _emails}),
    st.fixed_dictionaries({"phone": _phones}),
    st.fixed_dictionaries({}, optional={"email": _emails, "phone": _phones}),
)
_sources = st.one_of(
    st.fixed_dictionaries({"campaign_id": _campaign_ids}),
    st.fixed_dictionaries({"campaign_name": _names}),
    st.fixed_dictionaries({"utm_source": st.just("ads"), "utm_campaign": _names}),
    st.just({}),
)


def _facts(
    kind: str, connector: str, ids: Strategy, values: dict[str, Strategy], *more: Strategy
) -> Strategy:
    def fact(id: str, parts: tuple[dict[str, Any], ...]) -> Fact:
        return Fact(kind, id, {name: value for part in parts for name, value in part.items()}, connector)

    return st.builds(fact, ids, st.tuples(st.fixed_dictionaries(values), *more))


leads = _facts("lead", "ads", _ids, {"occurred_at": _moments}, _known_by, _sources)
touches = _facts(
    "touch",
    "ads",
    _ids,
    {"occurred_at": _moments, "kind": st.sampled_from(["form", "ad_click", "ad_view"])},
    _known_by,
    _sources,
)
orders = _facts(
    "order",
    "shop",
    _ids,
    {
        "occurred_at": _moments,
        "status": st.sampled_from(["completed", "completed", "pending"]),
        "currency": st.sampled_from(["PLN", "PLN", "EUR"]),
        "total_minor": _amounts,
        "tax_minor": st.sampled_from(["0.00", "0.01", "1.23"]),
    },
    _known_by,
)
edits = st.one_of(
    st.fixed_dictionaries({"total_minor": _amounts}),
    st.fixed_dictionaries({"status": st.sampled_from(["completed", "cancelled", "pending", "refunded"])}),
    st.fixed_dictionaries({"occurred_at": _moments}),
    _known_by,
)
refunds = _facts("refund", "shop", _ids, {"occurred_at": _moments, "order_id": _ids, "amount": _amounts})
contacts = _facts(
    "contact",
    "crm",
    _ids,
    {
        "modified_at": st.just(at(1)),
        "crm_id": _ids,
        "aliases": st.lists(_ids, max_size=1),
        "emails": st.lists(_emails, max_size=1),
    },
    _known_by,
)
stage_changes = _facts(
    "stage_change",
    "crm",
    _ids,
    {
        "crm_id": _ids,
        "occurred_at": _moments,
        "field": st.just("stage"),
        "value": st.sampled_from(["sql", "other"]),
    },
)
spend = _facts(
    "spend",
    "ads",
    _ids,
    {
        "day": st.integers(1, 28).map(lambda day: f"2026-05-{day:02d}"),
        "campaign_id": _campaign_ids,
        "currency": st.just("PLN"),
        "amount_minor": _amounts,
    },
)
campaigns = _facts("campaign", "ads", _campaign_ids, {"name": _names})

policies = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["first", "last", "linear", "position", "time_decay", "last_non_direct"]),
        "lookback_days": st.sampled_from([5, 90]),
        "paid_statuses": st.sampled_from([PAID, ("completed",), ("completed", "pending")]),
        "revenue": st.sampled_from(["included", "excluded"]).map(
            lambda t: {"tax": t, "shipping": "included"}
        ),
    }
)
FIRST_POLICY: dict[str, Any] = {
    "model": "last",
    "lookback_days": 90,
    "paid_statuses": PAID,
    "revenue": {"tax": "included", "shipping": "included"},
}
