"""Subscriptions that take one message at a time, and bury what no retry can help."""

from collections.abc import Awaitable, Callable, Sequence

from aiokafka import ConsumerRecord
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import DefaultSubscriber

from common.errors import Permanent
from common.faultpoints import faultpoint
from common.intake import Intake, Take, whole_message
from common.progress import Progress
from common.topics import Topic
from ingest.settings import Settings

TakeOne = Callable[[ConsumerRecord], Awaitable[None]]
Bury = Callable[[ConsumerRecord, str], Awaitable[None]]


def or_bury(take: TakeOne, bury: Bury, progress: Progress) -> Take:
    """Of a message that is Permanent at fault the dead letter is the durable effect."""

    async def take_or_bury(records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                await take(record)
            except Permanent as exc:
                await bury(record, str(exc))
        progress.moved()
        faultpoint("ingest.before_commit")

    return take_or_bury


def subscribe(broker: KafkaBroker, topic: Topic, group: str, intake: Intake, settings: Settings) -> DefaultSubscriber:
    subscriber: DefaultSubscriber = broker.subscriber(
        topic.name,
        group_id=group,
        group_instance_id=settings.kafka_instance_id,
        auto_offset_reset="earliest",
        max_poll_interval_ms=settings.poll_interval_max_s * 1000,
        decoder=whole_message,
    )
    subscriber(intake.take)
    return subscriber
