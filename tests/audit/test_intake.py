import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError
from faststream.kafka.message import KafkaAckableMessage

from audit.settings import Settings
from common.errors import Transient
from common.intake import BatchLimits, Intake, Partly
from common.progress import Progress
from support.audit_events import StoppedClock, finished, records_of
from support.polling import eventually

SETTINGS = Settings.model_validate(
    {"postgres_url": "postgresql://nowhere", "kafka_brokers": "nowhere:1", "retry_first_s": 0.001, "retry_max_s": 0.004}
)
PLACE = TopicPartition("audit.requests.v1", 0)
TWO_AT_ONCE = BatchLimits(rows_max=2, bytes_max=1 << 20, wait_s=0.02)


class Consumer:
    """Has one partition, remembers what was committed and where it was sent back to, and hands out what waits."""

    def __init__(self, *waiting: list[ConsumerRecord]) -> None:
        self.commits: list[dict[TopicPartition, int]] = []
        self.positions: dict[TopicPartition, int] = {}
        self.commit_error: Exception | None = None
        self.waiting = list(waiting)
        self.fetched = 0

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        assert partition in self.assignment()
        self.positions[partition] = offset

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        assert offsets.keys() <= self.assignment()
        if self.commit_error:
            raise self.commit_error
        self.commits.append(offsets)

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        if not self.waiting:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        assert len(self.waiting[0]) <= max_records
        self.fetched += 1
        return {PLACE: self.waiting.pop(0)}


class Keeper:
    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)

    async def keep(self, _: Sequence[ConsumerRecord]) -> None:
        if (outcome := self.outcomes.pop(0)) is not None:
            raise outcome


class WhileFetching:
    """Is done with a full batch only when more has been fetched."""

    def __init__(self, consumer: Consumer, outcome: Exception | None = None) -> None:
        self.consumer, self.outcome = consumer, outcome
        self.batches: list[list[int]] = []

    async def keep(self, records: Sequence[ConsumerRecord]) -> None:
        self.batches.append([record.offset for record in records])
        taken = len(self.batches)
        if TWO_AT_ONCE.are_reached(records):
            await eventually(lambda: self.consumer.fetched >= taken)
        if self.outcome is not None:
            raise self.outcome


def message_of(records: list[Any], consumer: Consumer) -> KafkaAckableMessage:
    return KafkaAckableMessage(raw_message=tuple(records), body=b"", consumer=consumer)


def intake_on(keeper: Keeper | WhileFetching, limits: BatchLimits | None = None) -> Intake:
    return Intake(keeper.keep, Progress(StoppedClock(), 60), SETTINGS, limits=limits)


async def test_a_batch_that_is_kept_is_committed() -> None:
    consumer = Consumer()
    await intake_on(Keeper(None)).take(message_of(records_of([finished()]), consumer))
    assert consumer.commits == [{PLACE: 1}]
    assert consumer.positions == {}


@pytest.mark.parametrize("fault", [Transient("down"), RuntimeError("a bug")])
async def test_a_batch_that_fails_is_fetched_again_from_its_first_record(fault: Exception) -> None:
    consumer = Consumer()
    records = records_of([finished()] * 3, first=7)
    await intake_on(Keeper(fault)).take(message_of(records, consumer))
    assert consumer.commits == []
    assert consumer.positions == {PLACE: 7}


async def test_partitions_that_a_rebalance_took_away_do_not_stop_the_others_from_going_back() -> None:
    consumer = Consumer()
    records = [*records_of([finished()], partition=5), *records_of([finished()], partition=0, first=3)]
    await intake_on(Keeper(Transient("down"))).take(message_of(records, consumer))
    assert consumer.positions == {PLACE: 3}


async def test_pauses_double_to_their_limit_and_start_anew_after_success() -> None:
    intake = intake_on(Keeper(*[Transient("down")] * 4, None))
    pauses = []
    for _ in range(5):
        pauses.append(intake._pause_s)
        await intake.take(message_of(records_of([finished()]), Consumer()))
    assert pauses == [0.001, 0.002, 0.004, 0.004, 0.004]
    assert intake._pause_s == 0.001


async def test_a_commit_that_a_rebalance_refuses_is_no_fault() -> None:
    consumer = Consumer()
    consumer.commit_error = CommitFailedError("rebalanced")
    await intake_on(Keeper(None)).take(message_of(records_of([finished()]), consumer))
    assert consumer.positions == {}


def three_batches() -> tuple[list[ConsumerRecord], Consumer]:
    """Two full ones and the rest."""
    records = records_of([finished()] * 5)
    return records[:2], Consumer(records[2:4], records[4:])


async def test_behind_a_full_batch_the_next_is_fetched_meanwhile_and_each_is_committed_when_it_is_durable() -> None:
    first, consumer = three_batches()
    keeper = WhileFetching(consumer)
    await intake_on(keeper, TWO_AT_ONCE).take(message_of(first, consumer))
    assert keeper.batches == [[0, 1], [2, 3], [4]]
    assert consumer.commits == [{PLACE: 2}, {PLACE: 4}, {PLACE: 5}]


async def test_what_was_fetched_ahead_of_a_batch_that_fails_goes_back_with_it() -> None:
    first, consumer = three_batches()
    await intake_on(WhileFetching(consumer, Transient("down")), TWO_AT_ONCE).take(message_of(first, consumer))
    assert consumer.commits == []
    assert consumer.positions == {PLACE: 0}


async def test_of_a_batch_taken_in_part_only_that_part_is_committed() -> None:
    first, consumer = three_batches()
    await intake_on(WhileFetching(consumer, Partly(1, "full")), TWO_AT_ONCE).take(message_of(first, consumer))
    assert consumer.commits == [{PLACE: 1}]
    assert consumer.positions == {PLACE: 1}


async def test_an_intake_that_finishes_fetches_nothing_ahead() -> None:
    first, consumer = three_batches()
    intake = intake_on(Keeper(None), TWO_AT_ONCE)
    intake.finish()
    await intake.take(message_of(first, consumer))
    assert consumer.commits == [{PLACE: 2}]
    assert len(consumer.waiting) == 2


async def test_a_batch_behind_one_that_fails_is_not_committed_though_it_was_done() -> None:
    first, consumer = three_batches()
    kept: list[int] = []

    class FailsSlowly:
        async def keep(self, records: Sequence[ConsumerRecord]) -> None:
            if records[0].offset == 0:
                await eventually(lambda: kept)
                raise Transient("down")
            kept.append(records[0].offset)

    await Intake(FailsSlowly().keep, Progress(StoppedClock(), 60), SETTINGS, limits=TWO_AT_ONCE).take(
        message_of(first, consumer)
    )
    assert kept == [2]
    assert consumer.commits == []
    assert consumer.positions == {PLACE: 0}
