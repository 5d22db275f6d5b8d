"""`leadledger` with one step that crashes, and says in its error all that the database or the vendor's page holds.

    python tests/security/crashing.py STEP WORDS COMMAND…

WORDS is `python` (an error whose words, cause and notes quote records), `duplicate` or `cast` (a statement that
the database refuses, in words that quote the values).
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# Where each step can be struck: module, name, and whether it is handed a connection first.
STEPS = {
    "pull": ("sync.pull.step", "_commit_page"),
    "map": ("sync.pull.step", "_map"),
    "match": ("sync.match.step", "match"),
    "funnel": ("sync.funnel.step", "advance"),
    "attribute": ("sync.attribute.step", "attribute"),
    "book": ("sync.ledger.step", "book"),
    "outbox": ("sync.push.step", "_want"),
    "push": ("sync.push.store", "record"),
    "write": ("connectors.crm.hubspot_write", "HubSpotContacts.write"),
    "thread": ("sync.pull.step", "_commit_page"),
}
HELD = ("leads", "contacts", "orders", "touches", "evidence")


def records(given: tuple[Any, ...]) -> str:
    """All that a step could stumble over: what it was handed, and what the database holds of people."""
    told = [repr(given)]
    if given and isinstance(given[0], Connection):
        for table in HELD:
            told += given[0].execute(sa.text(f"SELECT t::text FROM {table} t LIMIT 200")).scalars()
        told += (
            given[0].execute(sa.text("SELECT convert_from(body, 'UTF8') FROM evidence LIMIT 200")).scalars()
        )
    return "\n".join(told)


STATEMENTS = {
    "duplicate": "INSERT INTO leads SELECT * FROM leads LIMIT 1",
    "cast": "SELECT CAST(:told AS integer)",
}


def crash(words: str, given: tuple[Any, ...]) -> NoReturn:
    told = records(given)
    if words in STATEMENTS:
        given[0].execute(sa.text(STATEMENTS[words]), {"told": told})
    error = RuntimeError(f"cannot go on with {told}")
    error.add_note(told)
    raise error from ValueError(told)


def strike(step: str, words: str) -> None:
    module, name = STEPS[step]
    place: Any = importlib.import_module(module)
    *outer, name = name.split(".")
    for each in outer:
        place = getattr(place, each)

    def struck(*given: Any, **_: Any) -> NoReturn:
        if step == "thread":  # one that nobody waits for
            lost = threading.Thread(target=crash, args=(words, given))
            lost.start()
            lost.join()
        crash(words, given)

    setattr(place, name, struck)


def main(step: str, words: str, *command: str) -> None:
    from sync.cli import start

    strike(step, words)
    sys.argv = ["leadledger", *command]
    start.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
