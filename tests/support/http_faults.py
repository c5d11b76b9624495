"""A small HTTP proxy in front of ClickHouse that refuses INSERTs, loses their answers, or never gives one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from devstack.ports import choose

# As ClickHouse words them: the code in a header, the text in the body.
TOO_MANY_PARTS = (252, "Too many parts (300 with average size of 1.00 MiB). Merges are processing slower than inserts")
DISK_FULL = (243, "Cannot reserve 1.00 MiB, not enough space")
_HOP_BY_HOP = frozenset({"host", "connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass
class InsertFaults:
    """What happens to the INSERTs that arrive: each fault is used up by as many as it is set for."""

    port: int = 0
    refusals: list[tuple[int, str]] = field(default_factory=list)
    answers_lost: int = 0  # applied, and the connection is cut instead of an answer
    arrived: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _late: bool = False

    def hang(self) -> None:
        """INSERTs wait here, and those that hang when it is healed are passed on nowhere."""
        self._late = False
        self._open.clear()

    def delay(self) -> None:
        """INSERTs wait here, and are passed on when it is healed."""
        self._late = True
        self._open.clear()

    def heal(self) -> None:
        self._open.set()

    def environment(self) -> dict[str, str]:
        return {"CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": str(self.port)}


@asynccontextmanager
async def open_insert_faults(settings: Mapping[str, str]) -> AsyncIterator[InsertFaults]:
    """`settings`: those of a service, of which the proxy takes the address of ClickHouse."""
    faults = InsertFaults(port=choose())
    target = f"http://{settings['CLICKHOUSE_HOST']}:{settings['CLICKHOUSE_PORT']}"
    faults.heal()
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def serve(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            inserting = "INSERT INTO" in request.query.get("query", "") or body[:200].lstrip().startswith(b"INSERT")
            if inserting:
                faults.arrived += 1
                if not faults._open.is_set():
                    await faults._open.wait()
                    if not faults._late:
                        _cut(request)
                        return web.Response(status=503)
                if faults.refusals:
                    return _refusal(*faults.refusals.pop(0))
            headers = CIMultiDict((name, value) for name, value in request.headers.items() if _passes(name))
            async with session.request(
                request.method, f"{target}{request.rel_url}", data=body, headers=headers
            ) as answer:
                content = await answer.read()
                if inserting and faults.answers_lost:
                    faults.answers_lost -= 1
                    _cut(request)
                kept = CIMultiDict((name, value) for name, value in answer.headers.items() if _passes(name))
                return web.Response(body=content, status=answer.status, headers=kept)

        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", serve)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", faults.port).start()
        try:
            yield faults
        finally:
            faults.heal()
            await runner.cleanup()


def _passes(name: str) -> bool:
    return name.lower() not in _HOP_BY_HOP


def _refusal(code: int, text: str) -> web.Response:
    body = f"Code: {code}. DB::Exception: {text}. (version 26.9.2.1)\n"
    return web.Response(text=body, status=500, headers={"X-ClickHouse-Exception-Code": str(code)})


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
