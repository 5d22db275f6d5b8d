"""The bridge over a small world made by hand, in which every line is there and nothing is left over."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sync.ledger.bridge import RESIDUALS, Bridge, Claim, Order, as_dict, build

HERE = {"in_shop_days": True, "in_days": True, "counted": True, "sold": True}
META = (("meta", True),)

# The sale of the period as it should be: shown, booked, clicked, credited in part.
PLAIN = Order(
    "shop:1",
    shown=10_000,
    **HERE,
    gross=10_000,
    placed=10_000,
    platforms=META,
    tax=1_870,
    shipping=1_219,
    credited=4_000,
    to_others=2_000,
    unattributed=911,
)
WORLD = (
    PLAIN,
    # At 23:30 of the last day in the shop's zone, and on the next day here.
    Order("shop:2", shown=200, in_shop_days=True, counted=True, sold=True),
    # On hold: the shop counts it, the policy does not; Meta claims it, too.
    replace(PLAIN, ref="shop:3", shown=300, sold=False, gross=0, placed=300, tax=0, shipping=0, credited=0,
            to_others=0, unattributed=0),
    # 40 EUR, which the shop adds to its zlotys.
    Order("shop:4", shown=4_000, shown_same=False, **HERE),
    # Its month was closed when it became known.
    Order("shop:5", shown=500, **HERE, elsewhere=True),
    # The shop shows a grosz more than is booked; no click is known.
    Order("shop:6", shown=601, **HERE, gross=600, unattributed=600),
    # Said no.
    Order("shop:7", shown=700, **HERE, gross=700, refused=True, unattributed=700),
    # Clicked the month before.
    Order("shop:8", shown=800, **HERE, gross=800, placed=800, platforms=(("meta", False),), credited=800),
    # Placed the month after, clicked in this one.
    Order("shop:9", sold=True, placed=900, platforms=META),
    # Clicked on two platforms.
    Order("shop:10", shown=1_000, **HERE, gross=1_000, placed=1_000, platforms=(*META, ("google", True)),
          credited=1_000, refunds=-250),
    # Clicked longer ago than the platform's window, and credited by the ledger's lookback.
    Order("shop:11", shown=1_100, **HERE, gross=1_100, placed=1_100, credited=1_100),
    # A correction of an older month, which counts here.
    Order("shop:12", restated=-77),
)  # fmt: skip
# Meta: 1, 3, 9, 10, and 120 that were only seen; Google: 10 again.
CLAIMS = (
    Claim("meta", "17", "2026-10-03", 4, 10_000 + 300 + 900 + 1_000 + 120, viewed=120),
    Claim("google", "g1", "2026-10-04", 1, 1_000),
)


def bridge(claims: tuple[Claim, ...] = CLAIMS) -> Bridge:
    return build(WORLD, claims, platforms=("meta", "google"))


def amounts(found: Bridge) -> dict[str, int]:
    return {line.name: line.amount for line in found.lines}


def test_every_line_is_what_it_is_made_of() -> None:
    found = bridge()
    assert found.shop == 10_000 + 200 + 300 + 4_000 + 500 + 601 + 700 + 800 + 1_000 + 1_100
    assert amounts(found) == {
        "time zone": -200,
        "statuses": -300,
        "currency": -4_000,
        "closed before": -500,
        "not reconciled": -1,
        "no consent": -700,
        "no match": -600 - 1_100,
        "date of touch": -800 + 900,
        "unpaid orders": 300,
        "double claims": 1_000,
        "view-through": 120,
        "residual": 0,
        "residual taken out": 0,
        "date of order": 800 - 900,
        "only sales count": -300,
        "each order counts once": -1_000,
        "views are not credited": -120,
        "tax": -1_870,
        "shipping": -1_219,
        "other campaigns": -2_000,
        "unattributed": -911,
        "credited unclaimed": 1_100,
        "refunds": -250,
        "restated": -77,
        "residual of the credit": 0,
    }
    assert all(line.amount for line in found.lines if not line.name.startswith("residual"))


def test_the_lines_lead_from_start_to_end() -> None:
    found = bridge()
    there = sum(line.amount for line in found.lines if line.section == "to the claims")
    back = sum(line.amount for line in found.lines if line.section == "to the credit")
    assert found.shop + there == found.claimed == sum(claim.amount for claim in CLAIMS)
    assert found.claimed + back == found.credited == 4_000 + 800 + 1_000 - 250 + 1_100 - 77
    assert found.residual == 0


def test_each_line_opens_to_its_orders() -> None:
    opened = {line["line"]: line["opened"] for line in as_dict(bridge())["lines"]}
    assert opened["date of touch"] == [
        {"ref": "shop:8", "amount_minor": -800},
        {"ref": "shop:9", "amount_minor": 900},
    ]
    assert opened["view-through"] == [{"ref": "meta:17 2026-10-03", "amount_minor": 120}]


def test_a_claim_that_nothing_explains_is_the_residual() -> None:
    found = bridge((*CLAIMS, Claim("meta", "17", "2026-10-05", 1, 333)))
    assert found.residual == 333
    assert amounts(found)["residual"] == 333
    assert amounts(found)["residual taken out"] == -333
    assert amounts(found)["residual of the credit"] == 0
    assert found.credited == bridge().credited


def test_without_claims_the_lines_say_so() -> None:
    found = build(WORLD, (), platforms=())
    says = {line.name: line.says for line in found.lines}
    assert says["view-through"] == "no platform claims anything"
    assert found.claimed == 0


money = st.integers(0, 10_000)


@st.composite
def any_orders(draw: st.DrawFn) -> list[Order]:
    """Orders whose sales balance, of any make."""
    orders = []
    for number in range(draw(st.integers(0, 6))):
        parts = [draw(money) for _ in range(5)]
        booked = draw(st.booleans())
        tax, shipping, credited, to_others, unattributed = parts if booked else [0] * 5
        flags = {name: draw(st.booleans()) for name in (*HERE, "shown_same", "elsewhere", "refused")}
        platforms = draw(st.lists(st.tuples(st.sampled_from(["meta", "google"]), st.booleans()), max_size=2))
        orders.append(
            Order(
                f"shop:{number}",
                shown=draw(money),
                gross=sum(parts) if booked else 0,
                placed=draw(money),
                platforms=tuple(platforms),
                tax=tax,
                shipping=shipping,
                credited=credited,
                to_others=to_others,
                unattributed=unattributed,
                refunds=-draw(money),
                restated=draw(money),
                **flags,
            )
        )
    return orders


@given(any_orders(), st.lists(st.tuples(money, money), max_size=3))
def test_it_adds_up_whatever_the_orders_are(orders: list[Order], claimed: list[tuple[int, int]]) -> None:
    """Whatever differs is in a line or in the residual, and the credit never needs one."""
    claims = [Claim("meta", str(n), "2026-10-01", 1, a, viewed=v) for n, (a, v) in enumerate(claimed)]
    found = build(orders, claims, platforms=("meta", "google"))
    assert found.shop + sum(line.amount for line in found.lines) == found.credited
    assert amounts(found)["residual of the credit"] == 0
    assert set(RESIDUALS) <= set(amounts(found))
