"""The admin's list of users, and one user in full, joined with what credits and audit publish."""

from typing import Any, Literal
from uuid import UUID

import asyncpg

from common.errors import NotFound
from common.postgres import Pool, outage_is_unavailable
from gateway.answers import bad_cursor, cursor_of, place_of
from gateway.query_seals import Seals

Sort = Literal["created_at", "username", "credits", "last_used_at"]
# What each sort orders by, never null, and the type its cursor is cast to.
_SORTS: dict[str, tuple[str, str]] = {
    "created_at": ("u.created_at", "timestamptz"),
    "username": ("lower(u.username)", "text"),
    "credits": ("coalesce(b.posted, 0)", "bigint"),
    "last_used_at": ("coalesce(k.last_used_at, '-infinity')", "timestamptz"),
}
_FIELDS = """
    SELECT u.id, u.username, u.role, u.status, u.plan, coalesce(b.posted, 0) AS credits_mc, u.created_at, k.last_used_at
"""
_FROM = """
      FROM gateway.users AS u
      LEFT JOIN credits.balances AS b ON b.user_id = u.id
      LEFT JOIN LATERAL (SELECT max(last_used_at) AS last_used_at
                           FROM gateway.api_keys WHERE user_id = u.id) AS k ON true
"""


_LIST = "users"


async def list_users(
    postgres: Pool,
    *,
    search: str | None,
    role: str | None,
    status: str | None,
    sort: Sort,
    descending: bool,
    limit: int,
    cursor: str | None,
    seals: Seals,
) -> tuple[list[asyncpg.Record], str | None]:
    """One page and the next page's cursor."""
    by, kind = _SORTS[sort]
    beyond, direction = ("<", "DESC") if descending else (">", "ASC")
    statement = f"""{_FIELDS}, ({by})::text AS place {_FROM}
     WHERE ($1::text IS NULL OR strpos(lower(u.username), lower($1)) > 0)
       AND ($2::text IS NULL OR u.role = $2) AND ($3::text IS NULL OR u.status = $3)
       AND ($4::text IS NULL OR ({by}, u.id) {beyond} ($4::{kind}, $5::text::uuid))
     ORDER BY {by} {direction}, u.id {direction} LIMIT $6"""
    async with outage_is_unavailable("The user store"):
        try:
            rows = await postgres.fetch(statement, search, role, status, *place_of(seals, _LIST, cursor, 2), limit + 1)
        except asyncpg.DataError:
            raise bad_cursor() from None
    following = cursor_of(seals, _LIST, rows[limit - 1]["place"], rows[limit - 1]["id"]) if len(rows) > limit else None
    return rows[:limit], following


_ONE = f"""{_FIELDS}, coalesce(b.held, 0) AS held_mc,
           coalesce(t.today_requests, 0) AS today_requests, coalesce(t.total_requests, 0) AS total_requests,
           coalesce(t.credits_used_mc, 0) AS credits_used_mc {_FROM}
      LEFT JOIN LATERAL (
           SELECT sum(requests)::bigint AS total_requests, sum(credits_used_mc)::bigint AS credits_used_mc,
                  (sum(requests) FILTER (WHERE day = (now() AT TIME ZONE 'UTC')::date))::bigint AS today_requests
             FROM audit.usage_by_day WHERE user_id = u.id) AS t ON true
     WHERE u.id = $1
"""  # noqa: S608 - pieces from this file
_KEYS = """
    SELECT id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at
      FROM gateway.api_keys WHERE user_id = $1 ORDER BY created_at
"""


async def user_in_full(postgres: Pool, user_id: UUID) -> dict[str, Any]:
    """The user with figures and keys (never more of a key than its prefix). Raises NotFound."""
    async with outage_is_unavailable("The user store"):
        row = await postgres.fetchrow(_ONE, user_id)
        if row is None:
            raise NotFound
        keys = await postgres.fetch(_KEYS, user_id)
    return {**row, "keys": [dict(key) for key in keys]}
