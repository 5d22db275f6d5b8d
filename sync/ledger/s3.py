"""The witness in an S3-compatible store: one object a head, by a PUT signed with AWS Signature Version 4.

Source of the signature: docs.aws.amazon.com, "Signature Calculations for the Authorization Header".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from sync.config_ledger import Witness as Declared
from sync.ledger import heads
from sync.ledger.witness_error import WitnessError

WITHIN_S = 30
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str
    region: str


@dataclass(frozen=True)
class Bucket:
    """`address` is the store's, with bucket and prefix as its path."""

    name: str
    address: str
    credentials: Credentials
    every: timedelta = timedelta(0)
    path: Path | None = None

    @classmethod
    def of(cls, declared: Declared) -> Bucket:
        given = [
            value.get_secret_value() if value else "" for value in (declared.access_key, declared.secret_key)
        ]
        keys = Credentials(given[0], given[1], declared.region)
        return cls(declared.name, (declared.s3 or "").rstrip("/"), keys)

    def keep(self, signed: heads.Signed) -> None:
        parts = urlsplit(self.address)
        path = quote(f"{parts.path}/head-{signed.head.number:08d}.jsonl", safe="/-_.~")
        body = f"{signed.line()}\n".encode()
        wanted = {"content-type": "application/x-ndjson", "host": parts.netloc}
        headers = signed_headers("PUT", path, wanted, body, self.credentials, now=datetime.now(UTC))
        try:
            answer = httpx.put(
                f"{parts.scheme}://{parts.netloc}{path}", content=body, headers=headers, timeout=WITHIN_S
            )
        except httpx.HTTPError as error:
            raise WitnessError(
                f"{parts.netloc} cannot be reached: {type(error).__name__}", "set s3 of the witness"
            ) from None
        if answer.status_code != httpx.codes.OK:
            code = _CODE.search(answer.text[:10_000])
            said = f"{answer.status_code} {code[1]}" if code else f"{answer.status_code}"
            raise WitnessError(
                f"{parts.netloc} answers {said}", "look at the bucket's address, keys and rights"
            )


def signed_headers(
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Credentials,
    *,
    now: datetime,
) -> dict[str, str]:
    """`headers` (lower case, with host) and those that sign them, for a request without a query."""
    digest = hashlib.sha256(body).hexdigest()
    at = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = dict(sorted({**headers, "x-amz-content-sha256": digest, "x-amz-date": at}.items()))
    names = ";".join(signed)
    lines = "".join(f"{name}:{value.strip()}\n" for name, value in signed.items())
    request = "\n".join((method, path, "", lines, names, digest))
    scope = f"{at[:8]}/{credentials.region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", at, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"{credentials.access_key}/{scope}"
    said = f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={signature}"
    return {**signed, "authorization": said}
