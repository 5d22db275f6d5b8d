"""The config: everything wrong is said at once, at its place, with what would be right."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from connectors import catalog
from connectors.catalog import Broken
from connectors.contract import Connector, Stream
from sync import config, config_schema, config_types
from sync.config import ConfigError

ROOT = Path(__file__).resolve().parents[3]


class Retry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    attempts: int = 3
    token: pydantic.SecretStr | None = None


class ShopOptions(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    base_url: str
    secret: pydantic.SecretStr
    page_size: int = pydantic.Field(default=100, ge=1, le=1000)
    retry: Retry = Retry()
    more_secrets: dict[str, pydantic.SecretStr] = {}

    @pydantic.field_validator("base_url")
    @classmethod
    def _https(cls, value: str) -> str:
        if not value.startswith("https://"):
            raise ValueError(f"{value} is not https")
        return value

    @pydantic.model_validator(mode="after")
    def _whole(self) -> ShopOptions:
        if not self.secret.get_secret_value():
            raise ValueError("the secret has no checksum")
        return self


class FilesOptions(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    path: str
    stream: str = "leads"


class Files:
    @classmethod
    def streams(cls, options: FilesOptions) -> tuple[Stream, ...]:
        return (Stream(options.stream),)


SHOP = Connector(
    type="shop", options=ShopOptions, streams=(Stream("orders"), Stream("refunds")), source=object(),
    mapping="vendors/woocommerce.yaml",
)  # fmt: skip
CRM = Connector(
    type="crm", options=FilesOptions, streams=(Stream("contacts"),), source=object(), destination=object(),
    mapping="vendors/hubspot.yaml",
)  # fmt: skip
FILES = Connector(type="files", options=FilesOptions, source=Files)

GOOD = """\
workspace: {name: My shop, timezone: Europe/Warsaw, currency: PLN}
connectors:
  - name: shop
    type: shop
    schedule: "*/15 * * * *"
    from: 2024-01-31
    streams: [orders]
    options:
      base_url: https://shop.example
      secret: ${env:SHOP_SECRET}
  - {name: crm, type: crm, from: 2024-01-31, options: {path: x}}
  - name: fair
    type: files
    from: 2024-01-31
    options: {path: fair.csv, stream: visitors}
    mapping:
      visitors:
        - kind: lead
          fields: {external_id: id, occurred_at: at, email: email}
push:
  - to: crm
    stages: [won]
    fields:
      lifecyclestage: {stage: {won: customer}}
      revenue: revenue
      owner: {const: leadledger}
"""
ENVIRON = {"SHOP_SECRET": "s3cr3t-value"}


@pytest.fixture(autouse=True)
def types(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Three small connector types; with the mark `installed`, those that are really there."""
    if "real" not in request.fixturenames:
        found = (
            {"shop": SHOP, "crm": CRM, "files": FILES},
            (Broken("acme", "acme:X cannot be imported: boom"),),
        )
        monkeypatch.setattr(catalog, "find", lambda: found)


@pytest.fixture
def real() -> dict[str, Connector]:
    found, broken = catalog.find()
    assert not broken
    return found


def load(tmp_path: Path, text: str, **environ: str) -> config.Config:
    file = tmp_path / "leadledger.yaml"
    file.write_text(text, "utf-8")
    return config.load(file, environ={**ENVIRON, **environ})


def mistakes(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """Every mistake as line:column: text, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **environ)
    name = str(tmp_path / "leadledger.yaml")
    assert all(mistake.file == name for mistake in caught.value.mistakes)
    return [str(mistake).removeprefix(f"{name}:") for mistake in caught.value.mistakes]


def test_good_config_has_its_values_defaults_and_options(tmp_path):
    read = load(tmp_path, GOOD)
    assert read.workspace.language == "en"
    assert read.path == tmp_path / "leadledger.yaml"
    assert read.data_folder == tmp_path / "data"
    shop = read.connector("shop")
    assert isinstance(shop.options, ShopOptions)
    assert shop.options.secret.get_secret_value() == "s3cr3t-value"
    assert (shop.start, shop.streams, shop.catch_up) == (date(2024, 1, 31), ("orders",), "one")
    assert read.identity.caps.model_dump() == {
        "email": 10, "phone": 3, "click_id": 3, "customer_id": 5, "crm_id": 5,
    }  # fmt: skip
    assert read.funnel.sql[0].where["value"].one_of == ("salesqualifiedlead", "opportunity")
    assert read.attribution.model == "last"
    assert read.push[0].fields["revenue"].source == "revenue"
    assert read.push[0].fields["owner"].const == "leadledger"
    assert read.push[0].fields["lifecyclestage"].stage == {"won": "customer"}
    with pytest.raises(KeyError, match="did you mean 'shop'"):
        read.connector("shpo")
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        read.data = "elsewhere"


def test_no_secret_in_the_text_of_a_config(tmp_path):
    read = load(tmp_path, GOOD + "database: postgresql://me:${env:PW}@db/name\n", PW="hidden-pw")
    assert read.database == "postgresql://me:hidden-pw@db/name"
    assert "hidden-pw" not in repr(read)
    assert "s3cr3t" not in repr(read)


def test_fingerprint_follows_the_file_and_not_the_secrets(tmp_path):
    first = load(tmp_path, GOOD).fingerprint()
    assert load(tmp_path, "# a comment\n" + GOOD).fingerprint() == first
    assert load(tmp_path, GOOD, SHOP_SECRET="rotated").fingerprint() == first
    assert load(tmp_path, GOOD.replace("2024-01-31", "2024-02-01")).fingerprint() != first
    # names of other types than text
    mapped = GOOD.replace("email: email}", "source: {path: x, map: {null: a, 1: b, c: d}}}")
    assert load(tmp_path, mapped).fingerprint() not in {first, ""}


def test_all_mistakes_come_at_once_in_the_order_of_the_file(tmp_path):
    text = """\
workspace: {name: My shop, timezone: Europe/Warsav, currency: pln, langauge: en}
conectors: []
connectors:
  - name: shop
    type: shopp
  - name: Shop 2
    type: crm
    schedule: "every day"
    from: 2024-13-01
    options: {pth: x}
attribution:
  model: lst
  lookback_days: many
  position: {first: 0.7, last: 0.7}
funnel:
  mql:
    - on: lead
      where: {scoore: {min: 50}, consent: 1}
push:
  - to: cmr
    fields: {a: {stage: {wonn: x}}, b: revenu}
"""
    assert mistakes(tmp_path, text) == [
        "1:38: workspace.timezone: unknown time zone 'Europe/Warsav'; did you mean 'Europe/Warsaw'?",
        "1:63: workspace.currency: unknown currency 'pln'; did you mean 'PLN'?",
        "1:68: workspace.langauge: unknown key 'langauge'; did you mean 'language'?",
        "2:1: conectors: unknown key 'conectors'; did you mean 'connectors'?",
        "5:11: connectors[0].type: unknown connector type 'shopp'; did you mean 'shop'?",
        "6:11: connectors[1].name: string should match pattern '^[a-z][a-z0-9_-]{0,39}$'",
        "8:15: connectors[1].schedule: 'every day' is not a cron line of five fields; "
        "minute hour day month weekday, as in '15 * * * *'",
        "9:11: connectors[1].from: there is no such date or time",
        "10:5: connectors[1].options: path: is missing",
        "10:15: connectors[1].options.pth: unknown key 'pth'; did you mean 'path'?",
        "12:10: attribution.model: unknown value 'lst'; did you mean 'last'?",
        "13:18: attribution.lookback_days: must be a whole number",
        "14:13: attribution.position: first and last are more than 1 together; "
        "they are shares, as in 0.4 and 0.4",
        "18:15: funnel.mql[0].where.scoore: a lead has no field 'scoore'; did you mean 'score'?",
        "18:34: funnel.mql[0].where.consent: must be true or false; lead.consent is of that kind",
        "20:9: push[0].to: there is no connector 'cmr'; known: Shop 2, shop",
        "21:26: push[0].fields.a.stage.wonn: unknown value 'wonn'; did you mean 'won'?",
        "21:40: push[0].fields.b.source: unknown value 'revenu'; did you mean 'revenue'?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the file is empty; leadledger init writes a config to start from"),
        ("- a\n", "1:1: must be a mapping of names to values; leadledger init writes one to start from"),
        ("a: [1,\n b: 2\n", "3:1: not YAML: "),
        ("a: 1\n\tb: 2\n", "2:1: not YAML: "),
        ("a: &x [*x]\n", "1:4: too much nesting"),
        ("workspace: {name: a, currency: EUR}\n---\nb: 1\n", "2:1: not YAML: expected a single document"),
    ],
)
def test_what_is_no_config_at_all(tmp_path, text, expected):
    assert mistakes(tmp_path, text)[0].startswith(expected)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no such file; leadledger init"):
        config.load(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("workspace: {name: zażółć}".encode("cp1250"))
    with pytest.raises(ConfigError, match="not UTF-8 at byte"):
        config.load(tmp_path / "latin.yaml")


def test_a_name_that_stands_twice_is_one_mistake_among_others(tmp_path):
    text = "workspace: {name: a, name: b, currency: EUR}\ndata: x\ndata: y\nbogus: 1\n"
    assert mistakes(tmp_path, text) == [
        "1:22: workspace.name: 'name' stands twice; it is also in line 1; keep one",
        "3:1: data: 'data' stands twice; it is also in line 2; keep one",
        "4:1: bogus: unknown key 'bogus'; known: attribution, connectors, data, database, "
        "funnel, identity, ledger, push, workspace",
    ]


def test_anchors_and_merges_work_and_bombs_do_not(tmp_path):
    text = "workspace: &w {name: a, currency: EUR}\n"
    rule = "push:\n  - &p {to: crm, stages: [won], fields: {a: stage}}\n  - {<<: *p, stages: [sql]}\n"
    connectors = "connectors: [{name: crm, type: crm, from: 2024-01-01, options: {path: x}}]\n"
    assert load(tmp_path, text + rule + connectors).push[1].stages == ("sql",)
    bomb = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 1}]" for i in range(9))
    assert "too much nesting or too many repeated parts" in "".join(mistakes(tmp_path, bomb))


def test_secrets_come_from_the_environment_and_from_files(tmp_path):
    (tmp_path / "key").write_text("from a file\n")
    read = load(tmp_path, GOOD.replace("${env:SHOP_SECRET}", "${file:key}"))
    assert read.connector("shop").options.secret.get_secret_value() == "from a file"
    read = load(tmp_path, GOOD.replace("https://shop.example", "https://${env:HOST}/$${x}"), HOST="h.example")
    assert read.connector("shop").options.base_url == "https://h.example/${x}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("${env:NOPE}", "the environment variable NOPE is not set; set it before you start leadledger"),
        ("${env:EMPTY}", "the environment variable EMPTY is empty; set it before you start leadledger"),
        ("${file:nope}", "the file nope cannot be read: No such file or directory; make the file"),
        ("${ENV:X}", "this is not a reference to a secret; write ${env:NAME} or ${file:PATH}"),
        ("${env:", "this is not a reference to a secret; write ${env:NAME} or ${file:PATH}"),
        ("plain-old-secret", "a secret must not stand here in clear; write ${env:…} or ${file:…}"),
        ("plain ${env:SHOP_SECRET}", "a secret must not stand here in clear; write ${env:…} or ${file:…}"),
    ],
)
def test_wrong_secrets_are_named_and_never_shown(tmp_path, written, expected):
    found = mistakes(tmp_path, GOOD.replace("${env:SHOP_SECRET}", f'"{written}"'), EMPTY="")
    assert len(found) == 1
    assert found[0].startswith(f"10:15: connectors[0].options.secret: {expected}")
    assert "plain-old" not in found[0]


def test_nested_secrets_in_clear_are_found(tmp_path):
    options = "secret: ${env:SHOP_SECRET}\n      retry: {token: clear1}\n      more_secrets: {a: clear2}"
    found = mistakes(tmp_path, GOOD.replace("secret: ${env:SHOP_SECRET}", options))
    assert [line.split(": ")[1] for line in found] == [
        "connectors[0].options.retry.token", "connectors[0].options.more_secrets.a",
    ]  # fmt: skip


def test_a_connectors_own_message_does_not_show_a_secret(tmp_path):
    text = GOOD.replace("https://shop.example", "${env:SHOP_SECRET}")
    assert mistakes(tmp_path, text) == ["9:17: connectors[0].options.base_url: … is not https"]


def test_password_of_the_database_in_clear_is_a_mistake_and_not_shown(tmp_path):
    found = mistakes(tmp_path, GOOD + "database: postgresql://me:hunter22@db/name\n")
    assert found == [
        "27:11: database: holds a password in clear; write ${env:NAME} or ${file:PATH} in its place"
    ]


@pytest.mark.parametrize(
    "address", ["sqlite:///x", "postgresql://host", "embeded", "postgresql://h:99999999/x"]
)
def test_wrong_database(tmp_path, address):
    assert (
        "must be embedded or the address of a database"
        in mistakes(tmp_path, GOOD + f"database: {address}\n")[0]
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("type: crm", "type: acme", "type 'acme' cannot be used: acme:X cannot be imported: boom"),
        ("name: fair", "name: shop", "12:11: connectors[2].name: another connector is called 'shop' too"),
        ("streams: [orders]", "streams: [ordres]", "7:15: connectors[0].streams[0]: shop has no stream"),
        ("    from: 2024-01-31\n    streams", "    streams", "3:5: connectors[0]: from: is missing;"),
        ('"*/15 * * * *"', '"61 * * * *"', "5:15: connectors[0].schedule: '61 * * * *' is not a cron line"),
        ('"*/15 * * * *"', '"0 0 31 2 *"', "connectors[0].schedule: '0 0 31 2 *' never comes due"),
        ('"*/15 * * * *"', '"R * * * *"', "'R * * * *' is not a cron line of five fields"),
        ('"*/15 * * * *"', '"@daily"', "'@daily' is not a cron line of five fields"),
        ("      base_url: https://shop.example\n", "", "8:5: connectors[0].options: base_url: is missing"),
        ("base_url: https", "page_size: 0\n      base_url: https", "options.page_size: input should be"),
        ("to: crm", "to: shop", "push[0].to: 'shop' (shop) cannot be written to; these can: crm"),
        ("revenue: revenue", "revenue: [revenue]", "must be a name, {stage: {…}} or {const: text}"),
        ("{const: leadledger}", "{const: a, source: revenue}", "must be a name, {stage: {…}} or"),
        ("stream: visitors", "stream: guests", "18:9: connectors[2].mapping.visitors: there is no stream"),
        ("kind: lead", "kind: leed", "18:11: connectors[2].mapping.visitors[0]: unknown kind 'leed'"),
        ("email: email}", "emial: email}", "unknown field 'emial'"),
    ],
)  # fmt: skip
def test_each_wrong_part_of_a_good_config(tmp_path, old, new, expected):
    assert old in GOOD
    found = mistakes(tmp_path, GOOD.replace(old, new))
    assert len(found) == 1, found
    assert expected in found[0]


def test_files_need_a_mapping(tmp_path):
    text = GOOD[: GOOD.index("    mapping:")]
    assert mistakes(tmp_path, text) == [
        "12:5: connectors[2]: a files connector needs a mapping:; {stream: [{kind: …, fields: …}]}"
    ]


def test_mapping_overrides_are_checked_at_their_line(tmp_path):
    override = "    streams: [orders]\n    mapping:\n      orders:\n        order:\n          {}\n"
    good = load(
        tmp_path, GOOD.replace("    streams: [orders]\n", override.format("number: {path: my_number}"))
    )
    assert good.connector("shop").mapping == {"orders": {"order": {"number": {"path": "my_number"}}}}
    body = json.dumps({"my_number": "A1"}).encode()
    mapping = config.mapping_of(good.connector("shop"))
    assert mapping.fingerprint("orders") != config.mapping_of(
        good.connector("shop").model_copy(update={"mapping": {}})
    ).fingerprint("orders")
    assert mapping.apply("orders", body, {}, phone_region=None, zone=good.zone).problems
    text = GOOD.replace("    streams: [orders]\n", override.format("numbr: my_number"))
    found = mistakes(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith("11:11: connectors[0].mapping.")
    assert "did you mean 'number'?" in found[0]


def test_a_destination_alone_needs_no_date(tmp_path):
    read = load(tmp_path, GOOD.replace("type: crm, from: 2024-01-31", "type: crm, streams: []"))
    assert read.connector("crm").start is None


def test_two_push_rules_must_not_write_the_same_field_of_the_same_people(tmp_path):
    second = "  - {to: crm, stages: [won, sql], fields: {revenue: {const: x}}}\n"
    assert mistakes(tmp_path, GOOD + second) == [
        "27:44: push[1].fields.revenue: push[0] writes 'revenue' of people at 'won' too; "
        "one rule a field and stage"
    ]
    assert len(load(tmp_path, GOOD + second.replace("won, sql", "sql")).push) == 2


def test_conditions_take_the_type_of_their_field(tmp_path):
    text = """\
funnel:
  mql:
    - on: lead
      where: {form_id: 4711, score: {min: 50}, occurred_at: {min: 2024-01-31}, test: false, tags_: 1}
"""
    assert "a lead has no field 'tags_'" in mistakes(tmp_path, GOOD + text)[0]
    where = load(tmp_path, GOOD + text.replace(", tags_: 1", "")).funnel.mql[0].where
    assert where["form_id"].one_of == ("4711",)
    assert where["score"].low == 50
    assert where["occurred_at"].low == datetime(2024, 1, 31, tzinfo=UTC)
    assert where["test"].one_of == (False,)


@pytest.mark.parametrize(
    ("on", "where", "expected"),
    [
        ("stage_change", "{field: stge}", "must be one of stage, status, reason"),
        ("lead", "{score: high}", "must be a number"),
        ("lead", "{occurred_at: {min: soon}}", "must be a date or a time"),
        ("lead", "{consent: yes}", "must be true or false"),
        ("lead", "{score: {minimum: 1}}", "unknown key 'minimum'; did you mean 'min'?"),
        ("lead", "{score: {}}", "a condition must not be empty"),
        ("lead", "{score: }", "a condition must not be empty"),
        ("leed", "{score: 1}", "unknown value 'leed'; did you mean 'lead'?"),
    ],
)
def test_wrong_conditions(tmp_path, on, where, expected):
    text = f"funnel:\n  lost:\n    - on: order\n      and: [{{on: {on}, where: {where}}}]\n"
    found = mistakes(tmp_path, GOOD + text)
    assert len(found) == 1, found
    assert expected in found[0]
    assert found[0].startswith("30:")


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(),
    st.just("${env:SHOP_SECRET}"), st.just("${env:NO}"),
    st.sampled_from(["shop", "crm", "files", "orders", "lead", "won", "in", "stage"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | SCALARS, inner, max_size=3)
    ),
    max_leaves=5,
)


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in items for place in _places(value, (*path, key)))]


@given(data=st.data(), value=VALUES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_anywhere_there_is_a_config_or_a_list_of_mistakes(tmp_path, data, value):
    yaml = YAML(typ="safe", pure=True)
    tree = yaml.load(GOOD + "funnel: {mql: [{on: lead, where: {score: {min: 5}}, and: [{on: order}]}]}\n")
    *above, last = data.draw(st.sampled_from(_places(tree)[1:]))
    holder = tree
    for part in above:
        holder = holder[part]
    holder[last] = value
    out = StringIO()
    yaml.dump(tree, out)
    said = ""
    try:
        load(tmp_path, out.getvalue())
    except ConfigError as error:
        said = "\n".join(map(str, error.mistakes)) or "an error without mistakes"
    assert "s3cr3t" not in said
    assert "an error without" not in said


def test_schema_of_the_config_folder_is_current(real):
    stored = (ROOT / "config" / "leadledger.schema.json").read_text("utf-8")
    assert stored == config_schema.text(), "write it anew: make schema"
    types = config_schema.schema()["$defs"]["ConnectorConfig"]["properties"]["type"]["enum"]
    assert types == sorted(real)


def test_schema_has_the_options_of_each_type():
    made: dict[str, Any] = config_schema.schema()
    assert made["$defs"]["ConnectorConfig"]["properties"]["type"]["enum"] == ["crm", "files", "shop"]
    assert made["$defs"]["shop.options"]["required"] == ["base_url", "secret"]
    assert made["$defs"]["shop.options"]["properties"]["retry"]["$ref"] == "#/$defs/shop.Retry"
    assert {"shop.Retry", "Workspace"} <= set(made["$defs"])
    branch = made["$defs"]["ConnectorConfig"]["allOf"][-1]
    assert branch["if"]["properties"]["type"] == {"const": "shop"}
    assert branch["then"]["properties"]["options"] == {"$ref": "#/$defs/shop.options"}
    assert "from" in made["$defs"]["ConnectorConfig"]["properties"]

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert references(made) <= {f"#/$defs/{name}" for name in made["$defs"]}


def test_starter_is_a_good_config_and_the_example_is_its_copy(real, tmp_path):
    starter = (ROOT / "sync" / "cli" / "starter.yaml").read_text("utf-8")
    assert (ROOT / "config" / "leadledger.example.yaml").read_text("utf-8") == starter
    secrets = {
        name: f"{name.lower()}-us21"
        for name in (
            "WOOCOMMERCE_KEY",
            "WOOCOMMERCE_SECRET",
            "META_ACCESS_TOKEN",
            "MAILCHIMP_API_KEY",
            "HUBSPOT_TOKEN",
        )
    }
    read = load(tmp_path, starter, **secrets)
    assert {connector.type for connector in read.connectors} == set(real) - {"files", "ecb"}
    # what it spells out are the defaults, so that deleting a line changes nothing
    assert read.funnel == config_types.Funnel()
    assert read.attribution == config_types.Attribution()
    plain = config_types.Identity(phone_region="PL", ignore=("info@*", "sales@*"))
    assert read.identity == plain
    # the part that is commented out is good as well
    lines = starter.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("  # - name: fair"))
    last = next(i for i in range(first, len(lines)) if not lines[i].startswith("  # "))
    lines[first:last] = [line.replace("# ", "", 1) for line in lines[first:last]]
    assert load(tmp_path, "\n".join(lines), **secrets).connector("fair").type == "files"


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (
            "type: acme\nstreams:\n  orders:\n    - kind: order\n      fields: {external_id: id, colour: red}\n",
            "acme.yaml, line 5: unknown field 'colour'; this is for the author of the connector acme",
        ),
        (None, "the mapping of acme cannot be read: No such file or directory"),
    ],
)
def test_the_broken_mapping_of_an_installed_connector_is_named(tmp_path, monkeypatch, mapping, said):
    package = tmp_path / f"acme_{'whole' if mapping else 'empty'}"
    package.mkdir()
    (package / "__init__.py").touch()
    if mapping is not None:
        (package / "acme.yaml").write_text(mapping)
    monkeypatch.syspath_prepend(str(tmp_path))
    acme = replace(SHOP, type="acme", mapping="acme.yaml", package=package.name)
    monkeypatch.setattr(catalog, "find", lambda: ({"acme": acme, "crm": CRM, "files": FILES}, ()))
    found = mistakes(tmp_path, GOOD.replace("type: shop", "type: acme"))
    assert any(said in one for one in found), found


# the ledger

LEDGER_BASE = "workspace: {name: W, currency: PLN}\nledger:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  signing_key: abcd1234", "ledger.signing_key: a secret must not stand here in clear"),
        ("  trusted_keys: [abc]", "ledger.trusted_keys[0]: is no public key"),
        ("  witness: [{file: a, git: b}]", "ledger.witness[0]: must name one place"),
        ("  witness: [{push: true}]", "ledger.witness[0]: must name one place"),
        ("  witness: [{file: a, push: true}]", "ledger.witness[0]: push is for git"),
        ("  witness: [{email: a@b.example, from: c@d.example}]", "smtp: is missing"),
        ("  witness: [{email: a@b.example, smtp: 'smtp://h'}]", "from: is missing"),
        ("  witness: [{email: a@b.example, from: c@d.example, smtp: 'http://h'}]", "smtp must be an address"),
        (
            "  witness: [{email: a@b.example, from: c@d.example, smtp: 'smtp://u:p@h'}]",
            "smtp must be an address",
        ),
        ("  witness: [{s3: 'https://h/b', access_key: '${env:A}'}]", "secret_key: is missing"),
        ("  witness: [{file: a}, {file: a}]", "ledger.witness[1]: file:a stands twice"),
        ("  witness: [{fiel: a}]", "unknown key 'fiel'"),
        ("  witness: [{s3: 'https://h/b', access_key: abcd1, secret_key: '${env:A}'}]", "in clear"),
    ],
)
def test_mistakes_of_the_ledger_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "leadledger.yaml"
    path.write_text(f"{LEDGER_BASE}{text}\n")
    with pytest.raises(ConfigError) as error:
        config.load(path, environ={"A": "a-secret"})
    assert said in str(error.value)
    assert "abcd1" not in str(error.value)


def test_a_ledger_without_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "leadledger.yaml"
    path.write_text(
        f"{LEDGER_BASE}  signing_key: ${{env:A}}\n"
        "  witness:\n    - file: heads.jsonl\n    - git: repo\n      push: true\n"
    )
    found = config.load(path, environ={"A": "a-secret"}).ledger
    assert [(w.kind, w.name) for w in found.witness] == [("file", "file:heads.jsonl"), ("git", "git:repo")]
    assert "a-secret" not in repr(found)
