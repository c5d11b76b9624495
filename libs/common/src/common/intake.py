"""Subscriptions that lose nothing: offsets last, and whatever fails keeps its place and is tried again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from faststream.kafka.message import KafkaMessage

from common.errors import Transient
from common.kafka import next_offsets, rewind
from common.logs import get_logger
from common.progress import Progress
from common.tracing import consuming

Take = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]

_log = get_logger(__name__)
# Records, which take the library about 5 ms.
_FETCHED_AT_ONCE = 2000


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


@dataclass(frozen=True)
class BatchLimits:
    """A batch is full at either size; one that is not leaves after `wait_s`."""

    rows_max: int
    bytes_max: int
    wait_s: float

    async def fill(self, consumer: AIOKafkaConsumer, batch: list[ConsumerRecord]) -> None:
        """Fetch into the batch until it is full or its time is over."""
        size = _bytes(batch)
        clock = asyncio.get_running_loop()
        until = clock.time() + self.wait_s
        # A broker that goes away now ends the batch; what was fetched before is taken.
        with suppress(KafkaError):
            while len(batch) < self.rows_max and size < self.bytes_max and (left_s := until - clock.time()) > 0:
                rows = min(_FETCHED_AT_ONCE, self.rows_max - len(batch))
                found = await consumer.getmany(timeout_ms=int(left_s * 1000), max_records=rows)
                for more in found.values():
                    batch += more
                    size += _bytes(more)
                # The library does not pause where records are there: whoever waits for a server comes in between.
                await asyncio.sleep(0)

    def are_reached(self, batch: Sequence[ConsumerRecord]) -> bool:
        return len(batch) >= self.rows_max or _bytes(batch) >= self.bytes_max


class Intake:
    """Batches in order. Whatever goes wrong with one, it is fetched again after a pause that doubles."""

    def __init__(self, take: Take, progress: Progress, retries: Retries, *, limits: BatchLimits | None = None) -> None:
        """`take` returns when the records are durable; dead letters are its own business.

        With limits, batches are filled up to them, and behind a full one the next is fetched and its `take` begun: what
        must not overlap, `take` keeps in order itself. Offsets are committed in order whatever overlaps.
        """
        self._take, self._limits = take, limits
        self._progress = progress
        self._first_s, self._max_s = retries.retry_first_s, retries.retry_max_s
        self._pause_s = self._first_s
        self._finishing = False

    def finish(self) -> None:
        """Fetch nothing ahead any more: the process is about to stop."""
        self._finishing = True

    async def take(self, message: KafkaMessage) -> None:
        raw, consumer = message.raw_message, message.consumer
        batch: list[ConsumerRecord] = list(raw) if isinstance(raw, tuple) else [raw]
        if self._limits is not None:
            await self._limits.fill(consumer, batch)
        taking: asyncio.Task[_Taken] | None = asyncio.create_task(self._taken(batch))
        following: asyncio.Task[_Taken] | None = None
        try:
            while taking is not None:
                ahead = await self._fetched_behind(consumer, batch)
                following = asyncio.create_task(self._taken(ahead)) if ahead else None
                taken = await taking
                await _commit(consumer, batch[: taken.durable])
                if taken.pause_s:
                    await _ended(following)
                    # Both: only what was committed may stay behind the consumer.
                    rewind(consumer, [*batch[taken.durable :], *ahead])
                    await asyncio.sleep(taken.pause_s)
                    return
                batch, taking, following = ahead, following, None
        finally:
            await _ended(taking, following)

    async def _fetched_behind(
        self, consumer: AIOKafkaConsumer, batch: Sequence[ConsumerRecord]
    ) -> list[ConsumerRecord]:
        ahead: list[ConsumerRecord] = []
        if self._limits is not None and self._limits.are_reached(batch) and not self._finishing:
            await self._limits.fill(consumer, ahead)
        return ahead

    async def _taken(self, records: Sequence[ConsumerRecord]) -> "_Taken":
        first = records[0]
        self._progress.moved(first.timestamp)
        log = _log.bind(topic=first.topic, offset=first.offset, records=len(records))
        try:
            with consuming(first.topic, [record.headers for record in records]):
                await self._take(records)
        except Partly as exc:
            log.warning("records wait until somebody has looked", reason=str(exc), pause_s=self._max_s, taken=exc.count)
            return _Taken(exc.count, self._max_s)
        except Transient as exc:
            log.warning("records wait", reason=str(exc), pause_s=self._pause_s)
            return _Taken(0, self._next_pause())
        except Exception:
            # A fault of ours. FastStream would swallow it, and the next commit would lose these records.
            log.exception("records failed", pause_s=self._pause_s)
            return _Taken(0, self._next_pause())
        self._pause_s = self._first_s
        return _Taken(len(records), 0)

    def _next_pause(self) -> float:
        pause_s = self._pause_s
        self._pause_s = min(self._max_s, 2 * pause_s)
        return pause_s


@dataclass(frozen=True)
class _Taken:
    """How many of the records are durable, and how long the others must wait."""

    durable: int
    pause_s: float


async def _ended(*tasks: "asyncio.Task[_Taken] | None") -> None:
    """Their outcome is of no interest any more: what they did not finish is fetched again."""
    left = [task for task in tasks if task is not None and not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)


async def _commit(consumer: AIOKafkaConsumer, records: Sequence[ConsumerRecord]) -> None:
    """Exactly these: the consumer's own position may be behind records that are not durable yet."""
    assigned = consumer.assignment()  # a rebalance may have taken some
    ours = {place: offset for place, offset in next_offsets(records).items() if place in assigned}
    if not ours:
        return
    try:
        await consumer.commit(ours)
    except KafkaError as exc:
        # A rebalance took the partition, or the broker is away. The work is durable and doing it again is harmless;
        # the next commit covers it if the partition is still ours.
        _log.warning("offsets not committed", reason=repr(exc))


def _bytes(records: Sequence[ConsumerRecord]) -> int:
    return sum(len(one.value or b"") for one in records)


async def whole_message(message: KafkaMessage, _: Any = None) -> KafkaMessage:
    """The decoder to subscribe with: an intake needs keys, offsets and the consumer, not bodies alone."""
    return message
