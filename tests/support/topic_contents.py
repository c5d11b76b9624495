"""What a topic holds, as whoever reads it from the start to its end of this moment sees it."""

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from common.topics import Topic
from devstack.stack import Stack


async def values_of(stack: Stack, topic: Topic) -> list[ConsumerRecord]:
    """Every record of a topic so far."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.status().to_json()["kafka"], auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        await consumer.seek_to_beginning(*places)
        found: list[ConsumerRecord] = []
        while len(found) < sum(ends.values()):
            found += [one for batch in (await consumer.getmany(timeout_ms=200)).values() for one in batch]
        return found
    finally:
        await consumer.stop()
