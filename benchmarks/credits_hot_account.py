"""C1 and C2: charging one hot account.

A charge is a reserve and a capture. The baseline is what many systems do: one transaction per charge that updates the
balance where it suffices and inserts an entry, on 16 connections straight to the same Postgres, on durable defaults.
"""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from benchmarks.http_load import Load, drive, post
from benchmarks.report import Figure
from common.ids import new_id
from credits.ledger import Ledger, Row
from credits.operations import rows_of_batch
from credits.settings import Settings as CreditsSettings
from devstack.stack import Stack
from gateway.credits_client import CreditsClient, open_credits
from gateway.settings import Settings as GatewaySettings

_SECONDS = 5.0
_ROUNDS = 2  # baseline and ours alternate, so that a noisy minute hits both
_PRICE = {"price_version": "bench", "price": {}, "dataset": "people"}
_DIGEST = "0" * 64
_CLIENTS_MERGED = 512  # queries in flight at one gateway

_NAIVE_TABLES = """
    DROP SCHEMA IF EXISTS bench CASCADE;
    CREATE SCHEMA bench;
    CREATE TABLE bench.balances (user_id int PRIMARY KEY, posted bigint NOT NULL CHECK (posted >= 0));
    CREATE TABLE bench.entries (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id int NOT NULL, amount bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now());
    INSERT INTO bench.balances VALUES (1, 1000000000);
"""
_NAIVE_TAKE = "UPDATE bench.balances SET posted = posted - 1 WHERE user_id = 1 AND posted >= 1"
_NAIVE_ENTRY = "INSERT INTO bench.entries (user_id, amount) VALUES (1, -1)"


@dataclass
class Merged(Load):
    """Charges, and how long each of their two operations took."""

    operations_s: list[float] = field(default_factory=list)

    @property
    def p99_of_an_operation_ms(self) -> float:
        return Load(self.seconds, self.operations_s).quantile_ms(0.99)


async def run(stack: Stack) -> list[Figure]:
    environment = stack.environment("gateway")
    user_id = str(new_id())
    async with _credits(environment) as client:
        await _fund(client, user_id)
        gc.freeze()  # as the services do: start-up's objects are not looked through at every collection
        naive, single, merged = [], [], []
        for _ in range(_ROUNDS):
            naive.append(await _naive(str(stack.status().postgres)))
            single.append(await _one_per_call(environment, user_id))
            merged.append(await _merged(client, user_id, clients=_CLIENTS_MERGED))
        half_load = max(one.per_second for one in merged) / 2
        calm = [await _merged(client, user_id, clients=64, per_second=half_load) for _ in range(_ROUNDS)]
    function = [await _function_alone(stack) for _ in range(_ROUNDS)]
    baseline = max(one.per_second for one in naive)
    c1, c2 = (max(one.per_second for one in runs) for runs in (single, merged))
    alone, p99 = max(function), min(one.p99_of_an_operation_ms for one in calm)
    return [
        Figure("C1", "reserve + capture, one operation per call, 64 clients", "charges/s", c1, baseline,
               "≥ 2 ×", c1 >= 2 * baseline),
        Figure("C2", "reserve + capture through the merging client", "charges/s", c2, baseline,
               "≥ 6 ×", c2 >= 6 * baseline),
        Figure("C2", f"p99 of one operation at {half_load:,.0f} charges/s", "ms", p99, 20, "≤ 20 ms", p99 <= 20),
        Figure("C2", "the SQL function alone, batches of 128", "operations/s", 2 * alone, baseline,
               "≥ 10 ×", 2 * alone >= 10 * baseline),
        Figure("C2", "the same, counted as charges (two operations each)", "charges/s", alone, baseline,
               "–", reached=True),
    ]  # fmt: skip


async def _naive(dsn: str) -> Load:
    """16 connections, each running charge after charge."""
    pool = await asyncpg.create_pool(dsn, min_size=16, max_size=16)
    try:
        await pool.execute(_NAIVE_TABLES)

        async def charge() -> None:
            async with pool.acquire() as connection, connection.transaction():
                assert await connection.execute(_NAIVE_TAKE) == "UPDATE 1"
                await connection.execute(_NAIVE_ENTRY)

        return await _repeat(charge, clients=16)
    finally:
        await pool.close()


async def _one_per_call(environment: dict[str, str], user_id: str) -> Load:
    host, port = environment["CREDITS_URL"].removeprefix("http://").split(":")
    headers = {"Authorization": f"Bearer {environment['CREDITS_TOKENS'].split(',')[0]}"}

    def charge() -> list[bytes]:
        hold_id = str(new_id())
        reserve, capture = _operations(user_id, hold_id)
        return [post(host, "/v1/reserve", reserve, headers), post(host, "/v1/capture", capture, headers)]

    return await drive(host, int(port), 64, _SECONDS, charge)


async def _merged(client: CreditsClient, user_id: str, *, clients: int, per_second: float = 0) -> Merged:
    """As the gateway does it: reserves as they come, captures from the spool, everything merged by the client."""
    operations_s: list[float] = []

    async def timed(operation: bytes) -> None:
        sent = time.perf_counter()
        assert (await client.settle(operation)).ok
        operations_s.append(time.perf_counter() - sent)

    async def charge() -> None:
        for operation in _operations(user_id, str(new_id())):
            await timed(operation)

    load = await _repeat(charge, clients=clients, per_second=per_second)
    return Merged(load.seconds, load.latencies_s, operations_s)


async def _repeat(charge: Callable[[], Awaitable[None]], *, clients: int, per_second: float = 0) -> Load:
    load = Load()
    began = time.perf_counter()
    until = began + _SECONDS
    pause = clients / per_second if per_second else 0

    async def one_client(number: int) -> None:
        due = began + pause * number / clients
        while time.perf_counter() < until:
            if pause:
                await asyncio.sleep(max(0, due - time.perf_counter()))
                due += pause
            sent = time.perf_counter()
            await charge()
            load.latencies_s.append(time.perf_counter() - sent)

    await asyncio.gather(*map(one_client, range(clients)))
    load.seconds = time.perf_counter() - began
    return load


def _operations(user_id: str, hold_id: str) -> tuple[bytes, bytes]:
    reserve = {"op": "reserve", "user_id": user_id, "hold_id": hold_id, "amount_mc": 1000, "ttl_s": 60}
    receipt = {"query_id": hold_id, "state": "captured", "rows": 1, "duration_ms": 1.0, **_PRICE}
    capture = {"op": "capture", "user_id": user_id, "hold_id": hold_id, "amount_mc": 1000, "receipt": receipt}
    return orjson.dumps(reserve | {"digest": _DIGEST}), orjson.dumps(capture)


async def _fund(client: CreditsClient, user_id: str) -> None:
    for operation in _funding(user_id):
        assert (await client.settle(orjson.dumps(operation))).ok


def _funding(user_id: str) -> list[dict[str, Any]]:
    grant = {"op": "grant", "user_id": user_id, "amount_mc": 10**12, "actor": "bench", "key": "bench"}
    return [{"op": "open_account", "user_id": user_id}, grant]


@asynccontextmanager
async def _credits(environment: dict[str, str]) -> AsyncIterator[CreditsClient]:
    async with open_credits(GatewaySettings.model_validate({k.lower(): v for k, v in environment.items()})) as client:
        yield client


async def _function_alone(stack: Stack) -> float:
    """Charges a second of the ledger's function: batches of 64 reserves and the 64 captures of the batch before."""
    environment = {k.lower(): v for k, v in stack.environment("credits").items()}
    ledger = Ledger(CreditsSettings.model_validate(environment))
    user_id = new_id()
    digest = bytes(32)
    assert await _all_ok(ledger, rows_of_batch(orjson.dumps({"operations": _funding(str(user_id))})))
    charges, before = 0, list[UUID]()
    began = time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        holds = [new_id() for _ in range(64)]
        batch = [Row("reserve", user_id, hold, amount=1000, ttl_s=60, digest=digest) for hold in holds]
        batch += [_capture_row(user_id, hold) for hold in before]
        assert await _all_ok(ledger, batch)
        charges, before = charges + len(before), holds
    seconds = time.perf_counter() - began
    assert await _all_ok(ledger, [_capture_row(user_id, hold) for hold in before])
    ledger.drop()
    return charges / seconds


def _capture_row(user_id: UUID, hold: UUID) -> Row:
    return Row(
        "capture", user_id, hold, amount=1000, query_id=hold, dataset="people", rows=1, price_version="bench",
        price="{}", duration_ms=1.0,
    )  # fmt: skip


async def _all_ok(ledger: Ledger, rows: list[Row]) -> bool:
    return all(isinstance(one, dict) and one["ok"] for one in await ledger.apply(rows))
