"""The ClickHouse HTTP interface as one plain ASGI application, a thread per running query."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from devstack.clickhouse_http.answer import Desk, answer, refused
from devstack.clickhouse_http.delivery import Answer
from devstack.clickhouse_http.outlet import ClientGone, Outlet, Send
from devstack.clickhouse_http.refusals import TOO_MANY_SIMULTANEOUS_QUERIES, UNKNOWN_EXCEPTION, Refusal
from devstack.clickhouse_http.request import Call, Receive, read_call
from devstack.clickhouse_http.running import Running
from devstack.clickhouse_http.users import Passwords

log = logging.getLogger(__name__)

QUERIES_AT_ONCE_MAX: Final = 100
# Most queries are over before it is worth watching whether their client is still there.
_UNWATCHED_S: Final = 0.2
_KILL_AGAIN_S: Final = 0.5


class ClickHouseHttp:
    def __init__(self, desk: Desk, passwords: Passwords) -> None:
        self._desk = desk
        self._passwords = passwords
        self._queries = ThreadPoolExecutor(QUERIES_AT_ONCE_MAX, "query")
        # Kills have threads of their own: when every query thread is busy is when they are needed.
        self._kills = ThreadPoolExecutor(2, "kill")
        self._outlets: dict[Running, Outlet] = {}
        self._stopping = False

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] in {"/ping", "/replicas_status"}:
            await _reply(send, Answer(200, [], b"Ok.\n"))
            return
        if not scope["query_string"] and scope["method"] == "GET":
            await _reply(send, Answer(200, [], b"Ok.\n"))
            return
        try:
            call = await read_call(scope, receive, self._passwords, self._desk.engine.spool)
        except ConnectionAbortedError:
            return
        except Refusal as refusal:
            await _reply(send, refused(refusal, self._desk))
            return
        with call.body:
            await self._serve(call, receive, send)

    async def _serve(self, call: Call, receive: Receive, send: Send) -> None:
        if self._stopping or len(self._outlets) >= QUERIES_AT_ONCE_MAX:
            refusal = Refusal(TOO_MANY_SIMULTANEOUS_QUERIES, f"More than {QUERIES_AT_ONCE_MAX} simultaneous queries.")
            await _reply(send, refused(refusal, self._desk, call.query_id))
            return
        loop = asyncio.get_running_loop()
        outlet = Outlet(loop, send)
        running = self._desk.running.enter(call)
        self._outlets[running] = outlet
        job = loop.run_in_executor(self._queries, answer, self._desk, running, outlet)
        try:
            await self._until_done(job, running, receive)
            if (ready := _outcome(job, self._desk, outlet, call.query_id)) is not None:
                await _reply(send, ready)
        finally:
            del self._outlets[running]

    async def _until_done(self, job: asyncio.Future[Answer | None], running: Running, receive: Receive) -> None:
        """Wait for the query; when its client leaves, stop it if it only reads, and let an insert finish."""
        done, _ = await asyncio.wait({job}, timeout=_UNWATCHED_S)
        if done:
            return
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            waiting: set[asyncio.Future[Any]] = {job, gone}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            while not job.done():
                await self._stop(running)
                await asyncio.wait({job}, timeout=_KILL_AGAIN_S)
        except asyncio.CancelledError:
            # The server stops and its patience is over. The thread is joined by close() all the same.
            self._outlets[running].close()
            raise
        finally:
            gone.cancel()

    async def _stop(self, running: Running) -> None:
        self._outlets[running].close()
        await asyncio.get_running_loop().run_in_executor(self._kills, self._desk.running.stop, running)

    async def stop_reads(self) -> None:
        """For shutdown: kill what only reads and free the threads whose clients do not read; inserts go on."""
        self._stopping = True
        for running in list(self._outlets):
            if running.may_stop:
                await self._stop(running)

    def close(self) -> None:
        """Join every thread. After this, and only after this, the engine may be closed."""
        self._desk.running.drain()
        self._queries.shutdown()
        self._kills.shutdown()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _outcome(job: asyncio.Future[Answer | None], desk: Desk, outlet: Outlet, query_id: str) -> Answer | None:
    """None cuts the connection if the answer had begun, and otherwise means that it has been sent."""
    try:
        return job.result()
    except (ClientGone, Refusal):
        return None
    except Exception:
        log.exception("query_failed_unexpectedly")
        if outlet.begun:
            return None
        return refused(Refusal(UNKNOWN_EXCEPTION, "The server failed; its log says why."), desk, query_id)


async def _reply(send: Send, ready: Answer) -> None:
    headers = ready.headers
    if not any(name == b"content-length" for name, _ in headers):
        headers = [*headers, (b"content-length", str(len(ready.body)).encode())]
    await send({"type": "http.response.start", "status": ready.status, "headers": headers})
    await send({"type": "http.response.body", "body": ready.body})
