"""What runs by the clock, and by database time only: holds run out, and old records are forgotten."""

from common.logs import get_logger
from common.metrics import counter, gauge
from common.postgres import Pool, borrowed
from credits.settings import Settings

_log = get_logger(__name__)
_expired = counter("bigdata_holds_expired_total", "Holds that nobody settled before their deadline")
_open = gauge("bigdata_holds_open", "Holds that are neither settled nor expired")
_oldest = gauge("bigdata_hold_oldest_seconds", "Age of the oldest open hold; 0 without one")

_EXPIRE = "SELECT credits.expire($1)"


async def expire_holds(pool: Pool, settings: Settings) -> None:
    """Close everything overdue, in bounded steps; safe beside other replicas doing the same."""
    closed = settings.expiry_holds_max
    while closed == settings.expiry_holds_max:
        async with borrowed(pool, settings.postgres_statement_s) as connection:
            closed = await connection.fetchval(_EXPIRE, settings.expiry_holds_max)
        if closed:
            _expired.inc(closed)
            _log.info("holds expired", holds=closed)


_OPEN = """
    SELECT count(*) AS holds, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s
      FROM credits.holds WHERE state = 'open'
"""


async def watch_holds(pool: Pool, settings: Settings) -> None:
    async with borrowed(pool, settings.postgres_statement_s) as connection:
        row = await connection.fetchrow(_OPEN)
    assert row is not None  # noqa: S101 - an aggregate always answers a row
    _open.set(row["holds"])
    _oldest.set(row["oldest_s"])


_PURGE = "SELECT credits.purge($1, $2)"


async def purge_old(pool: Pool, settings: Settings) -> None:
    async with borrowed(pool, settings.postgres_statement_s) as connection:
        purged = await connection.fetchval(_PURGE, settings.receipts_days, settings.purge_rows_max)
    if purged:
        _log.info("old records purged", rows=purged)
