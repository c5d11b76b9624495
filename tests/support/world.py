"""A worker in the test's own process: planner, loader and jobs over real stores, called one after the other."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import obstore
from aiokafka import AIOKafkaProducer, ConsumerRecord
from obstore.store import LocalStore

from common.datasets import Dataset
from common.events import ChunkPlanned, Event, ReplayRequested, UploadReceived
from common.ids import new_id
from common.topics import INGEST_CHUNKS
from ingest.chunks import ChunkLoader
from ingest.erase import Erase
from ingest.jobs import Jobs, Kind
from ingest.planner import Planner
from ingest.replay import Replay
from ingest.turns import Turns
from ingest.undo import Undo
from support.loads import Stores, declared


@dataclass
class Kafka:
    """Keeps what is sent, for the test to hand on."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)

    async def send_and_wait(self, topic: str, value: bytes, key: bytes, **_: object) -> None:
        del key
        self.sent.append((topic, value))


@dataclass
class World:
    """A worker's parts over real Postgres and ClickHouse and a bucket, with a Kafka that the test hands on itself."""

    stores: Stores
    bucket: LocalStore
    kafka: Kafka = field(default_factory=Kafka)

    async def upload(self, target: Dataset, content: bytes) -> UUID:
        """From the bucket to its end."""
        event = await self.store(target, content)
        await self.plan(target, event)
        await self.load(target)
        return event.upload_id

    async def store(self, target: Dataset, content: bytes) -> UploadReceived:
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
        return event

    @property
    def producer(self) -> AIOKafkaProducer:
        return cast("AIOKafkaProducer", self.kafka)

    @property
    def turns(self) -> Turns:
        return Turns(self.stores.manifest, self.producer, self.stores.settings)

    async def plan(self, target: Dataset, event: UploadReceived) -> None:
        datasets = await declared(self.stores, target)
        stores = self.stores
        await Planner(stores.manifest, self.bucket, self.turns, datasets, stores.settings).take(record(event.encoded()))

    async def load(self, target: Dataset) -> list[UUID]:
        """Chunks in the order of the topic, until none is left; says whose they were."""
        datasets = await declared(self.stores, target)
        stores = self.stores
        loader = ChunkLoader(
            stores.manifest,
            self.bucket,
            stores.clickhouse,
            datasets,
            stores.settings,
            turns=self.turns,
            moved=lambda: None,
        )
        loaded = []
        for topic, value in self.kafka.sent:  # which grows meanwhile
            if topic == INGEST_CHUNKS.name:
                await loader.take(record(value))
                loaded.append(ChunkPlanned.model_validate_json(value).upload_id)
        self.kafka.sent.clear()
        return loaded

    async def jobs(self, target: Dataset) -> Jobs:
        datasets = await declared(self.stores, target)
        stores = self.stores
        replay = Replay(
            stores.manifest, self.bucket, stores.clickhouse, datasets, stores.settings, producer=self.producer
        )
        undo = Undo(stores.manifest, stores.clickhouse, datasets, readers_wait_s=0, stalled_s=60)
        erase = Erase(stores.manifest, stores.clickhouse, datasets, stalled_s=60)
        kinds = {
            "undo": Kind(undo.accept, undo.run),
            "replay": Kind(replay.accept, replay.run),
            "erase": Kind(erase.accept, erase.run),
        }
        return Jobs(stores.manifest, kinds)

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
