"""Requests of the async client: sent, tried again where that is safe, streamed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from bigdata_client import wire
from bigdata_client.call import Call, json_of
from bigdata_client.errors import BigDataError, error_of
from bigdata_client.event_stream import EventLines
from bigdata_client.retry import Retries

T = TypeVar("T")


class AsyncHttp:
    """One key, one gateway, a pool of connections."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_s: float = 60,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(**wire.settings(self.url, api_key, timeout_s), transport=transport)
        self._retries = retries
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(self, method: str, path: str, **request: Any) -> Any:
        """Any route: the decoded JSON of its answer. Raises ApiError for anything but 2xx. Not tried again."""
        with wire.faults_of(self.url):
            answer = await self._http.request(method, path, **request)
        if not answer.is_success:
            raise error_of(answer)
        return json_of(answer) if answer.content else None

    async def _send(self, call: Call[T], content: Callable[[], AsyncIterator[bytes]] | None = None) -> T:
        async def once() -> T:
            body: dict[str, Any] = {} if content is None else {"content": content()}
            with wire.faults_of(self.url):
                answer = await self._http.request(call.method, call.path, **call.request(), **body)
            if not answer.is_success:
                raise error_of(answer)
            return call.parse(answer)

        return await self._persist(call, once)

    @asynccontextmanager
    async def _stream(self, call: Call[Any], **more: Any) -> AsyncIterator[httpx.Response]:
        """An answer whose body is still to be read. It is tried again only before its headers came."""

        async def once() -> httpx.Response:
            request = self._http.build_request(call.method, call.path, **call.request(), **more)
            with wire.faults_of(self.url):
                answer = await self._http.send(request, stream=True)
                if answer.is_success:
                    return answer
                try:
                    await answer.aread()
                finally:
                    await answer.aclose()
            raise error_of(answer)

        answer = await self._persist(call, once)
        try:
            with wire.whole_answer():
                yield answer
        finally:
            await answer.aclose()

    async def _events(
        self, call: Call[Any], until: float | None = None, lines: EventLines | None = None
    ) -> AsyncIterator[Any]:
        """Documents of server-sent events. Raises BrokenAnswer when they break off, or when not even comments come."""
        lines = lines or EventLines()
        async with self._stream(call, timeout=wire.EVENTS) as answer:
            async for line in answer.aiter_lines():
                if (found := lines.feed(line)) is not None:
                    yield found
                if until is not None and time.monotonic() > until:
                    return

    async def _persist(self, call: Call[Any], once: Callable[[], Awaitable[T]]) -> T:
        attempt = 1
        while True:
            try:
                return await once()
            except BigDataError as fault:
                wait_s = self._retries.wait_s(attempt, fault, repeatable=call.repeatable)
                if wait_s is None:
                    raise
            await self._sleep(wait_s)
            attempt += 1
