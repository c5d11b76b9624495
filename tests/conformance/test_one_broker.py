"""One broker, killed and restarted: what it acknowledged is there, and everybody goes on."""

import asyncio
from collections import Counter
from uuid import UUID

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from common.ids import new_id
from common.topics import INGEST_DEAD
from devstack.kafka import brokers
from devstack.stack import Stack
from support import uploads
from support.client import Answered, create_user, open_client
from support.polling import until
from support.stack import environment
from support.topic_contents import values_of

# Java takes its time to start, ten times over.
pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.brokers("apache")]
WORKER = "ingest-worker"
RESTARTS = 10


async def acknowledged(stack: Stack, count: int) -> list[bytes]:
    """Records that the broker said it has, of which nobody reads the topic."""
    producer = AIOKafkaProducer(bootstrap_servers=brokers(stack.site), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        values = [f"{new_id()}".encode() for _ in range(count)]
        sends = [await producer.send(INGEST_DEAD.name, value, partition=0) for value in values]
        await asyncio.wait_for(asyncio.gather(*sends), 60)
    finally:
        await producer.stop()
    return values


async def test_a_killed_broker_has_every_record_that_it_acknowledged(stack: Stack) -> None:
    """26."""
    values = await acknowledged(stack, 2000)
    await stack.kill("kafka")
    await stack.start("kafka")
    found = Counter(record.value for record in await values_of(stack, INGEST_DEAD))
    assert {found[value] for value in values} == {1}


async def test_uploads_accepted_before_the_broker_dies_are_loaded_once(stack: Stack, admin: httpx.AsyncClient) -> None:
    """25, 26: 202 means durable, whatever happens to the broker."""
    accepted: list[UUID] = []
    for _ in range(5):
        rows = "".join(f"{new_id()}@example.com,Delhi\n" for _ in range(50))
        answer = await admin.post("/v1/uploads?dataset=people", content=f"email,city\n{rows}".encode())
        assert answer.status_code == 202, answer.text
        accepted.append(UUID(answer.json()["upload_id"]))
    await stack.kill("kafka")
    await stack.start("kafka")
    for upload_id in accepted:
        assert (await uploads.ended(stack, upload_id, deadline_s=120))["state"] == "completed"
        assert uploads.counts(stack, "people", upload_id)[0] == 50


async def test_requests_answered_while_the_broker_is_away_are_in_the_log_once(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    """25, 37: I4 is checked after the test, for every one of them."""
    user = await create_user(admin, f"away-{new_id()}", credits=100, plan="unlimited")
    await stack.kill("kafka")
    async with open_client(stack, user["api_key"], answered) as client:
        for number in range(20):
            assert (await client.post("/v1/query", json={"limit": 1, "offset": number})).status_code == 200
    await stack.start("kafka")


async def test_workers_go_on_after_ten_restarts_of_the_broker_or_say_that_they_are_stuck(
    stack: Stack, admin: httpx.AsyncClient
) -> None:
    """38: a file is loaded within the time after which liveness fails, or liveness fails and a restart mends it."""
    async with environment(stack, WORKER, {"STALLED_S": "30"}):
        for number in range(RESTARTS):
            await (stack.kill("kafka") if number % 2 else stack.stop("kafka"))
            await stack.start("kafka")
        answer = await admin.post(
            "/v1/uploads?dataset=people", content=f"email,city\n{new_id()}@example.com,{new_id()}\n".encode()
        )
        assert answer.status_code == 202, answer.text
        upload_id = UUID(answer.json()["upload_id"])

        async def loaded_or_stuck() -> bool:
            status = await uploads.status(stack, upload_id)
            if status is not None and status["state"] == "completed":
                return True
            async with httpx.AsyncClient(timeout=10) as http:
                return not (await http.get(f"{stack.ops_url(WORKER)}/healthz")).is_success

        await until("progress, or liveness to fail", loaded_or_stuck, deadline_s=60, every_s=1)
    assert (await uploads.ended(stack, upload_id, deadline_s=60))["state"] == "completed"
