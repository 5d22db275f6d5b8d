"""One value at a time: e-mail, phone, money, time, click ids, from what vendors write to what we store.

All functions are pure. They return the normalised value, or None where there is none, and raise `Unfit` for a
value that cannot be used; `Unfit` says what is wrong and what would be right, and never holds the value. Each
is idempotent where its result is of the kind of its argument. Numbers come as int or `Decimal`, never float:
the engine reads JSON so.
"""

from __future__ import annotations

import html
import re
import unicodedata
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import idna
import phonenumbers

from mappings import currencies
from mappings.unfit import Unfit, shape

TEXT_LENGTH_MAX = 10_000
URL_LENGTH_MAX = TEXT_LENGTH_MAX
MINOR_MAX = 2**63 - 1
AMOUNT_MAX = MINOR_MAX // 10**4  # no currency has more than four decimals
REMEMBERED = 8_192  # texts: an order and its touch hold the same address, many orders the same amounts
# Wider than any business date, narrow enough to catch a zero date, and seconds taken for milliseconds.
YEAR_MIN, YEAR_MAX = 1990, 2199

CLICK_PARAMS = frozenset(
    {"gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid", "yclid"}
    | {"mc_eid"}
)

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
_LOCAL_BAD = re.compile(r"[\s\x00-\x1f\x7f()<>\[\]:;,\\\"@\u200b-\u200d\u2060\ufeff]")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_NUMBER_COMMA = re.compile(r"[+-]?(?:[0-9]{1,3}(?:[ .\u00a0\u202f][0-9]{3})+|[0-9]+)(?:,[0-9]+)?")
_INT = re.compile(r"[+-]?[0-9]{1,19}(?:\.0*)?")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:(?<=:..:..)[.,]([0-9]{1,9}))?"
    r" ?(Z|z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_CLICK_VALUE = re.compile(r"[A-Za-z0-9_.~=+/%:-]{1,512}")
_TAG = re.compile(r"<[^<>]*>")
# Enough for the largest number let in: nothing is ever rounded in passing.
EXACT = Context(prec=100)
_DIGITS_OF_A_DOUBLE = 15
_DECIMAL_SIZE_MAX = 40


def text(value: Any) -> str | None:
    """Trimmed text without what a database cannot store (NUL, lone surrogates), cut to 10,000 characters."""
    if type(value) is not str:
        value = _as_text(value)
    if not value.isascii() or "\0" in value:
        value = _UNSTORABLE.sub("", value)
    value = value.strip()
    return (value if len(value) <= TEXT_LENGTH_MAX else value[:TEXT_LENGTH_MAX].rstrip()) or None


def html_text(value: Any) -> str | None:
    """Text that may hold HTML tags and entities, without them (product names of shops)."""
    raw = text(value)
    if raw is None or ("&" not in raw and "<" not in raw):
        return raw
    return text(html.unescape(_TAG.sub("", raw)))


def email(value: Any) -> str | None:
    """An address in lower case and NFC, its domain in ASCII (IDNA 2008).

    Dots and plus of Gmail stay: whether they matter is a rule of identity (`canonical_gmail`).
    """
    raw = _plain(value, "an e-mail address such as name@example.com")
    return None if raw is None else _email(raw)


@lru_cache(maxsize=REMEMBERED)
def _email(raw: str) -> str:
    raw = raw.strip(_INVISIBLE).strip()
    local, at, domain = raw.partition("@")
    right = "it must be one address such as name@example.com"
    if not at or "@" in domain:
        raise Unfit("not an e-mail address: it has not exactly one @", right)
    local = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).lower())
    if not local or len(local) > 64 or _LOCAL_BAD.search(local):
        raise Unfit("not an e-mail address: the part before the @ is empty, too long or holds spaces", right)
    domain = domain.lower()
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            raise Unfit("not an e-mail address: the domain is not a name", right) from None
    if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
        raise Unfit("not an e-mail address: the domain is not a name with a dot", right)
    return f"{local}@{domain}"


def canonical_gmail(email: str, *, dots: bool, plus: bool) -> str:
    """The mailbox behind a normalised Gmail address; any other address as it is.

    `dots`: dots before the @ do not matter. `plus`: what follows a plus does not. With either,
    ``googlemail.com`` is ``gmail.com``.
    """
    local, _, domain = email.rpartition("@")
    if domain not in {"gmail.com", "googlemail.com"} or not (dots or plus):
        return email
    if plus:
        local = local.partition("+")[0] or local
    if dots:
        local = local.replace(".", "") or local
    return f"{local}@gmail.com"


def phone(value: Any, region: str | None) -> str | None:
    """E.164, or None: a phone is a weak key, free text in most vendors, and never worth a quarantine.

    `region` (ISO 3166, two letters) is taken for numbers without a country code.
    """
    if isinstance(value, bool | Decimal | dict | list):
        return None
    raw = text(value)
    return None if raw is None or len(raw) > 60 else _e164(raw, region.upper() if region else None)


@lru_cache(maxsize=REMEMBERED)
def _e164(raw: str, region: str | None) -> str | None:
    try:
        number = phonenumbers.parse(raw, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def decimal(value: Any, *, decimal_comma: bool = False) -> Decimal | None:
    """An exact decimal from text, an int or a JSON number.

    A JSON number of more than 15 significant digits is the print of a binary fraction
    (``24.380000000000003``) and is refused. With `decimal_comma`, text reads as ``1 234,50`` or ``1.234,50``.
    """
    if type(value) is not str:
        if isinstance(value, bool | float):
            raise Unfit("not a decimal number", 'write it as text such as "1234.50"')
        if isinstance(value, int):
            return _bounded(Decimal(value))
        if isinstance(value, Decimal):
            number = _bounded(value)
            if len(number.normalize(EXACT).as_tuple().digits) > _DIGITS_OF_A_DOUBLE:
                raise Unfit(
                    "a number with the digits of a binary fraction", 'send it as text such as "24.38"'
                )
            return number
    raw = _plain(value, 'a decimal such as "1234.50"')
    return None if raw is None else _decimal(raw, decimal_comma)


@lru_cache(maxsize=REMEMBERED)
def _decimal(raw: str, decimal_comma: bool) -> Decimal:
    if decimal_comma:
        if not _NUMBER_COMMA.fullmatch(raw):
            raise Unfit("not a decimal with a comma", 'it must look like "1234,50" or "1 234,50"')
        raw = re.sub("[ .\u00a0\u202f]", "", raw).replace(",", ".")
    elif not _NUMBER.fullmatch(raw):
        comma = ", or set decimal_comma: true" if _NUMBER_COMMA.fullmatch(raw) else ""
        raise Unfit("not a decimal number", f'it must look like "1234.50" (no spaces, a point){comma}')
    if len(raw) > _DECIMAL_SIZE_MAX:
        raise Unfit("a number of too many digits", f"it must have at most {_DECIMAL_SIZE_MAX} digits")
    return Decimal(raw)


def given_back(amount: Decimal) -> Decimal:
    """`amount` of a refund, whose currency is told elsewhere: not below zero, and bookable in any currency."""
    if amount < 0:
        raise Unfit("an amount below zero", "it must be positive; `sum:` with `negate: true` turns it round")
    if amount > AMOUNT_MAX:
        raise Unfit("an amount beyond 64 bits", "it must be a real amount of money")
    return amount


def decimal_text(value: Any, *, decimal_comma: bool = False) -> str | None:
    """A decimal as plain text: the vendor's digits, without exponent and plus sign."""
    number = decimal(value, decimal_comma=decimal_comma)
    return None if number is None else format(number, "f")


def money(
    value: Any, currency: str | None, *, decimal_comma: bool = False
) -> tuple[int, Decimal | None] | None:
    """Integer of the minor unit, and the exact amount where it is finer than that.

    ``("12.34", "PLN")`` is ``(1234, None)``; ``("12.20", "JPY")``, which shops do write, is
    ``(12, Decimal("12.20"))``, rounded half to even.
    """
    amount = decimal(value, decimal_comma=decimal_comma)
    if amount is None:
        return None
    exponent = currencies.EXPONENTS.get(currency or "")
    if exponent is None:
        exponent = currencies.exponent(currency_code(currency))
    scaled = amount.scaleb(exponent, context=EXACT)
    minor = int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN))
    if abs(minor) > MINOR_MAX:
        raise Unfit("an amount beyond 64 bits", "it must be a real amount of money")
    return minor, None if scaled == minor else amount


def currency_code(value: Any) -> str:
    """An ISO 4217 code in upper case. Unknown or missing ones are refused: no guess at money."""
    code = text(value)
    if code is None or (code := code.upper()) not in currencies.EXPONENTS:
        raise Unfit("not a currency of ISO 4217" if code else "no currency", "it must be a code such as PLN")
    return code


def integer(value: Any) -> int | None:
    """A whole number of at most 64 bits, also from text."""
    if isinstance(value, bool):
        raise Unfit("true or false in place of a number", "it must be a whole number")
    if isinstance(value, int):
        number = value
    elif isinstance(value, Decimal):
        exact = _bounded(value)
        if exact != exact.to_integral_value():
            raise Unfit("not a whole number", "it must have no decimals")
        number = int(exact)
    else:
        raw = _plain(value, "a whole number")
        if raw is None:
            return None
        if not _INT.fullmatch(raw):
            raise Unfit("not a whole number", 'it must look like "1234"')
        number = int(raw.partition(".")[0])
    if abs(number) > MINOR_MAX:
        raise Unfit("a number beyond 64 bits", "it must be a smaller whole number")
    return number


def boolean(value: Any) -> bool | None:
    """True or false from JSON, 1 and 0, or the words vendors write for them."""
    if isinstance(value, bool):
        return value
    raw = text(value)
    word = raw.lower() if raw else ""
    if word in {"1", "true", "yes", "y", "on"}:
        return True
    if word in {"0", "false", "no", "n", "off", ""}:
        return False
    raise Unfit("neither true nor false", 'it must be one of true, false, "1", "0", "yes", "no", ""')


def time_iso(value: Any, zone: ZoneInfo | None = None) -> datetime | None:
    """A time in UTC from ISO 8601 with an offset, or without one when `zone` says where it was written.

    In `zone`, a time that comes twice (clocks go back) is the first of the two; one that never was (clocks
    go forward) is moved forward by the gap. A date alone is its midnight in `zone`.
    """
    if isinstance(value, datetime) and value.tzinfo is not None:
        return _in_years(value)
    right = "it must look like 2026-03-02T09:14:05Z or with an offset such as +0100"
    raw = _plain(value, "a time such as 2026-03-02T09:14:05Z")
    if raw is None:
        return None
    match = _TIME.fullmatch(raw)
    if match is None:
        raise Unfit("not a time in ISO 8601", right)
    day, clock, fraction, offset = match.groups()
    try:
        naive = datetime.fromisoformat(f"{day}T{clock or '00:00'}")
        if fraction:
            naive = naive.replace(microsecond=int(f"{fraction:0<6}"[:6]))
    except ValueError:
        raise Unfit("not a time: no such date or hour", right) from None
    if offset:
        return _in_years(naive - _offset(offset), UTC)
    if zone is None:
        raise Unfit("a time without an offset", "give its zone in the mapping, such as `zone: UTC`")
    return _in_years(naive, zone)


def time_epoch(value: Any, *, per_second: int) -> datetime | None:
    """A time in UTC from a count since 1970 of seconds (`per_second` 1) or milliseconds (1000)."""
    number = decimal(value)
    if number is None:
        return None
    right = "it must count seconds (as: epoch_s) or milliseconds (as: epoch_ms) since 1970"
    seconds = EXACT.divide(number, Decimal(per_second))
    if not 0 <= seconds < 7_500_000_000:
        raise Unfit("a time out of range", right)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(seconds * 1_000_000))
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise Unfit("a time out of range", right)
    return moment


def day(value: Any) -> date | None:
    """A calendar day from ``2026-03-02``; a midnight without an offset, as exports write days, will do."""
    raw = _plain(value, "a day such as 2026-03-02")
    if raw is None:
        return None
    match = _TIME.fullmatch(raw)
    if match is None or match[4] or (match[2] or "").strip("0:") or (match[3] or "").strip("0"):
        raise Unfit("not a day", "it must look like 2026-03-02")
    try:
        result = date.fromisoformat(match[1])
    except ValueError:
        raise Unfit("no such day", "it must look like 2026-03-02") from None
    if not YEAR_MIN <= result.year <= YEAR_MAX:
        raise Unfit("a day out of range", f"its year must be {YEAR_MIN} to {YEAR_MAX}")
    return result


def url_param(url: Any, name: str) -> str | None:
    """The first value of a parameter in a URL's query (``utm_source``), any case of the name."""
    return next((text(found) for key, found in _query(url) if key == name.lower()), None)


def click_ids(url: Any) -> tuple[str, ...]:
    """The click ids in a URL's query as ``kind:value``, in their order, without doubles."""
    found = (click_id(value, key) for key, value in _query(url) if key in CLICK_PARAMS)
    return tuple(dict.fromkeys(item for item in found if item))


def click_id(value: Any, kind: str) -> str | None:
    """A bare click id as ``kind:value``; one that is too long or no id (an unfilled macro) is none."""
    raw = text(value)
    return f"{kind}:{raw}" if raw and _CLICK_VALUE.fullmatch(raw) else None


def _query(url: Any) -> tuple[tuple[str, str], ...]:
    return _parsed_query(url) if isinstance(url, str) and len(url) <= URL_LENGTH_MAX else ()


@lru_cache(maxsize=REMEMBERED // 8)
def _parsed_query(url: str) -> tuple[tuple[str, str], ...]:
    query = (text(url) or "").partition("?")[2].partition("#")[0].replace("&amp;", "&")
    if query.count("&") > 200:
        return ()
    return tuple((key.lower(), value) for key, value in parse_qsl(query))


def _plain(value: Any, right: str) -> str | None:
    if type(value) is not str and isinstance(value, bool | dict | list):
        raise Unfit(f"{shape(value)} in place of a text", f"it must be {right}")
    return text(value)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) <= 10**_DECIMAL_SIZE_MAX:
        return str(value)
    if isinstance(value, Decimal):
        return format(_bounded(value), "f")
    if isinstance(value, date):
        return value.isoformat()
    raise Unfit(f"{shape(value)} in place of a text", "it must be a text or a number")


def _bounded(number: Decimal) -> Decimal:
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise Unfit("not a number (NaN or infinite)", 'it must look like "1234.50"')
    if number and (number.adjusted() > _DECIMAL_SIZE_MAX or exponent < -_DECIMAL_SIZE_MAX):
        raise Unfit("a number of too many digits", f"it must have at most {_DECIMAL_SIZE_MAX} digits")
    try:
        return number.quantize(Decimal(1).scaleb(min(exponent, 0)), context=EXACT)
    except InvalidOperation:
        raise Unfit("a number of too many digits", 'it must look like "1234.50"') from None


def _offset(offset: str) -> timedelta:
    if offset in {"Z", "z"}:
        return timedelta()
    digits = offset[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or 0)
    if hours > 18 or minutes > 59:
        raise Unfit("not a time: no such offset", "it must be Z or an offset such as +01:00")
    return timedelta(hours=hours, minutes=minutes) * (-1 if offset[0] == "-" else 1)


def _in_years(moment: datetime, zone: ZoneInfo | Any = None) -> datetime:
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise Unfit("a time out of range", f"its year must be {YEAR_MIN} to {YEAR_MAX}")
    return (moment.replace(tzinfo=zone) if zone else moment).astimezone(UTC)
