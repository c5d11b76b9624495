"""Reading the log of requests that audit publishes."""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import BaseModel, Field

from common.postgres import Pool, outage_is_unavailable
from gateway.answers import bad_cursor, cursor_of, place_of


class LogEntry(BaseModel):
    id: UUID
    request_id: UUID
    user_id: UUID | None
    username: str | None
    endpoint: str
    method: str
    status: int
    duration_ms: float
    rows: int
    credits_used: float
    ip: str | None
    dataset: str | None
    error_code: str | None
    action: str | None
    target: str | None
    details: dict[str, Any] | None = Field(description="of an admin's action: what changed, old and new")
    trace_id: str | None = Field(description="where the request can be followed; null while tracing is off")
    created_at: datetime


_PAGE = """
    SELECT event_id AS id, request_id, user_id, username, endpoint, method, status, duration_ms, rows, credits_used_mc,
           ip, dataset, error_code, action, target, details, trace_id, created_at
      FROM audit.requests
     WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::text IS NULL OR endpoint = $2)
       AND ($3::text IS NULL OR method = upper($3)) AND ($4::int IS NULL OR status = $4)
       AND ($5::text IS NULL OR dataset = $5) AND ($6::text IS NULL OR action = $6)
       AND ($7::timestamptz IS NULL OR created_at >= $7) AND ($8::timestamptz IS NULL OR created_at <= $8)
       AND ($9::text IS NULL OR (created_at, event_id) < ($9::text::timestamptz, $10::text::uuid))
     ORDER BY created_at DESC, event_id DESC LIMIT $11
"""


class LogFilter(BaseModel):
    user_id: UUID | None = None
    endpoint: str | None = None
    method: str | None = None
    status: int | None = None
    dataset: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def read_log(
    postgres: Pool, wanted: LogFilter, *, limit: int, cursor: str | None
) -> tuple[list[asyncpg.Record], str | None]:
    """Newest first; one page and the next page's cursor. What was answered just now may still be on its way."""
    place = place_of(cursor, 2)
    async with outage_is_unavailable("The request log"):
        try:
            rows = await postgres.fetch(
                _PAGE, *(getattr(wanted, name) for name in LogFilter.model_fields), *place, limit + 1
            )
        except asyncpg.DataError:
            raise bad_cursor() from None
    last = rows[limit - 1] if len(rows) > limit else None
    return rows[:limit], cursor_of(last["created_at"], last["id"]) if last else None
