from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.asyncclient import AsyncClient
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber, DefaultSubscriber

from common.bucket import open_bucket
from common.clickhouse import open_clickhouse
from common.clock import SystemClock
from common.datasets import load_datasets
from common.dead_letter import bury
from common.health import open_ops_port
from common.intake import Intake
from common.kafka import consumer_broker, open_producer
from common.lifecycle import forever, in_background
from common.postgres import open_postgres
from common.progress import Progress
from common.topics import INGEST_BUCKET, INGEST_CHUNKS, INGEST_COMMANDS, INGEST_DEAD, INGEST_UPLOADS
from ingest.bucket_events import BucketEvents
from ingest.bucket_watch import BucketWatch
from ingest.chunks import ChunkLoader
from ingest.erase import Erase
from ingest.inbox import Inbox
from ingest.intake import or_bury, subscribe
from ingest.jobs import Jobs, Kind
from ingest.manifest import Manifest
from ingest.planner import Planner
from ingest.records import RecordLoader, gatherer
from ingest.records import subscribe as subscribe_records
from ingest.replay import Replay
from ingest.retention import Retention
from ingest.settings import Settings
from ingest.strays import Strays
from ingest.turns import Turns
from ingest.undo import Undo
from ingest.upload_figures import watch_uploads

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
    progress: tuple[tuple[Progress, DefaultSubscriber | BatchSubscriber], ...]

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


@asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[Worker]:
    """Everything running. Fails at once when a dependency is away: whoever started the process starts it again."""
    datasets = load_datasets(settings.datasets_folder)
    clock = SystemClock()
    async with AsyncExitStack() as closing:
        postgres = await closing.enter_async_context(open_postgres(settings))
        manifest = Manifest(postgres)
        clickhouse = await closing.enter_async_context(open_clickhouse(settings))
        producer = await closing.enter_async_context(open_producer(settings))
        bucket = open_bucket(settings)
        broker = consumer_broker(settings, graceful_s=max(1, settings.shutdown_s - _CLOSE_S))
        dead = partial(bury, producer, INGEST_DEAD)
        planning, loading, recording, commanding, noticing = (Progress(clock, settings.stalled_s) for _ in range(5))
        turns = Turns(manifest, producer, settings)
        planner = Planner(manifest, bucket, turns, datasets, settings)
        loader = ChunkLoader(manifest, bucket, clickhouse, datasets, settings, turns=turns, moved=loading.moved)
        records = RecordLoader(manifest, clickhouse, datasets, dead, settings)
        plans = Intake(or_bury(planner.take, dead, planning), planning, settings)
        loads = Intake(or_bury(loader.take, dead, loading), loading, settings)
        inbox = Inbox(bucket, producer, datasets, clock, settings)
        closing.push_async_callback(inbox.close)
        events = BucketEvents(inbox.take, settings.bucket_url)
        notices = Intake(or_bury(events.take, dead, noticing), noticing, settings)
        record_intake = Intake(records.take, recording, settings, gather=gatherer(settings))
        undo = Undo(
            manifest,
            clickhouse,
            datasets,
            readers_wait_s=settings.undo_readers_wait_s,
            stalled_s=settings.chunk_stalled_s,
        )
        replay = Replay(manifest, bucket, clickhouse, datasets, settings, producer=producer)
        erase = Erase(manifest, clickhouse, datasets, stalled_s=settings.chunk_stalled_s)
        kinds = {
            "undo": Kind(undo.accept, undo.run),
            "replay": Kind(replay.accept, replay.run),
            "erase": Kind(erase.accept, erase.run),
        }
        jobs = Jobs(manifest, kinds)
        strays = Strays(manifest, clickhouse, datasets)
        retention = Retention(manifest, bucket, clickhouse, datasets, jobs, clock)
        commands = Intake(or_bury(jobs.take, dead, commanding), commanding, settings)
        progress = (
            (planning, subscribe(broker, INGEST_UPLOADS, settings.planner_group, plans, settings)),
            (loading, subscribe(broker, INGEST_CHUNKS, settings.loader_group, loads, settings)),
            (noticing, subscribe(broker, INGEST_BUCKET, settings.bucket_group, notices, settings)),
            (recording, subscribe_records(broker, record_intake, settings)),
            (commanding, subscribe(broker, INGEST_COMMANDS, settings.commands_group, commands, settings)),
        )
        watch = BucketWatch(manifest, bucket, producer, clock, settings)
        worker = Worker(settings, manifest, clickhouse, producer, watch, broker, progress)
        checks = {
            "postgres": manifest.ask,
            "clickhouse": worker.ask_clickhouse,
            "kafka": worker.ask_kafka,
            "records": records.ask,
        }
        await closing.enter_async_context(open_ops_port(settings, checks, alive=worker.check_progress))
        await closing.enter_async_context(
            in_background(
                forever("inbox", inbox.look, pause_s=settings.watch_s),
                forever("bucket watch", watch.look_at_recent, pause_s=settings.watch_s),
                forever("bucket sweep", watch.look_at_all, pause_s=settings.sweep_s),
                forever("strays", strays.look, pause_s=settings.retention_s),
                forever("retention", retention.apply, pause_s=settings.retention_s),
                forever("jobs", jobs.work_off, pause_s=settings.jobs_pause_s),
                forever("upload figures", lambda: watch_uploads(postgres), pause_s=_FIGURES_S),
                forever("progress", worker.look_at_progress, pause_s=_LOOK_S),
            )
        )
        # Intake last: it is the first thing to stop.
        closing.push_async_callback(broker.stop)
        await broker.start()
        yield worker
