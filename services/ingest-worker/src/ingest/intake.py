"""Subscriptions that take one message at a time, and bury what no retry can help."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiokafka import ConsumerRecord
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import DefaultSubscriber
from pydantic import ValidationError

from common.errors import Permanent
from common.events import Event
from common.faultpoints import faultpoint
from common.intake import Intake, Take, whole_message
from common.progress import Progress
from common.topics import Topic
from ingest.settings import Settings

TakeOne = Callable[[ConsumerRecord], Awaitable[None]]
Bury = Callable[[ConsumerRecord, str], Awaitable[None]]
E = TypeVar("E", bound=Event)


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


def event_of(record: ConsumerRecord, kind: type[E]) -> E:
    """Raises Permanent, with the first fault and its place, for what is no such event."""
    try:
        return kind.model_validate_json(record.value or b"")
    except ValidationError as exc:
        fault = exc.errors(include_url=False, include_input=False)[0]
        raise Permanent(f"not of kind {kind.__name__}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


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
