"""What the tests of the mapping language share: a small mapping of orders, and an order it reads without problems."""

from __future__ import annotations

from typing import Any

import pytest

ORDER = """\
type: test
streams:
  orders:
    - kind: order
      fields:
        external_id: id
        occurred_at: {path: at, zone: UTC}
        status: {path: status, map: {wc-shipped: completed}, otherwise: keep}
        currency: currency
        total_minor: total
        email: email
"""


# For the session, as tests of properties run many examples over one value. Nothing may change what they give.
@pytest.fixture(scope="session")
def order_text() -> str:
    """The mapping as YAML; tests of mistakes count its lines."""
    return ORDER


@pytest.fixture(scope="session")
def order_record() -> dict[str, Any]:
    return {
        "id": 1,
        "at": "2026-03-02T10:00:00",
        "status": "wc-shipped",
        "currency": "pln",
        "total": "12.34",
        "email": "A@Example.com",
    }
