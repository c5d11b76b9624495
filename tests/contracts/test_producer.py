"""The producer of every service on a real broker: what one batch suffers, the next does not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import OutOfOrderSequenceNumber

from audit.settings import Settings
from common.ids import new_id
from common.kafka import open_producer
from common.topics import AUDIT_DEAD
from devstack.stack import Stack
from support.topic_contents import values_of

Send: TypeAlias = Callable[[AIOKafkaProducer, bytes], Awaitable[None]]
PLACE = TopicPartition(AUDIT_DEAD.name, 0)


@pytest_asyncio.fixture
async def producer(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AIOKafkaProducer]:
    for name, value in servers.environment("audit-logger").items():
        monkeypatch.setenv(name, value)
    async with open_producer(Settings()) as opened:
        yield opened


async def alone(producer: AIOKafkaProducer, value: bytes) -> None:
    await producer.send_and_wait(PLACE.topic, value, partition=PLACE.partition)


async def in_batch(producer: AIOKafkaProducer, value: bytes) -> None:
    batch = producer.create_batch()
    batch.append(key=None, value=value, timestamp=None)
    await (await producer.send_batch(batch, PLACE.topic, partition=PLACE.partition))


@pytest.mark.parametrize("send", [alone, in_batch])
async def test_behind_a_batch_that_the_broker_refused_others_are_taken(
    servers: Stack, producer: AIOKafkaProducer, send: Send
) -> None:
    """As after a broker that forgot its producers, or a batch it could not take: numbers with a hole."""
    values = [f"{new_id()}".encode() for _ in range(4)]
    await send(producer, values[0])
    producer._txn_manager.increment_sequence_number(PLACE, 5)
    with pytest.raises(OutOfOrderSequenceNumber):
        await send(producer, values[1])
    for value in values[2:]:
        await send(producer, value)
    found = [record.value for record in await values_of(servers, AUDIT_DEAD)]
    counted = [found.count(value) for value in values]
    assert counted == [1, 0, 1, 1]
