"""Fills the sandbox with the Olist data: a real marketing funnel and real orders (CC BY-NC-SA 4.0).

What is invented beside it: e-mail addresses, ids, names of products, and all spend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from connectors.sandbox import olist_marketing as marketing
from connectors.sandbox import olist_shop as shop
from connectors.sandbox.olist_crm import hubspot_docs
from connectors.sandbox.olist_data import read_olist
from connectors.sandbox.state import Doc, State


def load_olist(
    data: Path,
    state: Path,
    *,
    leads_csv: Path,
    seed: int = 1,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write the four vendors' documents into `state`, and the web form's leads to `leads_csv`.

    All documents or none are written. The same files and seed give the same documents; the seed decides
    nothing but the simulated spend.

    Parameters
    ----------
    data : the folder of Olist's CSV files
    state : the sandbox's SQLite file, made where it is not there
    progress : told of each step in words

    Raises
    ------
    OSError
        A file cannot be read or written.
    ValueError
        A file does not hold what its README says.
    """
    tell = progress or _quiet
    tell(f"reading Olist's files in {data}")
    olist = read_olist(data)
    web_form = marketing.of_the_web_form(olist.leads)
    contents: dict[str, Mapping[str, Sequence[Doc]]] = {
        "woocommerce": {
            "setting": list(shop.setting_docs()),
            "product": list(shop.product_docs(olist)),
            "order": list(shop.order_docs(olist)),
        },
        "meta": marketing.meta_docs(marketing.of_meta(olist.leads), seed=seed),
        "mailchimp": marketing.mailchimp_docs(marketing.of_mailchimp(olist.leads)),
        "hubspot": hubspot_docs(olist.deals),
    }
    sandbox = State(state)
    with sandbox.writing():
        for vendor, kinds in contents.items():
            for kind, docs in kinds.items():
                sandbox.put(vendor, kind, docs)
                if len(docs) > 1:
                    tell(f"{vendor}: {len(docs):,} {kind} records")
    marketing.write_leads_csv(web_form, leads_csv)
    tell(f"web form: {len(web_form):,} leads in {leads_csv.name}")


def _quiet(text: str) -> None:
    """Nobody asked to be told."""
