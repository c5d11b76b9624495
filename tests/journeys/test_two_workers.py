"""Two workers share the chunks of one file, and together load it once."""

import re
from uuid import UUID

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.stack import environment, further_copy
from support.uploads import counts, ended, send
from support.written import as_parquet

# The check after each test needs it, and a fixture cannot be asked for in time by another one.
pytestmark = pytest.mark.usefixtures("answered")

WORKER = "ingest-worker"
SMALL_CHUNKS = {"CHUNK_BYTES": "65536"}


async def chunks_done(stack: Stack, worker: str) -> int:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{stack.ops_url(worker)}/metrics")).text
    found = re.search(r'bigdata_chunks_total\{outcome="done"\} (\d+)', text)
    return int(found[1]) if found else 0


@pytest.mark.long
async def test_two_workers_share_the_chunks_of_one_file(stack: Stack) -> None:
    async with environment(stack, WORKER, SMALL_CHUNKS), further_copy(stack, WORKER, env=SMALL_CHUNKS) as copy:
        # The second one has its share of the partitions a few seconds after it is up: until then files go to the first.
        for _ in range(10):
            before = [await chunks_done(stack, worker) for worker in (WORKER, copy)]
            await load_csv(stack)
            await load_parquet(stack)
            after = [await chunks_done(stack, worker) for worker in (WORKER, copy)]
            if all(now > then for now, then in zip(after, before, strict=True)):
                return
    raise AssertionError(f"one worker did it all: {before}, then {after} chunks")


async def load_csv(stack: Stack) -> None:
    lines = [f"{number}.{new_id()}@example.com,{number % 90}" for number in range(20_000)]
    data = ("email,age\n" + "\n".join(lines) + "\n").encode()
    await exact(stack, await send(stack, data, "people", "people.csv"), 20_000)


async def load_parquet(stack: Stack) -> None:
    rows = [{"email": f"{number}.{new_id()}@example.com", "city": str(new_id()) * 8} for number in range(2000)]
    data = as_parquet(rows, row_group_size=250)
    await exact(stack, await send(stack, data, "people", "people.parquet"), 2000)


async def exact(stack: Stack, upload_id: UUID, rows: int) -> None:
    upload = await ended(stack, upload_id, deadline_s=120)
    assert (upload["state"], upload["rows_accepted"]) == ("completed", rows)
    assert upload["chunks_total"] > 1
    assert counts(stack, "people", upload_id) == (rows, rows, 0)
