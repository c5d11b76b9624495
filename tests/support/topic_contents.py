"""What a topic holds, as whoever reads it from the start to its end of this moment sees it."""

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from common.topics import Topic
from devstack.stack import Stack

_READ_S = 60.0


async def values_of(stack: Stack, topic: Topic) -> list[ConsumerRecord]:
    """Every record of a topic so far."""
    # The library's own reset, to the end unless told otherwise, can overtake a seek to the beginning.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stack.status().to_json()["kafka"], auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(_READ_S):
            # By position: retention takes records from the beginning, so their number says nothing.
            while [place for place in places if await consumer.position(place) < ends[place]]:
                found += [one for batch in (await consumer.getmany(timeout_ms=200)).values() for one in batch]
        return [one for one in found if one.offset < ends[TopicPartition(one.topic, one.partition)]]
    finally:
        await consumer.stop()
