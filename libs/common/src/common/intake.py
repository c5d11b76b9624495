"""Subscriptions that lose nothing: offsets last, and whatever fails keeps its place and is tried again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from faststream.kafka.message import KafkaMessage

from common.errors import Transient
from common.kafka import rewind
from common.logs import get_logger
from common.progress import Progress
from common.tracing import consuming

Take = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]
Gather = Callable[[AIOKafkaConsumer, Sequence[ConsumerRecord]], Awaitable[Sequence[ConsumerRecord]]]

_log = get_logger(__name__)


class Retries(Protocol):
    @property
    def retry_first_s(self) -> float: ...

    @property
    def retry_max_s(self) -> float: ...


class Partly(Transient):
    """The first `count` records are durable and the others must wait."""

    def __init__(self, count: int, reason: str) -> None:
        super().__init__(reason)
        self.count = count


class Intake:
    """One message or batch at a time. Whatever goes wrong with it, it is fetched again after a pause that doubles."""

    def __init__(self, take: Take, progress: Progress, retries: Retries, *, gather: Gather | None = None) -> None:
        """`take` returns when the records are durable; dead letters are its own business.

        `gather` may fetch more records from the consumer, and returns them after those it was given.
        """
        self._take, self._gather = take, gather
        self._progress = progress
        self._first_s, self._max_s = retries.retry_first_s, retries.retry_max_s
        self._pause_s = self._first_s

    async def take(self, message: KafkaMessage) -> None:
        raw = message.raw_message
        records: Sequence[ConsumerRecord] = raw if isinstance(raw, tuple) else (raw,)
        self._progress.moved(records[0].timestamp)
        log = _log.bind(topic=records[0].topic, offset=records[0].offset, records=len(records))
        try:
            if self._gather is not None:
                records = await self._gather(message.consumer, records)
            with consuming(records[0].topic, [record.headers for record in records]):
                await self._take(records)
        except Partly as exc:
            log.warning("records wait until somebody has looked", reason=str(exc), pause_s=self._max_s, taken=exc.count)
            rewind(message.consumer, records[exc.count :])
            await _commit(message)
            await asyncio.sleep(self._max_s)
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
