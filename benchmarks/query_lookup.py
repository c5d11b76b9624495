"""Q1 and C3: an uncached point lookup in a million people through the whole gateway, against ClickHouse alone.

The baseline sends the same SQL with the same parameters by clickhouse-connect's async client straight to ClickHouse. C3
is what is missing to the throughput of a gateway without credits (free_gateway.py).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import replace

from clickhouse_connect.driver.asyncclient import AsyncClient

from benchmarks.http_load import Load, drive
from benchmarks.own_gateway import own_gateway
from benchmarks.query_world import ROWS, Asker, asker, clickhouse, fill, merge
from benchmarks.report import Figure
from common.datasets import Datasets, load_datasets
from devstack.stack import Stack
from gateway.query_formats import completed
from gateway.query_plan import QueryPlan, plan_query
from gateway.query_request import QueryRequest
from gateway.settings import Settings

_CONNECTIONS = 16
_SECONDS = 5.0
_ROUNDS = 3


async def run(stack: Stack, rows: int = ROWS) -> list[Figure]:
    await fill(stack, rows)
    await merge(stack)
    one = await asker(stack)
    datasets = load_datasets(Settings.model_validate(_lowered(stack)).datasets_folder)
    numbers = _numbers(rows)
    straight, whole, free = [], [], []
    async with (
        clickhouse(stack, "gateway") as client,
        own_gateway(stack, "benchmarks.free_gateway", "free") as free_port,
    ):
        unpaid = replace(one, port=free_port)
        for _ in range(_ROUNDS):
            straight.append(await _straight(client, datasets, numbers))
            whole.append(await _whole(one, numbers))
            free.append(await _whole(unpaid, numbers))
        half = max(load.per_second for load in straight) / 2
        calm_straight = [await _straight(client, datasets, numbers, per_second=half) for _ in range(_ROUNDS)]
        calm_whole = [await _whole(one, numbers, per_second=half) for _ in range(_ROUNDS)]
    ours, baseline, off = (max(load.per_second for load in loads) for loads in (whole, straight, free))
    share = 1 - ours / off
    p50 = min(load.quantile_ms(0.5) for load in calm_whole) - min(load.quantile_ms(0.5) for load in calm_straight)
    p99 = min(load.quantile_ms(0.99) for load in calm_whole) - min(load.quantile_ms(0.99) for load in calm_straight)
    return [
        Figure("Q1", f"point lookup in {rows:,}, uncached, {_CONNECTIONS} connections", "queries/s", ours, baseline,
               "≥ 75 %", ours >= 0.75 * baseline),
        Figure("Q1", "p50 added at half of that load", "ms", p50, 4, "≤ 4 ms", p50 <= 4),
        Figure("Q1", "p99 added at half of that load", "ms", p99, 15, "≤ 15 ms", p99 <= 15),
        Figure("C3", "share of the throughput that credits take", "share", share, 0.15, "≤ 15 %", share <= 0.15),
    ]  # fmt: skip


def _lowered(stack: Stack) -> dict[str, str]:
    return {name.lower(): value for name, value in stack.environment("gateway").items()}


def _numbers(rows: int) -> Iterator[int]:
    """Never the same one twice, so that nothing is kept and nothing joined."""
    order = random.Random(1).sample(range(rows), min(rows, 500_000))  # noqa: S311 - the same ones every time
    return itertools.cycle(order)


def _body(number: int) -> dict[str, object]:
    return {"filters": {"email": f"p{number}@bench.example.com"}, "limit": 1}


async def _whole(one: Asker, numbers: Iterator[int], *, per_second: float = 0) -> Load:
    def ask() -> list[bytes]:
        return [one.query(**_body(next(numbers)))]

    return await drive(one.host, one.port, _CONNECTIONS, _SECONDS, ask, per_second=per_second)


async def _straight(client: AsyncClient, datasets: Datasets, numbers: Iterator[int], *, per_second: float = 0) -> Load:
    load, began = Load(), time.perf_counter()
    until, pause = began + _SECONDS, _CONNECTIONS / per_second if per_second else 0

    async def one_client(place: int) -> None:
        due = began + pause * place / _CONNECTIONS
        while (now := time.perf_counter()) < until:
            if pause:
                await asyncio.sleep(max(0, due - now))
                due += pause
            plan = _plan(datasets, next(numbers))
            sent = time.perf_counter()
            found = await client.raw_query(plan.sql, parameters=dict(plan.parameters), fmt="JSONEachRow")
            load.latencies_s.append(time.perf_counter() - sent)
            assert found.count(b"\n") == 1

    await asyncio.gather(*map(one_client, range(_CONNECTIONS)))
    load.seconds = time.perf_counter() - began
    return load


def _plan(datasets: Datasets, number: int) -> QueryPlan:
    return plan_query(completed(QueryRequest.model_validate(_body(number)), ""), datasets)
