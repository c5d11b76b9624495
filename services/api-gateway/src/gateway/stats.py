"""Figures for the dashboard, from what credits, audit and ingest publish."""

from typing import Any

from common.postgres import Pool, outage_is_unavailable
from gateway.record_counts import RecordCounts

LOW_CREDITS_MC = 10_000
_DAYS = 30

_TOTALS = """
    SELECT (SELECT count(*) FROM gateway.users WHERE activated_at IS NOT NULL) AS total_users,
           (SELECT count(*) FROM gateway.users
             WHERE activated_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC') AS new_users_today,
           (SELECT count(*) FROM gateway.users AS u JOIN credits.balances AS b ON b.user_id = u.id
             WHERE u.status = 'active' AND u.role = 'user' AND b.available < $1) AS low_credit_users,
           coalesce(sum(t.requests), 0)::bigint AS total_requests,
           coalesce(sum(t.credits_used_mc), 0)::bigint AS credits_used_all_time_mc,
           coalesce(sum(t.credits_used_mc) FILTER (WHERE t.day > today.day - $2::int), 0)::bigint AS credits_used_mc,
           coalesce(sum(t.requests) FILTER (WHERE t.day = today.day), 0)::bigint AS today_requests,
           coalesce(sum(t.errors) FILTER (WHERE t.day = today.day)::float8
                    / nullif(sum(t.requests) FILTER (WHERE t.day = today.day), 0), 0)::float8 AS error_rate,
           (SELECT coalesce(sum(rows_accepted), 0)::bigint FROM ingest.upload_status
             WHERE duplicate_of IS NULL
               AND finished_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')
         + (SELECT coalesce(sum(accepted), 0)::bigint FROM ingest.records_by_day WHERE day = min(today.day))
           AS ingested_today,
           (SELECT p50_ms FROM audit.latency_by_day AS l WHERE l.day = min(today.day)) AS p50_ms,
           (SELECT p95_ms FROM audit.latency_by_day AS l WHERE l.day = min(today.day)) AS p95_ms
      FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS day) AS today LEFT JOIN audit.totals_by_day AS t ON true
"""

_DAILY = """
    WITH wanted AS (
        SELECT d.day::date AS day
          FROM generate_series((now() AT TIME ZONE 'UTC')::date - ($1::int - 1), (now() AT TIME ZONE 'UTC')::date,
                               interval '1 day') AS d (day)),
         joined AS (
        SELECT (activated_at AT TIME ZONE 'UTC')::date AS day, count(*) AS users FROM gateway.users
         WHERE activated_at >= (SELECT min(day) FROM wanted) AT TIME ZONE 'UTC' GROUP BY 1)
    SELECT wanted.day AS date, coalesce(t.requests, 0) AS requests, coalesce(t.credits_used_mc, 0) AS credits_used_mc,
           coalesce(joined.users, 0) AS new_users
      FROM wanted LEFT JOIN audit.totals_by_day AS t USING (day) LEFT JOIN joined USING (day)
     ORDER BY day
"""


async def dashboard(postgres: Pool, counts: RecordCounts) -> dict[str, Any]:
    """Today and the last 30 days in UTC, days without requests included. Behind by what is still on its way."""
    async with outage_is_unavailable("The statistics"):
        totals = await postgres.fetchrow(_TOTALS, LOW_CREDITS_MC, _DAYS)
        daily = await postgres.fetch(_DAILY, _DAYS)
    assert totals is not None  # noqa: S101 - an aggregate always answers a row
    return {**totals, "records_total": await counts.total(), "daily_usage": daily}
