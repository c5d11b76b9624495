"""Reconcile: questions about the books whose answer must be 0, asked every minute, and on demand."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import asyncpg

from common.metrics import gauge
from common.postgres import Connection, Pool, borrowed
from credits.settings import Settings

Figures: TypeAlias = dict[str, int | str]

# The price rule of common/prices.py, worked out again from the figures that the receipt keeps of it.
_PRICE_RULE = """
    ceil(least((price->>'base_mc')::numeric + (price->>'rows')::numeric * (price->>'per_row_mc')::numeric
               + ceil((price->>'rows_read')::numeric * (price->>'per_million_rows_read_mc')::numeric / 1000000),
               (price->>'per_query_max_mc')::numeric) * (price->>'share')::numeric)
"""
# $1: accounts that changed, and holds and entries that were made, since then.
QUERIES: Mapping[str, str] = {
    "accounts_unlike_entries": """
        SELECT count(*) FROM credits.accounts account
         WHERE account.updated_at >= $1
           AND account.posted <> (SELECT coalesce(sum(entry.amount), 0) FROM credits.entries entry
                                   WHERE entry.user_id = account.user_id)
    """,
    "entries_without_account": """
        SELECT count(*) FROM credits.entries entry
         WHERE entry.created_at >= $1
           AND NOT EXISTS (SELECT FROM credits.accounts account WHERE account.user_id = entry.user_id)
    """,
    # Open holds are few: a partial index has them all.
    "accounts_unlike_holds": """
        SELECT count(*) FROM credits.accounts account
          LEFT JOIN (SELECT user_id, sum(amount) AS amount FROM credits.holds
                      WHERE state = 'open' GROUP BY user_id) unsettled USING (user_id)
         WHERE account.held <> coalesce(unsettled.amount, 0) AND account.updated_at >= $1
    """,
    "accounts_negative": """
        SELECT count(*) FROM credits.accounts
         WHERE (posted < 0 OR held < 0 OR posted < held) AND updated_at >= $1
    """,
    "holds_overdue": """
        SELECT count(*) FROM credits.holds
         WHERE state = 'open' AND expires_at < now() - interval '30 seconds' AND created_at >= $1
    """,
    "captures_unlike_entries": """
        SELECT count(*) FROM (SELECT hold_id, captured FROM credits.holds
                               WHERE captured > 0 AND created_at >= $1) hold
          FULL JOIN (SELECT hold_id, -amount AS amount FROM credits.entries
                      WHERE kind = 'capture' AND created_at >= $1) entry USING (hold_id)
         -- A hold of before may have been charged since.
         WHERE hold.captured IS DISTINCT FROM entry.amount
           AND NOT EXISTS (SELECT FROM credits.holds earlier
                            WHERE earlier.hold_id = entry.hold_id AND earlier.captured = entry.amount)
    """,
    # One key, one charge, within the 24 hours that a key is remembered.
    "keys_captured_twice": """
        SELECT count(*) FROM (
            SELECT created_at - lag(created_at)
                       OVER (PARTITION BY user_id, idempotency_key ORDER BY created_at) AS apart
              FROM credits.holds
             WHERE state = 'captured' AND idempotency_key IS NOT NULL AND created_at >= $1) captured
         WHERE apart < interval '24 hours'
    """,
    "receipts_unlike_price": f"""
        SELECT count(*) FROM credits.receipts receipt JOIN credits.holds hold USING (hold_id)
         WHERE receipt.created_at >= $1
           AND (receipt.state <> hold.state OR receipt.credits_used <> hold.captured
                OR receipt.credits_held <> hold.amount
                OR (receipt.state = 'captured' AND price->>'base_mc' IS NOT NULL
                    AND receipt.credits_used <> least({_PRICE_RULE}, receipt.credits_held)))
    """,  # noqa: S608 - put together from constants
    "captures_without_audit": """
        SELECT count(*) FROM credits.holds hold
         WHERE hold.captured > 0 AND hold.closed_at < now() - interval '5 minutes'
           AND hold.created_at >= greatest($1, now() - interval '30 days')  -- the log of requests is kept longer
           AND NOT EXISTS (SELECT FROM audit.requests request
                            WHERE request.hold_id = hold.hold_id AND request.credits_used_mc = hold.captured)
    """,
    "audited_charges_without_capture": """
        SELECT count(*) FROM audit.requests request
         WHERE request.credits_used_mc > 0 AND request.created_at < now() - interval '5 minutes'
           AND request.created_at >= $1
           AND NOT EXISTS (SELECT FROM credits.holds hold
                            WHERE hold.hold_id = request.hold_id AND hold.captured = request.credits_used_mc)
    """,
}
_EVER = datetime(2000, 1, 1, tzinfo=UTC)

_faults = gauge(
    "bigdata_reconcile_faults", "Rows of the books that contradict each other; -1: could not look", "question"
)


async def watch_books(pool: Pool, settings: Settings) -> None:
    """The metric: what happened in the last day. Older rows do not change, GET /v1/reconcile looks at them too."""
    async with borrowed(pool, settings.reconcile_s) as connection:
        today = await connection.fetchval("SELECT now()") - timedelta(days=1)
        for name, found in (await reconcile(connection, since=today)).items():
            _faults.labels(name).set(found if isinstance(found, int) else -1)


async def reconcile(connection: Connection, *, since: datetime = _EVER) -> Figures:
    """Every figure: a count that must be 0, or, when it could not be asked, one line that says why."""
    return {name: await _ask(connection, query, since) for name, query in QUERIES.items()}


async def _ask(connection: Connection, query: str, since: datetime) -> int | str:
    try:
        # Its own transaction, or savepoint: one question that fails must not end those that follow.
        async with connection.transaction():
            return int(await connection.fetchval(query, since))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return "audit.requests does not exist: the audit service has not been migrated"
    except asyncpg.InsufficientPrivilegeError:
        return "audit.requests may not be read by the role credits"
    except asyncpg.QueryCanceledError:
        return "not answered within the deadline of a statement"
