from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client

PASSWORDS = {"gateway": "g-secret", "ingest": "i-secret", "admin": "a-secret"}
READY_WITHIN_S = 15


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class LocalClickHouse:
    """One server process on a folder; `stop` and `kill` are the two ways it may end."""

    folder: Path
    port: int
    process: subprocess.Popen[str]

    def client(self, user: str, **options: Any) -> Client:
        options = {"database": "bigdata", "autogenerate_session_id": False, **options}
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=self.port, username=user, password=PASSWORDS[user], **options
        )

    async def async_client(self, user: str, **options: Any) -> AsyncClient:
        return await clickhouse_connect.get_async_client(
            host="127.0.0.1",
            port=self.port,
            username=user,
            password=PASSWORDS[user],
            database="bigdata",
            autogenerate_session_id=False,
            **options,
        )

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=1) as answer:
                return bool(answer.read() == b"Ok.\n")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.ready():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def spawn(folder: Path, port: int | None = None) -> LocalClickHouse:
    port = port or free_port()
    secrets = {f"CLICKHOUSE_{user.upper()}_PASSWORD": password for user, password in PASSWORDS.items()}
    command = [sys.executable, "-m", "devstack.clickhouse_http", "--folder", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, **secrets}, stderr=subprocess.PIPE, text=True)
    return LocalClickHouse(folder, port, process)


@pytest.fixture
def start() -> Iterator[Callable[..., LocalClickHouse]]:
    """Start servers of one's own; whatever still runs afterwards is killed."""
    started: list[LocalClickHouse] = []

    def begin(folder: Path, port: int | None = None, *, wait: bool = True) -> LocalClickHouse:
        server = spawn(folder, port)
        started.append(server)
        if wait:
            server.wait_until_ready()
        return server

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.kill()
        if server.process.stderr:
            server.process.stderr.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalClickHouse]:
    server = spawn(tmp_path_factory.mktemp("clickhouse"))
    server.wait_until_ready()
    yield server
    server.process.terminate()
    _, errors = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    assert "Traceback" not in errors


@pytest.fixture(scope="session")
def gateway(server: LocalClickHouse) -> Client:
    return server.client("gateway")


@pytest.fixture(scope="session")
def ingest(server: LocalClickHouse) -> Client:
    return server.client("ingest")


@pytest.fixture(scope="session")
def admin(server: LocalClickHouse) -> Client:
    return server.client("admin")


@pytest.fixture(scope="session")
async def async_gateway(server: LocalClickHouse) -> AsyncIterator[AsyncClient]:
    client = await server.async_client("gateway")
    yield client
    await client.close()


@pytest.fixture
def table(ingest: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty table (id UInt64, name String) with a deduplication window, named after the test."""
    name = f"t_{abs(hash(request.node.nodeid))}"
    ingest.command(
        f"CREATE TABLE {name} (id UInt64, name String) ENGINE = MergeTree ORDER BY id"
        " SETTINGS non_replicated_deduplication_window = 1000"
    )
    yield name
    ingest.command(f"DROP TABLE {name}")
