"""The sandbox's accounts and their keys: obviously not real ones."""

from __future__ import annotations

WOO_KEY = "ck_sandbox_not_a_real_key"
WOO_SECRET = "cs_sandbox_not_a_real_secret"  # noqa: S105
META_TOKEN = "sandbox-meta-token"  # noqa: S105
META_ACCOUNT = "act_1000000000001"
META_PAGE = "2000000000001"
META_FORM = "3000000000001"
MAILCHIMP_KEY = "sandboxkey0000000000000000000000-us1"
MAILCHIMP_LIST = "5a0db0cada"
HUBSPOT_TOKEN = "sandbox-hubspot-token"  # noqa: S105
HUBSPOT_APP_ID = "19083857"
HUBSPOT_PORTAL = 12345678
