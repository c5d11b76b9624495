"""A streamed answer: ClickHouse's bytes passed on, the hold kept open, and every way it can end.

| it ends because | the client sees | it costs | logged |
|---|---|---|---|
| all was sent | the last chunk | by the rows sent | 200 |
| the client leaves, or takes nothing until the hold's deadline | a cut connection | by the rows sent | 499 |
| something of ours breaks | a cut connection | nothing | 500 |

Memory is one piece of ClickHouse's and what uvicorn has not handed to the kernel yet, about 64 KiB.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from common.datasets import Datasets
from common.errors import Unavailable
from common.logs import get_logger
from gateway.audit_trail import Trail
from gateway.credits_client import CreditsClient
from gateway.query_answer import Run, captured, released
from gateway.query_formats import coding_of
from gateway.query_packing import packer
from gateway.query_row_counts import row_count
from gateway.warehouse import translated
from gateway.warehouse_http import Result
from gateway.wiring import gateway_of

_log = get_logger(__name__)
# Before the hold ends, so that its charge still arrives in time.
_SETTLE_S = 5.0
_BESIDE_LOOP_BYTES = 1 << 15


class BrokenStream(Exception):
    """Cuts the connection: the client must not take the part for the whole."""


class _SlowReader(Exception):
    """The client took nothing until the hold's deadline."""


@dataclass
class Keeping:
    """A hold that is kept open while its stream moves."""

    ledger: CreditsClient
    run: Run
    ttl_s: int
    ends_at: float  # of the loop's clock; no later than the latest end of any stream
    deadline: float = 0

    def __post_init__(self) -> None:
        self._extended_at = asyncio.get_running_loop().time()
        self._move_deadline(self._extended_at)

    async def moved(self) -> None:
        """A piece was taken: once in a third of its time the hold is extended. Raises BrokenStream when it is gone."""
        now = asyncio.get_running_loop().time()
        if now - self._extended_at < self.ttl_s / 3:
            return
        with suppress(Unavailable):  # the deadline stays where it is, and the next piece tries again
            if not await self.ledger.extend(self.run.caller.user_id, self.run.query_id, self.ttl_s):
                raise BrokenStream("the hold has ended")
            self._extended_at = now
            self._move_deadline(now)

    def _move_deadline(self, now: float) -> None:
        self.deadline = min(now + self.ttl_s - min(_SETTLE_S, self.ttl_s / 4), self.ends_at)


class QueryStream(Response):
    """An answer that has begun in ClickHouse: `first` is there, the rest follows as the client takes it."""

    def __init__(  # noqa: PLR0917 - what a stream is made of
        self,
        request: Request,
        run: Run,
        trail: Trail,
        result: Result,
        pieces: AsyncIterator[bytes],
        first: bytes,
        keeping: Keeping,
    ) -> None:
        super().__init__(status_code=200)
        self._run, self._trail, self._result = run, trail, result
        self._pieces, self._first = pieces, first
        self._count = row_count(run.plan.form.name, _columns(run, gateway_of(request).datasets))
        coding = coding_of(request.headers.get("accept-encoding", "")) if run.plan.form.compressible else None
        self._packer = packer(coding)
        self.raw_headers = [(b"content-type", run.plan.form.media_type.encode()), (b"vary", b"accept, accept-encoding")]
        if coding:
            self.raw_headers.append((b"content-encoding", coding.encode()))
        self._keeping = keeping

    def add_header(self, name: str, value: object) -> None:
        self.raw_headers.append((name.lower().encode(), str(value).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                self._left_by_client()
                return
            await self._ended(sending, send)
        finally:
            # Closing it stops the query, within a moment, whatever the reason was.
            self._result.close()
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})

    async def _ended(self, sending: asyncio.Task[None], send: Send) -> None:
        fault = sending.exception()
        if fault is None:
            self._settle()
            # The record of the request is written before this: the last chunk says that all is well.
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif isinstance(fault, _SlowReader):
            self._left_by_client()
            raise BrokenStream("slow reader") from fault
        else:
            code = getattr(fault, "code", type(fault).__name__)
            _log.warning("a stream broke", query_id=str(self._run.query_id), reason=str(code))
            self._trail.settlement = released(self._run, f"stream broke: {code}")
            self._trail.error_code = "stream_broken"
            raise BrokenStream(str(code)) from fault

    def _left_by_client(self) -> None:
        self._trail.client_left = True
        self._settle()

    def _settle(self) -> None:
        rows, run = self._count.rows, self._run
        used = run.plan.price(rows, run.rows_read)
        self._trail.rows = rows
        self._trail.settlement = captured(run, rows, run.rows_read, used_mc=used, kept=None)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if self._run.plan.form.name == "csv":
            await self._pass_on(_names(self._run.plan.columns), send)
        piece = self._first
        while piece:
            self._count.add(piece)
            await self._pass_on(piece, send)
            piece = await self._next()
        self._count.end()
        if self._packer is not None:
            await self._take(send, self._packer.flush())

    async def _next(self) -> bytes:
        """Empty at the end. What ClickHouse does too late, or breaks, is ours."""
        with translated():
            async with asyncio.timeout_at(self._keeping.deadline):
                return await anext(self._pieces, b"")

    async def _pass_on(self, piece: bytes, send: Send) -> None:
        if self._packer is not None:
            if len(piece) > _BESIDE_LOOP_BYTES:  # the other requests of this process do not wait for it
                piece = await asyncio.to_thread(self._packer.compress, piece)
            else:
                piece = self._packer.compress(piece)
        await self._take(send, piece)
        await self._keeping.moved()

    async def _take(self, send: Send, piece: bytes) -> None:
        if not piece:
            return
        try:
            async with asyncio.timeout_at(self._keeping.deadline):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            raise _SlowReader from None


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _columns(run: Run, datasets: Datasets) -> int | None:
    declared = datasets[run.plan.dataset].columns
    listed = any(declared[name].parsed.kind == "list" for name in run.plan.columns if name in declared)
    return None if listed else len(run.plan.columns)


def _names(columns: tuple[str, ...]) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(columns)
    return out.getvalue().encode()
