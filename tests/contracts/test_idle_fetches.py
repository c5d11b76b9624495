"""The local broker does not wait for data; an idle consumer must not keep a core busy with asking."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.consumer import Fetcher

from common.idle_fetches import PacedFetcher
from common.topics import AUDIT_DEAD
from devstack.stack import Stack


async def _fetches_in_a_second(servers: Stack, fetcher: type[Any], monkeypatch: Any) -> int:
    monkeypatch.setattr("aiokafka.consumer.consumer.Fetcher", fetcher)
    consumer = AIOKafkaConsumer(
        AUDIT_DEAD.name, bootstrap_servers=str(servers.status().kafka), enable_auto_commit=False
    )
    await consumer.start()
    fetches = 0
    send = consumer._client.send

    async def counting(node: Any, request: Any, **options: Any) -> Any:
        nonlocal fetches
        fetches += type(request).__name__.startswith("Fetch")
        return await send(node, request, **options)

    monkeypatch.setattr(consumer._client, "send", counting)
    await asyncio.sleep(1)  # the measured second itself
    await consumer.stop()
    return fetches


async def test_a_paced_consumer_asks_an_idle_broker_at_the_pace_it_was_given(servers: Stack, monkeypatch: Any) -> None:
    monkeypatch.setattr(PacedFetcher, "idle_pause_s", 0.1)
    unpaced = await _fetches_in_a_second(servers, Fetcher, monkeypatch)
    paced = await _fetches_in_a_second(servers, PacedFetcher, monkeypatch)
    assert paced <= 11
    assert unpaced > 2 * paced, "the broker waits for data now: kafka_idle_pause_s is no longer needed"
