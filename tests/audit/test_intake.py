from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError
from faststream.kafka.message import KafkaAckableMessage

from audit.settings import Settings
from common.errors import Transient
from common.intake import Intake
from common.progress import Progress
from support.audit_events import StoppedClock, finished, records_of

SETTINGS = Settings.model_validate(
    {"postgres_url": "postgresql://nowhere", "kafka_brokers": "nowhere:1", "retry_first_s": 0.001, "retry_max_s": 0.004}
)
TOPIC = "audit.requests.v1"


class Consumer:
    """Has one partition; counts commits and remembers where it was sent back to."""

    def __init__(self) -> None:
        self.commits = 0
        self.positions: dict[TopicPartition, int] = {}
        self.commit_error: Exception | None = None

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(TOPIC, 0)}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        assert partition in self.assignment()
        self.positions[partition] = offset

    async def commit(self) -> None:
        if self.commit_error:
            raise self.commit_error
        self.commits += 1


class Keeper:
    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)

    async def keep(self, _: Sequence[ConsumerRecord]) -> None:
        if (outcome := self.outcomes.pop(0)) is not None:
            raise outcome


def message_of(records: list[Any], consumer: Consumer) -> KafkaAckableMessage:
    return KafkaAckableMessage(raw_message=tuple(records), body=b"", consumer=consumer)


def intake_on(keeper: Keeper) -> Intake:
    return Intake(keeper.keep, Progress(StoppedClock(), 60), SETTINGS)


async def test_a_batch_that_is_kept_is_committed() -> None:
    consumer = Consumer()
    await intake_on(Keeper(None)).take(message_of(records_of([finished()]), consumer))
    assert consumer.commits == 1
    assert consumer.positions == {}


@pytest.mark.parametrize("fault", [Transient("down"), RuntimeError("a bug")])
async def test_a_batch_that_fails_is_fetched_again_from_its_first_record(fault: Exception) -> None:
    consumer = Consumer()
    records = records_of([finished()] * 3, first=7)
    await intake_on(Keeper(fault)).take(message_of(records, consumer))
    assert consumer.commits == 0
    assert consumer.positions == {TopicPartition(TOPIC, 0): 7}


async def test_partitions_that_a_rebalance_took_away_do_not_stop_the_others_from_going_back() -> None:
    consumer = Consumer()
    records = [*records_of([finished()], partition=5), *records_of([finished()], partition=0, first=3)]
    await intake_on(Keeper(Transient("down"))).take(message_of(records, consumer))
    assert consumer.positions == {TopicPartition(TOPIC, 0): 3}


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
