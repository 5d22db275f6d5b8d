"""How the sandbox's shop checks OAuth 1.0a, one-legged (RFC 5849), as WooCommerce does over plain http."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import time
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote

from starlette.requests import Request

from connectors.sandbox.accounts import WOO_KEY, WOO_SECRET

WINDOW_S = 15 * 60
_HASHES = {"HMAC-SHA1": hashlib.sha1, "HMAC-SHA256": hashlib.sha256}
_NEEDED = (
    "oauth_consumer_key",
    "oauth_timestamp",
    "oauth_nonce",
    "oauth_signature",
    "oauth_signature_method",
)
_HEADER_PART = re.compile(r'(\w+)="([^"]*)"')


class Refused(Exception):
    """The signature does not hold. `code` is WordPress's name of the error."""

    def __init__(self, message: str, code: str = "woocommerce_rest_authentication_error") -> None:
        super().__init__(message)
        self.code = code


class Nonces:
    """The nonces used within the window."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    def use(self, nonce: str, *, now: float) -> bool:
        """Note a nonce; False when it was used before. `now` is Unix time in seconds."""
        with self._lock:
            # A request may be signed up to one window ahead of our clock, so a nonce counts for two.
            self._used = {key: at for key, at in self._used.items() if at > now - 2 * WINDOW_S}
            if nonce in self._used:
                return False
            self._used[nonce] = now
            return True


def check(request: Request, nonces: Nonces) -> bool:
    """True when the request is signed by the shop's key, False when it is not signed with OAuth at all.

    Raises Refused where a signature is there but does not hold.
    """
    query = parse_qsl(request.url.query, keep_blank_values=True)
    header = _header(request.headers.get("Authorization", ""))
    oauth = dict([*((name, value) for name, value in query if name.startswith("oauth_")), *header])
    if not oauth:
        return False
    missing = [name for name in _NEEDED if not oauth.get(name)]
    if missing:
        raise Refused(
            f"Missing OAuth parameter(s) {', '.join(missing)}.",
            "woocommerce_rest_authentication_missing_parameter",
        )
    if not hmac.compare_digest(oauth["oauth_consumer_key"].encode(), WOO_KEY.encode()):
        raise Refused("Consumer key is invalid.")
    if oauth["oauth_signature_method"] not in _HASHES:
        raise Refused("Invalid signature - signature method is invalid.")
    base = base_string(request.method, str(request.url.replace(query="")), [*query, *header])
    expected = signature(base, WOO_SECRET, oauth["oauth_signature_method"])
    if not hmac.compare_digest(expected.encode(), oauth["oauth_signature"].encode()):
        raise Refused("Invalid signature - provided signature does not match.")
    now = time.time()
    stamp = oauth["oauth_timestamp"]
    if not re.fullmatch(r"\d{1,12}", stamp) or abs(now - int(stamp)) > WINDOW_S:
        raise Refused("Invalid timestamp.")
    if not nonces.use(oauth["oauth_nonce"], now=now):
        raise Refused("Invalid nonce - nonce has already been used.")
    return True


def base_string(method: str, url: str, parameters: Iterable[tuple[str, str]]) -> str:
    """The text that is signed (RFC 5849, 3.4.1): method, URL without query, and sorted parameters."""
    pairs = sorted(
        (_encoded(name), _encoded(value))
        for name, value in parameters
        if name not in ("oauth_signature", "realm")
    )
    normal = "&".join(f"{name}={value}" for name, value in pairs)
    return "&".join((method.upper(), _encoded(url), _encoded(normal)))


def signature(base: str, secret: str, method: str) -> str:
    """Base64 of the HMAC of `base`; the key is the consumer's secret and `&`, there being no token."""
    return base64.b64encode(hmac.new(f"{secret}&".encode(), base.encode(), _HASHES[method]).digest()).decode()


def _header(value: str) -> list[tuple[str, str]]:
    scheme, _, rest = value.partition(" ")
    if scheme.lower() != "oauth":
        return []
    return [
        (unquote(name), unquote(text))
        for name, text in _HEADER_PART.findall(rest)
        if name.startswith("oauth_")
    ]


def _encoded(text: str) -> str:
    return quote(text, safe="~")
