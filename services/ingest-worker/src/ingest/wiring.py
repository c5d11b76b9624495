from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.asyncclient import AsyncClient
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber, DefaultSubscriber
from obstore.store import ObjectStore

from common.bucket import open_bucket
from common.clickhouse import open_clickhouse
from common.clock import Clock, SystemClock
from common.datasets import Datasets, load_datasets
from common.dead_letter import bury
from common.health import open_ops_port
from common.intake import Intake
from common.kafka import consumer_broker, open_producer
from common.lifecycle import forever, in_background
from common.postgres import Pool, open_postgres
from common.progress import Progress
from common.topics import INGEST_BUCKET, INGEST_CHUNKS, INGEST_COMMANDS, INGEST_DEAD, INGEST_UPLOADS, Topic
from ingest.bucket_events import BucketEvents
from ingest.bucket_watch import BucketWatch
from ingest.chunks import ChunkLoader
from ingest.erase import Erase
from ingest.inbox import Inbox
from ingest.intake import Bury, TakeOne, or_bury, subscribe
from ingest.jobs import Jobs, Kind
from ingest.manifest import Manifest
from ingest.planner import Planner
from ingest.records import RecordLoader, batch_limits
from ingest.records import subscribe as subscribe_records
from ingest.replay import Replay
from ingest.retention import Retention
from ingest.settings import Settings
from ingest.strays import Strays
from ingest.turns import Turns
from ingest.undo import Undo
from ingest.upload_figures import watch_uploads

# A subscription, and whether it moves.
Moving: TypeAlias = tuple[Progress, DefaultSubscriber | BatchSubscriber]
# Between stopping the intake and the process being gone, the producer and the pools close.
_CLOSE_S = 5
_LOOK_S = 5
_FIGURES_S = 15


@dataclass(frozen=True)
class Worker:
    """What one ingest process owns."""

    settings: Settings
    manifest: Manifest
    clickhouse: AsyncClient
    producer: AIOKafkaProducer
    watch: BucketWatch
    broker: KafkaBroker
    progress: tuple[Moving, ...]

    async def ask_clickhouse(self) -> None:
        await self.clickhouse.query("SELECT 1")

    async def ask_kafka(self) -> None:
        await self.producer.client.fetch_all_metadata()

    async def look_at_progress(self) -> None:
        """Raises while the broker is away; that is not progress either."""
        for progress, subscriber in self.progress:
            if subscriber.consumer is not None:
                await progress.look(subscriber.consumer)

    async def check_progress(self) -> None:
        for progress, _ in self.progress:
            await progress.check()


@dataclass(frozen=True)
class _Stores:
    """What everything in this process reads and writes."""

    settings: Settings
    datasets: Datasets
    clock: Clock
    postgres: Pool
    manifest: Manifest
    clickhouse: AsyncClient
    producer: AIOKafkaProducer
    bucket: ObjectStore


@asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[Worker]:
    """Everything running. Fails at once when a dependency is away: whoever started the process starts it again."""
    async with AsyncExitStack() as closing:
        stores = await closing.enter_async_context(_open_stores(settings))
        broker = consumer_broker(settings, graceful_s=max(1, settings.shutdown_s - _CLOSE_S))
        records = RecordLoader(stores.manifest, stores.clickhouse, stores.datasets, _dead(stores), settings)
        inbox = Inbox(stores.bucket, stores.producer, stores.datasets, stores.clock, settings)
        closing.push_async_callback(inbox.close)
        jobs = Jobs(stores.manifest, _kinds(stores))
        watch = BucketWatch(stores.manifest, stores.bucket, stores.producer, stores.clock, settings)
        recording = Progress(stores.clock, settings.stalled_s)
        recorded = Intake(records.take, recording, settings, limits=batch_limits(settings))
        progress = (
            *_subscribed(stores, broker, inbox, jobs),
            (recording, subscribe_records(broker, recorded, settings)),
        )
        worker = Worker(settings, stores.manifest, stores.clickhouse, stores.producer, watch, broker, progress)
        checks = {
            "postgres": stores.manifest.ask,
            "clickhouse": worker.ask_clickhouse,
            "kafka": worker.ask_kafka,
            "records": records.ask,
        }
        await closing.enter_async_context(open_ops_port(settings, checks, alive=worker.check_progress))
        await closing.enter_async_context(in_background(*_rounds(stores, worker, inbox, jobs)))
        # Intake last: it is the first thing to stop.
        closing.push_async_callback(broker.stop)
        closing.callback(recorded.finish)
        await broker.start()
        yield worker


@asynccontextmanager
async def _open_stores(settings: Settings) -> AsyncIterator[_Stores]:
    datasets = load_datasets(settings.datasets_folder)
    async with (
        open_postgres(settings) as postgres,
        open_clickhouse(settings) as clickhouse,
        open_producer(settings) as producer,
    ):
        bucket = open_bucket(settings)
        yield _Stores(settings, datasets, SystemClock(), postgres, Manifest(postgres), clickhouse, producer, bucket)


def _subscribed(stores: _Stores, broker: KafkaBroker, inbox: Inbox, jobs: Jobs) -> list[Moving]:
    """What comes one message at a time: uploads, chunks, notices of the bucket, commands."""
    settings, manifest, bucket = stores.settings, stores.manifest, stores.bucket
    loading = Progress(stores.clock, settings.stalled_s)
    turns = Turns(manifest, stores.producer, settings)
    planner = Planner(manifest, bucket, turns, stores.datasets, settings)
    loader = ChunkLoader(
        manifest, bucket, stores.clickhouse, stores.datasets, settings, turns=turns, moved=loading.moved
    )
    events = BucketEvents(inbox.take, settings.bucket_url)

    def subscribed(topic: Topic, group: str, take: TakeOne, progress: Progress | None = None) -> Moving:
        progress = progress or Progress(stores.clock, settings.stalled_s)
        intake = Intake(or_bury(take, _dead(stores), progress), progress, settings)
        return progress, subscribe(broker, topic, group, intake, settings)

    return [
        subscribed(INGEST_UPLOADS, settings.planner_group, planner.take),
        subscribed(INGEST_CHUNKS, settings.loader_group, loader.take, loading),
        subscribed(INGEST_BUCKET, settings.bucket_group, events.take),
        subscribed(INGEST_COMMANDS, settings.commands_group, jobs.take),
    ]


def _dead(stores: _Stores) -> Bury:
    return partial(bury, stores.producer, INGEST_DEAD)


def _kinds(stores: _Stores) -> dict[str, Kind]:
    settings, manifest, clickhouse, datasets = stores.settings, stores.manifest, stores.clickhouse, stores.datasets
    undo = Undo(
        manifest,
        clickhouse,
        datasets,
        readers_wait_s=settings.undo_readers_wait_s,
        stalled_s=settings.chunk_stalled_s,
    )
    replay = Replay(manifest, stores.bucket, clickhouse, datasets, settings, producer=stores.producer)
    erase = Erase(manifest, clickhouse, datasets, stalled_s=settings.chunk_stalled_s)
    return {
        "undo": Kind(undo.accept, undo.run),
        "replay": Kind(replay.accept, replay.run),
        "erase": Kind(erase.accept, erase.run),
    }


def _rounds(stores: _Stores, worker: Worker, inbox: Inbox, jobs: Jobs) -> Iterator[Coroutine[Any, Any, None]]:
    """What this process looks at by itself, again and again."""
    settings, manifest, clickhouse, datasets = stores.settings, stores.manifest, stores.clickhouse, stores.datasets
    strays = Strays(manifest, clickhouse, datasets)
    retention = Retention(manifest, stores.bucket, clickhouse, datasets, jobs, stores.clock)
    yield forever("inbox", inbox.look, pause_s=settings.watch_s)
    yield forever("bucket watch", worker.watch.look_at_recent, pause_s=settings.watch_s)
    yield forever("bucket sweep", worker.watch.look_at_all, pause_s=settings.sweep_s)
    yield forever("strays", strays.look, pause_s=settings.retention_s)
    yield forever("retention", retention.apply, pause_s=settings.retention_s)
    yield forever("jobs", jobs.work_off, pause_s=settings.jobs_pause_s)
    yield forever("upload figures", lambda: watch_uploads(stores.postgres), pause_s=_FIGURES_S)
    yield forever("progress", worker.look_at_progress, pause_s=_LOOK_S)
