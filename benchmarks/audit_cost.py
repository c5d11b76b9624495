"""A2: what auditing costs the gateway.

The same query over and over, on a gateway as it is and on one that writes and sends no audit events, taking turns.
audit-logger stands still meanwhile: what it costs is A1.
"""

import os

import httpx
import orjson

from benchmarks.http_load import Load, drive, post
from benchmarks.own_gateway import own_gateway
from benchmarks.report import Figure
from common.ids import new_id
from devstack.ports import HOST
from devstack.stack import Stack

_SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
_ROUNDS = 4  # with and without alternate, so that a noisy minute hits both
_CONNECTIONS = 16
_CREDITS = 1_000_000


async def run(stack: Stack) -> list[Figure]:
    key = await _payer(stack)
    await stack.stop("audit-logger")
    try:
        async with (
            own_gateway(stack, "gateway", "audited") as audited_port,
            own_gateway(stack, "benchmarks.unaudited_gateway", "unaudited") as unaudited_port,
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
