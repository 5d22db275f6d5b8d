"""The pages and the code say the same: commands, options, exit codes, config keys, examples, figures, links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pydantic
import pytest
import typer

from connectors import catalog
from sync.attribute import rules as attribution
from sync.cli.main import app
from sync.cli.runtime import Exit
from sync.config import load
from sync.config_types import Document, PushName
from sync.ledger import fx
from sync.ledger import rules as ledger
from sync.process import ProcessSettings
from tests.acceptance.markdown import DOCS, PAGES, README, ROOT, Block, blocks, mentions, of_kind, section

ADMIN, FINANCE, OPERATOR = (DOCS / f"{name}.md" for name in ("admin", "finance", "operator"))
SECRETS = (
    "SMTP_PASSWORD",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "WOOCOMMERCE_KEY",
    "WOOCOMMERCE_SECRET",
    "META_ACCESS_TOKEN",
    "HUBSPOT_TOKEN",
    "DB_PASSWORD",
)
FAKE = dict.fromkeys(SECRETS, "a-secret") | {"MAILCHIMP_API_KEY": "a-key-us21"}
USAGE_ERROR: Any = typer.BadParameter.__base__  # click's own, which is inside typer or beside it
# What a part of a config stands in, to be a whole one.
AROUND = """
workspace: {name: Part, currency: PLN}
connectors:
  - name: crm
    type: hubspot
    from: 2024-01-01
    options:
      access_token: ${env:HUBSPOT_TOKEN}
  - name: nbp
    type: nbp
    from: 2024-01-01
"""


def _top(block: Block) -> set[str]:
    return {line.split(":")[0] for line in block.text.splitlines() if re.match(r"[a-z]\w*:", line)}


# The connector of acme_forms is built, and its config loaded, in test_docs_commands.py.
WHOLE = [b for b in of_kind("yaml") if {"workspace", "connectors"} <= _top(b) and "acme_forms" not in b.text]
PARTS = [b for b in of_kind("yaml") if _top(b) and _top(b) <= set(Document.model_fields) - {"workspace"}]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# the command line


def test_cli_page_is_current(generator: ModuleType) -> None:
    assert generator.PAGE.read_text("utf-8") == generator.page(), "make docs"


def test_cli_page_names_every_command_and_option(generator: ModuleType) -> None:
    page = generator.PAGE.read_text("utf-8")
    found = list(generator.commands(typer.main.get_command(app), ("leadledger",)))
    assert len(found) > 20
    for path, command in found:
        [text] = re.findall(rf"^## {' '.join(path)}$(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
        for parameter in command.params:
            for name in [*parameter.opts, *parameter.secondary_opts]:
                assert name in text or name.upper() in text, f"{' '.join(path)} {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_call_that_a_page_shows_is_one_that_the_command_line_takes(page: Path) -> None:
    for call in mentions(page):
        if "COMMAND" not in call:
            _parse(call)


def _parse(call: str) -> None:
    words = shlex.split(call)[1:]
    command: Any = typer.main.get_command(app)
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, call
        command = command.commands[words.pop(0)]
    if "--help" in words or "--version" in words:
        return
    try:
        command.make_context("leadledger", words, resilient_parsing=False)
    except USAGE_ERROR as error:
        pytest.fail(f"{call}: {error}")


def test_a_call_that_the_command_line_does_not_take_is_found() -> None:
    for wrong in (
        "leadledger sink",
        "leadledger sync --faster",
        "leadledger explain",
        "leadledger report taxes",
    ):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            _parse(wrong)


def test_exit_codes_are_explained() -> None:
    text = section(OPERATOR, "Exit codes")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    assert rows == [(str(code.value), code.name) for code in Exit]


def test_settings_of_the_process_are_explained() -> None:
    text = section(OPERATOR, "Logs")
    for name, setting in ProcessSettings.model_fields.items():
        assert f"`LEADLEDGER_{name.upper()}`" in text
        for value in get_args(setting.annotation):
            assert f"`{value}`" in text


def test_what_a_run_may_be_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", section(OPERATOR, "Look"), re.MULTILINE)
    known = set()
    for name in ("runs", "schedule"):
        source = (ROOT / "sync" / f"{name}.py").read_text("utf-8")
        known |= set(re.findall(r'(?:status="|return "|"status": ")(\w+)"', source))
    known |= {"done", "partial"}
    assert set(rows) == known


# the config


@pytest.mark.parametrize("block", WHOLE, ids=lambda block: block.place)
def test_whole_configs_load(block: Block, tmp_path: Path) -> None:
    _load(block.text, tmp_path)


@pytest.mark.parametrize("block", PARTS, ids=lambda block: block.place)
def test_parts_of_configs_load(block: Block, tmp_path: Path) -> None:
    _load(AROUND + block.text, tmp_path)


def test_there_are_configs_to_load() -> None:
    assert len(WHOLE) >= 2
    assert len(PARTS) >= 5


def _load(text: str, folder: Path) -> None:
    path = folder / "leadledger.yaml"
    path.write_text(text, "utf-8")
    load(path, environ=FAKE)


def _sections() -> Iterator[tuple[str, type[pydantic.BaseModel]]]:
    yield "workspace", Document.model_fields["workspace"].annotation  # type: ignore[misc]
    for name in ("connectors", "identity", "funnel", "attribution", "push", "ledger"):
        annotation = Document.model_fields[name].annotation
        inner = [a for a in get_args(annotation) if isinstance(a, type)]
        yield name, inner[0] if inner else annotation  # type: ignore[misc]


def _models(model: Any) -> Iterator[type[pydantic.BaseModel]]:
    """A model and all inside it."""
    if isinstance(model, type) and issubclass(model, pydantic.BaseModel):
        yield model
        for info in model.model_fields.values():
            yield from _models(info.annotation)
        return
    for inner in get_args(model):
        yield from _models(inner)


def test_every_section_of_the_config_is_explained() -> None:
    headings = re.findall(r"^## (.+)$", ADMIN.read_text("utf-8"), re.MULTILINE)
    explained = {name for heading in headings for name in heading.split(", ")}
    assert set(Document.model_fields) <= explained


@pytest.mark.parametrize(("name", "model"), list(_sections()), ids=str)
def test_every_key_of_the_config_is_explained(name: str, model: type[pydantic.BaseModel]) -> None:
    text = section(ADMIN, name)
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    if name != "funnel":  # its keys are the stages, told in a sentence
        assert {info.alias or key for key, info in model.model_fields.items()} <= rows
    for inner in dict.fromkeys(_models(model)):
        if inner.__name__ == "PushValue":
            continue  # its names are the forms of a value: checked below
        for key, info in inner.model_fields.items():
            shown = info.alias or key
            assert re.search(rf"`{shown}[`:]|^[ -]*{shown}:|{{{shown}:", text, re.MULTILINE), (
                f"{name}: {shown}"
            )


@pytest.mark.parametrize(("name", "model"), list(_sections()), ids=str)
def test_defaults_of_the_config_are_told_right(name: str, model: type[pydantic.BaseModel]) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section(ADMIN, name), re.MULTILINE))
    for key, info in model.model_fields.items():
        default = info.default
        if isinstance(default, str | int | float) and (info.alias or key) in rows:
            said = rows[info.alias or key].strip().strip("`")
            assert said == (str(default).lower() if isinstance(default, bool) else f"{default}"), key


def test_every_name_that_a_push_may_send_is_explained() -> None:
    text = section(ADMIN, "push")
    for name in (*get_args(PushName), "stage", "const"):
        assert f"`{name}`" in text or f"{{{name}:" in text


def test_every_option_of_every_connector_is_explained() -> None:
    types, broken = catalog.find()
    assert not broken
    options = section(ADMIN, "connectors").partition("The options of each type")[2]
    rows = re.findall(r"^\| (?:`(\w+)`)? ?\| ([^|]*) \|([^|]*)\|", options, re.MULTILINE)
    told: dict[tuple[str, str], str] = {}
    type_ = ""
    for first, names, default in rows:
        type_ = first or type_
        for name in re.findall(r"`(\w+)`", names):
            told[type_, name] = default
    for type_, declared in types.items():
        for option, info in declared.options.model_fields.items():
            assert (type_, option) in told, f"{type_}: {option}"
            default = info.default
            if isinstance(default, bool | int | float):
                said = told[type_, option].strip("` ")
                assert said == (str(default).lower() if isinstance(default, bool) else f"{default:g}"), option


# the books


def test_kinds_of_entry_and_reasons_are_explained() -> None:
    text = FINANCE.read_text("utf-8")
    for kind in get_args(ledger.Kind):
        assert f"| `{kind}` |" in text
    names = ("NO_PERSON", "NO_LEAD", "NO_CAMPAIGN", "OUTSIDE", "AFTER", "DIRECT")
    for reason in [*(getattr(attribution, name) for name in names), ledger.EXCESS]:
        assert f"`{reason}`" in text


def test_worked_example_is_what_the_rules_book() -> None:
    """Every entry of the page, in its order, from the rules themselves; and the whole sums to zero."""
    booked = [*_order_of_the_example(), *_spend_of_the_example()]
    told = [entry for block in blocks(FINANCE) if block.kind == "text" for entry in _told(block.text)]
    assert [(d.kind, dict(d.postings)) for d in booked] == [(kind, postings) for _, kind, _, postings in told]
    assert [number for number, _, _, _ in told] == list(range(1, len(booked) + 1))
    for draft, (_, _, words, _) in zip(booked, told, strict=True):
        assert draft.reason == re.sub(r" \(reverses \d+\)$", "", words)
        assert str(draft.reverses) in (words[-2], "None")
        assert sum(amount for _, amount in draft.postings) == 0
    left: dict[str, int] = {}
    for draft in booked[:7]:
        for account, amount in draft.postings:
            left[account] = left.get(account, 0) + amount
    assert set(left.values()) == {0}


def test_converted_example_is_what_the_rules_book() -> None:
    """The order in euro of the page, by the rate that the page names."""
    [told] = [block.text for block in blocks(FINANCE) if block.kind == "journal"]
    rate = fx.Rate("nbp", "213/A/NBP/2026", date(2026, 11, 2), "EUR", "PLN", Decimal("4.2512"), 1, b"")
    worth = fx.worth([rate], "EUR", "PLN")
    assert worth is not None
    credits = [("Credit:Campaign:ads:spring", 10000)]
    order = ledger.desired(ledger.Sale("shop", "EUR", AT, 10000, 0, 0, credits, 1, 1, b""), [])
    for draft in [*order, *fx.conversions(order, worth)]:
        assert f"{draft.kind:15} {draft.reason}\n" in told
        for account, amount in draft.postings:
            assert re.search(rf"^ +{account} +{amount} {draft.currency}$", told, re.MULTILINE)


def _told(text: str) -> Iterator[tuple[int, str, str, dict[str, int]]]:
    for entry in re.split(r"(?m)^(?=\d)", text):
        head, *lines = entry.strip().splitlines() or [""]
        if found := re.fullmatch(r"(\d+)\s+(\w+)\s+(.+)", head):
            postings = {account: int(amount) for account, amount in (line.split() for line in lines)}
            yield int(found[1]), found[2], found[3], postings


AT = datetime(2026, 5, 1, tzinfo=UTC)


def _sale(campaigns: tuple[str, ...]) -> ledger.Sale:
    touches = [attribution.Touchpoint("ads", name, AT, "ad_click", f"ads:{name}") for name in campaigns]
    linear = attribution.Policy(1, "linear", 90, touches=frozenset({"ad_click"}))
    found = attribution.attribute(10000, AT, _in_turn(touches), linear, has_lead=True)
    credits = [(f"Credit:Campaign:{credit.campaign}", credit.amount_minor) for credit in found]
    return ledger.Sale("shop", "PLN", AT, 10000, 0, 0, credits, 1, 1, b"")


def _in_turn(touches: list[attribution.Touchpoint]) -> list[attribution.Touchpoint]:
    return [
        attribution.Touchpoint(t.connector, f"{i}", t.at, t.kind, t.campaign) for i, t in enumerate(touches)
    ]


def _live(drafts: list[ledger.Draft], first: int) -> list[ledger.Live]:
    return [
        ledger.Live(first + i, d.kind, d.part, d.currency, d.happened_at, d.postings, d.policy_version, AT)
        for i, d in enumerate(drafts)
    ]


def _order_of_the_example() -> list[ledger.Draft]:
    half = ledger.Refund("1", AT, 5000, None, None, "too small", 1, b"")
    rest = ledger.Refund("2", AT, 5000, None, None, "all of it", 1, b"")
    before = ledger.desired(_sale(("spring", "summer", "autumn")), [half])
    after = _sale(("spring", "summer", "winter"))
    moved = ledger.corrections(_live(before, 1), ledger.desired(after, [half]), why_gone="")
    now = _live([draft for draft in moved if draft.reverses is None], 1)
    return [*before, *moved, *ledger.corrections(now, ledger.desired(after, [half, rest]), why_gone="")]


def _spend_of_the_example() -> list[ledger.Draft]:
    def day(amount: int) -> list[ledger.Draft]:
        return ledger.spend(
            connector="ads",
            campaign_id="spring",
            amount=amount,
            currency="PLN",
            happened_at=AT,
            evidence_id=1,
            evidence_sha256=b"",
        )

    return [*day(1234), *ledger.corrections(_live(day(1234), 8), day(1250), why_gone="")]


# the pages themselves


def test_transcript_has_the_figures_of_the_data() -> None:
    """The data's own README tells the truth, derived by a road that shares no code with the project."""
    truth = (ROOT / "tests" / "data" / "olist" / "README.md").read_text("utf-8")
    [shown] = [block.text for block in blocks(README) if block.kind == "text"]
    [line] = [line for line in truth.splitlines() if "paid orders" in line and "BRL in all" in line]
    figures = set(re.findall(r"\d[\d,]*\.\d\d|\d,\d{3}|\b\d{3}\b", line)) - {"1,341,898.49"}
    assert len(figures) >= 8
    for figure in figures:
        assert figure in shown, figure


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^)]*)\)", page.read_text("utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def test_every_page_is_listed() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index


def test_blocks_that_are_not_run_say_why() -> None:
    for block in of_kind("console"):
        assert block.notes.get("not run", "x"), block.place
        assert block.commands, block.place
