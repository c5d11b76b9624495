"""The outbox: events written in the ledger's transactions, published afterwards, at least once and in order.

One relay at a time, by an advisory lock of its connection: two of them could overtake each other within one user.
The others stand by and take over as soon as that connection is gone. A repeat has the same event_id.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaProducer

from common import events
from common.kafka import open_producer
from common.metrics import counter
from common.postgres import Connection, Pool, borrowed
from common.topics import CREDITS_EVENTS
from credits.settings import Settings

_PASS_S = 30.0
_KINDS: dict[str, type[events.CreditsEvent]] = {
    "granted": events.CreditsGranted,
    "captured": events.CreditsCaptured,
    "refunded": events.CreditsRefunded,
    "low_balance": events.LowBalance,
    "exhausted": events.CreditsExhausted,
}
_published = counter("bigdata_outbox_events_total", "Events published from the outbox", "kind")


async def relay_outbox(pool: Pool, settings: Settings) -> None:
    """Publish for ever; raises when Kafka or Postgres is away. Then the events stay where they are, and wait."""
    async with open_producer(settings) as producer:
        while True:
            await empty_outbox(pool, producer, settings.outbox_events_max)
            await asyncio.sleep(settings.outbox_pause_s)


# Session locks: they end with the connection, however the process ends.
_LEAD = "SELECT pg_try_advisory_lock(hashtext('credits.outbox'))"
_FOLLOW = "SELECT pg_advisory_unlock(hashtext('credits.outbox'))"


async def empty_outbox(pool: Pool, producer: AIOKafkaProducer, events_max: int) -> None:
    """One pass, unless another relay is at it."""
    async with borrowed(pool, _PASS_S) as connection:
        if not await connection.fetchval(_LEAD):
            return
        try:
            while await _publish_oldest(connection, producer, events_max):
                pass
        finally:
            await connection.fetchval(_FOLLOW)


_OLDEST = """
    SELECT seq, kind, 1 AS schema_version, event_id::text, created_at AS occurred_at, user_id::text,
           posted AS posted_mc, available AS available_mc, entry_id::text, amount AS amount_mc, hold_id::text,
           threshold AS threshold_mc
      FROM credits.outbox ORDER BY seq LIMIT $1
"""
_SENT = "SELECT credits.outbox_sent($1)"


async def _publish_oldest(connection: Connection, producer: AIOKafkaProducer, events_max: int) -> int:
    records = await connection.fetch(_OLDEST, events_max)
    if not records:
        return 0
    acknowledgements = [
        await producer.send(CREDITS_EVENTS.name, encoded(record), key=record["user_id"].encode()) for record in records
    ]
    await asyncio.gather(*acknowledgements)
    # After every acknowledgement: dying here publishes these again, and never loses one.
    await connection.execute(_SENT, [record["seq"] for record in records])
    for record in records:
        _published.labels(record["kind"]).inc()
    return len(records)


def encoded(record: Mapping[str, Any] | asyncpg.Record) -> bytes:
    """The event's JSON, by the fields of its model. Not through it: one per charge, that would cost four times this."""
    return orjson.dumps({name: record[name] for name in _KINDS[record["kind"]].model_fields})
