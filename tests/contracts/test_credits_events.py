"""From the outbox to Kafka: every event at least once, in each user's order, with the same id when it is repeated."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import TypeAdapter

from common.events import CreditsCaptured, CreditsExhausted, CreditsGranted, CreditsRefunded, LowBalance
from common.kafka import open_producer
from common.topics import CREDITS_EVENTS
from credits.outbox import empty_outbox, relay_outbox
from devstack.kafka import brokers
from devstack.stack import Stack
from support.ledger import Books, capture, grant, migrated, open_books, refund, reserve, set_balance
from support.polling import until

_EVENT: TypeAdapter[CreditsGranted | CreditsCaptured | CreditsRefunded | LowBalance | CreditsExhausted] = TypeAdapter(
    CreditsGranted | CreditsCaptured | CreditsRefunded | LowBalance | CreditsExhausted
)
Event = CreditsGranted | CreditsCaptured | CreditsRefunded | LowBalance | CreditsExhausted


@pytest_asyncio.fixture(scope="module")
async def books(servers: Stack) -> AsyncIterator[Books]:
    await migrated(servers)
    async with open_books(servers, kafka_brokers=brokers(servers.site)) as books:
        yield books


@pytest_asyncio.fixture(scope="module")
async def producer(books: Books) -> AsyncIterator[AIOKafkaProducer]:
    async with open_producer(books.settings) as producer:
        yield producer


async def published(books: Books, user: UUID, at_least: int) -> list[Event]:
    """Every event of the user in the topic, in its order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=books.settings.kafka_brokers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = [TopicPartition(CREDITS_EVENTS.name, no) for no in range(CREDITS_EVENTS.partitions)]
        consumer.assign(places)
        found: list[Event] = []

        async def enough() -> bool:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found.extend(_EVENT.validate_json(one.value) for one in records if one.key == str(user).encode())
            return len(found) >= at_least

        await until(f"{at_least} events of {user}", enough)
        return found
    finally:
        await consumer.stop()


async def test_what_happens_to_a_balance_is_told_in_order(books: Books, producer: AIOKafkaProducer) -> None:
    user = await books.account(10, low_balance_mc=6)
    hold = (await books.one(reserve(user, 8)))["hold_id"]
    await books.one(capture(hold, 6))
    await books.one(refund(hold, 1))
    await books.one(set_balance(user, 0))
    await empty_outbox(books.pool, producer, 500)
    events = await published(books, user, 6)
    assert [type(event) for event in events] == [
        CreditsGranted, CreditsCaptured, LowBalance, CreditsRefunded, CreditsGranted, CreditsExhausted
    ]  # fmt: skip
    told = events[1]
    assert isinstance(told, CreditsCaptured)
    assert (str(told.hold_id), told.amount_mc, told.posted_mc, told.available_mc) == (hold, -6, 4, 4)
    assert await books.count("outbox", user) == 0


async def test_a_low_balance_is_told_once_per_crossing(books: Books, producer: AIOKafkaProducer) -> None:
    user = await books.account(10, low_balance_mc=5)
    for amount in (4, 3, 9, 2, 1):
        await books.one(set_balance(user, amount))
    await empty_outbox(books.pool, producer, 500)
    events = await published(books, user, 8)
    assert [event.posted_mc for event in events if isinstance(event, LowBalance)] == [4, 2]


async def test_a_relay_that_dies_before_it_notes_what_it_sent_sends_the_same_events_again(
    books: Books, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await books.account(1)
    with monkeypatch.context() as dying:
        dying.setattr("credits.outbox._SENT", "SELECT 1/0, $1::bigint[]")
        with pytest.raises(Exception, match="division by zero"):
            await empty_outbox(books.pool, producer, 500)
    await empty_outbox(books.pool, producer, 500)
    first, again = await published(books, user, 2)
    assert first == again


async def test_several_relays_keep_each_users_order(books: Books, producer: AIOKafkaProducer) -> None:
    users = [await books.account(0) for _ in range(3)]
    for amount in range(1, 21):
        await books.batch(*(grant(user, amount) for user in users))

    async def relay() -> None:
        while await books.rows_of_table("outbox"):
            await empty_outbox(books.pool, producer, 7)

    await asyncio.gather(*(relay() for _ in range(3)))
    for user in users:
        events = await published(books, user, 20)
        assert [event.amount_mc for event in events if isinstance(event, CreditsGranted)] == list(range(1, 21))


async def test_events_wait_while_kafka_is_away(servers: Stack, books: Books) -> None:
    async with open_books(servers) as alone:  # its brokers are nowhere
        user = await alone.account(7)
        with pytest.raises(Exception, match="Unable to bootstrap"):
            await relay_outbox(alone.pool, alone.settings)
        assert await alone.count("outbox", user) == 1
    relaying = asyncio.create_task(relay_outbox(books.pool, books.settings))
    try:
        assert len(await published(books, user, 1)) == 1
    finally:
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)
