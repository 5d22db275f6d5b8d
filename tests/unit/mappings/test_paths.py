"""The path language."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings import paths

RECORD = {
    "id": 7,
    "empty": "",
    "zero": 0,
    "no": False,
    "billing": {"email": "a@example.com", "odd.name": 1, "list": []},
    "meta": [
        {"key": "a", "value": "1"},
        "not an object",
        {"key": "a", "value": "2"},
        {"key": "b]", "value": {"x": 3}},
        {"key": 5, "value": "five"},
        {"key": True, "value": "yes"},
    ],
    "rows": [{"v": [1, 2]}, {"v": []}, {}, {"v": "x"}, {"v": ""}],
    "types": {"mail": "EMAIL", "tel": "PHONE"},
}
CONTEXT = {"wanted": "b]", "name": "billing", "order_id": "9", "types": {"mail": "EMAIL"}, "number": 5}


def scope(item=None, root=None):
    record = RECORD if root is None else root
    return paths.Scope(record if item is None else item, record, CONTEXT, "PL", ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", 7),
        ("zero", 0),
        ("no", False),
        ("empty", None),
        ("nowhere.at.all", None),
        ("id.below", None),
        ("meta.key", None),
        ("billing.email", "a@example.com"),
        ('billing["odd.name"]', 1),
        ('["billing"].email', "a@example.com"),
        ("meta[0].value", "1"),
        ("meta[-1].value", "yes"),
        ("meta[99].value", None),
        ("billing[0]", None),
        ("meta[key=a].value", "1"),
        ('meta[key="b]"].value.x', 3),
        ("meta[key=5].value", "five"),
        ("meta[key=true].value", "yes"),
        ("meta[key=none].value", None),
        ("meta[key=$.wanted].value.x", 3),
        ("meta[key=$.number].value", "five"),
        ("meta[key=$.missing].value", None),
        ("id[key=a]", None),
        ("rows[].v", [[1, 2], [], None, "x", None]),
        ("rows[].v[]", [1, 2, None, None, None]),
        ("meta[].value", ["1", None, "2", {"x": 3}, "five", "yes"]),
        ("billing[]", None),
        ("$.order_id", "9"),
        ("$.types.<EMAIL>", "mail"),
        ("types.<PHONE>", "tel"),
        ("types.<OTHER>", None),
        ("[$.name].email", "a@example.com"),
        ("[$.missing].email", None),
        ("^.id", 7),
    ],
)
def test_path(path, value):
    assert paths.compile_path(path)(scope()) == value


def test_inside_an_item_the_record_is_reached_by_the_caret():
    inner = scope().inside({"id": 1})
    assert paths.compile_path("id")(inner) == 1
    assert paths.compile_path("^.id")(inner) == 7
    assert paths.compile_path(".")(inner) == {"id": 1}


def test_a_record_that_is_a_list():
    found = scope(root=[{"a": 1}, {"a": 2}])
    assert paths.compile_path("[1].a")(found) == 2
    assert paths.compile_path("[].a")(found) == [1, 2]


@pytest.mark.parametrize(
    "path",
    ["", "a..b", ".a", "a.", "a[", "a[0", "a]b", "a[0]b", "$.", "^.", "a[x y]", "a[=b]", "$"[:0], "a[[0]]"],
)
def test_wrong_paths_are_refused_with_the_path_in_the_message(path):
    with pytest.raises(paths.PathError) as caught:
        paths.compile_path(path)
    assert repr(path) in str(caught.value)


names = st.text(st.characters(blacklist_characters='.[]"<>$^=', blacklist_categories=["Cs"]), min_size=1)


@given(st.lists(names, min_size=1, max_size=4), st.integers())
def test_names_lead_to_what_is_there(way, value):
    record = value
    for name in reversed(way):
        record = {name: record}
    assert paths.compile_path(".".join(way))(scope(root=record)) == value
    assert paths.compile_path("".join(f'["{name}"]' for name in way))(scope(root=record)) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abk"), inner, max_size=3),
    max_leaves=12,
)
segments = st.sampled_from(["a", "b", "[0]", "[-1]", "[]", "[k=a]", "[k=$.name]", "[$.name]", "<a>"])


@given(st.text(max_size=12), json_values)
def test_any_text_is_a_path_or_refused(text, record):
    try:
        get = paths.compile_path(text)
    except paths.PathError:
        return
    get(scope(root=record))


@given(st.lists(segments, min_size=1, max_size=5), json_values)
def test_any_path_over_any_record_gives_a_value_and_never_an_empty_text(parts, record):
    path = parts[0] + "".join(part if part.startswith("[") else f".{part}" for part in parts[1:])
    assert paths.compile_path(path)(scope(root=record)) != ""
