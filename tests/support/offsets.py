"""How far every group of consumers is, and how far what it did is durable: invariant I5, and the lag of I8."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import ValidationError

from common.events import ChunkPlanned
from common.topics import AUDIT_REQUESTS, INGEST_CHUNKS, INGEST_COMMANDS, INGEST_RECORDS, INGEST_UPLOADS, Topic
from devstack.stack import Stack
from support.topic_contents import values_of

READERS: Mapping[str, Topic] = {
    "ingest-planner": INGEST_UPLOADS,
    "ingest-loader": INGEST_CHUNKS,
    "ingest-records": INGEST_RECORDS,
    "ingest-commands": INGEST_COMMANDS,
    "audit-logger": AUDIT_REQUESTS,
}
# Who writes its place into the same transaction as its effect. What the others do is in the manifest, upload by upload.
_DURABLE = {
    "ingest-records": "SELECT partition, next_offset FROM ingest.record_progress WHERE topic = $1",
    "audit-logger": "SELECT partition, next_offset FROM audit.consumer_offsets WHERE topic = $1",
}
# Announced, not done, and nobody is about to announce them again.
_UNFINISHED = """
    SELECT upload_id, generation, chunk_no FROM ingest.chunks c JOIN ingest.uploads u USING (upload_id, generation)
     WHERE u.state = 'loading' AND c.state = 'planned' AND c.published_at IS NOT NULL
"""
Offsets = Mapping[TopicPartition, int]


async def committed_past_effect(stack: Stack, groups: Iterable[str] = _DURABLE) -> dict[TopicPartition, str]:
    """I5: partitions whose committed offset is past the last durable effect, and both. Empty is well."""
    ahead: dict[TopicPartition, str] = {}
    for group in groups:
        # In this order: an effect that becomes durable in between accuses nobody.
        done, durable = await committed(stack, group), await _durable(stack, group)
        ahead |= {
            place: f"{offset} committed, {durable.get(place, 0)} durable"
            for place, offset in done.items()
            if offset > durable.get(place, 0)
        }
    return ahead


async def chunks_given_up(stack: Stack) -> list[ChunkPlanned]:
    """I5 of chunks: all of their announcements are committed, and they are not done. Ask while nobody loads."""
    done = await committed(stack, "ingest-loader")
    announced: dict[tuple[UUID, int, int], list[bool]] = defaultdict(list)
    for record in await values_of(stack, INGEST_CHUNKS):
        with suppress(ValidationError):  # poison of a test
            event = ChunkPlanned.model_validate_json(record.value)
            place = TopicPartition(record.topic, record.partition)
            announced[_identity(event)].append(record.offset < done.get(place, 0))
    async with _postgres(stack) as connection:
        unfinished = {tuple(row) for row in await connection.fetch(_UNFINISHED)}
    return [
        ChunkPlanned(upload_id=chunk[0], generation=chunk[1], chunk_no=chunk[2])
        for chunk, are_committed in announced.items()
        if all(are_committed) and chunk in unfinished
    ]


def _identity(event: ChunkPlanned) -> tuple[UUID, int, int]:
    return event.upload_id, event.generation, event.chunk_no


async def committed(stack: Stack, group: str) -> Offsets:
    """Of the group's own topic; a partition of which nothing was committed is missing."""
    async with _admin(stack) as admin:
        found = await admin.list_consumer_group_offsets(group)
    mine = {place: state.offset for place, state in found.items() if place.topic == READERS[group].name}
    return {place: offset for place, offset in mine.items() if offset >= 0}


async def members(stack: Stack, group: str) -> int:
    """How many the broker believes to be in the group."""
    async with _admin(stack) as admin:
        (answer,) = await admin.describe_consumer_groups([group])
    ((_, _, _, _, _, found, *_),) = answer.groups
    return len(found)


async def ends(stack: Stack, *topics: Topic) -> Offsets:
    """The end of each partition, at this moment."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.status().kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
        found: Offsets = await consumer.end_offsets(places)
        return found
    finally:
        await consumer.stop()


async def waiting(stack: Stack, until: Offsets) -> int:
    """Records before these offsets that their group has not committed."""
    lag = 0
    for group, topic in READERS.items():
        done = await committed(stack, group)
        lag += sum(max(0, end - done.get(place, 0)) for place, end in until.items() if place.topic == topic.name)
    return lag


async def _durable(stack: Stack, group: str) -> Offsets:
    topic = READERS[group].name
    async with _postgres(stack) as connection:
        rows = await connection.fetch(_DURABLE[group], topic)
    return {TopicPartition(topic, row["partition"]): row["next_offset"] for row in rows}


@asynccontextmanager
async def _postgres(stack: Stack) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(str(stack.status().postgres), timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def _admin(stack: Stack) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.status().kafka)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
