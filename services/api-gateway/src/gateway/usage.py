"""One user's requests and credits by day."""

from datetime import date
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
