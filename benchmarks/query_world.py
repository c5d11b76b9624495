"""What the query benchmarks share: invented people, straight into ClickHouse, and somebody who may ask about them."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient

from benchmarks.http_load import post
from common.ids import new_id
from devstack.stack import Stack

TAG = "bench"
ROWS = int(os.environ.get("BENCH_PEOPLE", "1000000"))
# One INSERT is one part; ten of them, unmerged, are what a load leaves behind for a while.
_BLOCKS = 10
_FILL = """
    INSERT INTO people_history
        (email, phone, first_name, last_name, city, country, age, source, record_ts, upload_id, row_no, version)
    SELECT concat('p', toString(number), '@bench.example.com'),
           concat('+91', toString(9000000000 + number)),
           ['Prath', 'Ada', 'Zoe', 'Jon', 'Maria'][1 + number % 5], concat('Name', toString(number % 10000)),
           ['Delhi', 'Mumbai', 'Pune', 'Berlin'][1 + number % 4], ['IN', 'US', 'DE'][1 + number % 3],
           number % 90, 'bench',
           toDateTime64('2026-01-01 00:00:00', 6, 'UTC') + number, 'bench', number, 1
      FROM numbers({first:UInt64}, {count:UInt64})
"""


@dataclass(frozen=True)
class Asker:
    host: str
    port: int
    key: str

    def query(self, **body: object) -> bytes:
        """One prepared request."""
        return post(self.host, "/v1/query", json.dumps(body).encode(), {"x-api-key": self.key})


@asynccontextmanager
async def clickhouse(stack: Stack, user: str) -> AsyncIterator[AsyncClient]:
    """As that user; clickhouse-connect's own client, which is the baseline."""
    environment = stack.environment("gateway" if user == "gateway" else "ingest-worker")
    client = await create_async_client(
        host=environment["CLICKHOUSE_HOST"],
        port=int(environment["CLICKHOUSE_PORT"]),
        username=environment["CLICKHOUSE_USER"],
        password=environment["CLICKHOUSE_PASSWORD"],
        database="bigdata",
        autogenerate_session_id=False,
    )
    try:
        yield client
    finally:
        await client.close()


async def fill(stack: Stack, rows: int, first: int = 0) -> None:
    async with clickhouse(stack, "ingest") as client:
        for block in range(_BLOCKS):
            start, end = first + rows * block // _BLOCKS, first + rows * (block + 1) // _BLOCKS
            await client.command(
                _FILL,
                parameters={"first": start, "count": end - start},
                settings={"insert_deduplication_token": f"bench-{start}-{end}"},
            )


@asynccontextmanager
async def unmerged(stack: Stack) -> AsyncIterator[None]:
    """What is loaded stays in the parts that it came in."""
    async with clickhouse(stack, "ingest") as client:
        await _each_table(client, "SYSTEM STOP MERGES {table}")
        try:
            yield
        finally:
            await _each_table(client, "SYSTEM START MERGES {table}")


async def merge(stack: Stack) -> None:
    """One part each, as they are after a while."""
    async with clickhouse(stack, "ingest") as client:
        await _each_table(client, "OPTIMIZE TABLE {table} FINAL")


async def _each_table(client: AsyncClient, statement: str) -> None:
    for table in ("people", "people_history"):
        await client.command(statement.format(table=table))


async def asker(stack: Stack) -> Asker:
    """A user with a million credits, every scope and no limit on requests."""
    address = urlsplit(stack.url("gateway"))
    headers = {"x-api-key": str(stack.status().admin_key)}
    fields = {"credits": 1_000_000, "plan": "unlimited", "scopes": ["query", "read", "pii"]}
    async with httpx.AsyncClient(base_url=stack.url("gateway"), headers=headers, timeout=30) as admin:
        created = await admin.post("/v1/admin/create-user", json={"username": f"bench-{new_id()}", **fields})
        created.raise_for_status()
    return Asker(address.hostname or "", address.port or 0, created.json()["api_key"])
