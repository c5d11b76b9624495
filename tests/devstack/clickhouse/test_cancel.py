# ruff: noqa: S608 -- the tables are the tests' own
from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

# Within the gateway's max_rows_to_read, and far longer than any test waits.
ENDLESS = "SELECT max(sipHash128(toString(number))) FROM numbers(9000000000)"
ENDLESS_STREAM = "SELECT number, repeat('x', 1000) FROM numbers(9000000000)"


def running(admin: Client, query_id: str) -> int:
    sql = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {id:String}"
    return int(admin.query(sql, parameters={"id": query_id}).result_rows[0][0])


def wait_for(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def send_raw(server: Any, user: str, secret: str, sql: str, query_id: str) -> socket.socket:
    head = (
        f"POST /?query_id={query_id} HTTP/1.1\r\nHost: x\r\nX-ClickHouse-User: {user}\r\nX-ClickHouse-Key: {secret}\r\n"
        f"Content-Length: {len(sql)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall((head + sql).encode())
    return connection


def test_a_read_ends_within_two_seconds_of_its_client_leaving(server: Any, admin: Client) -> None:
    connection = send_raw(server, "gateway", "g-secret", ENDLESS, "leaver")
    wait_for(lambda: running(admin, "leaver") == 1, 5)
    connection.close()
    wait_for(lambda: running(admin, "leaver") == 0, 2)


def test_a_stream_nobody_reads_waits_and_ends_with_its_client(server: Any, admin: Client) -> None:
    connection = send_raw(server, "gateway", "g-secret", ENDLESS_STREAM, "slow-reader")
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert running(admin, "slow-reader") == 1
    connection.close()
    wait_for(lambda: running(admin, "slow-reader") == 0, 2)


async def test_a_cancelled_async_query_ends_in_the_engine(server: Any, admin: Client) -> None:
    client = await server.async_client("gateway")
    asking = asyncio.create_task(client.query(ENDLESS, settings={"query_id": "cancelled"}))
    deadline = time.monotonic() + 5
    while not await asyncio.to_thread(running, admin, "cancelled"):
        assert time.monotonic() < deadline
    asking.cancel()
    await asyncio.wait({asking})
    await client.close()
    await asyncio.to_thread(wait_for, lambda: running(admin, "cancelled") == 0, 2)


def test_an_insert_whose_client_leaves_is_finished(server: Any, admin: Client, ingest: Client, table: str) -> None:
    rows = "SELECT number, toString(sleepEachRow(0.1)) FROM numbers(10) SETTINGS max_block_size = 1"
    slow = f"INSERT INTO bigdata.{table} {rows}"
    connection = send_raw(server, "ingest", "i-secret", slow, "writer")
    wait_for(lambda: running(admin, "writer") == 1, 5)
    connection.close()
    wait_for(lambda: running(admin, "writer") == 0, 5)
    assert ingest.query(f"SELECT count() FROM {table}").result_rows == [(10,)]


@pytest.fixture
def failures() -> list[BaseException]:
    return []


def run_endless(client: Client, query_id: str, failures: list[BaseException]) -> threading.Thread:
    def ask() -> None:
        try:
            client.query(ENDLESS, settings={"query_id": query_id})
        except DatabaseError as exc:
            failures.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_a_query_is_killed_by_its_id(server: Any, admin: Client, failures: list[BaseException]) -> None:
    thread = run_endless(server.client("gateway"), "kill-me", failures)
    wait_for(lambda: running(admin, "kill-me") == 1, 5)
    # Somebody else's query is not theirs to kill, nor even to see.
    server.client("ingest").command("KILL QUERY WHERE query_id = 'kill-me'")
    assert running(admin, "kill-me") == 1
    answer = server.client("gateway").command("KILL QUERY WHERE query_id = {id:String}", parameters={"id": "kill-me"})
    assert answer == ["waiting", "kill-me", "gateway"]
    thread.join(5)
    assert "QUERY_WAS_CANCELLED" in str(failures[0])
