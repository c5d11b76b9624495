"""The way from a query's thread to its client: every piece waits until the client has taken the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import CancelledError, Future
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ClientGone(Exception):
    """The client went away, or the server is stopping: there is nobody to answer."""


class Outlet:
    """`begun` once the status line is out: from then on an error can only cut the connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Send) -> None:
        self._loop = loop
        self._send = send
        self._pending: Future[None] | None = None
        self._closed = False
        self.begun = False

    def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._pass({"type": "http.response.start", "status": status, "headers": headers})
        self.begun = True

    def write(self, data: bytes, *, more: bool = True) -> None:
        self._pass({"type": "http.response.body", "body": data, "more_body": more})

    def close(self) -> None:
        """Free the thread that waits for a client who stopped reading. Called from the event loop."""
        self._closed = True
        if self._pending is not None:
            self._pending.cancel()

    def _pass(self, message: MutableMapping[str, Any]) -> None:
        if self._closed:
            raise ClientGone
        self._pending = asyncio.run_coroutine_threadsafe(self._deliver(message), self._loop)
        if self._closed:
            self._pending.cancel()
        try:
            self._pending.result()
        except CancelledError as exc:
            raise ClientGone from exc

    async def _deliver(self, message: MutableMapping[str, Any]) -> None:
        await self._send(message)
