"""What runs by the clock, and by database time only: holds run out, and old records are forgotten."""

from common.logs import get_logger
from common.metrics import counter
from common.postgres import Pool, borrowed
from credits.settings import Settings

_log = get_logger(__name__)
_expired = counter("bigdata_holds_expired_total", "Holds that nobody settled before their deadline")

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


_PURGE = "SELECT credits.purge($1, $2)"


async def purge_old(pool: Pool, settings: Settings) -> None:
    async with borrowed(pool, settings.postgres_statement_s) as connection:
        purged = await connection.fetchval(_PURGE, settings.receipts_days, settings.purge_rows_max)
    if purged:
        _log.info("old records purged", rows=purged)
