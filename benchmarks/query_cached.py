"""Q2: an answer that is kept, through the whole gateway, against a bare FastAPI route with the same body and answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.http_load import Load, connect, drive
from benchmarks.own_gateway import own_gateway
from benchmarks.query_world import asker, fill
from benchmarks.report import Figure
from common.http import parse_body
from devstack.stack import Stack
from gateway.query_request import QueryRequest

_CONNECTIONS = 32
_SECONDS = 5.0
_ROUNDS = 3


async def run(stack: Stack) -> list[Figure]:
    await fill(stack, 1000)
    one = await asker(stack)
    request = one.query(filters={"email": "p7@bench.example.com"}, limit=1)
    connection = await connect(one.host, one.port)
    answer = await connection.ask(request)
    connection.close()
    bare, charged, free = list[Load](), list[Load](), list[Load]()
    async with _bare(answer) as bare_port, own_gateway(stack, "benchmarks.free_gateway", "free") as free_port:
        for _ in range(_ROUNDS):
            for port, loads in ((bare_port, bare), (one.port, charged), (free_port, free)):
                loads.append(await drive(one.host, port, _CONNECTIONS, _SECONDS, lambda: [request]))
    baseline, on, off = (max(load.per_second for load in loads) for loads in (bare, charged, free))
    return [
        Figure("Q2", "a kept answer, credits on, against a bare route", "queries/s", on, baseline,
               "≥ 25 %", on >= 0.25 * baseline),
        Figure("Q2", "a kept answer, credits off, against a bare route", "queries/s", off, baseline,
               "≥ 50 %", off >= 0.5 * baseline),
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def _bare(answer: bytes) -> AsyncIterator[int]:
    """In a process of its own, as the gateway is: a thread would share this one's interpreter."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        (Path(folder) / "answer").write_bytes(answer)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.query_cached", str(port), str(Path(folder) / "answer")
        )
        try:
            async with asyncio.timeout(30):
                while True:
                    with contextlib.suppress(OSError):
                        (await connect("127.0.0.1", port)).close()
                        break
                    await asyncio.sleep(0.1)
            yield port
        finally:
            process.terminate()
            await process.wait()


def serve(port: int, answer: bytes) -> None:
    app = FastAPI()

    @app.post("/v1/query")
    async def query(request: Request) -> Response:
        parse_body(QueryRequest, await request.body())
        return Response(answer, media_type="application/json")

    uvicorn.run(app, port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes())
