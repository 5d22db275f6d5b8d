"""Mistakes in a mapping or in an override: all at once, each with its line and what would be right."""

import contextlib
import json
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings import canonical, engine

WARSAW = ZoneInfo("Europe/Warsaw")


def run(text, overrides, record):
    mapping = engine.load(text, name="test.yaml").with_overrides(overrides)
    return mapping.apply("orders", json.dumps(record).encode(), {}, phone_region=None, zone=WARSAW)


def mistakes(text):
    with pytest.raises(engine.MappingError) as caught:
        engine.load(text, name="test.yaml")
    return caught.value.problems


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("kind: order", "kind: ordr", 4, "unknown kind 'ordr'; did you mean 'order'?"),
        ("status: {path", "statsu: {path", 8, "unknown field 'statsu'; did you mean 'status'?"),
        ("zone: UTC", "zoen: UTC", 7, "unknown option 'zoen'; did you mean 'zone'?"),
        ("zone: UTC", "zone: Europe/Warsav", 7, "did you mean 'europe/warsaw'?"),
        (
            "email: email",
            "email: {path: email, as: emial}",
            11,
            "unknown function 'emial'; did you mean 'email'?",
        ),
        ("email: email", "email: {path: email, as: int}", 11, "as: int gives no value for this field"),
        ("email: email", "email: 'a[0'", 11, "a bracket is not closed"),
        ("email: email", "email: {as: email}", 11, "needs exactly one of: path, first"),
        ("email: email", "email: {path: a, const: b}", 11, "needs exactly one of: path, first"),
        ("email: email", "email: 7", 11, "must be a path or a mapping of options"),
        ("email: email", "email: {path: 7}", 11, "a path must be a text"),
        ("email: email", "email: {path: a, when: {path: b, in: [1], equals: 2}}", 11, "exactly one of: in"),
        ("email: email", "email: {path: a, when: {path: b, matches: '('}}", 11, "not a regular expression"),
        ("email: email", "email: {path: a, when: {path: b, inn: [1]}}", 11, "did you mean 'in'?"),
        ("email: email", "email: {path: a, lenient: yes}", 11, "lenient must be true or false"),
        ("email: email", "email: {path: a, map: 5}", 11, "must be a mapping of names"),
        ("email: email", "email: {path: a, when: 5}", 11, "a condition must be a mapping"),
        (
            "email: email",
            "email: {path: a, when: {path: b, present: yes}}",
            11,
            "present must be true or false",
        ),
        ("email: email", "email: {path: a, when: {path: b, in: 5}}", 11, "in must be a list"),
        ("email: email", "email: {all: [a, b]}", 11, "use first:"),
        ("email: email", "email: {is: {path: a, in: [1]}}", 11, "is: gives true or false"),
        ("email: email", "email: {each: a, fields: {sku: b}}", 11, "only lines are made so"),
        ("email: email", "lines: {each: a, fields: {skuu: b}}", 11, "did you mean 'sku'?"),
        ("        currency: currency\n", "", 6, "the field 'currency' is required and not mapped"),
        ("      fields:\n", "      felds:\n", 5, "did you mean 'fields'?"),
        ("streams:", "strems:", 2, "did you mean 'streams'?"),
        ("        email: email\n", "        email: email\n        email: x\n", 12, "not YAML"),
        ("type: test", "type: [", 3, "not YAML"),
    ],
)
def test_mistakes_name_line_and_nearest_name(order_text, old, new, line, said):
    assert old in order_text
    found = mistakes(order_text.replace(old, new))
    assert any(one.line == line and said in str(one) for one in found), "\n".join(map(str, found))


def test_a_mapping_that_holds_itself_is_a_mistake():
    part: dict = {}
    part["not"] = part
    fields = {"external_id": "id", "name": {"path": "n", "when": part}}
    with pytest.raises(engine.MappingError) as caught:
        engine.build({"streams": {"s": [{"kind": "product", "fields": fields}]}}, name="config")
    assert "holds itself" in str(caught.value)


def test_all_mistakes_come_at_once(order_text):
    text = order_text.replace("zone: UTC", "zoen: UTC").replace("email: email", "emial: email")
    assert len(mistakes(text)) == 2


@given(st.text(max_size=60) | st.text(alphabet=":{}[]-&*!|>\n \tab1#'\"", max_size=60))
def test_any_text_is_a_mapping_or_a_mapping_error(text):
    try:
        engine.load(text, name="x")
    except engine.MappingError as error:
        assert error.problems  # noqa: PT017 - both outcomes are right


words = st.sampled_from(
    [
        *("path", "first", "all", "const", "join", "sum", "is", "each", "fields", "as", "map", "otherwise"),
        *("default", "zone", "currency", "region", "url_param", "click", "split", "lenient", "when", "with"),
        *("negate", "in", "not_in", "equals", "present", "matches", "any", "not", "kind", "keep", "money"),
        *(
            "external_id",
            "occurred_at",
            "total_minor",
            "email",
            "lines",
            "click_ids",
            "order",
            "a[0].b",
            "$.x",
        ),
    ]
)
specs = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | words | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.integers(0, 3), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(words, specs, max_size=4), specs, specs)
def test_any_data_is_a_mapping_or_a_mapping_error(order_text, order_record, fields, other, override):
    entries = [{"kind": "order", "fields": fields}, other]
    for data in ({"streams": {"s": entries}}, {"streams": {"s": other}}, {"streams": other}, other):
        with contextlib.suppress(engine.MappingError):
            engine.build(data, name="x")
    base = engine.load(order_text, name="x")
    for overrides in ({"orders": {"order": fields}}, {"orders": {"order": override}}, {"orders": override}):
        try:
            changed = base.with_overrides(overrides)
        except engine.MappingError:
            continue
        changed.fingerprint("orders")
        changed.apply("orders", json.dumps(order_record).encode(), {}, phone_region=None, zone=WARSAW)


# overrides and fingerprints


def test_override_replaces_adds_and_takes_away_fields(order_text, order_record):
    overrides = {
        "orders": {"order": {"status": "state", "number": {"path": "no"}, "email": None}},
    }
    order = run(order_text, overrides, {**order_record, "state": "new", "no": 7}).records[0].record
    assert (order.status, order.number, order.email) == ("new", "7", None)


def test_problem_of_an_override_names_it(order_text, order_record):
    overrides = {"orders": {"order": {"number": {"path": "status", "as": "email"}}}}
    wrong = run(order_text, overrides, order_record).problems[0]
    assert (wrong.source, wrong.line, wrong.field) == ("override of test.yaml", None, "number")


def test_overrides_can_be_given_a_name(order_text):
    with pytest.raises(engine.MappingError) as caught:
        engine.load(order_text, name="test.yaml").with_overrides({"x": {}}, name="connector shop")
    assert str(caught.value).startswith("connector shop: unknown stream 'x'")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"ordres": {}}, "override of test.yaml: unknown stream 'ordres'; did you mean 'orders'?"),
        ({"orders": {"ordr": {}}}, "orders: unknown kind 'ordr'; did you mean 'order'?"),
        (
            {"orders": {"order": {"stats": "x"}}},
            "orders.order: unknown field 'stats'; did you mean 'status'?",
        ),
        ({"orders": {"order": {"status": {"path": "x", "as": "txt"}}}}, "unknown function 'txt'"),
        ({"orders": {"order": {"status": None}}}, "the field 'status' is required and not mapped"),
        ({"orders": {"order": ["status"]}}, "must be a mapping"),
        ({"orders": ["status"]}, "must be a mapping"),
    ],
)
def test_wrong_overrides(order_text, overrides, said):
    with pytest.raises(engine.MappingError) as caught:
        engine.load(order_text, name="test.yaml").with_overrides(overrides)
    assert said in str(caught.value)


def test_fingerprint_changes_with_the_mapping_and_only_then(order_text):
    base = engine.load(order_text, name="a")
    assert base.fingerprint("orders") == engine.load("# note\n" + order_text, name="b").fingerprint("orders")
    assert base.fingerprint("orders") == base.with_overrides({}).fingerprint("orders")
    changed = engine.load(order_text.replace("email: email", "email: mail"), name="a")
    overridden = base.with_overrides({"orders": {"order": {"number": "no"}}})
    removed = base.with_overrides({"orders": {"order": {"email": None}}})
    prints = [one.fingerprint("orders") for one in (base, changed, overridden, removed)]
    assert len(set(prints)) == 4


def test_build_takes_data_that_is_parsed_already():
    data = {"streams": {"s": [{"kind": "product", "fields": {"external_id": "id", "name": "n"}}]}}
    mapped = engine.build(data, name="config").apply(
        "s", b'{"id":1,"n":"x"}', {}, phone_region=None, zone=WARSAW
    )
    assert mapped.records[0].record == canonical.Product(external_id="1", name="x")
    with pytest.raises(engine.MappingError):
        engine.build({"streams": {"s": [{"kind": "product"}]}}, name="config")
