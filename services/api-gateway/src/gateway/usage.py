"""One user's requests and credits, by day and by endpoint: read from what audit adds up, never from the log itself."""

from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import BaseModel

from common.postgres import Pool, outage_is_unavailable


class DayOfUsage(BaseModel):
    date: date
    requests: int
    errors: int
    rows: int
    credits_used: float


_BY_DAY = """
    SELECT d.day::date AS date, coalesce(u.requests, 0) AS requests, coalesce(u.errors, 0) AS errors,
           coalesce(u.rows, 0) AS rows, coalesce(u.credits_used_mc, 0) AS credits_used_mc
      FROM generate_series((now() AT TIME ZONE 'UTC')::date - ($2::int - 1), (now() AT TIME ZONE 'UTC')::date,
                           interval '1 day') AS d (day)
      LEFT JOIN audit.usage_by_day AS u ON u.day = d.day::date AND u.user_id = $1
     ORDER BY d.day
"""


async def usage_by_day(postgres: Pool, user_id: UUID, days: int) -> list[asyncpg.Record]:
    """The last `days` days in UTC, oldest first, days without requests included."""
    async with outage_is_unavailable("The usage figures"):
        return await postgres.fetch(_BY_DAY, user_id, days)


class EndpointUsage(BaseModel):
    endpoint: str
    requests: int
    errors: int
    rows: int
    credits_used: float


class OwnStats(BaseModel):
    total_requests: int
    today_requests: int
    errors: int
    rows: int
    credits_used: float
    daily_usage: list[DayOfUsage]
    endpoints: list[EndpointUsage]


_SUMS = """coalesce(sum(requests), 0)::bigint AS requests, coalesce(sum(errors), 0)::bigint AS errors,
           coalesce(sum(rows), 0)::bigint AS rows, coalesce(sum(credits_used_mc), 0)::bigint AS credits_used_mc"""
_BY_ENDPOINT = f"""
    SELECT endpoint, {_SUMS} FROM audit.usage_by_endpoint
     WHERE user_id = $1 AND day > (now() AT TIME ZONE 'UTC')::date - $2::int
     GROUP BY endpoint ORDER BY requests DESC, endpoint
"""  # noqa: S608 - column names


async def stats_of(postgres: Pool, user_id: UUID, days: int) -> dict[str, Any]:
    """Totals of the last `days` days, and what they are made of."""
    by_day = await usage_by_day(postgres, user_id, days)
    async with outage_is_unavailable("The usage figures"):
        by_endpoint = await postgres.fetch(_BY_ENDPOINT, user_id, days)
    return {
        "total_requests": sum(day["requests"] for day in by_day),
        "today_requests": by_day[-1]["requests"],
        "errors": sum(day["errors"] for day in by_day),
        "rows": sum(day["rows"] for day in by_day),
        "credits_used_mc": sum(day["credits_used_mc"] for day in by_day),
        "daily_usage": by_day,
        "endpoints": by_endpoint,
    }
