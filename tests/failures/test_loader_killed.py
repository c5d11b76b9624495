"""The loader is killed, left without its stores, and told everything twice: the rows are the same."""

import asyncio
from contextlib import suppress
from uuid import UUID

import pytest

from common.events import ChunkPlanned
from common.ids import new_id
from common.topics import INGEST_CHUNKS, INGEST_UPLOADS
from devstack.process import StackError
from devstack.stack import Stack
from support.offsets import chunks_given_up
from support.polling import until
from support.stack import environment, without
from support.uploads import counts, dead_letters, ended, manifest, publish, send, status, store

# The check after each test needs it, and a fixture cannot be asked for in time by another one.
pytestmark = pytest.mark.usefixtures("answered")

WORKER = "ingest-worker"
# Small chunks, so that a crash happens between some that are done and some that are not.
SMALL_CHUNKS = {"CHUNK_BYTES": "65536"}
GOOD, BAD = 4000, 40


def people() -> bytes:
    good = [f"{number}.{new_id()}@example.com,{number % 90}" for number in range(GOOD)]
    for number in range(BAD):
        good.insert(number * (GOOD // BAD), f"{new_id()}@example.com,none")
    return ("email,age\n" + "\n".join(good) + "\n").encode()


async def dies(stack: Stack) -> None:
    async def dead() -> bool:
        return bool(stack.status().to_json()["processes"][WORKER]["state"] != "running")

    await until("the loader to be killed", dead, deadline_s=40)


async def exact(stack: Stack, upload_id: UUID, good: int = GOOD, bad: int = BAD) -> None:
    upload = await ended(stack, upload_id, deadline_s=90)
    assert (upload["rows_accepted"], upload["rows_rejected"], upload["error"]) == (good, bad, None)
    assert counts(stack, "people", upload_id) == (good, good, bad)


# Every day those where something is done and not yet noted; `make faults` has the others.
_EVERY_DAY = ("ingest.inserted", "ingest.after_manifest")
_OTHERS = (
    "ingest.planned", "ingest.fetched", "ingest.parsed", "ingest.quarantined", "ingest.inserted:2",
    "ingest.before_manifest", "ingest.before_commit",
)  # fmt: skip


@pytest.mark.parametrize("place", [*_EVERY_DAY, *(pytest.param(one, marks=pytest.mark.long) for one in _OTHERS)])
async def test_killed_anywhere_it_loads_every_row_once(stack: Stack, place: str) -> None:
    """27."""
    async with environment(stack, WORKER, SMALL_CHUNKS | {"FAULTPOINTS": place}):
        upload_id = await send(stack, people(), "people")
        await dies(stack)
        assert await chunks_given_up(stack) == []
    await exact(stack, upload_id)


@pytest.mark.long
async def test_killed_at_random_moments_it_loads_every_row_once(stack: Stack) -> None:
    """27."""
    uploads = [await send(stack, people(), "people") for _ in range(3)]
    for _ in range(3):
        await asyncio.sleep(0.3)  # not a wait for something: the moment is meant to be any
        await stack.kill(WORKER)
        # Three kills in the same chunk must not count as its fault here.
        await stack.start(WORKER, SMALL_CHUNKS | {"CHUNK_ATTEMPTS_MAX": "100"})
    for upload_id in uploads:
        await exact(stack, upload_id)
    await stack.restart(WORKER)


async def test_everything_delivered_twice_changes_nothing(stack: Stack) -> None:
    """28."""
    event = store(stack, people(), "people")
    await publish(stack, INGEST_UPLOADS, event, event)
    await exact(stack, event.upload_id)
    chunk = ChunkPlanned(upload_id=event.upload_id, generation=1, chunk_no=0)
    await publish(stack, INGEST_UPLOADS, event)
    await publish(stack, INGEST_CHUNKS, chunk, chunk)
    later = await send(stack, people(), "people")
    await exact(stack, later)
    await exact(stack, event.upload_id)


async def test_a_chunk_loaded_again_from_the_start_folds_its_copies(stack: Stack) -> None:
    """28: as after a crash whose manifest was lost: the same inserts, with the same tokens."""
    upload_id = await send(stack, people(), "people")
    await exact(stack, upload_id)
    await manifest(
        stack,
        "WITH back AS (UPDATE ingest.chunks SET state = 'planned', published_at = NULL WHERE upload_id = $1) "
        "UPDATE ingest.uploads SET state = 'loading', finished_at = NULL WHERE upload_id = $1 RETURNING 1",
        upload_id,
    )
    await publish(stack, INGEST_CHUNKS, ChunkPlanned(upload_id=upload_id, generation=1, chunk_no=0))
    await exact(stack, upload_id)


async def test_without_clickhouse_chunks_keep_their_place_and_nothing_is_buried(stack: Stack) -> None:
    """31."""
    before = len(await dead_letters(stack))
    async with without(stack, "clickhouse"):
        upload_id = await send(stack, people(), "people")

        async def waiting() -> bool:
            found = await status(stack, upload_id)
            return found is not None and found["state"] == "loading"

        await until("the upload to wait", waiting)
        await asyncio.sleep(2)  # long enough for several tries
        assert await waiting()
    await exact(stack, upload_id)
    assert len(await dead_letters(stack)) == before


@pytest.mark.long
async def test_a_file_that_kills_its_worker_is_given_up_and_others_flow(stack: Stack) -> None:
    """34."""
    async with environment(stack, WORKER, {"FAULTPOINTS": "ingest.parsed"}):
        upload_id = await send(stack, people(), "people")
        for number in range(3):
            if number:
                with suppress(StackError):  # it may die before it is ready: the chunk waits for it
                    await stack.start(WORKER, {"FAULTPOINTS": "ingest.parsed"})
            await dies(stack)
    upload = await ended(stack, upload_id, deadline_s=60)
    assert upload["state"] == "failed"
    assert "stopped its loader 3 times" in upload["error"]
    await exact(stack, await send(stack, people(), "people"))


@pytest.mark.parametrize("topic", [INGEST_UPLOADS, INGEST_CHUNKS])
async def test_a_poison_event_is_one_dead_letter_and_the_next_is_loaded(stack: Stack, topic: object) -> None:
    """30."""
    assert topic in {INGEST_UPLOADS, INGEST_CHUNKS}
    poison = f"poison {new_id()}".encode()
    await publish(stack, INGEST_UPLOADS if topic is INGEST_UPLOADS else INGEST_CHUNKS, poison)
    await exact(stack, await send(stack, people(), "people"))
    buried = [letter for letter in await dead_letters(stack) if letter.value == poison]
    assert len(buried) == 1
    headers = {name: value.decode() for name, value in buried[0].headers}
    assert headers.keys() >= {"reason", "topic", "partition", "offset"}
    assert headers["reason"].startswith("not a")
