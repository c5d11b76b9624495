"""Running planned queries on ClickHouse: bytes of rows as ClickHouse wrote them, and errors a client can act on.

No row becomes a Python object here. ClickHouse writes one JSON object a line; joined by commas the lines are the array
of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import aiohttp
import orjson

from common.errors import QueryTimeout, QueryTooExpensive, Unavailable
from common.logs import get_logger
from common.tracing import span
from gateway.query_plan import QueryPlan
from gateway.settings import Settings
from gateway.warehouse_http import (
    BrokenResult,
    RefusedResult,
    Result,
    WarehouseHttp,
    code_in,
    open_warehouse_http,
)

_log = get_logger(__name__)

# Most pages are there within this.
_COUNT_HEAD_START_S = 0.02
# ClickHouse looks at its clock between blocks, and its answer has to travel: its own 159 should come first.
_GRACE_S = 2.0
_TIMEOUT = frozenset({159, 160})
_TOO_EXPENSIVE = frozenset({158, 191, 241, 307, 396})
_UNAVAILABLE = frozenset({60, 81, 192, 194, 202, 209, 210, 236, 242, 279, 394, 439, 516})
_ROW_BEGINS, _PROGRESS_BEGINS, _FAULT_BEGINS = b'{"row":', b'{"progress":', b'{"exception":'
_ROW_PLACE = b',"__place":'
_OURS: Mapping[str, Any] = {
    "date_time_output_format": "iso",
    # Leaving closes the connection, and that is what stops the query.
    "cancel_http_readonly_queries_on_client_close": 1,
}


class WarehouseFault(Exception):
    """ClickHouse refused what we wrote: a fault of ours, answered 500 and not charged."""


@dataclass(frozen=True)
class Page:
    """`data` is a JSON array of `rows` objects. `total`: rows beyond limit and offset too; None: not asked for."""

    data: bytes
    rows: int
    total: int | None
    rows_read: int = 0  # known only when the price depends on it
    place: bytes = b""  # where the last row stands, as ClickHouse wrote it


class Warehouse:
    """Pages and streams have connections of their own: exports that take minutes keep no page waiting."""

    def __init__(self, pages: WarehouseHttp, streams: WarehouseHttp, timeout_s: float) -> None:
        self._pages, self._streams = pages, streams
        self._timeout_s = timeout_s

    async def fetch(self, plan: QueryPlan, query_id: UUID) -> Page:
        """Run a plan. Raises QueryTimeout, QueryTooExpensive, Unavailable; cancelling it stops the query.

        A page that ends inside the limit is its own count. Any other total is counted beside the page.
        """
        if plan.count_sql is None or plan.one_row_at_most:
            page = await self._page(plan, query_id)
            return replace(page, total=_total(plan, page.rows))
        paging = asyncio.create_task(self._page(plan, query_id))
        counting = asyncio.create_task(self._count(plan, query_id, unless=paging))
        try:
            page = await paging
            total = _total(plan, page.rows)
            return replace(page, total=await counting if total is None else total)
        finally:
            await _ended(paging, counting)

    async def count(self, table: str) -> int:
        """Rows that a query without filters would show."""
        raw = await self._run(f"SELECT count() FROM {table} FINAL", {}, {}, "JSONCompactEachRow")  # noqa: S608 - a declared name
        return int(orjson.loads(raw)[0])

    async def rows(self, sql: str, parameters: Mapping[str, Any]) -> bytes:
        """A JSON array of a statement of ours, within the limits of the gateway's profile."""
        raw = await self._run(sql, parameters, {}, "JSONEachRow")
        return b"[%b]" % raw.rstrip(b"\n").replace(b"\n", b",")

    async def ping(self) -> None:
        """Raises Unavailable."""
        await self._run("SELECT 1", {}, {}, "JSONCompactEachRow")

    async def estimate(self, plan: QueryPlan) -> int:
        """How many rows the query would read, by the index and before it runs; none of them is read."""
        raw = await self._run(f"EXPLAIN ESTIMATE {plan.sql}", plan.parameters, {}, "JSONEachRow")
        return sum(int(orjson.loads(line)["rows"]) for line in raw.splitlines())

    async def total(self, plan: QueryPlan, rows_max: int) -> int:
        """How many rows a stream would have, counted as far as rows_max + 1."""
        sql = f"SELECT count() FROM (SELECT 1 FROM ({plan.sql}) LIMIT {rows_max + 1})"  # noqa: S608 - a plan's, and a number
        settings = {name: value for name, value in plan.settings.items() if name != "max_result_rows"}
        raw = await self._run(sql, plan.parameters, settings, "JSONCompactEachRow")
        return int(orjson.loads(raw)[0])

    async def count_of(self, plan: QueryPlan, query_id: UUID) -> int:
        """The total of a stream, before it begins."""
        return await self._count(plan, query_id)

    async def open_result(self, plan: QueryPlan, query_id: UUID) -> Result:
        """The plan's rows in its form; closing it stops the query. Raises what `fetch` raises."""
        with translated():
            return await self._streams.open(
                plan.sql, plan.parameters, {**_OURS, **_settings(plan, query_id)}, plan.form.written
            )

    async def stream(self, sql: str, parameters: Mapping[str, Any], form: str) -> AsyncIterator[bytes]:
        """Pieces of a result in a format of ClickHouse. A stream that breaks raises; what came before is not whole."""
        with translated():
            result = await self._streams.open(sql, parameters, _OURS, form)
            try:
                async for piece in result.pieces():
                    yield piece
            finally:
                result.close()

    async def _page(self, plan: QueryPlan, query_id: UUID) -> Page:
        if plan.counts_rows_read:
            return await self._page_and_rows_read(plan, query_id)
        raw = await self._run(plan.sql, plan.parameters, _settings(plan, query_id), "JSONEachRow")
        rows = raw.count(b"\n")
        if plan.places:
            data, place = without_places(raw)
            return Page(b"[%b]" % data, rows, None, place=place)
        # Inside JSON text a line feed is escaped, so every one in the bytes ends a row.
        return Page(b"[%b]" % raw.rstrip(b"\n").replace(b"\n", b","), rows, None)

    async def _page_and_rows_read(self, plan: QueryPlan, query_id: UUID) -> Page:
        """A line for each row, and lines that say how far the reading is; the last of those says how much it was."""
        raw = await self._run(plan.sql, plan.parameters, _settings(plan, query_id), "JSONEachRowWithProgress")
        lines = raw.split(b"\n")  # not splitlines: text may hold a bare carriage return
        if told := next((line for line in lines if line.startswith(_FAULT_BEGINS)), None):
            with translated():
                raise BrokenResult(code_in(told))
        rows = [line[len(_ROW_BEGINS) : -1] for line in lines if line.startswith(_ROW_BEGINS)]
        progress = [orjson.loads(line)["progress"] for line in lines if line.startswith(_PROGRESS_BEGINS)]
        rows_read = max((int(one["read_rows"]) for one in progress), default=0)
        if plan.places:
            data, place = without_places(b"\n".join(rows))
            return Page(b"[%b]" % data, len(rows), None, rows_read, place)
        return Page(b"[%b]" % b",".join(rows), len(rows), None, rows_read)

    async def _count(self, plan: QueryPlan, query_id: UUID, unless: asyncio.Task[Page] | None = None) -> int:
        """Begins after a moment, in which most pages come that make it needless; who needs none cancels it."""
        if unless is not None:
            await asyncio.wait({unless}, timeout=_COUNT_HEAD_START_S)
        settings = _settings(plan, query_id)
        settings.pop("max_result_rows", None)
        raw = await self._run(plan.count_sql or "", plan.parameters, settings, "JSONCompactEachRow")
        return int(orjson.loads(raw)[0])

    async def _run(self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any], form: str) -> bytes:
        with translated(), span("clickhouse.query"):
            async with asyncio.timeout(self._timeout_s + _GRACE_S):
                return await self._pages.whole(sql, parameters, {**_OURS, **settings}, form)


def _settings(plan: QueryPlan, query_id: UUID) -> dict[str, Any]:
    # The query log of ClickHouse then names the query that a receipt names.
    return {**plan.settings, "log_comment": str(query_id)}


def _total(plan: QueryPlan, rows: int) -> int | None:
    """The total that a page shows by itself: it ends inside the limit, and is not behind the last row."""
    if plan.count_sql is None or plan.position is not None:
        return plan.total
    whole = plan.offset == 0 and (rows < plan.limit or plan.one_row_at_most)
    return plan.offset + rows if whole or 0 < rows < plan.limit else None


def without_places(lines: bytes) -> tuple[bytes, bytes]:
    """Rows of JSON lines without their places, and the place of the last one.

    Inside a JSON string a quote is escaped, so these bytes can only be the last column's name.
    """
    kept, place = [], b""
    for line in lines.split(b"\n"):
        if line:
            row, _, place = line.rpartition(_ROW_PLACE)
            kept.append(row + b"}")
    return b",".join(kept), place[:-1]


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Their errors too are of no interest any more."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


@contextmanager
def translated() -> Iterator[None]:
    """Drivers' errors to answers; nothing of ClickHouse's text or our SQL goes further than the log."""
    try:
        yield
    except TimeoutError as exc:
        raise QueryTimeout from exc
    except (RefusedResult, BrokenResult) as exc:
        # Without a code nobody answered, or something in between did.
        raise _answer_for(exc.code, str(exc)) from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise _unavailable() from exc


def _answer_for(code: int | None, text: str) -> Exception:
    # "(total)" is the server's memory, not this query's.
    if code is None or code in _UNAVAILABLE or (code == 241 and "(total)" in text):  # noqa: PLR2004 - MEMORY_LIMIT_EXCEEDED
        _log.warning("clickhouse is not available", code=code)
        return _unavailable()
    if code in _TIMEOUT:
        return QueryTimeout()
    if code in _TOO_EXPENSIVE:
        return QueryTooExpensive()
    _log.error("clickhouse refused a query", code=code, fault=text[:500])
    return WarehouseFault(f"ClickHouse error {code}")


def _unavailable() -> Unavailable:
    return Unavailable("The data is not available, try again shortly", retry_after_s=2)


@asynccontextmanager
async def open_warehouse(settings: Settings) -> AsyncIterator[Warehouse]:
    """Connects at the first need, so that a gateway can start, and answer 503 to queries, without ClickHouse."""
    async with open_warehouse_http(settings) as pages, open_warehouse_http(settings) as streams:
        yield Warehouse(pages, streams, settings.query_timeout_s)
