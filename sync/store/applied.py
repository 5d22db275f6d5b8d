"""Which rules of the config were applied last: when they change, all that they decide is decided again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from sync.store.tables import applied_rules


def changed(connection: Connection, name: str, body: Any) -> bool:
    """Whether the rules `name` differ from those applied last; they count as applied from now on.

    `body` is what they consist of, in JSON types. Where none were ever applied, nothing was derived by others.
    """
    sha256 = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    before = connection.execute(
        sa.select(applied_rules.c.sha256).where(applied_rules.c.name == name).with_for_update()
    ).scalar()
    if before is not None and bytes(before) == sha256:
        return False
    insert = postgresql.insert(applied_rules).values(name=name, sha256=sha256)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["name"], set_={"sha256": insert.excluded.sha256, "applied_at": sa.func.now()}
        )
    )
    return before is not None
