"""A2: what auditing costs the gateway.

The same query over and over, on a gateway as it is and on one that writes and sends no audit events, taking turns.
audit-logger stands still meanwhile: what it costs is A1.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson

from benchmarks.http_load import Load, drive, post
from benchmarks.report import Figure
from common.ids import new_id
from devstack import ports
from devstack.ports import HOST
from devstack.stack import Stack

_SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
_ROUNDS = 4  # with and without alternate, so that a noisy minute hits both
_CONNECTIONS = 16
_CREDITS = 1_000_000
_READY_S = 60


async def run(stack: Stack) -> list[Figure]:
    key = await _payer(stack)
    await stack.stop("audit-logger")
    try:
        async with (
            _gateway(stack, "gateway", "audited") as audited_port,
            _gateway(stack, "benchmarks.unaudited_gateway", "unaudited") as unaudited_port,
        ):
            for port in (audited_port, unaudited_port):
                await _load(port, key, 1)  # what is asked for the first time is asked of everybody else
            rounds = [
                (await _load(audited_port, key, _SECONDS), await _load(unaudited_port, key, _SECONDS))
                for _ in range(_ROUNDS)
            ]
    finally:
        await stack.start("audit-logger")
    # Of neighbouring rounds: between them the machine changes more than auditing does.
    shares = sorted(audited.per_second / unaudited.per_second for audited, unaudited in rounds)
    share = shares[len(shares) // 2]
    best = max(unaudited.per_second for _, unaudited in rounds)
    return [
        Figure("A2", "POST /v1/query, the same one again, audited", "requests/s", share * best, best,
               "≥ 95 %", share >= 0.95),
    ]  # fmt: skip


async def _payer(stack: Stack) -> str:
    admin = {"x-api-key": str(stack.status().admin_key)}
    async with httpx.AsyncClient(base_url=stack.url("gateway"), headers=admin, timeout=60) as client:
        ask = {"username": f"bench-{new_id().hex[-12:]}", "credits": _CREDITS, "plan": "unlimited"}
        made = await client.post("/v1/admin/create-user", json=ask)
        key: str = made.raise_for_status().json()["api_key"]
        return key


async def _load(port: int, key: str, seconds: float) -> Load:
    body = orjson.dumps({"dataset": "people", "filters": {"email": "nobody@example.com"}, "limit": 1})
    ask = [post(HOST, "/v1/query", body, {"x-api-key": key})]
    return await drive(HOST, port, _CONNECTIONS, seconds, lambda: ask)


@asynccontextmanager
async def _gateway(stack: Stack, module: str, name: str) -> AsyncIterator[int]:
    """A gateway process of the benchmark's own, on the stack's servers."""
    port = ports.choose([])
    ops_port = ports.choose([port])
    spool = Path(stack.folder) / "spool" / name
    environment = stack.environment("gateway") | {
        "SERVER_PORT": str(port),
        "OPS_PORT": str(ops_port),
        "SPOOL_FOLDER": str(spool),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "serve"),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _ready(port)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def _ready(port: int) -> None:
    async with asyncio.timeout(_READY_S), httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(f"http://{HOST}:{port}/readyz")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
