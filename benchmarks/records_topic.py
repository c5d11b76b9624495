"""I4: messages of the records topic into the dataset, against a bare aiokafka consumer that only reads them.

The messages wait in Kafka while the worker is down; measured is from the first batch that is durable to the last. What
the first batch held is not counted.
"""

import asyncio
import os
import time

import asyncpg
import clickhouse_connect
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.report import Figure
from common.ids import new_id
from common.kafka import open_producer
from common.topics import INGEST_RECORDS
from devstack.stack import Stack
from ingest.settings import Settings

RECORDS = int(os.environ.get("BENCH_RECORDS", "1000000"))
_ROUNDS = 2  # baseline and ours alternate, so that a noisy minute hits both
_DEADLINE_S = 600
_SENT_AT_ONCE = 100
_DURABLE = "SELECT coalesce(sum(next_offset), 0)::bigint FROM ingest.record_progress WHERE topic = $1"
_SHOWN = "SELECT count() FROM bigdata.people FINAL WHERE source = {source:String}"


async def run(stack: Stack) -> list[Figure]:
    connection = await asyncpg.connect(str(stack.status().postgres))
    try:
        read, loaded = [], []
        for _ in range(_ROUNDS):
            await stack.stop("ingest-worker")
            source = f"bench-{new_id()}"
            before = await _publish(stack, source)
            read.append(await _read_by_a_bare_consumer(stack, before))
            loaded.append(await _loaded_by_the_worker(connection, stack))
            assert _shown(stack, source) == RECORDS
    finally:
        await connection.close()
    ours, baseline = max(loaded), max(read)
    return [
        Figure("I4", f"{RECORDS:,} records from Kafka into people", "rows/s", ours, baseline,
               "≥ 40 %", ours >= 0.4 * baseline),
    ]  # fmt: skip


def _places() -> list[TopicPartition]:
    return [TopicPartition(INGEST_RECORDS.name, number) for number in range(INGEST_RECORDS.partitions)]


async def _publish(stack: Stack, source: str) -> dict[TopicPartition, int]:
    """As a producer with some volume sends them: batches per partition. Returns where each partition began."""
    environment = {name.lower(): value for name, value in stack.environment("ingest-worker").items()}
    async with open_producer(Settings.model_validate(environment)) as producer:
        consumer = AIOKafkaConsumer(bootstrap_servers=stack.status().kafka)
        await consumer.start()
        began: dict[TopicPartition, int] = await consumer.end_offsets(_places())
        await consumer.stop()
        batches = {place.partition: producer.create_batch() for place in _places()}
        headers = [("dataset", b"people")]
        sending: list[asyncio.Future[object]] = []
        for number in range(RECORDS):
            person = {
                "email": f"{number}.{source}@example.com",
                "phone": f"+1212555{number % 10_000:04}",
                "first_name": f"First{number % 1000}",
                "last_name": f"Last{number % 5000}",
                "city": f"City {number % 300}",
                "country": "US",
                "source": source,
                "source_id": str(number),
            }
            record = {"key": None, "value": orjson.dumps(person), "timestamp": None, "headers": headers}
            part = number % len(batches)
            if batches[part].append(**record) is None:
                sending.append(await producer.send_batch(batches[part], INGEST_RECORDS.name, partition=part))
                batches[part] = producer.create_batch()
                batches[part].append(**record)
            if len(sending) >= _SENT_AT_ONCE:
                await asyncio.gather(*sending)
                sending = []
        for part, batch in batches.items():
            sending.append(await producer.send_batch(batch, INGEST_RECORDS.name, partition=part))
        await asyncio.gather(*sending)
        return began


async def _read_by_a_bare_consumer(stack: Stack, began: dict[TopicPartition, int]) -> float:
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.status().kafka)
    await consumer.start()
    try:
        consumer.assign(_places())
        for place, offset in began.items():
            consumer.seek(place, offset)
        count, start = 0, time.perf_counter()
        while count < RECORDS:
            assert time.perf_counter() - start < _DEADLINE_S
            count += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
        return count / (time.perf_counter() - start)
    finally:
        await consumer.stop()


async def _loaded_by_the_worker(connection: "asyncpg.Connection[asyncpg.Record]", stack: Stack) -> float:
    before = await connection.fetchval(_DURABLE, INGEST_RECORDS.name)
    starting = asyncio.create_task(stack.start("ingest-worker"))
    first_at, first = 0.0, 0
    deadline = time.perf_counter() + _DEADLINE_S
    while True:
        now, done = time.perf_counter(), await connection.fetchval(_DURABLE, INGEST_RECORDS.name) - before
        assert now < deadline, f"{done} of {RECORDS} records after {_DEADLINE_S} s"
        if not first and done:
            first_at, first = now, done
        if done >= RECORDS:
            break
        await asyncio.sleep(0.02)
    await starting
    assert now > first_at, "one batch held them all: measure more records"
    return float((done - first) / (now - first_at))


def _shown(stack: Stack, source: str) -> int:
    environment = stack.environment("ingest-worker")
    client = clickhouse_connect.get_client(
        host=environment["CLICKHOUSE_HOST"],
        port=int(environment["CLICKHOUSE_PORT"]),
        username=environment["CLICKHOUSE_USER"],
        password=environment["CLICKHOUSE_PASSWORD"],
    )
    try:
        return int(client.query(_SHOWN, parameters={"source": source}).result_rows[0][0])
    finally:
        client.close()
