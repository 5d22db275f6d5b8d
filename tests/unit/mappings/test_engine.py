"""The mapping language: what it makes, what it refuses, and how it says so."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings import canonical, engine

WARSAW = ZoneInfo("Europe/Warsaw")


def run(text, record, *, stream=None, region="PL", **context):
    mapping = engine.load(text, name="test.yaml")
    body = record if isinstance(record, bytes) else json.dumps(record).encode()
    return mapping.apply(stream or mapping.streams[0], body, context, phone_region=region, zone=WARSAW)


def contact(fields, record, **options):
    """One contact with the fields under test; they are written as YAML flow, one a line."""
    lines = "".join(f"        {name}: {spec}\n" for name, spec in fields.items())
    head = "type: t\nstreams:\n  s:\n    - kind: contact\n      fields:\n        external_id: {const: 1}\n"
    return run(head + lines, record, **options)


def value(spec, record, field="full_name", **options):
    mapped = contact({field: spec}, record, **options)
    assert [str(problem) for problem in mapped.problems] == []
    return getattr(mapped.records[0].record, field)


def problem(spec, record, field="full_name", **options):
    mapped = contact({field: spec}, record, **options)
    assert mapped.records == ()
    assert len(mapped.problems) == 1
    return mapped.problems[0]


def test_an_order(order_text, order_record):
    mapped = run(order_text, order_record)
    assert mapped.problems == ()
    assert mapped.records == (
        engine.Produced(
            "order",
            canonical.Order(
                external_id="1",
                occurred_at=datetime(2026, 3, 2, 10, tzinfo=UTC),
                status="completed",
                currency="PLN",
                total_minor=1234,
                email="a@example.com",
            ),
            False,
        ),
    )


def test_money_finer_than_its_currency_is_kept_exact(order_text, order_record):
    order = run(order_text, {**order_record, "currency": "JPY", "total": "12.20"}).records[0].record
    assert (order.total_minor, order.total_exact) == (12, Decimal("12.20"))


def test_json_numbers_never_pass_through_a_float(order_text, order_record):
    body = json.dumps(order_record).replace('"12.34"', "9007199254740.93").encode()
    assert run(order_text, body).records[0].record.total_minor == 900719925474093
    binary = run(order_text, json.dumps(order_record).replace('"12.34"', "24.380000000000003").encode())
    assert [one.field for one in binary.problems] == ["total_minor"]


def test_all_problems_of_a_record_are_told_without_its_values(order_text, order_record):
    mapped = run(
        order_text, {**order_record, "total": "1 234,50", "email": "Anna Nowak", "at": None, "currency": "zł"}
    )
    assert mapped.records == ()
    assert {one.field for one in mapped.problems} == {"total_minor", "email", "occurred_at", "currency"}
    said = "\n".join(map(str, mapped.problems))
    assert "Nowak" not in said
    assert "234" not in said
    assert "test.yaml:11: order.email: not an e-mail address: it has not exactly one @" in said
    assert '(email: text "aaaa aaaaa")' in said
    assert "test.yaml:7: order.occurred_at: no value, and the field is required (at: nothing)" in said


def test_one_wrong_entry_does_not_hide_the_right_one(order_text, order_record):
    text = (
        order_text
        + "    - kind: touch\n      fields: {external_id: id, kind: {const: visit}, occurred_at: nowhere}\n"
    )
    mapped = run(text, order_record)
    assert [one.kind for one in mapped.records] == ["order"]
    assert [(one.kind, one.field) for one in mapped.problems] == [("touch", "occurred_at")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "not JSON"),
        (b"", "not JSON"),
        (b'{"id": NaN}', "not JSON"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"secret": "anna@example.com" oops', "not JSON"),
    ],
)
def test_what_is_no_json_is_one_problem(order_text, body, said):
    mapped = run(order_text, body)
    assert mapped.records == ()
    assert len(mapped.problems) == 1
    assert said in str(mapped.problems[0])
    assert "anna" not in str(mapped.problems[0])


def test_lone_surrogates_and_a_byte_order_mark_are_read(order_text, order_record):
    body = b"\xef\xbb\xbf" + json.dumps({**order_record, "status": "a\ud800b"}).encode()
    assert run(order_text, body).records[0].record.status == "ab"


def test_a_row_that_its_connector_could_not_read_is_one_problem(order_text):
    mapped = run(order_text, b"a;b", broken="3 values for 2 columns")
    assert [one.wrong for one in mapped.problems] == ["3 values for 2 columns"]


def test_unknown_stream_is_a_mistake_of_the_caller(order_text, order_record):
    with pytest.raises(KeyError):
        run(order_text, order_record, stream="refunds")


# sources


def test_first_takes_the_first_that_is_there_and_passes_over_lenient_ones():
    spec = "{first: [{path: a, lenient: true}, b], zone: workspace}"
    found = contact({"created_at": spec}, {"a": "soon", "b": "2026-01-01T00:00:00"})
    assert found.records[0].record.created_at == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert [(note.field, note.path, note.got) for note in found.notes] == [("created_at", "a", 'text "aaaa"')]
    assert value(spec, {"a": "2026-01-01T00:00:00Z", "b": "x"}, "created_at").year == 2026


def test_join_is_nothing_when_all_that_varies_is_missing():
    assert value('{join: [{const: "user:"}, id]}', {"id": 5}) == "user:5"
    assert value('{join: [{const: "user:"}, id]}', {}) is None
    assert value('{join: [a, b, c], with: "|"}', {"a": 1, "c": "x"}) == "1||x"
    assert value('{join: [a, b, c], with: " ", skip_empty: true}', {"a": "A", "c": "C"}) == "A C"


def test_sum_is_exact_and_nothing_without_numbers(order_text, order_record):
    text = order_text.replace("total_minor: total", "total_minor: {sum: ['rows[].v', extra], negate: true}")
    rows = [{"v": "-0.10"}, {"v": "-0.20"}, {}]
    assert run(text, {**order_record, "rows": rows, "extra": 1}).records[0].record.total_minor == -70
    assert [one.field for one in run(text, order_record).problems] == ["total_minor"]
    wrong = run(text, {**order_record, "rows": [{"v": "much"}]}).problems[0]
    assert (wrong.field, wrong.wrong) == ("total_minor", "not a decimal number")


@given(st.lists(st.integers(-(10**20), 10**20), min_size=1, max_size=5))
def test_sum_loses_nothing(amounts):
    spec = "{first: [{sum: ['rows[]']}]}"
    rows = [format(Decimal(amount).scaleb(-18), "f") for amount in amounts]
    assert Decimal(value(spec, {"rows": rows})) * 10**18 == sum(amounts)


def test_all_collects_without_doubles():
    spec = "{all: [{path: url}, {path: bare, click: gclid}]}"
    assert value(spec, {"url": "/?gclid=a&fbclid=b", "bare": "a"}, "click_ids") == ("gclid:a", "fbclid:b")
    assert value(spec, {}, "click_ids") == ()


def test_lists_are_split_normalised_and_without_doubles():
    record = {"mails": "A@example.com;b@example.com;a@example.com;"}
    assert value('{path: mails, split: ";"}', record, "emails") == ("a@example.com", "b@example.com")
    assert value("tags[].name", {"tags": [{"name": "x"}, {}, {"name": "x"}]}, "tags") == ("x",)
    mixed = contact({"emails": '{path: m, split: ";", lenient: true}'}, {"m": "brak;a@example.com"})
    assert mixed.records[0].record.emails == ("a@example.com",)
    assert [note.field for note in mixed.notes] == ["emails"]
    assert problem('{path: m, split: ";"}', {"m": "brak"}, "emails").field == "emails"


def test_first_passes_over_a_list_without_values():
    spec = "{first: ['a[].x', b]}"
    assert value(spec, {"a": [{}], "b": ["y"]}, "tags") == ("y",)


def test_lines_name_the_line_that_is_wrong(order_text, order_record):
    text = order_text + "        lines: {each: rows, fields: {sku: sku, total: total}}\n"
    good = run(text, {**order_record, "rows": [{"sku": "a", "total": 1}, {"sku": "", "total": "2.50"}]})
    assert good.records[0].record.lines == (
        canonical.OrderLine(sku="a", total="1"),
        canonical.OrderLine(total="2.50"),
    )
    wrong = run(text, {**order_record, "rows": [{"total": "1"}, {"total": "x"}]}).problems[0]
    assert wrong.field == "lines.1.total"
    assert run(text, order_record).records[0].record.lines == ()


# options


def test_map():
    spec = "{path: s, map: {1: one, 'true': yes, null: none}}"
    assert [value(spec, {"s": s}) for s in (1, "1", True, None, "")] == ["one", "one", "yes", "none", "none"]
    assert problem(spec, {"s": "secret"}).wrong == "a value that the map does not know"
    assert "secret" not in str(problem(spec, {"s": "secret"}))
    assert value("{path: s, map: {a: 1.50}}", {"s": "a"}) == "1.5"
    assert value("{path: s, map: {a: b}, otherwise: keep}", {"s": "z"}) == "z"
    assert value("{path: s, map: {a: b}, otherwise: null}", {"s": "z"}) is None
    assert value("{path: s, map: {a: b}, otherwise: rest}", {"s": "z"}) == "rest"
    assert value('{path: s, map: {"true": false, "false": true}}', {"s": True}, "consent") is False
    assert value('{path: s, map: {"true": false, null: true}}', {}, "consent") is True


def test_default_stands_in_for_what_is_missing_or_passed_over():
    assert value("{path: s, default: unknown}", {}) == "unknown"
    assert (
        value("{path: s, default: a@example.com, lenient: true}", {"s": "brak"}, "email") == "a@example.com"
    )
    assert value("{path: s, default: 2026-01-01, zone: UTC}", {}, "created_at").day == 1


def test_when_on_a_field():
    spec = "{path: s, when: {path: n, in: [1]}}"
    assert value(spec, {"s": "x", "n": 1}) == "x"
    assert value(spec, {"s": "x", "n": 2}) is None


def test_phone_takes_its_region_from_the_record_or_the_workspace():
    spec = "{path: p, region: country}"
    assert value(spec, {"p": "(55) 5555-5555", "country": "BR"}, "phone") == "+555555555555"
    assert value(spec, {"p": "601000000"}, "phone") == "+48601000000"
    assert value(spec, {"p": "601000000"}, "phone", region=None) is None


@pytest.mark.parametrize("zone", ["Europe/Warsaw", "workspace", "$.zone", "^.tz"])
def test_zone(zone):
    found = value(
        f"{{path: t, zone: {zone}}}",
        {"t": "2026-07-01 02:00:00", "tz": "Europe/Warsaw"},
        "created_at",
        zone="Europe/Warsaw",
    )
    assert found == datetime(2026, 7, 1, tzinfo=UTC)


def test_time_without_offset_or_zone_is_a_problem_that_says_what_to_write():
    assert "zone: UTC" in problem("t", {"t": "2026-07-01 02:00:00"}, "created_at").right
    wrong = problem("{path: t, zone: $.zone}", {"t": "2026-07-01 02:00:00"}, "created_at", zone="Mars/Base")
    assert wrong.wrong == "its time zone is unknown"


def test_functions_by_name(order_text, order_record):
    assert value("{path: n, as: html_text}", {"n": "a &amp; <i>b</i>"}) == "a & b"
    assert value("{path: t, as: epoch_ms}", {"t": 1789984800000}, "created_at").year == 2026
    assert value("{path: t, as: epoch_s}", {"t": "1789984800"}, "created_at").year == 2026
    assert value('{path: "c[].x", as: any_true}', {"c": [{"x": ""}, {"x": "1"}]}, "consent") is True
    assert value('{path: "c[].x", as: any_true}', {"c": []}, "consent") is None
    assert value("{path: u, url_param: utm_id}", {"u": "/?utm_id=7"}) == "7"
    comma = order_text.replace("total_minor: total", "total_minor: {path: total, decimal_comma: true}")
    assert run(comma, {**order_record, "total": "1 234,50"}).records[0].record.total_minor == 123450
    minor = order_text.replace("total_minor: total", "total_minor: {path: total, as: int}")
    assert run(minor, {**order_record, "total": 1234}).records[0].record.total_minor == 1234
    other = order_text.replace("total_minor: total", "total_minor: {path: total, currency: {const: JPY}}")
    assert run(other, {**order_record, "total": 1234}).records[0].record.total_minor == 1234


# conditions and entries


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("{path: n, in: [0, null]}", True),
        ("{path: gone, in: [null]}", True),
        ("{path: n, in: [1]}", False),
        ("{path: n, not_in: [1]}", True),
        ("{path: n, not_in: [0]}", False),
        ("{path: t, equals: abc}", True),
        ("{path: t, equals: {path: u}}", False),
        ("{path: n, equals: {path: z}}", True),
        ("{path: t, present: true}", True),
        ("{path: gone, present: true}", False),
        ("{path: gone, present: false}", True),
        ("{path: empty, present: true}", False),
        ("{path: t, matches: ^ab}", True),
        ("{path: t, matches: ^b}", False),
        ("{path: 'l[].x', in: [2]}", True),
        ("{path: 'l[].x', not_in: [2]}", False),
        ("{path: 'l[].x', matches: '2'}", True),
        ("[{path: t, present: true}, {path: n, in: [0]}]", True),
        ("[{path: t, present: true}, {path: n, in: [1]}]", False),
        ("{any: [{path: n, in: [1]}, {path: t, equals: abc}]}", True),
        ("{any: [{path: n, in: [1]}, {path: t, equals: x}]}", False),
        ("{not: {path: n, in: [1]}}", True),
    ],
)
def test_conditions(order_text, order_record, condition, holds):
    record = {"n": 0, "z": "0.00", "t": "abc", "u": "abd", "empty": [], "l": [{"x": 1}, {"x": 2}]}
    assert value(f"{{is: {condition}}}", record, "consent") is holds
    text = order_text.replace("    - kind: order\n", f"    - kind: order\n      when: {condition}\n")
    assert len(run(text, {**order_record, **record}).records) == holds


def test_each_makes_a_record_of_every_item_and_keep_is_told():
    text = """
type: t
streams:
  s:
    - kind: product
      each: rows
      keep: true
      when: {path: id, present: true}
      fields: {external_id: {join: [^.id, id], with: "|"}, name: $.name}
"""
    rows = [{"id": 1}, {}, {"id": 2}]
    mapped = run(text, {"id": "r", "rows": rows}, name="N")
    assert [(one.record.external_id, one.record.name, one.keep) for one in mapped.records] == [
        ("r|1", "N", True),
        ("r|2", "N", True),
    ]
    assert run(text, {"id": "r"}, name="N").records == run(text, {"rows": {}}, name="N").records == ()
    assert run(text, {"rows": "x"}, name="N").problems[0].wrong == "each: is no list"


# any record


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


names = st.sampled_from(["id", "at", "status", "currency", "total", "email", "rows"])


@settings(deadline=None)
@given(st.dictionaries(names, json_values), json_values)
def test_any_record_is_mapped_or_quarantined(order_text, order_record, changes, other):
    text = (
        order_text
        + "        lines: {each: rows, fields: {sku: sku, total: total, name: {path: n, as: html_text}}}\n"
    )
    for record in ({**order_record, **changes}, other):
        mapped = run(text, record)
        assert bool(mapped.records) != bool(mapped.problems)
        assert run(text, record) == mapped
