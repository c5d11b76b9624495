"""Reconcile: questions about the books whose answer must be 0, asked every minute and on demand."""

from collections.abc import Mapping
from typing import TypeAlias

import asyncpg

from common.metrics import gauge
from common.postgres import Connection

Figures: TypeAlias = dict[str, int | str]

# The price rule of common/prices.py, worked out again from the figures that the receipt keeps of it.
_PRICE_RULE = """
    ceil(least((price->>'base_mc')::numeric + (price->>'rows')::numeric * (price->>'per_row_mc')::numeric
               + ceil((price->>'rows_read')::numeric * (price->>'per_million_rows_read_mc')::numeric / 1000000),
               (price->>'per_query_max_mc')::numeric) * (price->>'share')::numeric)
"""
QUERIES: Mapping[str, str] = {
    "accounts_unlike_entries": """
        SELECT count(*) FROM credits.accounts account
          LEFT JOIN (SELECT user_id, sum(amount) AS amount FROM credits.entries GROUP BY user_id) entered
               USING (user_id)
         WHERE account.posted <> coalesce(entered.amount, 0)
    """,
    "entries_without_account": """
        SELECT count(*) FROM credits.entries entry
         WHERE NOT EXISTS (SELECT FROM credits.accounts account WHERE account.user_id = entry.user_id)
    """,
    "accounts_unlike_holds": """
        SELECT count(*) FROM credits.accounts account
          LEFT JOIN (SELECT user_id, sum(amount) AS amount FROM credits.holds
                      WHERE state = 'open' GROUP BY user_id) unsettled USING (user_id)
         WHERE account.held <> coalesce(unsettled.amount, 0)
    """,
    "accounts_negative": """
        SELECT count(*) FROM credits.accounts WHERE posted < 0 OR held < 0 OR posted < held
    """,
    "holds_overdue": """
        SELECT count(*) FROM credits.holds WHERE state = 'open' AND expires_at < now() - interval '30 seconds'
    """,
    "captures_unlike_entries": """
        SELECT count(*) FROM (SELECT hold_id, captured FROM credits.holds WHERE captured > 0) hold
          FULL JOIN (SELECT hold_id, -amount AS amount FROM credits.entries
                      WHERE kind = 'capture') entry USING (hold_id)
         WHERE hold.captured IS DISTINCT FROM entry.amount
    """,
    # One key, one charge, within the 24 hours that a key is remembered.
    "keys_captured_twice": """
        SELECT count(*) FROM (
            SELECT created_at - lag(created_at)
                       OVER (PARTITION BY user_id, idempotency_key ORDER BY created_at) AS apart
              FROM credits.holds WHERE state = 'captured' AND idempotency_key IS NOT NULL) captured
         WHERE apart < interval '24 hours'
    """,
    "receipts_unlike_price": f"""
        SELECT count(*) FROM credits.receipts receipt JOIN credits.holds hold USING (hold_id)
         WHERE receipt.state <> hold.state OR receipt.credits_used <> hold.captured
            OR receipt.credits_held <> hold.amount
            OR (receipt.state = 'released' AND receipt.credits_used <> 0)
            OR (receipt.state = 'captured' AND price->>'base_mc' IS NOT NULL
                AND receipt.credits_used <> least({_PRICE_RULE}, receipt.credits_held))
    """,  # noqa: S608 - put together from constants
    "captures_without_audit": """
        SELECT count(*) FROM credits.holds hold
         WHERE hold.captured > 0 AND hold.closed_at < now() - interval '5 minutes'
           AND hold.closed_at > now() - interval '1 day'
           AND NOT EXISTS (SELECT FROM audit.requests request
                            WHERE request.hold_id = hold.hold_id AND request.credits_used_mc = hold.captured)
    """,
    "audited_charges_without_capture": """
        SELECT count(*) FROM audit.requests request
         WHERE request.credits_used_mc > 0 AND request.created_at < now() - interval '5 minutes'
           AND request.created_at > now() - interval '1 day'
           AND NOT EXISTS (SELECT FROM credits.holds hold
                            WHERE hold.hold_id = request.hold_id AND hold.captured = request.credits_used_mc)
    """,
}

_faults = gauge(
    "bigdata_reconcile_faults", "Rows of the books that contradict each other; -1: could not look", "figure"
)


async def reconcile(connection: Connection) -> Figures:
    """Every figure: a count that must be 0, or, when it could not be asked, one line that says why."""
    figures: Figures = {}
    for name, query in QUERIES.items():
        figures[name] = await _ask(connection, query)
        found = figures[name]
        _faults.labels(name).set(found if isinstance(found, int) else -1)
    return figures


async def _ask(connection: Connection, query: str) -> int | str:
    try:
        return int(await connection.fetchval(query))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return "audit.requests does not exist: the audit service has not been migrated"
    except asyncpg.InsufficientPrivilegeError:
        return "audit.requests may not be read by the role credits"
