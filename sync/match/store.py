"""What the match names for the steps that follow, and what it has named for itself."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.match import rules
from sync.store.tables import CANONICAL, pending

_STAGE = sa.text(
    """
    INSERT INTO pending (step, kind, ref)
    SELECT DISTINCT 'funnel', 'person', person_id FROM match_persons ORDER BY person_id
    """
)
_ATTRIBUTE = sa.text(
    """
    INSERT INTO pending (step, kind, connector, ref)
    SELECT 'attribute', 'order', connector, external_id
      FROM (SELECT m.connector, m.external_id FROM members m
             WHERE m.kind = 'order'
               AND m.person_id IN (SELECT person_id FROM match_persons WHERE wide)
             UNION
            SELECT connector, external_id FROM match_changed WHERE kind = 'order') AS concerned
     ORDER BY connector, external_id
    """
)


def note_persons(connection: Connection) -> None:
    """Name the persons to be staged again, and the orders to be attributed again.

    An order that changed concerns only itself; anything else that changed concerns all orders of its person,
    as does a record that came to a person or left it.
    """
    connection.execute(_STAGE)
    connection.execute(_ATTRIBUTE)


_OF_CAMPAIGNS = sa.text(
    """
    WITH words AS (
        SELECT DISTINCT word
          FROM match_taken t
          JOIN campaign_names c ON t.kind = 'campaign' AND c.external_id = t.ref,
               unnest(ARRAY[lower(c.external_id), lower(c.name)]) AS word
    ), named AS (
        SELECT 'lead' AS kind, connector, external_id, campaign_name, utm_id, utm_campaign FROM leads
         UNION ALL
        SELECT 'touch', connector, external_id, campaign_name, utm_id, utm_campaign FROM touches
    )
    INSERT INTO match_changed
    SELECT n.kind, n.connector, n.external_id
      FROM named n, unnest(ARRAY[lower(n.campaign_name), lower(n.utm_id), lower(n.utm_campaign)]) AS word
      JOIN words USING (word)
    EXCEPT
    SELECT kind, connector, external_id FROM match_changed
    """
)
_BROUGHT_BY_CAMPAIGNS = sa.text(
    """
    INSERT INTO pending (step, kind, ref)
    SELECT 'push', 'person', person_id FROM journeys
     WHERE campaign IN (SELECT connector || ':' || ref FROM match_taken WHERE kind = 'campaign')
    """
)


def add_those_of_campaigns(connection: Connection) -> None:
    """Take, with the campaigns that changed, the leads and touches that name one of them by a name, present or
    former, or by utm parameters; what names its own platform's id knew its campaign before. Whom they brought
    is named for the push: what they are called may have changed."""
    asked = sa.text("SELECT EXISTS (SELECT FROM match_taken WHERE kind = 'campaign')")
    if connection.execute(asked).scalar():
        connection.execute(_OF_CAMPAIGNS)
        connection.execute(_BROUGHT_BY_CAMPAIGNS)


_SPEND = sa.text(
    """
    INSERT INTO pending (step, kind, connector, ref)
    SELECT 'book', 'spend', connector, ref FROM match_taken WHERE kind = 'spend' ORDER BY connector, ref
    """
)
_REFUNDED = sa.text(
    """
    WITH refunds_taken AS (
        SELECT connector, ref AS external_id FROM match_taken WHERE kind = 'refund'
    )
    INSERT INTO pending (step, kind, connector, ref)
    SELECT 'book', 'order', r.connector, r.order_id
      FROM refunds_taken JOIN refunds r USING (connector, external_id)
     UNION
    SELECT 'book', 'order', e.connector, substr(e.subject, length('order:') + 1)
      FROM refunds_taken n
      JOIN entries e ON e.connector = n.connector AND e.part = 'refund:' || n.external_id
    """
)


def note_for_booking(connection: Connection) -> None:
    """Name for booking the spend that changed, and the orders of refunds that came, changed, or are gone: those
    they name, and those the journal has them booked under, which may be others."""
    connection.execute(_SPEND)
    connection.execute(_REFUNDED)


def note_everything(connection: Connection) -> int:
    """Name every record that has identity keys for the match: the rules of identity changed."""
    found = 0
    for kind in rules.KINDS:
        table = CANONICAL[kind]
        statement = sa.insert(pending).from_select(
            ["step", "kind", "connector", "ref"],
            sa.select(sa.literal("match"), sa.literal(kind), table.c.connector, table.c.external_id),
        )
        found += connection.execute(statement).rowcount
    return found
