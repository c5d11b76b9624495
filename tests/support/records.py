"""Records as data teams produce them, and what became of them."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, ConsumerRecord

from common.topics import INGEST_RECORDS
from devstack.stack import Stack
from support.offsets import ends
from support.polling import until
from support.uploads import dead_letters, manifest, select

Headers = Sequence[tuple[str, bytes | None]]
PEOPLE: Headers = (("dataset", b"people"),)
_REQUEST_BYTES_MAX = 8 << 20


async def produce(
    stack: Stack, *messages: tuple[Any, Headers], topic: str = INGEST_RECORDS.name, partition: int | None = None
) -> None:
    """Values as they are when bytes or None, else as JSON; compressed, so that a large value passes the broker."""
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.status().to_json()["kafka"],
        acks="all",
        enable_idempotence=True,
        compression_type="gzip",
        max_request_size=_REQUEST_BYTES_MAX,
    )
    try:  # a producer that could not start has to be stopped too
        await producer.start()
        sent = []
        for value, headers in messages:
            raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
            sent.append(await producer.send(topic, raw, headers=list(headers), partition=partition))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def people(run: object, numbers: Iterable[int]) -> list[tuple[dict[str, Any], Headers]]:
    """Records of one run: nobody else's have its source."""
    return [
        ({"email": f"{number}.{run}@example.com", "source": f"run-{run}", "first_name": f"N{number}"}, PEOPLE)
        for number in numbers
    ]


def shown(stack: Stack, run: object) -> int:
    """People of a run that a query shows."""
    rows = select(stack, "SELECT count() FROM bigdata.people FINAL WHERE source = {run:String}", {"run": f"run-{run}"})
    return int(rows[0][0])


async def all_shown(stack: Stack, run: object, count: int, *, deadline_s: float = 60) -> None:
    async def look() -> bool:
        return shown(stack, run) >= count

    await until(f"{count} people of {run} to be loaded", look, deadline_s=deadline_s, every_s=0.2)
    assert shown(stack, run) == count


async def progress(stack: Stack) -> dict[int, int]:
    """Of each partition of the records topic the offset up to which it is durable."""
    rows = await manifest(
        stack, "SELECT partition, next_offset FROM ingest.record_progress WHERE topic = $1", INGEST_RECORDS.name
    )
    return {row["partition"]: row["next_offset"] for row in rows}


async def accepted(stack: Stack) -> int:
    """Records that became rows so far, each counted once."""
    rows = await manifest(stack, "SELECT coalesce(sum(accepted), 0)::bigint AS n FROM ingest.record_progress")
    return int(rows[0]["n"])


async def buried(stack: Stack, *values: bytes | None) -> list[ConsumerRecord]:
    return [letter for letter in await dead_letters(stack) if letter.value in values]


def headers_of(letter: ConsumerRecord) -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in letter.headers}


async def all_durable(stack: Stack, *, deadline_s: float = 60) -> None:
    """Lag 0: every record that is in the topic now is loaded or buried."""
    wanted = {place.partition: end for place, end in (await ends(stack, INGEST_RECORDS)).items() if end}

    async def durable() -> bool:
        done = await progress(stack)
        return all(done.get(part, 0) >= end for part, end in wanted.items())

    await until("every record to be durable", durable, deadline_s=deadline_s, every_s=0.2)
