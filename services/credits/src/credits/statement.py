"""Reads of an account: its balance, and its statement, newest entry first."""

from typing import Any
from uuid import UUID

from common.errors import NotFound
from common.postgres import Connection

_BALANCE = """
    SELECT user_id, posted AS posted_mc, held AS held_mc, posted - held AS available_mc, low_balance AS low_balance_mc
      FROM credits.accounts WHERE user_id = $1
"""


async def read_balance(connection: Connection, user_id: UUID) -> dict[str, Any]:
    record = await connection.fetchrow(_BALANCE, user_id)
    if record is None:
        raise NotFound
    return dict(record)


# seq is given under the account's lock, so paging by it neither skips nor repeats while entries are added.
_STATEMENT = """
    SELECT seq, entry_id, kind, amount AS amount_mc, posted_after AS posted_after_mc, hold_id, reference, actor, reason,
           created_at
      FROM credits.entries
     WHERE user_id = $1 AND seq < $2
     ORDER BY seq DESC LIMIT $3
"""
_NEWEST = 2**63 - 1


async def read_statement(
    connection: Connection, user_id: UUID, *, before: int | None, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """A page and where the next one begins, None after the last."""
    records = await connection.fetch(_STATEMENT, user_id, before or _NEWEST, limit + 1)
    page = [{name: value for name, value in record.items() if name != "seq"} for record in records[:limit]]
    return page, records[limit - 1]["seq"] if len(records) > limit else None
