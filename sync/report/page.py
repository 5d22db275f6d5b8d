"""What was explained as one page for the auditor's file: HTML that any browser prints, or saves as PDF.

It holds no script and asks no address for anything; what vendors and customers wrote is text in it, never markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

Money = Callable[[int, str], str]
Time = Callable[[str | None], str]


def html(found: dict[str, Any], *, money: Money, time: Time) -> Iterator[str]:
    """The page a part at a time, reading the iterators in `found` as it goes: it need not fit into memory.

    `money` writes (minor units, currency) for people, `time` an ISO 8601 text or None.
    """
    environment = Environment(
        loader=PackageLoader("sync.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"money": money, "time": time}
    stream = environment.get_template(f"{found['what']}.html").stream(found=found)
    stream.enable_buffering(200)
    return stream
