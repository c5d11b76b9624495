"""A broker that is stopped in good order has afterwards what it acknowledged, to the last moment."""

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from common.ids import new_id
from common.topics import Topic
from devstack.stack import Stack
from support.polling import eventually
from support.topic_contents import values_of

TOPIC = Topic("test.broker-stop.v1", "none", 1, 86_400_000, None)


async def test_what_it_acknowledges_while_it_is_stopped_is_there_when_it_is_back(servers: Stack) -> None:
    bootstrap = servers.status().to_json()["kafka"]
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC.name, 1, 1)])
    await admin.close()
    acknowledged: set[bytes] = set()
    stopping = asyncio.Event()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", request_timeout_ms=3000)
    await producer.start()

    async def send() -> None:
        while not stopping.is_set():
            value = str(new_id()).encode()
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.send_and_wait(TOPIC.name, value), 5)
                acknowledged.add(value)

    senders = [asyncio.create_task(send()) for _ in range(8)]
    for _ in range(3):
        enough = len(acknowledged) + 100
        await eventually(lambda wanted=enough: len(acknowledged) >= wanted)  # type: ignore[misc]
        await servers.restart("kafka")
    stopping.set()
    await asyncio.gather(*senders)
    await producer.stop()
    assert acknowledged <= {one.value for one in await values_of(servers, TOPIC)}
