from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiokafka import AIOKafkaProducer
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from audit.intake import batch_limits, subscribe
from audit.request_log import RequestLog
from audit.retention import Days
from audit.settings import Settings
from audit.trail import AuditTrail
from common.clock import SystemClock
from common.dead_letter import bury
from common.health import open_ops_port
from common.intake import Intake
from common.kafka import consumer_broker, open_producer
from common.lifecycle import forever, in_background
from common.postgres import Pool, open_postgres
from common.progress import Progress
from common.topics import AUDIT_DEAD

# Between stopping the intake and the process being gone, the producer and the pool close.
_CLOSE_S = 5
_LOOK_S = 5


@dataclass(frozen=True)
class AuditLogger:
    """What one audit-logger process owns."""

    settings: Settings
    postgres: Pool
    producer: AIOKafkaProducer
    days: Days
    progress: Progress
    broker: KafkaBroker
    subscriber: BatchSubscriber

    async def ask_postgres(self) -> None:
        await self.postgres.fetchval("SELECT 1")

    async def look_at_progress(self) -> None:
        """Raises while the broker is away; that is not progress either."""
        if self.subscriber.consumer is not None:
            await self.progress.look(self.subscriber.consumer)

    async def ask_kafka(self) -> None:
        await self.producer.client.fetch_all_metadata()


@asynccontextmanager
async def open_audit_logger(settings: Settings) -> AsyncIterator[AuditLogger]:
    """Everything running. Fails at once when Postgres or Kafka is away: whoever started the process starts it again."""
    async with AsyncExitStack() as closing:
        clock = SystemClock()
        postgres = await closing.enter_async_context(open_postgres(settings))
        producer = await closing.enter_async_context(open_producer(settings))
        days = Days(postgres, clock, settings)
        await days.keep_house()
        progress = Progress(clock, settings.stalled_s)
        trail = AuditTrail(RequestLog(postgres, days), partial(bury, producer, AUDIT_DEAD), clock, settings)
        broker = consumer_broker(settings, graceful_s=max(1, settings.shutdown_s - _CLOSE_S))
        intake = Intake(trail.keep, progress, settings, limits=batch_limits(settings))
        subscriber = subscribe(broker, intake, settings)
        logger = AuditLogger(settings, postgres, producer, days, progress, broker, subscriber)
        checks = {"postgres": logger.ask_postgres, "kafka": logger.ask_kafka}
        await closing.enter_async_context(open_ops_port(settings, checks, alive=progress.check))
        await closing.enter_async_context(
            in_background(
                forever("retention", days.keep_house, pause_s=settings.audit_housekeeping_s),
                forever("progress", logger.look_at_progress, pause_s=_LOOK_S),
            )
        )
        # Intake last: it is the first thing to stop.
        closing.push_async_callback(broker.stop)
        closing.callback(intake.finish)
        await broker.start()
        yield logger
