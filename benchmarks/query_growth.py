"""Q4: how the kinds of query grow with the dataset: at 1, 3 and 10 million people, against 1 million.

Each as loaded, in ten parts that nothing merges meanwhile (small ones would be, within a second, and be compared with
large ones that are not), and merged into one. The gateway's own SQL, straight on ClickHouse: what grows is there.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from clickhouse_connect.driver.asyncclient import AsyncClient

from benchmarks.query_world import ROWS, clickhouse, fill, merge, unmerged
from benchmarks.report import Figure
from common.datasets import Datasets, load_datasets
from devstack.stack import Stack
from gateway.query_formats import completed
from gateway.query_plan import plan_query
from gateway.query_request import QueryRequest
from gateway.settings import Settings

SIZES = (ROWS, 3 * ROWS, 10 * ROWS)
_TIMES = 7
_FIRST_IDENTITY = "first identity"
_FIRST_IDENTITY_MAX = 1.5


def _kinds(turn: int) -> dict[str, dict[str, Any]]:
    number = 7919 * (turn + 1)
    start = f"2026-01-01T{turn:02d}:00:00Z"
    return {
        _FIRST_IDENTITY: {"filters": {"email": f"p{number}@bench.example.com"}},
        "second identity": {"filters": {"phone": f"+91{9_000_000_000 + number}"}},
        "range page": {"range": {"record_ts": {"from": start}}, "sort": "record_ts", "limit": 100},
        "text search": {"fuzzy": {"last_name": {"query": f"name{turn}77"}}, "limit": 100},
        "group by": {"aggregate": {"group_by": ["country", "city"], "metrics": {"n": "count()", "mean": "avg(age)"}}},
    }


async def run(stack: Stack, sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    environment = {name.lower(): value for name, value in stack.environment("gateway").items()}
    datasets = load_datasets(Settings.model_validate(environment).datasets_folder)
    took: dict[tuple[str, int, str], float] = {}
    loaded = 0
    async with clickhouse(stack, "gateway") as client:
        for size in sizes:
            async with unmerged(stack):
                await fill(stack, size - loaded, loaded)
                took |= await _each(client, datasets, size, "as loaded")
            loaded = size
            await merge(stack)
            took |= await _each(client, datasets, size, "merged")
    return [
        _figure((kind, size, state), milliseconds, took[kind, sizes[0], state], sizes[0])
        for (kind, size, state), milliseconds in took.items()
        if size != sizes[0]
    ]


def _figure(what: tuple[str, int, str], took: float, base: float, first: int) -> Figure:
    kind, size, state = what
    most = _FIRST_IDENTITY_MAX if kind == _FIRST_IDENTITY else size / first
    return Figure(
        "Q4", f"{kind} at {size:,}, {state}, against {first:,}", "ms", took, base, f"≤ {most:g} ×", took <= most * base
    )


async def _each(client: AsyncClient, datasets: Datasets, size: int, state: str) -> dict[tuple[str, int, str], float]:
    return {(kind, size, state): await _median_ms(client, datasets, kind) for kind in _kinds(0)}


async def _median_ms(client: AsyncClient, datasets: Datasets, kind: str) -> float:
    durations = []
    for turn in range(_TIMES):
        plan = plan_query(completed(QueryRequest.model_validate(_kinds(turn)[kind]), ""), datasets)
        began = time.perf_counter()
        await client.raw_query(plan.sql, parameters=dict(plan.parameters), fmt="JSONEachRow")
        durations.append((time.perf_counter() - began) * 1000)
    return median(durations)
