"""GET /v1/admin/stats and pages of the log with ten million requests in it.

The log is filled on the server, day by day, before its indexes are made; the rollups are the sums that audit-logger
would have kept. The baseline asks the log itself for the same figures.
"""

import os
import time
from collections.abc import Awaitable
from datetime import UTC, date, datetime, timedelta

import asyncpg
import httpx

from benchmarks.http_load import Load
from benchmarks.report import Figure
from devstack.stack import Stack

ROWS = int(os.environ.get("BENCH_LOG_ROWS", "10000000"))
_DAYS = 30
_ASKED = 200
_SHOWN_MS_MAX = 50
# What the log has everywhere, here and there, and nowhere.
_FILTERS = (
    "", "?status=4xx", "?status=5xx", "?status=404", "?endpoint=/v1/query", "?endpoint=/v1/nowhere", "?username=nobody",
    "?user_id=00000000-0000-7000-8000-000000000007", "?action=create-user", "?error_code=rate_limited",
    "?ip=192.0.2.1", "?target=nothing", "?dataset=flights", "?slower_than_ms=50", "?slower_than_ms=5000",
)  # fmt: skip

_DAY_TABLE = """
    CREATE TABLE audit.{leaf} (LIKE audit.request_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
    INSERT INTO audit.{leaf}
           (event_id, created_at, user_id, rows, credits_used_mc, duration_ms, status, method, endpoint)
    SELECT uuidv7(), timestamptz '{day} 00:00Z' + n * interval '86400 s' / {rows},
           ('00000000-0000-7000-8000-' || lpad((n % 500)::text, 12, '0'))::uuid, n % 100, 1000, 1 + n % 997 / 10.0,
           CASE n % 50 WHEN 0 THEN 422 ELSE 200 END, 'POST', '/v1/query'
      FROM generate_series(0, {rows} - 1) AS n;
    CREATE UNIQUE INDEX {leaf}_once ON audit.{leaf} (event_id);
    ALTER TABLE audit.request_log ATTACH PARTITION audit.{leaf}
          FOR VALUES FROM ('{day} 00:00Z') TO ('{next_day} 00:00Z');
"""
_USAGE = """
    INSERT INTO audit.daily_usage (user_id, day, endpoint, requests, errors, rows, credits_used_mc)
    SELECT user_id, $1, endpoint, count(*), count(*) FILTER (WHERE status >= 400), sum(rows), sum(credits_used_mc)
      FROM audit.request_log WHERE created_at >= $2 AND created_at < $3 GROUP BY user_id, endpoint
        ON CONFLICT DO NOTHING
"""
_TOTALS = """
    INSERT INTO audit.daily_totals (day, requests, errors, rows, credits_used_mc, latency)
    SELECT $1, count(*), count(*) FILTER (WHERE status >= 400), sum(rows), sum(credits_used_mc),
           (SELECT array_agg(coalesce(c.amount, 0) ORDER BY place)
              FROM generate_series(1, 66) AS place
              LEFT JOIN (SELECT least(66, 2 + floor(4 * ln(duration_ms) / ln(2)))::int AS place, count(*) AS amount
                           FROM audit.request_log
                          WHERE created_at >= $2 AND created_at < $3 GROUP BY 1) AS c USING (place))
      FROM audit.request_log WHERE created_at >= $2 AND created_at < $3
        ON CONFLICT DO NOTHING
"""
_SCAN = """
    SELECT count(*), sum(credits_used_mc), count(*) FILTER (WHERE status >= 400),
           percentile_cont(array[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms)
      FROM audit.request_log
"""


async def run(stack: Stack) -> list[Figure]:
    connection = await asyncpg.connect(str(stack.status().postgres))
    try:
        await _fill(connection)
        total = await connection.fetchval("SELECT sum(requests) FROM audit.totals_by_day")
        assert total >= ROWS
        scans_ms = [await _timed_ms(connection.fetch(_SCAN)) for _ in range(2)]
        load = await _asked(stack, at_least=ROWS)
        pages = await _pages_asked(stack)
    finally:
        await connection.close()
    p99, p50 = load.quantile_ms(0.99), load.quantile_ms(0.5)
    baseline = min(scans_ms)
    slowest = max(pages, key=lambda page: pages[page])
    return [
        Figure("Stats", f"GET /v1/admin/stats, {total:,} requests in the log, p50", "ms", p50, baseline,
               f"≤ {_SHOWN_MS_MAX} ms", p50 <= _SHOWN_MS_MAX),
        Figure("Stats", "the same, p99", "ms", p99, baseline, f"≤ {_SHOWN_MS_MAX} ms", p99 <= _SHOWN_MS_MAX),
        Figure("Stats", f"the slowest of {len(pages)} pages of the log: {slowest}", "ms", pages[slowest], baseline,
               f"≤ {_SHOWN_MS_MAX} ms", pages[slowest] <= _SHOWN_MS_MAX),
    ]  # fmt: skip


async def _fill(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Days that nobody writes to meanwhile: those that audit-logger keeps ready begin yesterday."""
    last = datetime.now(UTC).date() - timedelta(days=2)
    await connection.execute("SET synchronous_commit = off; SET maintenance_work_mem = '256MB'; SET timezone = 'UTC'")
    for day in (last - timedelta(days=n) for n in range(_DAYS)):
        following = day + timedelta(days=1)
        leaf = f"request_log_{day:%Y%m%d}"
        rows = ROWS // _DAYS + 1
        await connection.execute(_DAY_TABLE.format(leaf=leaf, day=day, next_day=following, rows=rows))
        for rollup in (_USAGE, _TOTALS):
            await connection.execute(rollup, day, _midnight(day), _midnight(following))
    await connection.execute("ANALYZE audit.request_log, audit.daily_usage, audit.daily_totals")


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


async def _timed_ms(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


async def _asked(stack: Stack, *, at_least: int) -> Load:
    load = Load()
    key = {"x-api-key": str(stack.status().admin_key)}
    async with httpx.AsyncClient(base_url=stack.url("gateway"), headers=key, timeout=60) as client:
        figures = (await client.get("/v1/admin/stats")).json()
        assert figures["total_requests"] >= at_least, figures
        began = time.perf_counter()
        for _ in range(_ASKED):
            sent = time.perf_counter()
            assert (await client.get("/v1/admin/stats")).status_code == 200
            load.latencies_s.append(time.perf_counter() - sent)
        load.seconds = time.perf_counter() - began
    return load


async def _pages_asked(stack: Stack) -> dict[str, float]:
    """Milliseconds of pages of the log, by their question: the better of two, as disks are read once."""
    key = {"x-api-key": str(stack.status().admin_key)}
    async with httpx.AsyncClient(base_url=stack.url("gateway"), headers=key, timeout=60) as client:
        admin = (await client.get("/v1/me")).json()["id"]
        first = await client.get("/v1/admin/logs", params={"to": _days_ago(15)})
        questions = {"a page in the middle": f"/v1/admin/logs?cursor={first.headers['x-next-cursor']}"}
        questions |= {asked: f"/v1/admin/logs{asked}" for asked in _FILTERS} | {"a user": f"/v1/admin/user/{admin}"}
        return {name: min([await _page_ms(client, url) for _ in range(2)]) for name, url in questions.items()}


def _days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


async def _page_ms(client: httpx.AsyncClient, url: str) -> float:
    began = time.perf_counter()
    (await client.get(url)).raise_for_status()
    return (time.perf_counter() - began) * 1000
