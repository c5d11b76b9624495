"""A load generator that costs little: prepared requests over raw keep-alive connections.

A full HTTP client would take more of the two cores than the server that is measured.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

_HEAD_END = b"\r\n\r\n"


class BadAnswer(Exception):
    """The server answered something else than 200; a benchmark of errors would be worthless."""


@dataclass
class Load:
    """What a run did: how many requests in how many seconds, and how long each took."""

    seconds: float = 0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class Connection(asyncio.Protocol):
    """One keep-alive connection; `ask` sends one prepared request and returns the body of its answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0 or self._answer is None:
            return
        head = bytes(self._received[:head_end]).lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        end = head_end + len(_HEAD_END) + length
        if len(self._received) < end:
            return
        body = bytes(self._received[head_end + len(_HEAD_END) : end])
        del self._received[:end]
        answer, self._answer = self._answer, None
        if head.startswith(b"http/1.1 200"):
            answer.set_result(body)
        else:
            answer.set_exception(BadAnswer(f"{head.splitlines()[0].decode()}: {body[:300].decode()}"))

    async def ask(self, request: bytes) -> bytes:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport:
            self._transport.close()


def post(host: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of one request."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + _HEAD_END + body


async def connect(host: str, port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return connection


async def drive(
    host: str,
    port: int,
    clients: int,
    seconds: float,
    next_requests: Callable[[], list[bytes]],
    *,
    per_second: float = 0,
) -> Load:
    """`clients` connections, each sending one prepared sequence after the other; a sequence counts as one.

    With `per_second` the load is held there (open loop), so that latencies are those of that load.
    """
    load = Load()
    connections = [await connect(host, port) for _ in range(clients)]
    began = time.perf_counter()
    until = began + seconds
    pause = clients / per_second if per_second else 0

    async def one_client(number: int, connection: Connection) -> None:
        due = time.perf_counter() + pause * number / clients
        while (now := time.perf_counter()) < until:
            if pause:
                await asyncio.sleep(max(0, due - now))
                due += pause
            requests = next_requests()
            sent = time.perf_counter()
            for request in requests:
                await connection.ask(request)
            load.latencies_s.append(time.perf_counter() - sent)

    try:
        await asyncio.gather(*(one_client(number, connection) for number, connection in enumerate(connections)))
    finally:
        for connection in connections:
            connection.close()
    load.seconds = time.perf_counter() - began
    return load
