"""What a client can look up later: the receipt of a query, and the answer that its Idempotency-Key already got."""

import base64
from typing import Any
from uuid import UUID

import asyncpg

from common.errors import NotFound
from common.postgres import Connection

# A hold is its own receipt until it is settled, and when it ran out: callers give hold and query the same id.
_RECEIPT = """
    SELECT query_id, hold_id, user_id, dataset, state, rows, credits_held AS credits_held_mc,
           credits_used AS credits_used_mc, price_version, price, duration_ms, refund_reason, created_at
      FROM credits.receipts WHERE (hold_id = $1 AND query_id = $1) OR (query_id = $1 AND query_id <> hold_id)
 UNION ALL
    SELECT hold_id, hold_id, user_id, NULL,
           CASE WHEN state = 'open' AND expires_at <= now() THEN 'expired' ELSE state END, NULL,
           amount, captured, NULL, NULL, NULL, reason, created_at
      FROM credits.holds WHERE hold_id = $1
     LIMIT 1
"""


async def read_receipt(connection: Connection, query_id: UUID, user_id: UUID | None) -> dict[str, Any]:
    """Raises NotFound; another user's receipt looks the same."""
    record = await connection.fetchrow(_RECEIPT, query_id)
    if record is None or (user_id is not None and record["user_id"] != user_id):
        raise NotFound
    return dict(record)


_HOLD_OF_KEY = """
    SELECT hold.hold_id, hold.expires_at,
           CASE WHEN hold.state = 'open' AND hold.expires_at <= now() THEN 'expired' ELSE hold.state END AS state,
           coalesce(receipt.query_id, hold.hold_id) AS query_id
      FROM credits.idempotency known
      JOIN credits.holds hold ON hold.hold_id = known.hold_id
      LEFT JOIN credits.receipts receipt ON receipt.hold_id = hold.hold_id
     WHERE known.user_id = $1 AND known.key = $2 AND known.created_at > now() - interval '24 hours'
"""
_ANSWER = """
    SELECT status, headers, body FROM credits.answers WHERE user_id = $1 AND idempotency_key = $2 AND hold_id = $3
"""


async def read_answer(connection: Connection, user_id: UUID, key: str) -> dict[str, Any]:
    """State of the key's hold, its receipt, and the answer if it was kept. Raises NotFound for an unknown key.

    open: still running. captured with an answer: replay it. captured without: it was too large to keep.
    """
    hold = await connection.fetchrow(_HOLD_OF_KEY, user_id, key)
    if hold is None:
        raise NotFound
    kept = await connection.fetchrow(_ANSWER, user_id, key, hold["hold_id"]) if hold["state"] == "captured" else None
    return {
        "hold_id": hold["hold_id"],
        "state": hold["state"],
        "answer": _as_stored(kept) if kept else None,
        "receipt": await read_receipt(connection, hold["query_id"], user_id),
    }


def _as_stored(record: asyncpg.Record) -> dict[str, Any]:
    body = base64.b64encode(record["body"]).decode()
    return {"status": record["status"], "headers": record["headers"], "body_base64": body}
