"""The records topic: messages become rows, what cannot is a dead letter, and the offsets come last.

A batch is loaded under a token of its own at every try. Its rows carry the versions that their offsets make, so a copy
from a redelivery or a retry is folded by identity, wherever the batches were cut; and no try can be swallowed by what a
server that was killed remembers of the try before (decision 19).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from aiokafka import ConsumerRecord
from clickhouse_connect.driver.asyncclient import AsyncClient
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber

from common.datasets import Datasets
from common.errors import Permanent, Transient
from common.faultpoints import faultpoint
from common.ids import new_id
from common.intake import BatchLimits, Intake, Partly, whole_message
from common.metrics import counter
from common.topics import INGEST_RECORDS
from ingest import dataset_table
from ingest.dead_letter_budget import DeadLetterBudget
from ingest.erased import Erasures
from ingest.manifest import Manifest
from ingest.record_batch import RecordBatch, RecordBlock, read_batch
from ingest.record_counts import RecordCounts
from ingest.record_erasures import erasures_since
from ingest.settings import Settings

Bury = Callable[[ConsumerRecord, str], Awaitable[None]]

_rows = counter("bigdata_record_rows_total", "Messages of the records topic, by what became of them", "outcome")


class RecordLoader:
    def __init__(
        self, manifest: Manifest, clickhouse: AsyncClient, datasets: Datasets, bury: Bury, settings: Settings
    ) -> None:
        self._manifest, self._clickhouse, self._datasets = manifest, clickhouse, datasets
        self._counts = RecordCounts(manifest)
        self._bury, self._settings = bury, settings
        self._reading, self._loading = asyncio.Lock(), asyncio.Lock()
        self._budget = DeadLetterBudget(
            INGEST_RECORDS.name,
            count_max=settings.dead_letters_max,
            share_max=settings.dead_letters_share_max,
        )

    async def take(self, messages: Sequence[ConsumerRecord]) -> None:
        """When it returns, every message is a row or a dead letter, or of somebody who was erased since it was sent.

        One batch is read while the one before it is loaded. Raises Transient: all again later.
        """
        self._refuse_if_spent()
        faultpoint("records.fetched")
        async with AsyncExitStack() as held:
            oldest_ms = min(message.timestamp for message in messages)
            erasures = await held.enter_async_context(erasures_since(self._manifest, oldest_ms))
            async with self._reading:
                batch = await asyncio.to_thread(self._read, messages, erasures)
                # Before reading is free for the next batch: so they are loaded in their order.
                await held.enter_async_context(self._loading)
            # Again: the batch before may have spent it meanwhile.
            self._refuse_if_spent()
            taken = self._budget.affords(len(messages), list(batch.poison))
            if taken < len(messages):
                batch = self._read(messages[:taken], erasures)
            await self._load(messages[:taken], batch)
            if taken < len(messages):
                self._budget.stop()
                raise Partly(taken, self._spent())

    async def ask(self) -> None:
        """For /readyz: whether records are consumed."""
        self._refuse_if_spent()

    async def _load(self, messages: Sequence[ConsumerRecord], batch: RecordBatch) -> None:
        poison = dict(batch.poison)
        faultpoint("records.parsed")
        for block in batch.blocks:
            poison |= await self._insert(block)
        faultpoint("records.inserted")
        if messages:
            await self._counts.add(messages, _loaded(batch.blocks, poison), batch.erased)
        faultpoint("records.counted")
        # After the rows: a batch that is tried again because of ClickHouse repeats no dead letter.
        await asyncio.gather(*(self._bury(messages[place], reason) for place, reason in poison.items()))
        faultpoint("records.buried")
        self._budget.book(len(messages), len(poison))
        _rows.labels("accepted").inc(len(messages) - len(poison) - len(batch.erased))
        _rows.labels("dead").inc(len(poison))
        _rows.labels("erased").inc(len(batch.erased))

    async def _insert(self, block: RecordBlock) -> dict[int, str]:
        """One row that ClickHouse refuses must not take its block along: halves are tried until it stands alone."""
        try:
            await dataset_table.load(self._clickhouse, block.dataset, block.encoded, f"records:{new_id()}")
        except Permanent as exc:
            count = len(block.rows)
            if count == 1:
                return {block.places[0]: str(exc)}
            middle = count // 2
            first = await self._insert(block.half(slice(None, middle)))
            return first | await self._insert(block.half(slice(middle, None)))
        return {}

    def _read(self, messages: Sequence[ConsumerRecord], erasures: Mapping[str, Erasures]) -> RecordBatch:
        limits = self._settings
        batch = read_batch(
            messages,
            self._datasets,
            rows_max=limits.records_rows_max,
            bytes_max=limits.records_bytes_max,
            erasures=erasures,
        )
        # Now, while the batch before is loaded, and not when its turn has come.
        batch.encode()
        return batch

    def _refuse_if_spent(self) -> None:
        if self._budget.spent:
            raise Transient(self._spent())

    def _spent(self) -> str:
        return (
            f"more than {self._settings.dead_letters_max} dead letters, and more than "
            f"{self._settings.dead_letters_share_max:.0%} of the records: stopped until this worker is restarted"
        )


def subscribe(broker: KafkaBroker, intake: Intake, settings: Settings) -> BatchSubscriber:
    subscriber: BatchSubscriber = broker.subscriber(
        INGEST_RECORDS.name,
        group_id=settings.records_group,
        group_instance_id=settings.kafka_instance_id,
        batch=True,
        max_records=settings.records_rows_max,
        batch_timeout_ms=int(settings.records_wait_s * 1000),
        auto_offset_reset="earliest",
        max_poll_interval_ms=settings.poll_interval_max_s * 1000,
        parser=_unparsed,
        decoder=whole_message,
    )
    subscriber(intake.take)
    return subscriber


def batch_limits(settings: Settings) -> BatchLimits:
    return BatchLimits(settings.records_rows_max, settings.records_bytes_max, settings.records_wait_s)


async def _unparsed(
    messages: tuple[ConsumerRecord, ...], original: Callable[[tuple[ConsumerRecord, ...]], Awaitable[KafkaMessage]]
) -> KafkaMessage:
    """FastStream's parser decodes the headers of every message: slow, and it raises at those that are not text."""
    message = await original((replace(messages[0], headers=(), value=b""),))
    message.raw_message = messages
    return message


def _loaded(blocks: Sequence[RecordBlock], poison: Collection[int]) -> dict[str, list[int]]:
    loaded: dict[str, list[int]] = {}
    for block in blocks:
        places = [place for place in block.places if place not in poison] if poison else block.places
        loaded.setdefault(block.dataset.name, []).extend(places)
    return loaded
