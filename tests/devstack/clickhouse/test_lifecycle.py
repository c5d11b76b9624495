from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

ENDLESS = "SELECT max(sipHash128(toString(number))) FROM numbers(9000000000)"
Start = Callable[..., Any]


def wait_for(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def in_thread(ask: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run it aside and keep what it returned or how it failed."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(ask())
        except ClickHouseError as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def busy(admin: Client, comment: str) -> bool:
    sql = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {id:String}"
    return bool(admin.query(sql, parameters={"id": comment}).result_rows[0][0])


def test_a_second_process_on_the_folder_says_why_it_cannot_start(server: Any, start: Start) -> None:
    second = start(server.folder, wait=False)
    _, errors = second.process.communicate(timeout=20)
    assert second.process.returncode == 1
    assert len(errors.splitlines()) == 1
    assert "Cannot lock file" in errors
    assert str(server.folder) in errors
    assert server.ready()


def test_a_taken_port_is_named(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        second = start(tmp_path, port, wait=False)
        _, errors = second.process.communicate(timeout=20)
    assert second.process.returncode == 1
    assert errors == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_it_is_ready_soon_and_only_on_loopback(start: Start, tmp_path: Path) -> None:
    began = time.monotonic()
    server = start(tmp_path)
    assert time.monotonic() - began < 10
    assert server.stop() == 0
    again = start(tmp_path)
    assert again.client("admin").query("SHOW DATABASES LIKE 'bigdata'").result_rows == [("bigdata",)]
    assert again.stop() == 0


def test_sigterm_kills_reads_finishes_inserts_and_exits_with_0(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path)
    admin, ingest = server.client("admin"), server.client("ingest")
    ingest.command("CREATE TABLE t (id UInt64, name String) ENGINE = MergeTree ORDER BY id")
    reader, read = in_thread(lambda: server.client("gateway").query(ENDLESS, settings={"query_id": "read"}))
    slow = "INSERT INTO t SELECT number, toString(sleepEachRow(0.1)) FROM numbers(15) SETTINGS max_block_size = 1"
    writer, written = in_thread(lambda: server.client("ingest").command(slow, settings={"query_id": "write"}))
    unread = socket.create_connection(("127.0.0.1", server.port))
    endless = b"SELECT number, repeat('x', 1000) FROM numbers(9000000000)"
    unread.sendall(
        b"POST /?query_id=stream HTTP/1.1\r\nHost: x\r\nX-ClickHouse-User: gateway\r\nX-ClickHouse-Key: g-secret\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(endless), endless)
    )
    wait_for(lambda: busy(admin, "read") and busy(admin, "write") and busy(admin, "stream"))
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 15
    unread.close()
    reader.join()
    writer.join()
    assert isinstance(read[0], ClickHouseError)
    assert not isinstance(written[0], ClickHouseError)
    again = start(tmp_path)
    assert again.client("ingest").query("SELECT count() FROM t").result_rows == [(15,)]
    assert again.stop() == 0


# Killed under the client, its sockets are left for the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("life", range(2))
def test_kill_9_loses_no_acknowledged_batch_and_a_retried_token_is_exact(
    start: Start, tmp_path: Path, life: int
) -> None:
    server = start(tmp_path)
    server.client("ingest").command(
        "CREATE TABLE t (batch UInt32, n UInt32) ENGINE = MergeTree ORDER BY (batch, n)"
        " SETTINGS non_replicated_deduplication_window = 10000"
    )
    rows, acknowledged, begun = 200, [0] * 3, [0] * 3
    enough = threading.Event()

    def insert(client: Client, batch: int) -> None:
        settings = {"insert_deduplication_token": f"batch-{batch}"}
        client.insert("t", [[batch, n] for n in range(rows)], column_names=["batch", "n"], settings=settings)

    def write(worker: int) -> None:
        client = server.client("ingest")
        with contextlib.suppress(ClickHouseError):
            for number in range(10_000):
                begun[worker] = number + 1
                insert(client, worker * 10_000 + number)
                acknowledged[worker] = number + 1
                if sum(acknowledged) > 60 + life * 37:
                    enough.set()

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for writer in writers:
        writer.start()
    assert enough.wait(20)
    server.kill()
    for writer in writers:
        writer.join()

    again = start(tmp_path)
    client = again.client("ingest")
    counts = dict(client.query("SELECT batch, count() FROM t GROUP BY batch").result_rows)
    for worker in range(3):
        assert all(counts.get(worker * 10_000 + number) == rows for number in range(acknowledged[worker]))
        for number in range(begun[worker]):
            insert(client, worker * 10_000 + number)
    total = client.query("SELECT count(), uniqExact(batch, n) FROM t").first_row
    assert total == (sum(begun) * rows, sum(begun) * rows)
    assert again.stop() == 0


def test_a_missing_password_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "devstack.clickhouse_http", "--folder", str(tmp_path), "--port", "0"]
    ended = subprocess.run(
        command, env={**os.environ, "CLICKHOUSE_GATEWAY_PASSWORD": "g"}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, "CLICKHOUSE_INGEST_PASSWORD is not set\n")
