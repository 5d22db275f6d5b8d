"""Writes docs/cli.md from the command line itself: ``python docs/generate.py``, or ``make docs``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from sync.cli.main import app
from sync.cli.runtime import Exit

PAGE = Path(__file__).with_name("cli.md")
HEAD = """\
# Commands

Generated from the command line itself by `docs/generate.py` (`make docs`). The same text: `leadledger --help`,
or `leadledger COMMAND --help`. The meaning of the exit codes: [operator.md](operator.md#exit-codes).

`--config`, `-c` names the config file of a command; without it, the environment variable `LEADLEDGER_CONFIG`;
without that, `leadledger.yaml` in the current folder.
"""


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and all below it, each with its words, in the order in which `--help` lists them."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for path, command in commands(typer.main.get_command(app), ("leadledger",)):
        parts.append(_section(path, command))
    codes = "\n".join(f"- `{code.value}` {code.name}" for code in Exit)
    return "\n".join([*parts, "## Exit codes", "", codes, ""])


def _section(path: tuple[str, ...], command: Any) -> str:
    text = [line.strip() for line in (command.help or "").strip().splitlines() if line.strip()]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join([*path, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    if getattr(command, "commands", None):
        usage += " COMMAND" if not command.invoke_without_command or len(path) == 1 else " [COMMAND]"
    lines = [f"## {' '.join(path)}", ""]
    for each in text:
        example = each.startswith(("Example", "Examples"))
        lines += [_example(each) if example else each, ""]
    lines += ["```text", usage, "```", ""]
    lines += [f"- `{_argument(a)}`: {a.help or a.name}" for a in arguments]
    lines += [f"- `{_names(o)}`{' (required)' if o.required else ''}: {_said(o)}" for o in options]
    return "\n".join([*lines, ""] if arguments or options else lines)


def _example(text: str) -> str:
    label, _, rest = text.partition(": ")
    return f"{label}: " + ", ".join(f"`{part.strip()}`" for part in rest.split("   |   "))


def _argument(argument: Any) -> str:
    name = argument.name.upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    return "`, `".join([*option.opts, *option.secondary_opts])


def _said(option: Any) -> str:
    said = option.help or "At most so many."
    default = option.default
    shown = default is not None and not isinstance(default, bool) and not callable(default)
    return said + (f" Default: `{getattr(default, 'value', default)}`." if shown else "")


def main() -> None:
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
