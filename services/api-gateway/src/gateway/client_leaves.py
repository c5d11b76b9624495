"""Work that stops when the client it is done for has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from fastapi import Request

from common.errors import ClientError

T = TypeVar("T")
# Most queries are over before it is worth watching whether their client is still there.
_UNWATCHED_S = 0.2


class ClientLeft(ClientError):
    """The client left before its answer was ready."""

    code: ClassVar[str] = "client_left"
    status: ClassVar[int] = 499


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result. Raises ClientLeft, with the work cancelled and ended, when the connection is gone.

    The body must have been read: what comes after it on the channel is the disconnect.
    """
    working = asyncio.create_task(work)
    leaving: asyncio.Task[None] | None = None
    try:
        done, _ = await asyncio.wait({working}, timeout=_UNWATCHED_S)
        if not done:
            leaving = asyncio.create_task(_left(request))
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        for task in (working, leaving):
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
