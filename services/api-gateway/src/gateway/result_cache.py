"""Answers of finished queries, kept for a minute in Redis, and one query for all who ask the same at once.

The key holds all that an answer depends on: the SQL with what the caller may see of each column, its values and
limits, and the dataset's version. So an answer is never another query's, and dies with the next finished load.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
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
# In the process as well, so that what is asked most costs no round trip; larger ones are worth one.
_NEAR_ANSWER_BYTES_MAX = 16_384
_NEAR_MAX = 2048
_PAUSE_S = 1.0
# Answers go to Redis together: none waits for it, and this process has them already.
_GATHER_S = 0.05
_READ_S = 0.05
_lookups = counter("bigdata_result_cache_total", "Look-ups in the result cache", "result")
_near_found = _lookups.labels("near")


@dataclass(frozen=True)
class Kept:
    page: Page
    as_of: datetime


def cache_key(plan: QueryPlan, fresh: Freshness) -> str:
    return f"answer:{plan.dataset}:{fresh.version}:{plan.digest}"


class Near:
    """The answers asked for last, in this process: as long as in Redis, counted from when ClickHouse was asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[Kept, float]] = OrderedDict()

    def get(self, key: str) -> Kept | None:
        kept, until = self._kept.get(key) or (None, 0.0)
        if kept is None:
            return None
        if self._clock.monotonic() >= until:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return kept

    def put(self, key: str, kept: Kept) -> None:
        # At most as long as ever, whatever the clock says that another gateway asked by.
        left_s = min(_KEEP_S, _KEEP_S - (self._clock.now() - kept.as_of).total_seconds())
        if left_s <= 0 or len(kept.page.data) > _NEAR_ANSWER_BYTES_MAX:
            return
        self._kept[key] = (kept, self._clock.monotonic() + left_s)
        if len(self._kept) > _NEAR_MAX:
            self._kept.popitem(last=False)


class ResultCache:
    """Without Redis nothing is kept and everything is still right: it is asked again after a second."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._near = Near(clock)
        self._alone_until = 0.0
        self._leaving: dict[str, bytes] = {}
        self._keeping: asyncio.Task[None] | None = None

    async def get(self, key: str) -> Kept | None:
        near = self._near.get(key)
        if near is not None:
            _near_found.inc()
            return near
        if self._clock.monotonic() < self._alone_until:
            return None
        try:
            async with asyncio.timeout(_READ_S):
                raw = await self._redis.get(key)
        except (RedisError, OSError, TimeoutError) as exc:
            self._pause(exc)
            return None
        _lookups.labels("found" if raw else "missed").inc()
        if not isinstance(raw, bytes):
            return None
        kept = _decoded(raw)
        self._near.put(key, kept)
        return kept

    def keep(self, key: str, kept: Kept) -> None:
        """In the background: no answer waits for it."""
        if len(kept.page.data) <= _ANSWER_BYTES_MAX and self._clock.monotonic() >= self._alone_until:
            self._near.put(key, kept)
            self._leaving[key] = _encoded(kept)
            if self._keeping is None:
                self._keeping = asyncio.create_task(self._put())

    async def _put(self) -> None:
        try:
            while self._leaving:
                await asyncio.sleep(_GATHER_S)
                leaving, self._leaving = self._leaving, {}
                await self._set(leaving)
        finally:
            self._keeping = None

    async def _set(self, answers: Mapping[str, bytes]) -> None:
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key, raw in answers.items():
                    pipeline.set(key, raw, ex=_KEEP_S)
                await pipeline.execute()
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
