"""Three brokers, one of which dies: nothing acknowledged is lost, and those that are left go on."""

import asyncio
from uuid import UUID

import httpx
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from common.ids import new_id
from common.topics import INGEST_DEAD
from devstack.kafka import brokers
from devstack.stack import Stack
from support import uploads
from support.polling import until
from support.topic_contents import values_of

# Java takes its time to start, ten times over.
pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.brokers("apache3")]
PLACE = TopicPartition(INGEST_DEAD.name, 0)
COUNT = 3000


async def leader_of(producer: AIOKafkaProducer) -> str:
    """The name of the part that leads the partition."""
    await producer.client.force_metadata_update()
    number = producer.client.cluster.leader_for_partition(PLACE)
    return "kafka" if number == 1 else f"kafka-{number}"


async def test_the_leader_dies_while_records_are_acknowledged_and_none_is_lost(stack: Stack) -> None:
    """26: acks=all and min.insync.replicas=2."""
    producer = AIOKafkaProducer(
        bootstrap_servers=brokers(stack.site), acks="all", enable_idempotence=True, request_timeout_ms=60_000
    )
    await producer.start()
    values = [f"{new_id()}".encode() for _ in range(COUNT)]
    try:
        leader = await leader_of(producer)
        sends = []
        for number, value in enumerate(values):
            sends.append(await producer.send(PLACE.topic, value, partition=PLACE.partition))
            if number == COUNT // 2:
                await sends[-1]
                await stack.kill(leader)
        await asyncio.wait_for(asyncio.gather(*sends), 120)
        assert await leader_of(producer) != leader
    finally:
        await producer.stop()
    wanted = set(values)

    async def all_of_them() -> bool:
        """A new leader shows what it has once the others have told it how far they are."""
        found = await values_of(stack, INGEST_DEAD)
        return len([record for record in found if record.value in wanted]) == COUNT

    await until("every acknowledged record, once", all_of_them, deadline_s=60, every_s=1)
    await stack.start(leader)


@pytest.mark.parametrize("name", ["kafka", "kafka-2", "kafka-3"])
async def test_files_are_accepted_and_loaded_while_one_broker_is_dead(
    stack: Stack, admin: httpx.AsyncClient, name: str
) -> None:
    await stack.kill(name)
    try:
        upload_id = await accepted(admin)
        assert (await uploads.ended(stack, upload_id, deadline_s=120))["state"] == "completed"
        assert uploads.counts(stack, "people", upload_id)[0] == 50
    finally:
        await stack.start(name)


async def accepted(admin: httpx.AsyncClient) -> UUID:
    """As clients do: 503 says to come back, until another broker leads."""
    rows = "".join(f"{new_id()}@example.com,Delhi\n" for _ in range(50))

    async def sent() -> str | None:
        answer = await admin.post("/v1/uploads?dataset=people", content=f"email,city\n{rows}".encode())
        assert answer.status_code in (202, 503), answer.text
        document = answer.json()
        return str(document["duplicate_of"] or document["upload_id"]) if answer.status_code == 202 else None

    return UUID(await until("the file to be accepted", sent, deadline_s=60, every_s=1))
