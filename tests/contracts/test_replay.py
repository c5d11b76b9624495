"""Replay on real servers: rejected rows are read again by a declaration that was changed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import obstore
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, ConsumerRecord
from obstore.store import LocalStore

from common.datasets import Dataset
from common.events import Event, ReplayRequested, UndoRequested, UploadReceived
from common.ids import new_id
from common.topics import INGEST_CHUNKS
from devstack.stack import Stack
from ingest import replay as replay_module
from ingest.chunks import ChunkLoader
from ingest.jobs import Jobs, Kind
from ingest.planner import Planner
from ingest.replay import Replay
from ingest.undo import Undo
from support.ingest_parts import dataset
from support.loads import Stores, declared, open_stores

CONTENT = b"email,age,level\n" + b"".join(b"%d@x.org,%d,%s\n" % (n, n, b"odd" if n % 3 else b"low") for n in range(30))
COLUMNS: dict[str, Any] = {"email": {"type": "string"}, "age": {"type": "integer"}}


def levels(name: str, *values: str) -> Dataset:
    level = {"type": "enum", "values": values}
    return dataset(name=name, identity=["email"], columns=COLUMNS | {"level": level})


@dataclass
class Kafka:
    """Keeps what is sent, for the test to hand on."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)

    async def send_and_wait(self, topic: str, value: bytes, key: bytes, **_: object) -> None:
        del key
        self.sent.append((topic, value))


@dataclass
class World:
    stores: Stores
    bucket: LocalStore
    kafka: Kafka = field(default_factory=Kafka)

    async def upload(self, target: Dataset, content: bytes = CONTENT) -> UUID:
        upload_id = new_id()
        event = UploadReceived(
            upload_id=upload_id,
            dataset=target.name,
            object_key=f"uploads/{upload_id}/object",
            filename="a.csv",
            size=len(content),
            sha256=f"{upload_id.int:064x}",
            received_at=datetime.now(UTC),
        )
        await obstore.put_async(self.bucket, event.object_key, content)
        await obstore.put_async(self.bucket, f"uploads/{upload_id}/received.json", event.encoded())
        await self.load(target, event.encoded())
        return upload_id

    async def load(self, target: Dataset, event: bytes) -> None:
        datasets = await declared(self.stores, target)
        stores = self.stores
        producer = cast("AIOKafkaProducer", self.kafka)
        await Planner(stores.manifest, self.bucket, producer, datasets, stores.settings).take(record(event))
        loader = ChunkLoader(
            stores.manifest, self.bucket, stores.clickhouse, datasets, stores.settings, moved=lambda: None
        )
        for topic, value in self.kafka.sent:
            if topic == INGEST_CHUNKS.name:
                await loader.take(record(value))
        self.kafka.sent.clear()

    async def jobs(self, target: Dataset) -> Jobs:
        datasets = await declared(self.stores, target)
        stores = self.stores
        producer = cast("AIOKafkaProducer", self.kafka)
        replay = Replay(stores.manifest, self.bucket, stores.clickhouse, datasets, stores.settings, producer=producer)
        undo = Undo(stores.manifest, stores.clickhouse, datasets, readers_wait_s=0, stalled_s=60)
        return Jobs(stores.manifest, {"replay": Kind(replay.accept, replay.run), "undo": Kind(undo.accept, undo.run)})

    async def replay(self, target: Dataset, upload_id: UUID, *, dry_run: bool = False) -> dict[str, Any]:
        command = ReplayRequested(upload_id=upload_id, dry_run=dry_run)
        jobs = await self.jobs(target)
        await jobs.take(record(command.encoded()))
        await jobs.work_off()
        return await self.job(command)

    async def job(self, command: Event) -> dict[str, Any]:
        async with self.stores.manifest.connection() as connection:
            row = await connection.fetchrow("SELECT * FROM ingest.job_status WHERE job_id = $1", command.event_id)
            assert row is not None
            return dict(row)

    async def figures(self, target: Dataset, upload_id: UUID) -> tuple[int, ...]:
        """Rows that are shown, rows of the history, rejects, and what the manifest says of the two."""
        (found,) = await self.stores.rows(
            f"SELECT (SELECT count() FROM {target.name} FINAL), (SELECT count() FROM {target.history}), "  # noqa: S608 - ours
            "(SELECT count() FROM quarantine WHERE upload_id = {upload:String})",
            upload=str(upload_id),
        )
        state = await self.stores.state(upload_id)
        return (*(int(one) for one in found), state["rows_accepted"], state["rows_rejected"])


def record(value: bytes) -> ConsumerRecord:
    return ConsumerRecord("topic", 0, 0, 0, 0, None, value, None, 0, len(value), ())


@pytest_asyncio.fixture
async def world(servers: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    async with open_stores(servers, monkeypatch) as stores:
        yield World(stores, LocalStore(tmp_path))


async def test_a_dry_run_counts_and_the_replay_does_what_it_said(world: World) -> None:
    target, wider = levels("replay_some", "low"), levels("replay_some", "low", "odd")
    upload_id = await world.upload(target)
    assert await world.figures(target, upload_id) == (10, 10, 20, 10, 20)
    tried = await world.replay(wider, upload_id, dry_run=True)
    assert (tried["state"], tried["result"]["rows"]) == ("done", {"total": 20, "passed": 20, "failed": 0})
    assert await world.figures(target, upload_id) == (10, 10, 20, 10, 20)
    done = await world.replay(wider, upload_id)
    assert done["result"]["rows"] == {"total": 20, "passed": 20, "failed": 0}
    assert await world.figures(target, upload_id) == (30, 30, 0, 30, 0)
    state = await world.stores.state(upload_id)
    assert (state["state"], state["generation"]) == ("completed", 2)
    assert (await world.replay(wider, upload_id))["result"]["rows"]["total"] == 0
    # All of it is this upload's: undone, nothing is left.
    jobs = await world.jobs(wider)
    await jobs.take(record(UndoRequested(upload_id=upload_id).encoded()))
    await jobs.work_off()
    (left,) = await world.stores.rows(f"SELECT count() FROM {target.history}")  # noqa: S608 - ours
    assert left == (0,)


async def test_what_fails_again_stays_in_quarantine(world: World) -> None:
    target = levels("replay_none", "low")
    upload_id = await world.upload(target)
    done = await world.replay(target, upload_id)
    assert done["result"]["rows"] == {"total": 20, "passed": 0, "failed": 20}
    assert done["result"]["reasons"] == {"enum_value": 20}
    assert await world.figures(target, upload_id) == (10, 10, 20, 10, 20)


async def test_a_file_of_which_nothing_passed_becomes_a_load(world: World) -> None:
    target, wider = levels("replay_all", "none"), levels("replay_all", "low", "odd")
    upload_id = await world.upload(target)
    state = await world.stores.state(upload_id)
    assert (state["state"], state["live"]) == ("failed", False)
    await world.replay(wider, upload_id)
    state = await world.stores.state(upload_id)
    assert (state["state"], state["live"], state["error"]) == ("completed", True, None)
    assert await world.figures(target, upload_id) == (30, 30, 0, 30, 0)


class Died(BaseException):
    """As SIGKILL is: nothing of ours runs after it."""


@pytest.mark.parametrize("place", ["replay.loaded", "replay.booked"])
async def test_a_replay_that_died_is_done_once(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    name = place.replace(".", "_")
    target, wider = levels(name, "low"), levels(name, "low", "odd")
    upload_id = await world.upload(target)

    def dies(passed: str) -> None:
        if passed == place:
            raise Died

    monkeypatch.setattr(replay_module, "faultpoint", dies)
    with pytest.raises(Died):
        await world.replay(wider, upload_id)
    monkeypatch.setattr(replay_module, "faultpoint", lambda _: None)
    await (await world.jobs(wider)).work_off()
    found = await world.figures(target, upload_id)
    # Behind the booking the rejects of the generation before may stay; nobody reads them.
    assert (*found[:2], *found[3:]) == (30, 30, 30, 0)
    async with world.stores.manifest.connection() as connection:
        (job,) = await connection.fetch("SELECT * FROM ingest.job_status WHERE upload_id = $1", upload_id)
    assert (job["state"], job["result"]["rows"]["passed"]) == ("done", 20)


async def test_without_its_object_a_replay_says_so(world: World) -> None:
    target = levels("replay_lost", "low")
    upload_id = await world.upload(target)
    await obstore.delete_async(world.bucket, f"uploads/{upload_id}/object")
    done = await world.replay(target, upload_id)
    assert done["state"] == "failed"
    assert "not in the bucket any more" in done["error"]


async def test_an_undone_upload_is_loaded_again_as_a_new_generation(world: World) -> None:
    target = levels("replay_undone", "low", "odd")
    upload_id = await world.upload(target)
    jobs = await world.jobs(target)
    await jobs.take(record(UndoRequested(upload_id=upload_id).encoded()))
    assert (await world.replay(target, upload_id))["error"] == "this upload is busy, replay it when it has ended"
    done = await world.replay(target, upload_id)
    assert done["result"] == {"dry_run": False, "loading_again": True}
    ((_, event),) = world.kafka.sent
    world.kafka.sent.clear()
    await world.load(target, event)
    assert await world.figures(target, upload_id) == (30, 30, 0, 30, 0)
    assert (await world.stores.state(upload_id))["generation"] == 2
