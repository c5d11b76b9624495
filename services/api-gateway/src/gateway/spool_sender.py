"""Sends the spool: settlements to credits, audit events to Kafka. Each side goes at its own pace and order.

Both receivers fold repeats (a capture of a captured hold, an event_id seen before), so a block whose acknowledgement
was lost is simply sent again.
"""

import asyncio
import contextlib
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from aiokafka import AIOKafkaProducer

from common.clock import Clock
from common.credit_operations import Outcome
from common.faultpoints import faultpoint
from common.lifecycle import forever
from common.logs import get_logger
from common.metrics import counter
from common.topics import AUDIT_REQUESTS
from gateway.credits_client import CreditsClient, RefusedOperation
from gateway.settings import Settings
from gateway.spool import Spool
from gateway.spool_records import Record
from gateway.spool_segments import Side

_log = get_logger(__name__)
_ADOPT_EVERY_S = 5.0
_BACKOFF_MAX_S = 5.0
_KAFKA_BLOCK_S = 30.0
_refused = counter("bigdata_spool_refused_total", "Spooled requests that a receiver refused for good", "side", "code")


@asynccontextmanager
async def open_spool(
    settings: Settings, credits_client: CreditsClient, producer: AIOKafkaProducer, clock: Clock
) -> AsyncIterator[Spool]:
    """The spool with its senders running. Leaving it drains what it can in a third of shutdown_s."""
    spool = Spool(settings, clock)
    stopping = asyncio.Event()

    async def settle(records: list[Record]) -> None:
        await _settle(credits_client, records)

    async def audit(records: list[Record]) -> None:
        await _audit(producer, records)

    tasks = [
        asyncio.create_task(_pump(spool, "settled", settle, settings.spool_linger_s, stopping)),
        asyncio.create_task(_pump(spool, "audited", audit, settings.spool_linger_s, stopping)),
        asyncio.create_task(_adopt(spool)),
    ]
    try:
        yield spool
    finally:
        stopping.set()
        await _drain(spool, settings.shutdown_s / 3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if spool.pending_bytes:
            _log.warning("stopped with a spool for the next process to send", bytes=spool.pending_bytes)
        spool.close()


async def _adopt(spool: Spool) -> None:
    async def once() -> None:
        spool.adopt()

    await forever("adopt spools", once, pause_s=_ADOPT_EVERY_S)


async def _drain(spool: Spool, deadline_s: float) -> None:
    spool.trim()
    for appended in spool.appended.values():
        appended.set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline_s):
            await spool.sent.wait()


async def _pump(
    spool: Spool,
    side: Side,
    send: Callable[[list[Record]], Awaitable[None]],
    linger_s: float,
    stopping: asyncio.Event,
) -> None:
    failures = 0
    while True:
        segment = spool.unsent(side)
        if segment is None:
            await spool.appended[side].wait()
            if not stopping.is_set():
                await asyncio.sleep(linger_s)  # what comes meanwhile goes along
            spool.appended[side].clear()
            continue
        records = segment.read(side)
        if not records:
            spool.trim()
            continue
        try:
            await send(records)
        except Exception as exc:  # noqa: BLE001 - the records stay and are sent again, whatever it was
            failures += 1
            if failures == 1:
                _log.warning("spool is not sent, trying again", side=side, fault=repr(exc))
            await asyncio.sleep(min(_BACKOFF_MAX_S, 0.05 * 2 ** min(failures, 10)) * random.uniform(0.5, 1))  # noqa: S311 - jitter
            continue
        if failures:
            _log.info("spool is sent again", side=side, failures=failures)
            failures = 0
        faultpoint(f"gateway.{side}")
        segment.acknowledge(side, records[-1].end)
        spool.trim()


async def _settle(credits_client: CreditsClient, records: list[Record]) -> None:
    operations = [record.settlement for record in records if record.settlement]
    outcomes = await asyncio.gather(*map(credits_client.settle, operations), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, RefusedOperation):
            raise outcome
    for operation, outcome in zip(operations, outcomes, strict=True):
        if isinstance(outcome, RefusedOperation):
            _refuse(orjson.loads(operation), "refused")
        elif isinstance(outcome, Outcome) and not outcome.ok:
            _refuse_unless_settled(orjson.loads(operation), outcome)


def _refuse_unless_settled(operation: dict[str, Any], outcome: Outcome) -> None:
    """Some refusals say that what was asked for is already so."""
    if operation["op"] == "release" and (outcome.code == "unknown_hold" or outcome.state in {"released", "expired"}):
        return
    if outcome.state == "captured" and outcome.amount_mc == operation.get("amount_mc"):
        return
    _refuse(operation, str(outcome.code), state=outcome.state)


def _refuse(operation: dict[str, Any], code: str, **what: object) -> None:
    _refused.labels("settled", code).inc()
    _log.error(
        "credits refused a settlement for good", code=code, op=operation["op"], hold_id=operation["hold_id"], **what
    )


async def _audit(producer: AIOKafkaProducer, records: list[Record]) -> None:
    """Batches of our own making: the producer's `send` costs four times as much for each event."""
    async with asyncio.timeout(_KAFKA_BLOCK_S):
        partitions = sorted(await producer.partitions_for(AUDIT_REQUESTS.name))
        by_partition: dict[int, list[Record]] = {}
        for record in records:
            # A user's events keep their order; those without a user go wherever their ids take them.
            place = partitions[zlib.crc32(record.user_id or record.event[:64]) % len(partitions)]
            by_partition.setdefault(place, []).append(record)
        batches = [(place, batch) for place, those in by_partition.items() for batch in _batches(producer, those)]
        sent = [
            await producer.send_batch(batch, AUDIT_REQUESTS.name, partition=partition) for partition, batch in batches
        ]
        await asyncio.gather(*sent)


def _batches(producer: AIOKafkaProducer, records: list[Record]) -> Iterator[Any]:
    batch = producer.create_batch()
    for record in records:
        key = _key(record.user_id) if record.user_id else None
        if batch.append(key=key, value=record.event, timestamp=None) is None:  # full
            yield batch
            batch = producer.create_batch()
            batch.append(key=key, value=record.event, timestamp=None)
    yield batch


@lru_cache(maxsize=4096)
def _key(user_id: bytes) -> bytes:
    return str(UUID(bytes=user_id)).encode()
