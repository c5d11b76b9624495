"""Uploads take turns: a small file does not wait behind a huge one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from obstore.store import LocalStore

from devstack.stack import Stack
from support.ingest_parts import dataset
from support.loads import open_stores
from support.world import World

AHEAD = 3


@pytest_asyncio.fixture
async def world(servers: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    monkeypatch.setenv("CHUNK_BYTES", str(1 << 16))
    monkeypatch.setenv("CHUNKS_AHEAD", str(AHEAD))
    async with open_stores(servers, monkeypatch) as stores:
        yield World(stores, LocalStore(tmp_path))


async def test_chunks_of_several_uploads_interleave(world: World) -> None:
    target = dataset(name="fair", identity=["email"], columns={"email": {"type": "string"}})
    huge, other, small = [
        await world.store(target, b"email\n" + b"".join(b"%s%d@example.com\n" % (name, n) for n in range(count)))
        for name, count in ((b"huge", 60_000), (b"other", 30_000), (b"small", 10))
    ]
    for event in (huge, other, small):
        await world.plan(target, event)
    order = await world.load(target)
    first_of = {event.upload_id: order.index(event.upload_id) for event in (huge, other, small)}
    assert first_of[other.upload_id] <= AHEAD
    assert first_of[small.upload_id] <= 2 * AHEAD
    # From then on the two take turns until the shorter one is done.
    shorter = order.count(other.upload_id)
    assert order.count(huge.upload_id) > shorter > 2 * AHEAD
    end = len(order) - 1 - order[::-1].index(other.upload_id)
    assert order[:end].count(huge.upload_id) <= shorter + AHEAD
    for event in (huge, other, small):
        assert (await world.stores.state(event.upload_id))["state"] == "completed"
