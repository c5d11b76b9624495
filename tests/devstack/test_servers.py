"""The servers of a stack, without its services: started, killed, started again, side by side."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis

from devstack import clickhouse, postgres
from devstack.parts import SERVERS
from devstack.process import StackError
from devstack.stack import Progress, Stack
from support.stack import running_stack, without

_TOPIC = "audit.requests.v1"


@asynccontextmanager
async def _admin(stack: Stack) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(postgres.dsn(stack.site))
    try:
        yield connection
    finally:
        await connection.close()


async def _sql(stack: Stack, statement: str, user: str = "admin") -> httpx.Response:
    login = {"X-ClickHouse-User": user, "X-ClickHouse-Key": stack.site.secrets.clickhouse[user]}
    async with httpx.AsyncClient(headers=login) as http:
        return await http.post(f"http://127.0.0.1:{stack.site.ports['clickhouse']}/", content=statement)


async def _send(stack: Stack, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=str(stack.status().kafka), acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(_TOPIC, value, partition=0)
    finally:
        await producer.stop()


async def _first(stack: Stack) -> bytes:
    consumer = AIOKafkaConsumer(bootstrap_servers=str(stack.status().kafka))
    await consumer.start()
    try:
        consumer.assign([TopicPartition(_TOPIC, 0)])
        consumer.seek(TopicPartition(_TOPIC, 0), 0)
        return (await asyncio.wait_for(consumer.getone(), 10)).value or b""
    finally:
        await consumer.stop()


def _states(stack: Stack) -> dict[str, str]:
    return {name: one.state for name, one in stack.status().processes.items()}


async def test_every_server_runs_and_status_says_where(servers: Stack) -> None:
    status = servers.status()
    assert _states(servers) == dict.fromkeys(SERVERS, "running")
    assert {one.port for one in status.processes.values()} == {servers.site.ports[name] for name in SERVERS}
    assert None not in (status.postgres, status.clickhouse, status.redis, status.kafka)
    assert status.bucket.startswith("file:///")
    assert status.gateway is None


async def test_a_service_logs_in_with_its_own_role_and_no_password_does_not(servers: Stack) -> None:
    connection = await asyncpg.connect(postgres.dsn(servers.site, "credits"))
    assert await connection.fetchval("SELECT current_user") == "credits"
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.dsn(servers.site, "credits"), password="wrong")


async def test_postgres_keeps_its_durable_defaults(servers: Stack) -> None:
    async with _admin(servers) as connection:
        for setting, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "max_connections": "200",
        }.items():
            assert await connection.fetchval("SELECT current_setting($1)", setting) == value


async def test_redis_asks_for_its_password(servers: Stack) -> None:
    async with Redis.from_url(str(servers.status().redis)) as redis:
        assert await redis.ping()
    port = servers.site.ports["redis"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PING\r\n")
    assert (await reader.readline()).startswith(b"-NOAUTH")
    writer.close()
    await writer.wait_closed()


async def test_a_killed_server_is_reported_and_brought_back_with_its_data(servers: Stack) -> None:
    async with _admin(servers) as connection:
        await connection.execute("CREATE TABLE kept_through_kill AS SELECT 42 AS answer")
    os.kill(servers.status().processes["postgres"].pid, signal.SIGKILL)
    await asyncio.to_thread(_wait_dead, servers, "postgres")
    assert servers.status().processes["postgres"].detail.startswith("was killed by SIGKILL at ")

    notes: dict[str, Progress] = {}
    await servers.up(servers_only=True, report=lambda progress: notes.update({progress.name: progress}))

    assert notes["postgres"].note.startswith("restarted: it was killed by SIGKILL")
    assert notes["redis"].note == "was running"
    async with _admin(servers) as connection:
        assert await connection.fetchval("SELECT answer FROM kept_through_kill") == 42


def _wait_dead(stack: Stack, name: str) -> None:
    while stack.status().processes[name].state != "dead":
        continue


async def test_one_part_can_be_taken_away_and_given_back(servers: Stack) -> None:
    async with without(servers, "redis"):
        assert _states(servers)["redis"] == "stopped"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", servers.site.ports["redis"])
    assert _states(servers)["redis"] == "running"


async def test_a_port_taken_by_another_program_is_told(servers: Stack) -> None:
    await servers.stop("redis")
    squatter = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", servers.site.ports["redis"])
    with pytest.raises(StackError, match=r"redis cannot start: its port \d+ is in use by another program"):
        await servers.start("redis")
    squatter.close()
    await squatter.wait_closed()
    await servers.start("redis")


async def test_an_unknown_part_is_refused_with_the_list_of_parts(servers: Stack) -> None:
    with pytest.raises(StackError, match="there is no part named mongo; parts: postgres, redis"):
        await servers.start("mongo")


async def test_two_stacks_run_side_by_side_and_a_second_up_reuses_the_data(servers: Stack) -> None:
    async with running_stack(servers_only=True) as other:
        assert not set(other.site.ports.values()) & set(servers.site.ports.values())
        ports, secrets = dict(other.site.ports), other.site.secrets
        async with _admin(other) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 7 AS answer")
        await _sql(other, "CREATE TABLE bigdata.kept (n UInt8) ENGINE = MergeTree ORDER BY n")
        await _sql(other, "INSERT INTO bigdata.kept VALUES (7)")
        await _send(other, b"kept")

        assert await other.down() == []
        assert set(_states(other).values()) == {"stopped"}
        assert set(_states(servers).values()) == {"running"}
        again = Stack(other.folder)
        await again.up(servers_only=True)

        assert (again.site.ports, again.site.secrets) == (ports, secrets)
        async with _admin(again) as connection:
            assert await connection.fetchval("SELECT answer FROM kept") == 7
        assert (await _sql(again, "SELECT n FROM bigdata.kept")).text == "7\n"
        assert await _first(again) == b"kept"


async def test_the_reading_clickhouse_user_cannot_create_anything(servers: Stack) -> None:
    refused = await _sql(servers, "CREATE TABLE bigdata.x (n UInt8) ENGINE = Memory", user="gateway")
    assert refused.is_error
    assert clickhouse.environment(servers.site, "gateway")["CLICKHOUSE_USER"] == "gateway"
