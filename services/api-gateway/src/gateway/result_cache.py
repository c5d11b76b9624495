"""Answers of finished queries, kept for a minute in Redis, and one query for all who ask the same at once.

The key holds all that an answer depends on: the SQL with what the caller may see of each column, its values and
limits, and the dataset's version. So an answer is never another query's, and dies with the next finished load.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.clock import Clock
from common.logs import get_logger
from common.metrics import counter
from gateway.query_plan import QueryPlan
from gateway.query_versions import Freshness
from gateway.warehouse import Page

_log = get_logger(__name__)
_KEEP_S = 60
_ANSWER_BYTES_MAX = 1 << 20
_PAUSE_S = 1.0
_READ_S = 0.05
_lookups = counter("bigdata_result_cache_total", "Look-ups in the result cache", "result")


@dataclass(frozen=True)
class Kept:
    page: Page
    as_of: datetime


def cache_key(plan: QueryPlan, fresh: Freshness) -> str:
    facts = [plan.sql, plan.count_sql, dict(plan.parameters), dict(plan.settings), fresh.excluded]
    digest = hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()
    return f"answer:{plan.dataset}:{fresh.version}:{digest}"


class ResultCache:
    """Without Redis nothing is kept and everything is still right: it is asked again after a second."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._alone_until = 0.0
        self._keeping: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> Kept | None:
        if self._clock.monotonic() < self._alone_until:
            return None
        try:
            async with asyncio.timeout(_READ_S):
                raw = await self._redis.get(key)
        except (RedisError, OSError, TimeoutError) as exc:
            self._pause(exc)
            return None
        _lookups.labels("found" if raw else "missed").inc()
        return _decoded(raw) if isinstance(raw, bytes) else None

    def keep(self, key: str, kept: Kept) -> None:
        """In the background: no answer waits for it."""
        if len(kept.page.data) <= _ANSWER_BYTES_MAX and self._clock.monotonic() >= self._alone_until:
            task = asyncio.create_task(self._put(key, _encoded(kept)))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    async def _put(self, key: str, raw: bytes) -> None:
        try:
            await self._redis.set(key, raw, ex=_KEEP_S)
        except (RedisError, OSError, TimeoutError) as exc:
            self._pause(exc)

    def _pause(self, exc: Exception) -> None:
        self._alone_until = self._clock.monotonic() + _PAUSE_S
        _log.warning("redis does not answer, nothing is cached", fault=repr(exc), pause_s=_PAUSE_S)


def _encoded(kept: Kept) -> bytes:
    page = kept.page
    facts = {
        "rows": page.rows,
        "total": page.total,
        "rows_read": page.rows_read,
        "place": page.place.decode(),
        "as_of": kept.as_of,
    }
    return orjson.dumps(facts) + b"\n" + page.data


def _decoded(raw: bytes) -> Kept:
    head, _, data = raw.partition(b"\n")
    facts = orjson.loads(head)
    page = Page(data, facts["rows"], facts["total"], facts["rows_read"], facts["place"].encode())
    return Kept(page, datetime.fromisoformat(facts["as_of"]))


@dataclass
class _Flight:
    task: asyncio.Task[Page]
    waiting: int = 0


class Flights:
    """Singleflight: equal work that is asked for while it runs is done once. It stops when nobody waits any more."""

    def __init__(self) -> None:
        self._flying: dict[str, _Flight] = {}

    async def join(self, key: str, work: Callable[[], Coroutine[Any, Any, Page]]) -> Page:
        flight = self._flying.get(key)
        if flight is None:
            flight = self._flying[key] = _Flight(asyncio.create_task(work()))
        flight.waiting += 1
        try:
            # Shielded: whoever leaves must not take it from the others.
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and self._flying.get(key) is flight:
                del self._flying[key]
                await _ended(flight.task)


async def _ended(task: asyncio.Task[Page]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # it has been told to whoever waited
