"""Keys that clients put where no key belongs are nowhere afterwards: log files, spool, Redis, Kafka, audit."""

import base64
import secrets
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import redis.asyncio

from common.ids import new_id
from common.topics import ALL, INGEST_RECORDS
from devstack.redis import url as redis_url
from devstack.stack import Stack
from gateway.api_keys import key_digest
from support.client import Answered, create_user, open_client
from support.log import entry_of
from support.topic_contents import values_of


async def test_a_key_is_nowhere_wherever_a_client_puts_it(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    made = await create_user(admin, f"canary-{new_id().hex[-12:]}", credits=5)
    real: str = made["api_key"]
    foreign = f"bd_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    canaries = (real, foreign)
    async with open_client(stack, real, answered) as user:
        assert (await user.get("/v1/me")).status_code == 200
        for canary in canaries:
            last = await _put_everywhere(user, admin, canary)
    await entry_of(admin, last)
    traces = {canary: await _traces(stack, canary) for canary in canaries}
    assert not any(traces.values()), {canary[:11]: found for canary, found in traces.items()}


async def _put_everywhere(user: httpx.AsyncClient, admin: httpx.AsyncClient, canary: str) -> httpx.Response:
    basic = base64.b64encode(canary.encode()).decode()
    await user.get(f"/v1/{canary}", params={canary: canary})
    await user.get("/v1/queries/" + canary, headers={"X-Forwarded-For": canary, "User-Agent": canary, "Cookie": canary})
    await user.get("/v1/me", headers={"x-api-key": canary})
    await user.get("/v1/me", headers={"x-api-key": "", "Authorization": f"Bearer {canary}"})
    await user.get("/v1/me", headers={"x-api-key": "", "Authorization": f"Basic {basic}"})
    await user.post("/v1/query", json={"dataset": canary})
    await user.post("/v1/query", json={"filters": {"email": canary}, "limit": 1})
    await user.post("/v1/query", json={"filters": {canary: 1}})
    await user.post("/v1/query", content=b"{" + canary.encode(), headers={"Idempotency-Key": new_id().hex})
    await user.post("/v1/uploads", params={"dataset": canary, "filename": canary}, content=b"a")
    await admin.get("/v1/admin/users", params={"search": canary})
    await admin.get("/v1/admin/logs", params={"endpoint": canary, "target": canary})
    await admin.post("/v1/admin/create-user", json={"username": canary, "role": "nobody"})
    await admin.post("/v1/admin/create-user", json={"username": canary, "plan": "none"})
    grant = {"user_id": str(new_id()), "credits": 1, "reason": canary}
    await admin.post("/v1/admin/add-credits", json=grant)
    me = (await user.get("/v1/me", headers={"x-request-id": canary, "traceparent": canary})).json()
    return await admin.post("/v1/admin/add-credits", json=grant | {"user_id": me["id"]})


async def _traces(stack: Stack, canary: str) -> list[str]:
    """Where the key itself or its hash is found. The hash belongs into one column of one table, and nowhere else."""
    wanted = (canary.encode(), key_digest(canary.encode()).encode())

    def holds(text: bytes) -> bool:
        return any(one in text for one in wanted)

    folder = stack.folder
    files = [*(folder / "logs").rglob("*"), *(folder / "spool").rglob("*")]
    found = [f"file {one.relative_to(folder)}" for one in files if one.is_file() and holds(_read(one))]
    for topic in set(ALL) - {INGEST_RECORDS}:  # nothing of the gateway's is there, and much of other tests'
        records = await values_of(stack, topic)
        found += [f"topic {topic.name}" for one in records if holds((one.key or b"") + (one.value or b""))]
    found += [f"redis {key!r}" for key, value in await _kept(stack) if holds(key) or holds(value)]
    return found + [f"audit row {row}" for row in await _rows(stack) if holds(row.encode())]


def _read(file: Path) -> bytes:
    return file.read_bytes()


async def _kept(stack: Stack) -> list[tuple[bytes, bytes]]:
    async with redis.asyncio.Redis.from_url(redis_url(stack.site)) as client:
        found: list[tuple[bytes, bytes]] = []
        async for key in client.scan_iter(count=1000):
            # What is no string is dumped: no secret of ours is long enough for Redis to compress it there.
            value: Any = await (client.get(key) if await client.type(key) == b"string" else client.dump(key))
            found.append((key, value or b""))
        return found


async def _rows(stack: Stack) -> list[str]:
    connection = await asyncpg.connect(str(stack.status().postgres))
    try:
        rows = await connection.fetch(
            "SELECT r::text FROM audit.request_log r WHERE created_at > now() - interval '1 h'"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()
