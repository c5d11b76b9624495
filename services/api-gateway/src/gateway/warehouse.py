"""Running planned queries on ClickHouse: bytes of rows as ClickHouse wrote them, and errors a client can act on.

No row becomes a Python object here. ClickHouse writes one JSON object a line; joined by commas the lines are the array
of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

import aiohttp
import orjson
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, ProgrammingError

from common.clickhouse import open_clickhouse
from common.errors import QueryTimeout, QueryTooExpensive, Unavailable
from common.logs import get_logger
from common.tracing import span
from gateway.query_plan import QueryPlan
from gateway.settings import Settings

_log = get_logger(__name__)
T = TypeVar("T")

# Most pages are there within this.
_COUNT_HEAD_START_S = 0.02
# ClickHouse looks at its clock between blocks, and its answer has to travel: its own 159 should come first.
_GRACE_S = 2.0
_TIMEOUT = frozenset({159, 160})
_TOO_EXPENSIVE = frozenset({158, 191, 241, 307, 396})
_UNAVAILABLE = frozenset({60, 81, 192, 194, 202, 209, 210, 236, 242, 279, 394, 439, 516})
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


class Warehouse:
    def __init__(self, connect: Callable[[], Awaitable[AsyncClient]], timeout_s: float) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

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

    async def stream(self, sql: str, parameters: Mapping[str, Any], form: str) -> AsyncIterator[bytes]:
        """Pieces of a result in a format of ClickHouse. A stream that breaks raises; what came before is not whole."""
        client = await self._connected()
        with _translated():
            streaming = await client.raw_stream(sql, parameters=dict(parameters), settings=dict(_OURS), fmt=form)
            async with streaming as pieces:
                async for piece in pieces:
                    yield piece

    async def _page(self, plan: QueryPlan, query_id: UUID) -> Page:
        if plan.counts_rows_read:
            return _with_rows_read(await self._run(plan.sql, plan.parameters, _settings(plan, query_id), "JSON"))
        raw = await self._run(plan.sql, plan.parameters, _settings(plan, query_id), "JSONEachRow")
        # Inside JSON text a line feed is escaped, so every one in the bytes ends a row.
        return Page(b"[%b]" % raw.rstrip(b"\n").replace(b"\n", b","), raw.count(b"\n"), None)

    async def _count(self, plan: QueryPlan, query_id: UUID, unless: asyncio.Task[Page]) -> int:
        """Begins after a moment, in which most pages come that make it needless; who needs none cancels it."""
        await asyncio.wait({unless}, timeout=_COUNT_HEAD_START_S)
        settings = _settings(plan, query_id)
        settings.pop("max_result_rows", None)
        raw = await self._run(plan.count_sql or "", plan.parameters, settings, "JSONCompactEachRow")
        return int(orjson.loads(raw)[0])

    async def _run(self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any], form: str) -> bytes:
        with _translated(), span("clickhouse.query"):
            async with asyncio.timeout(self._timeout_s + _GRACE_S):
                client = await self._connected()
                return await client.raw_query(
                    sql, parameters=dict(parameters), settings={**_OURS, **settings}, fmt=form
                )

    async def _connected(self) -> AsyncClient:
        """Connects at the first need, so that a gateway can start, and answer 503 to queries, without ClickHouse."""
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    with _translated():
                        self._client = await self._connect()
        return self._client


def _settings(plan: QueryPlan, query_id: UUID) -> dict[str, Any]:
    # The query log of ClickHouse then names the query that a receipt names.
    return {**plan.settings, "log_comment": str(query_id)}


def _total(plan: QueryPlan, rows: int) -> int | None:
    """The total that a page shows by itself: it ends inside the limit, and is not behind the last row."""
    if plan.count_sql is None:
        return None
    whole = plan.offset == 0 and (rows < plan.limit or plan.one_row_at_most)
    return plan.offset + rows if whole or 0 < rows < plan.limit else None


def _with_rows_read(raw: bytes) -> Page:
    """The JSON format says how many rows were read, after the data."""
    start, end = raw.index(b'"data":') + len(b'"data":'), raw.rindex(b'"rows":')
    tail = orjson.loads(b"{" + raw[end:])
    data = raw[start:end].rstrip().removesuffix(b",").strip()
    return Page(data, tail["rows"], None, tail["statistics"]["rows_read"])


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Their errors too are of no interest any more."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


@contextmanager
def _translated() -> Iterator[None]:
    """Drivers' errors to answers; nothing of ClickHouse's text or our SQL goes further than the log."""
    try:
        yield
    except TimeoutError as exc:
        raise QueryTimeout from exc
    except ClickHouseError as exc:
        raise _answer_for(exc) from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise _unavailable() from exc


def _answer_for(exc: ClickHouseError) -> Exception:
    code = getattr(exc, "code", None)
    # "(total)" is the server's memory, not this query's. Without a code nobody answered, or something in between did.
    away = code is None and not isinstance(exc, ProgrammingError)
    if away or code in _UNAVAILABLE or (code == 241 and "(total)" in str(exc)):  # noqa: PLR2004 - MEMORY_LIMIT_EXCEEDED
        _log.warning("clickhouse is not available", code=code, fault=type(exc).__name__)
        return _unavailable()
    if code in _TIMEOUT:
        return QueryTimeout()
    if code in _TOO_EXPENSIVE:
        return QueryTooExpensive()
    _log.error("clickhouse refused a query", code=code, fault=str(exc)[:500])
    return WarehouseFault(f"ClickHouse error {code}")


def _unavailable() -> Unavailable:
    return Unavailable("The data is not available, try again shortly", retry_after_s=2)


@asynccontextmanager
async def open_warehouse(settings: Settings) -> AsyncIterator[Warehouse]:
    async with AsyncExitStack() as closing:
        yield Warehouse(lambda: closing.enter_async_context(open_clickhouse(settings)), settings.query_timeout_s)
