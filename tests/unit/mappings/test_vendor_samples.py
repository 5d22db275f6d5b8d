"""Every sample of a vendor's page maps without a problem, to exactly what was checked by hand."""

import json
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from mappings import canonical, engine

ROOT = Path(__file__).resolve().parents[3]
VENDORS = ROOT / "tests" / "data" / "vendors"
TYPES = ("woocommerce", "meta_ads", "mailchimp", "hubspot", "nbp", "ecb")
EXPECTED = [path for name in TYPES for path in sorted((VENDORS / name / "expected").glob("*.json"))]


@cache
def mapping(name: str) -> engine.Mapping:
    path = ROOT / "mappings" / "vendors" / f"{name}.yaml"
    return engine.load(path.read_text(encoding="utf-8"), name=path.name)


def raw_items(body: bytes, path: str | None) -> list[bytes]:
    """The vendor's own bytes of each item; `path` None: the body is one item, "": a list of them."""
    if path is None:
        return [body]
    if path == "":
        return [bytes(item) for item in msgspec.json.decode(body, type=list[msgspec.Raw])]
    found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])[path]
    return [bytes(item) for item in msgspec.json.decode(found, type=list[msgspec.Raw])]


@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_sample_becomes_what_was_checked_by_hand(path):
    expected = json.loads(path.read_text(encoding="utf-8"))
    bodies = raw_items((path.parents[1] / path.name).read_bytes(), expected["items"])

    assert len(bodies) == len(expected["records"])
    for body, wanted in zip(bodies, expected["records"], strict=True):
        mapped = mapping(path.parts[-3]).apply(
            expected["stream"],
            body,
            expected["context"],
            phone_region="PL",
            zone=ZoneInfo("Europe/Warsaw"),
        )
        assert [str(problem) for problem in mapped.problems] == []
        ids = [(one.kind, one.record.external_id) for one in mapped.records]
        assert len(set(ids)) == len(ids)
        assert list(mapped.records) == [
            engine.Produced(
                one["kind"], msgspec.convert(one["record"], canonical.KINDS[one["kind"]]), one["keep"]
            )
            for one in wanted
        ]


def test_every_stream_of_every_vendor_has_a_sample():
    covered = {(path.parts[-3], json.loads(path.read_text(encoding="utf-8"))["stream"]) for path in EXPECTED}
    assert covered >= {(name, stream) for name in TYPES for stream in mapping(name).streams}


def test_every_expected_result_has_its_sample():
    for name in TYPES:
        expected = {path.name for path in (VENDORS / name / "expected").glob("*.json")}
        assert expected
        assert expected <= {path.name for path in (VENDORS / name).glob("*.json")}


def apply(name, stream, record, **context):
    return mapping(name).apply(
        stream,
        json.dumps(record).encode(),
        context,
        phone_region="PL",
        zone=ZoneInfo("Europe/Warsaw"),
    )


def order(**fields):
    meta = fields.pop("meta", {})
    return {
        "id": 9,
        "parent_id": 0,
        "number": "9",
        "status": "processing",
        "currency": "PLN",
        "total": "10.00",
        "date_created_gmt": "2026-03-02T10:00:00",
        "customer_id": 0,
        "billing": {"email": "a@example.com", "phone": "", "country": ""},
        "meta_data": [{"key": f"_wc_order_attribution_{key}", "value": value} for key, value in meta.items()],
        "line_items": [],
        **fields,
    }


def test_woocommerce_session_start_that_is_no_time_is_only_a_note():
    mapped = apply(
        "woocommerce", "orders", order(meta={"source_type": "utm", "session_start_time": "yesterday"})
    )
    assert mapped.problems == ()
    assert mapped.records[1].record.occurred_at.isoformat() == "2026-03-02T10:00:00+00:00"
    assert [note.field for note in mapped.notes] == ["occurred_at"]
    assert "yesterday" not in str(mapped.notes[0])


def test_woocommerce_address_that_is_none_keeps_the_order():
    mapped = apply("woocommerce", "orders", order(billing={"email": "brak"}))
    assert mapped.problems == ()
    assert mapped.records[0].record.email is None
    assert [note.field for note in mapped.notes] == ["email"]


@pytest.mark.parametrize(
    ("source_type", "made"),
    [("utm", True), ("organic", True), ("referral", True), ("typein", True), ("admin", False), (None, False)],
)
def test_woocommerce_touch_by_source_type(source_type, made):
    meta = {"utm_campaign": "c", "utm_source": "s", **({"source_type": source_type} if source_type else {})}
    touches = [one.record for one in apply("woocommerce", "orders", order(meta=meta)).records[1:]]
    assert bool(touches) is made
    if made:
        assert touches[0].direct is (source_type == "typein")
        assert touches[0].utm_campaign == ("c" if source_type == "utm" else None)


def test_woocommerce_marketplace_sub_order_keeps_its_parent():
    assert apply("woocommerce", "orders", order(parent_id=5)).records[0].record.parent_id == "5"
    assert apply("woocommerce", "orders", order()).records[0].record.parent_id is None


def refund(**fields):
    return {"id": 1, "date_created_gmt": "2026-03-02T10:00:00", "amount": "12.30", "line_items": [], **fields}


def test_woocommerce_refund_whose_lines_make_up_the_amount_knows_its_tax():
    lines = [{"total": "-5.00", "total_tax": "-1.15"}]
    shipping = [{"total": "-5.00", "total_tax": "-1.15"}]
    mapped = apply("woocommerce", "refunds", refund(line_items=lines, shipping_lines=shipping), order_id="3")
    known = mapped.records[0].record
    assert (known.order_id, str(known.tax), str(known.shipping)) == ("3", "2.30", "6.15")


def test_woocommerce_refund_beyond_its_lines_has_no_known_split():
    lines = [{"total": "-5.00", "total_tax": "-1.15"}]
    known = apply("woocommerce", "refunds", refund(line_items=lines), order_id="3").records[0].record
    assert (known.tax, known.shipping) == (None, None)


def test_woocommerce_refund_without_an_order_is_a_problem():
    mapped = apply("woocommerce", "refunds", refund())
    assert mapped.records == ()
    assert [problem.field for problem in mapped.problems] == ["order_id"]


def lead(**answers):
    consent = answers.pop("consent", None)
    record = {
        "id": "1",
        "created_time": "2026-03-03T09:14:22+0000",
        "field_data": [{"name": name, "values": [value]} for name, value in answers.items()],
    }
    if consent is not None:
        record["custom_disclaimer_responses"] = [{"checkbox_key": "k", "is_checked": one} for one in consent]
    return record


@pytest.mark.parametrize(
    "answer",
    ["<test lead: dummy data for email>", "test@meta.com", "test@fb.com"],
    ids=["text", "meta", "fb"],
)
def test_meta_test_leads_make_no_touch(answer):
    mapped = apply("meta_ads", "leads", lead(email=answer))
    assert mapped.problems == ()
    assert [(one.kind, one.record.test) for one in mapped.records] == [("lead", True)]


@pytest.mark.parametrize(
    ("boxes", "consent"),
    [(["1", ""], True), ([True], True), (["", ""], False), ([False], False), ([], None), (None, None)],
)
def test_meta_consent(boxes, consent):
    mapped = apply("meta_ads", "leads", lead(email="a@example.com", consent=boxes))
    assert mapped.records[0].record.consent is consent


def test_meta_fields_by_the_type_of_the_question():
    types = {"twoj_mail": "EMAIL", "tel": "PHONE", "imie": "FIRST_NAME", "nazwisko": "LAST_NAME"}
    answers = {"twoj_mail": "A@Example.com", "tel": "601 000 000", "imie": "Ala", "nazwisko": "Kot"}
    found = apply("meta_ads", "leads", lead(**answers), question_types=types).records[0].record
    assert (found.email, found.phone, found.full_name) == ("a@example.com", "+48601000000", "Ala Kot")


def test_mailchimp_member_without_its_list_takes_it_from_the_context():
    member = {"contact_id": "c1", "email_address": "a@example.com", "status": "subscribed"}
    found = apply("mailchimp", "contacts", member, list_id="l1").records
    assert [(one.kind, one.record.external_id) for one in found] == [("contact", "l1|c1")]
    assert found[0].record.consent is True


def test_mailchimp_click_takes_its_utm_from_the_link():
    activity = {
        "action": "click",
        "timestamp": "2026-07-08T18:01:29+00:00",
        "url": "https://example.com/?utm_source=news&utm_campaign=July",
    }
    recipient = {
        "campaign_id": "k",
        "email_id": "e",
        "email_address": "a@example.com",
        "activity": [activity],
    }
    touch = apply("mailchimp", "touches", recipient, campaign_title="July news").records[0].record
    assert (touch.kind, touch.utm_source, touch.utm_campaign) == ("email_click", "news", "July")
    assert touch.campaign_name == "July news"
    assert touch.external_id.startswith("k|e|click|2026-07-08T18:01:29+00:00|https://")


@pytest.mark.parametrize(("optout", "consent"), [("true", False), ("false", True), (None, None), ("", None)])
def test_hubspot_consent_is_the_optout_inverted(optout, consent):
    record = {"id": "1", "properties": {"hs_email_optout": optout}}
    assert apply("hubspot", "contacts", record).records[0].record.consent is consent


def test_hubspot_without_a_reason_property_reads_no_reasons():
    history = {"why": [{"value": "x", "timestamp": "2026-09-14T10:02:31.455Z", "sourceType": "API"}]}
    record = {"id": "1", "propertiesWithHistory": history}
    assert apply("hubspot", "stage_changes", record).records == ()
    change = apply("hubspot", "stage_changes", record, reason_property="why").records[0]
    assert (change.record.field, change.record.by_api, change.keep) == ("reason", True, True)


def test_hubspot_queue_has_an_owner_id_only():
    owner = apply("hubspot", "owners", {"id": "7", "type": "QUEUE", "email": ""}).records[0].record
    assert (owner.external_id, owner.active) == ("owner:7", True)
