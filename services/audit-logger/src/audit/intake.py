"""The subscription to audit.requests.v1: offsets last, and a batch that fails keeps its place."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber

from audit.settings import Settings
from common.errors import Transient
from common.kafka import rewind
from common.logs import get_logger
from common.progress import Progress
from common.topics import AUDIT_REQUESTS

Keep = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]

_log = get_logger(__name__)


class Intake:
    """One batch at a time. Whatever goes wrong with it, it is fetched again after a pause that doubles to its limit."""

    def __init__(self, keep: Keep, progress: Progress, settings: Settings) -> None:
        self._keep = keep
        self._progress = progress
        self._first_s, self._max_s = settings.retry_first_s, settings.retry_max_s
        self._pause_s = self._first_s

    async def take(self, message: KafkaMessage) -> None:
        self._progress.moved()
        records: Sequence[ConsumerRecord] = message.raw_message
        try:
            await self._keep(records)
        except Transient as exc:
            _log.warning("batch waits", reason=str(exc), records=len(records), pause_s=self._pause_s)
            await self._try_again(message, records)
        except Exception:  # noqa: BLE001 - see below
            # A fault of ours. FastStream would swallow it, and the next batch's commit would lose these records.
            _log.exception("batch failed", records=len(records), pause_s=self._pause_s)
            await self._try_again(message, records)
        else:
            self._pause_s = self._first_s
            await _commit(message)

    async def _try_again(self, message: KafkaMessage, records: Sequence[ConsumerRecord]) -> None:
        # Before the pause: a shutdown that cancels it must find the positions where they belong.
        rewind(message.consumer, records)
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(self._max_s, 2 * self._pause_s)


async def _commit(message: KafkaMessage) -> None:
    try:
        await message.ack()
    except KafkaError as exc:
        # A rebalance took the partition, or the broker is away. The records are in the log, and reading them again is
        # harmless; the next commit covers them if the partition is still ours.
        _log.warning("offsets not committed", reason=repr(exc))


def subscribe(broker: KafkaBroker, intake: Intake, settings: Settings) -> BatchSubscriber:
    subscriber: BatchSubscriber = broker.subscriber(
        AUDIT_REQUESTS.name,
        group_id=settings.audit_group,
        group_instance_id=settings.kafka_instance_id,
        batch=True,
        max_records=settings.batch_rows_max,
        batch_timeout_ms=settings.batch_ms_max,
        auto_offset_reset="earliest",
        decoder=_whole,
    )
    subscriber(intake.take)
    return subscriber


async def _whole(message: KafkaMessage, _: Any = None) -> KafkaMessage:
    """The handler needs keys, offsets and the consumer, not bodies alone."""
    return message
