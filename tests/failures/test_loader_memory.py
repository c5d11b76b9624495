"""Files far larger than the worker's memory go through it: a CSV of 2 GB, and a gzip that unpacks to 1 GB."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psutil
import pytest

from common.ids import new_id
from devstack.stack import Stack

# The check after each test needs it, and a fixture cannot be asked for in time by another one.
pytestmark = [pytest.mark.usefixtures("answered"), pytest.mark.long]

WORKER = "ingest-worker"
MIB_MAX = 512
ROW_BYTES, ROWS_AT_ONCE = 4096, 512


def people(size: int) -> Iterator[bytes]:
    yield b"email,city\n"
    tag = new_id()
    for first in range(0, size // ROW_BYTES, ROWS_AT_ONCE):
        rows = (
            f"{number}.{tag}@example.com,{new_id()}".ljust(ROW_BYTES - 1, "x")
            for number in range(first, first + ROWS_AT_ONCE)
        )
        yield ("\n".join(rows) + "\n").encode()


def packed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    packing = zlib.compressobj(1, zlib.DEFLATED, 31)
    for piece in pieces:
        yield packing.compress(piece)
    yield packing.flush()


def rss_mib(stack: Stack) -> float:
    """Of the worker, and of its reading child what it does not share: a container's limit counts shared pages once."""
    try:
        process = psutil.Process(stack.status().to_json()["processes"][WORKER]["pid"])
        beyond = sum(child.memory_full_info().uss for child in process.children(recursive=True))
        return float(process.memory_info().rss + beyond) / (1 << 20)
    except psutil.NoSuchProcess:  # a child that ended meanwhile
        return 0.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("size", "pack"), [(2 << 30, False), (1 << 30, True)], ids=["2 GB of CSV", "1 GB in gzip"])
async def test_a_large_file_takes_little_memory(
    stack: Stack, admin: httpx.AsyncClient, size: int, *, pack: bool
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for piece in packed(people(size)) if pack else people(size):
            yield piece

    filename = "people.csv.gz" if pack else "people.csv"
    sent = await admin.post(
        "/v1/uploads", params={"dataset": "people", "filename": filename}, content=body(), timeout=300
    )
    assert sent.status_code == 202, sent.text
    most, found = 0.0, dict[str, Any]()
    async with asyncio.timeout(800):
        while not found.get("finished_at"):
            found = (await admin.get(f"/v1/uploads/{sent.json()['upload_id']}")).json()
            most = max(most, rss_mib(stack))
            await asyncio.sleep(0.1)  # between two looks at its memory
    assert (found["state"], found["rows"]["accepted"]) == ("completed", size // ROW_BYTES)
    assert most < MIB_MAX
