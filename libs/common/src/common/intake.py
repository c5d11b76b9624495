"""Subscriptions that lose nothing: offsets last, and whatever fails keeps its place and is tried again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faststream.kafka.message import KafkaMessage

from common.errors import Transient
from common.kafka import rewind
from common.logs import get_logger
from common.progress import Progress
from common.tracing import consuming

Take = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]

_log = get_logger(__name__)


class Retries(Protocol):
    @property
    def retry_first_s(self) -> float: ...

    @property
    def retry_max_s(self) -> float: ...


class Intake:
    """One message or batch at a time. Whatever goes wrong with it, it is fetched again after a pause that doubles."""

    def __init__(self, take: Take, progress: Progress, retries: Retries) -> None:
        """`take` returns when the records are durable; dead letters are its own business."""
        self._take = take
        self._progress = progress
        self._first_s, self._max_s = retries.retry_first_s, retries.retry_max_s
        self._pause_s = self._first_s

    async def take(self, message: KafkaMessage) -> None:
        self._progress.moved()
        raw = message.raw_message
        records: Sequence[ConsumerRecord] = raw if isinstance(raw, tuple) else (raw,)
        log = _log.bind(topic=records[0].topic, offset=records[0].offset, records=len(records))
        try:
            with consuming(records[0].topic, [record.headers for record in records]):
                await self._take(records)
        except Transient as exc:
            log.warning("records wait", reason=str(exc), pause_s=self._pause_s)
            await self._try_again(message, records)
        except Exception:
            # A fault of ours. FastStream would swallow it, and the next commit would lose these records.
            log.exception("records failed", pause_s=self._pause_s)
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
        # A rebalance took the partition, or the broker is away. The work is durable and doing it again is harmless;
        # the next commit covers it if the partition is still ours.
        _log.warning("offsets not committed", reason=repr(exc))


async def whole_message(message: KafkaMessage, _: Any = None) -> KafkaMessage:
    """The decoder to subscribe with: an intake needs keys, offsets and the consumer, not bodies alone."""
    return message
