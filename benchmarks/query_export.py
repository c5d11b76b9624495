"""Q3: a million rows as CSV, Parquet, Arrow and NDJSON, against ClickHouse streaming the same to a plain client."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import psutil

from benchmarks.query_world import ROWS, TAG, Asker, asker, fill, merge
from benchmarks.report import Figure
from common.datasets import load_datasets
from devstack.stack import Stack
from gateway.query_formats import FORMS, completed
from gateway.query_plan import Terms, plan_query
from gateway.query_request import QueryRequest
from gateway.settings import Settings
from gateway.warehouse_http import open_warehouse_http

_ROUNDS = 2
_MIB = 1 << 20
_MEMORY_MAX_MIB = 64


@dataclass(frozen=True)
class Export:
    rows_per_second: float
    memory_mib: float


async def run(stack: Stack, rows: int = ROWS) -> list[Figure]:
    await fill(stack, rows)
    await merge(stack)
    one = await asker(stack)
    figures: list[Figure] = []
    for form in ("csv", "parquet", "arrow", "ndjson"):
        straight, whole = [], []
        for _ in range(_ROUNDS):
            straight.append(await _straight(stack, form, rows))
            whole.append(await _whole(stack, one, form, rows))
        ours, baseline = max(one.rows_per_second for one in whole), max(straight)
        grown = max(export.memory_mib for export in whole)
        figures += [
            Figure("Q3", f"{rows:,} rows as {form}", "rows/s", ours, baseline, "≥ 80 %", ours >= 0.8 * baseline),
            Figure("Q3", f"the same: memory of the gateway beyond idle, {form}", "MiB", grown, _MEMORY_MAX_MIB,
                   f"≤ {_MEMORY_MAX_MIB} MiB", grown <= _MEMORY_MAX_MIB),
        ]  # fmt: skip
    return figures


async def _whole(stack: Stack, one: Asker, form: str, rows: int) -> Export:
    gateway = psutil.Process(stack.status().to_json()["processes"]["gateway"]["pid"])
    before = most = gateway.memory_info().rss
    body = {"filters": {"source": TAG}, "format": form, "limit": rows}
    headers = {"x-api-key": one.key, "Accept-Encoding": "identity", "Content-Type": "application/json"}

    def looked() -> None:
        nonlocal most
        most = max(most, gateway.memory_info().rss)

    async with aiohttp.ClientSession(read_bufsize=1 << 18) as session:

        async def begin() -> aiohttp.ClientResponse:
            url = f"http://{one.host}:{one.port}/v1/query"
            return await session.post(url, data=json.dumps(body), headers=headers)

        seconds = await _drained(begin, looked)
    return Export(rows / seconds, (most - before) / _MIB)


async def _straight(stack: Stack, form: str, rows: int) -> float:
    """The statement that the gateway would send, and nothing but its bytes."""
    settings = Settings.model_validate({name.lower(): one for name, one in stack.environment("gateway").items()})
    ask = completed(QueryRequest.model_validate({"filters": {"source": TAG}, "format": form, "limit": rows}), "")
    plan = plan_query(ask, load_datasets(settings.datasets_folder), Terms(form=FORMS[form]))
    async with open_warehouse_http(settings) as http:
        began = time.perf_counter()
        result = await http.open(plan.sql, plan.parameters, {}, plan.form.written)
        size = sum([len(piece) async for piece in result.pieces()])
        result.close()
        assert size > rows
        return rows / (time.perf_counter() - began)


async def _drained(begin: Callable[[], Awaitable[aiohttp.ClientResponse]], look: Callable[[], None]) -> float:
    began = time.perf_counter()
    response = await begin()
    assert response.status == 200, await response.text()
    size = 0
    async for piece in response.content.iter_any():
        if size // (4 * _MIB) < (size + len(piece)) // (4 * _MIB):
            look()
        size += len(piece)
    response.close()
    return time.perf_counter() - began
