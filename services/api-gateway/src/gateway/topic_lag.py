"""GET /v1/admin/topics: how much waits in each topic, for whom, and how many dead letters there are."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from common import topics
from common.errors import Unavailable
from common.kafka import client_security
from gateway.answers import page
from gateway.api_keys import Caller, caller_with
from gateway.roles import ADMIN_READERS
from gateway.settings import Settings
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/admin", tags=["admin"])
_ANSWERED_S = 10.0
_DEAD = frozenset(topic.name for topic in topics.DEAD)
Ends = Mapping[TopicPartition, int]


class GroupLag(BaseModel):
    group: str
    lag: int = Field(description="messages that are there and not yet handled")


class TopicState(BaseModel):
    topic: str
    dead_letters: bool = Field(description="what no retry could help goes here; it should stay empty")
    messages: int = Field(description="kept now, handled or not")
    groups: list[GroupLag]


@router.get("/topics", response_model=list[TopicState])
async def topic_states(
    _: Annotated[Caller, Depends(caller_with("read", roles=ADMIN_READERS))],
    gateway: Annotated[Gateway, Depends(gateway_of)],
) -> Response:
    """Asked of the broker at this moment; a topic that is not there yet is empty."""
    try:
        async with asyncio.timeout(_ANSWERED_S), _clients(gateway.settings) as (admin, consumer):
            return page(await _states(admin, consumer))
    except (KafkaError, TimeoutError, OSError) as exc:
        raise Unavailable("Kafka is not available, try again shortly") from exc


@asynccontextmanager
async def _clients(settings: Settings) -> AsyncIterator[tuple[AIOKafkaAdminClient, AIOKafkaConsumer]]:
    """Connections for one question: it is asked rarely, and none is kept for it."""
    options: dict[str, Any] = {"bootstrap_servers": settings.kafka_brokers, **client_security(settings)}
    admin, consumer = AIOKafkaAdminClient(**options), AIOKafkaConsumer(**options, enable_auto_commit=False)
    try:
        await asyncio.gather(admin.start(), consumer.start())
        yield admin, consumer
    finally:
        await asyncio.gather(admin.close(), consumer.stop(), return_exceptions=True)


async def _states(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> list[dict[str, Any]]:
    known = await _places(admin)
    every = [place for places in known.values() for place in places]
    begins, ends = await asyncio.gather(consumer.beginning_offsets(every), consumer.end_offsets(every))
    groups = [group for group, *_ in await admin.list_consumer_groups()]
    handled = await asyncio.gather(*map(admin.list_consumer_group_offsets, groups))
    return [
        {
            "topic": topic.name,
            "dead_letters": topic.name in _DEAD,
            "messages": sum(ends[place] - begins[place] for place in known.get(topic.name, ())),
            "groups": [
                {"group": group, "lag": _lag(known[topic.name], begins, ends, done)}
                for group, done in sorted(zip(groups, handled, strict=True), key=lambda one: one[0])
                if topic.name in known and any(place in done for place in known[topic.name])
            ],
        }
        for topic in topics.ALL
    ]


async def _places(admin: AIOKafkaAdminClient) -> dict[str, list[TopicPartition]]:
    """Asked by name: of a consumer that subscribed to nothing Apache Kafka tells no partitions."""
    there = set(await admin.list_topics())
    described = await admin.describe_topics([topic.name for topic in topics.ALL if topic.name in there])
    return {
        one["topic"]: sorted(TopicPartition(one["topic"], part["partition"]) for part in one["partitions"])
        for one in described
    }


def _lag(places: list[TopicPartition], begins: Ends, ends: Ends, done: Mapping[TopicPartition, Any]) -> int:
    """A partition of which nothing was committed waits from its beginning."""
    return sum(max(0, ends[place] - max(begins[place], done[place].offset if place in done else 0)) for place in places)
