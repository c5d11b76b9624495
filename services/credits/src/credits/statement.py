"""Reads of an account: its balance, and its statement, newest entry first; and the statement of all accounts."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg

from common.errors import InvalidRequest, NotFound
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
    return _page(await connection.fetch(_STATEMENT, user_id, before or _NEWEST, limit + 1), limit)


Kind = Literal["grant", "capture", "refund", "adjustment"]


@dataclass(frozen=True)
class LedgerFilter:
    """What of the ledger is asked for; both ends belong to the span of time."""

    user_id: UUID | None = None
    kind: Kind | None = None
    since: datetime | None = None
    until: datetime | None = None


_LEDGER = """
    SELECT seq, entry_id, user_id, kind, amount AS amount_mc, posted_after AS posted_after_mc, hold_id, reference,
           actor, reason, created_at
      FROM credits.entries
     WHERE seq < $1{conditions}
     ORDER BY seq DESC LIMIT $2
"""
_CONDITIONS = {
    "user_id": "user_id = {}",
    "kind": "kind = {}",
    "since": "created_at >= {}",
    "until": "created_at <= {}",
}
# Said in words, since Postgres takes the index of what people did only for a condition that it can see through.
_BY_PEOPLE = " AND kind <> 'capture'"


async def read_ledger(
    connection: Connection, wanted: LedgerFilter, *, before: int | None, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """The same over all accounts. Two accounts' entries of one moment may change places while they are written."""
    given = {one.name: value for one in fields(wanted) if (value := getattr(wanted, one.name)) is not None}
    # Only the conditions that are asked for, so that Postgres plans for those; values are always parameters.
    conditions = "".join(f" AND {_CONDITIONS[name].format(f'${place}')}" for place, name in enumerate(given, 3))
    if wanted.kind not in {None, "capture"}:
        conditions += _BY_PEOPLE
    query = _LEDGER.format(conditions=conditions)
    try:
        records = await connection.fetch(query, before or _NEWEST, limit + 1, *given.values())
    except asyncpg.DataError:
        raise InvalidRequest(details=[{"path": "query", "error": "this time is beyond what can be stored"}]) from None
    return _page(records, limit)


def _page(records: list[asyncpg.Record], limit: int) -> tuple[list[dict[str, Any]], int | None]:
    page = [{name: value for name, value in record.items() if name != "seq"} for record in records[:limit]]
    return page, records[limit - 1]["seq"] if len(records) > limit else None
