"""Subscriptions that lose nothing: offsets last; what fails for now keeps its place, what is poison is buried."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage
from faststream.kafka.subscriber.usecase import DefaultSubscriber

from common.errors import Permanent, Transient
from common.faultpoints import faultpoint
from common.kafka import rewind
from common.logs import get_logger
from common.progress import Progress
from common.topics import Topic
from ingest.settings import Settings

Take = Callable[[ConsumerRecord], Awaitable[None]]
Bury = Callable[[ConsumerRecord, str], Awaitable[None]]

_log = get_logger(__name__)


class Intake:
    """One message at a time. Whatever goes wrong with it, it is fetched again after a pause that doubles to its limit,
    unless the reason is that no retry can help.
    """

    def __init__(self, take: Take, bury: Bury, progress: Progress, settings: Settings) -> None:
        self._take, self._bury, self._progress = take, bury, progress
        self._first_s, self._max_s = settings.retry_first_s, settings.retry_max_s
        self._pause_s = self._first_s

    async def take(self, message: KafkaMessage) -> None:
        self._progress.moved()
        record: ConsumerRecord = message.raw_message
        try:
            await self._take_or_bury(record)
        except Transient as exc:
            _log.warning("message waits", topic=record.topic, reason=str(exc), pause_s=self._pause_s)
            await self._try_again(message, record)
        except Exception:  # noqa: BLE001 - see below
            # A fault of ours. FastStream would swallow it, and the next message's commit would lose this one.
            _log.exception("message failed", topic=record.topic, offset=record.offset, pause_s=self._pause_s)
            await self._try_again(message, record)
        else:
            self._pause_s = self._first_s
            self._progress.moved()
            faultpoint("ingest.before_commit")
            await _commit(message)

    async def _take_or_bury(self, record: ConsumerRecord) -> None:
        try:
            await self._take(record)
        except Permanent as exc:
            await self._bury(record, str(exc))

    async def _try_again(self, message: KafkaMessage, record: ConsumerRecord) -> None:
        # Before the pause: a shutdown that cancels it must find the position where it belongs.
        rewind(message.consumer, [record])
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(self._max_s, 2 * self._pause_s)


async def _commit(message: KafkaMessage) -> None:
    try:
        await message.ack()
    except KafkaError as exc:
        # A rebalance took the partition, or the broker is away. The work is durable and doing it again is harmless;
        # the next commit covers it if the partition is still ours.
        _log.warning("offset not committed", reason=repr(exc))


def subscribe(broker: KafkaBroker, topic: Topic, group: str, intake: Intake, settings: Settings) -> DefaultSubscriber:
    subscriber: DefaultSubscriber = broker.subscriber(
        topic.name,
        group_id=group,
        group_instance_id=settings.kafka_instance_id,
        auto_offset_reset="earliest",
        max_poll_interval_ms=settings.poll_interval_max_s * 1000,
        decoder=_whole,
    )
    subscriber(intake.take)
    return subscriber


async def _whole(message: KafkaMessage, _: Any = None) -> KafkaMessage:
    """The handler needs offsets and the consumer, not the body alone."""
    return message
