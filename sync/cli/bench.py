"""`leadledger bench`: how fast each step is beside the least work that any program must do for it."""

from __future__ import annotations

import importlib
from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from sync import logs
from sync.bench import measure, place
from sync.cli import output
from sync.cli.runtime import FormatOption, failures, wrong

QUICK = 0.1
FLOORS_NEED = ("numpy", "polars", "scipy")


class Part(StrEnum):
    """What can be measured; each is a module of `sync.bench` with a function `results`."""

    pull = "pulling"
    match = "matching"
    attribute = "attributing"
    book = "booking"
    seal = "sealing"
    know = "knowing"
    push = "pushing"
    standing = "standing"


Parts = Annotated[
    list[str] | None, typer.Argument(help=f"Some of {', '.join(p.name for p in Part)}; none: all.")
]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Set up")(bench)


def bench(
    parts: Parts = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the size.")] = False,
    scale: Annotated[float | None, typer.Option(min=0.001, max=10, help="Another share of the size.")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Times that each is measured.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the data.")] = 1,
    form: FormatOption = output.Format.table,
) -> None:
    """Measure each step against its floor, by turns in one run, on generated data.

    The floor is the least work that any program must do for the same result. Only the ratio means something on
    another machine. It uses a PostgreSQL of its own in a temporary folder.

    Examples: leadledger bench --quick   |   leadledger bench pull push --format json
    """
    if missing := [name for name in FLOORS_NEED if find_spec(name) is None]:
        raise wrong(f"The floors need {', '.join(missing)}: install leadledger[bench].")
    if unknown := [name for name in parts or () if name not in Part.__members__]:
        raise wrong(f"There is no part {unknown[0]!r}; known: {', '.join(Part.__members__)}")
    logs.configure(form="auto", level="error")
    size = scale or (QUICK if quick else 1.0)
    found: list[measure.Result] = []
    with (
        output.progress() as say,
        failures(),
        place.opened(scale=size, rounds=rounds, seed=seed, say=say) as here,
    ):
        for name in parts or Part.__members__:
            for result in importlib.import_module(f"sync.bench.{Part[name].value}").results(here):
                found.append(result)
                say(f"{result.part}: {_ratio(result)}")
    _show(found, form)


def _show(found: list[measure.Result], form: output.Format) -> None:
    if form is not output.Format.table:
        rows = [_row(result) for result in found]
        output.print_json(rows) if form is output.Format.json else output.print_csv(rows)
        return
    output.table(
        "",
        ["part", "floor", "ours", "ratio", "goal", "met", "the floor is"],
        [
            [
                result.part,
                _seconds(result.floor_s),
                _seconds(result.ours_s),
                _ratio(result),
                f"≤ {result.goal:g} {result.unit}",
                "yes" if result.met else "no",
                result.floor,
            ]
            for result in found
        ],
        right=(1, 2, 3, 4),
    )


def _row(result: measure.Result) -> dict[str, Any]:
    return {
        "part": result.part,
        "floor_s": result.floor_s,
        "ours_s": result.ours_s,
        "ratio": result.ratio,
        "goal": result.goal,
        "unit": result.unit,
        "met": result.met,
        "floor": result.floor,
    }


def _seconds(found: float | None) -> str:
    return "" if found is None else f"{found:.2f} s"


def _ratio(result: measure.Result) -> str:
    return f"{result.ratio:.2f} {result.unit}"
