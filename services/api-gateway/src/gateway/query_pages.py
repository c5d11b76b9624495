"""A page of rows: from the cache, from somebody who asks the same at this moment, or from ClickHouse."""

from __future__ import annotations

from common import prices
from common.errors import ClientError, QueryTooExpensive
from gateway.query_answer import Run
from gateway.query_plan import QueryPlan
from gateway.query_scans import Scans
from gateway.query_versions import Freshness
from gateway.result_cache import Flights, Kept, ResultCache, cache_key
from gateway.warehouse import Page, Warehouse, WarehouseFault


class Pages:
    def __init__(self, warehouse: Warehouse, cache: ResultCache, scans: Scans) -> None:
        self._warehouse = warehouse
        self._cache = cache
        self._scans = scans
        self._flights = Flights()

    async def kept(self, plan: QueryPlan, fresh: Freshness) -> Kept | None:
        """An answer of the last minute, of this version of the dataset, to exactly this query."""
        return await self._cache.get(cache_key(plan, fresh))

    async def fetch(self, run: Run, fresh: Freshness) -> Page:
        """Raises what the warehouse raises, and RateLimited when the caller runs too many scans already."""
        key = cache_key(run.plan, fresh)

        async def ask() -> Page:
            page = await self._run(run)
            # Only here, with the whole page in hand: part of an answer is never kept.
            self._cache.keep(key, Kept(page, run.as_of))
            return page

        return await self._flights.join(key, ask)

    async def _run(self, run: Run) -> Page:
        leave = await self._scans.enter(run.caller.user_id) if run.plan.scans else None
        try:
            return await self._warehouse.fetch(run.plan, run.query_id)
        except QueryTooExpensive as exc:
            raise await too_expensive(run.plan, self._warehouse) from exc
        finally:
            if leave is not None:
                leave()


async def too_expensive(plan: QueryPlan, warehouse: Warehouse) -> QueryTooExpensive:
    """With what it was estimated at and what it was allowed, as far as ClickHouse can still say."""
    try:
        estimate: int | None = await warehouse.estimate(plan)
    except (ClientError, WarehouseFault):
        estimate = None
    limits = plan.settings
    return QueryTooExpensive(
        details={
            "estimate": {"rows_read": estimate},
            "limit": {
                "rows_read": limits.get("max_rows_to_read"),
                "rows_returned": limits.get("max_result_rows"),
                "credits": prices.credits(plan.price_cap),
            },
        }
    )
