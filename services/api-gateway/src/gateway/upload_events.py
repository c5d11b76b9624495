"""An upload as it proceeds, as server-sent events: its status document whenever that changes, the last one as `end`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from common.clock import Clock
from common.errors import Unavailable
from gateway.audit_trail import trail_of
from gateway.upload_status import status_of
from gateway.uploads import Looking
from gateway.wiring import gateway_of

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

_LOOK_S = 0.5
_QUIET_S = 15.0  # shorter than what a proxy waits before it closes a connection that says nothing
# A key may be revoked: whoever follows comes back and is asked again. Browsers do so by themselves.
_FOLLOWED_S = 600.0

Status = dict[str, Any]
Look = Callable[[], Awaitable[Status]]


@router.get("/{upload_id}/events", responses={200: {"content": {"text/event-stream": {}}}})
async def get_upload_events(request: Request, caller: Looking, upload_id: UUID) -> Response:
    """Events named `progress`, and `end` with the final state; each carries the status document."""
    gateway = gateway_of(request)

    async def look() -> Status:
        return await status_of(upload_id, caller, gateway.postgres, gateway.bucket)

    # Asked before the stream begins, so that a wrong id is a 404 and not an empty stream.
    first = await look()
    trail_of(request).followed = True
    # A proxy that gathers what it passes on would make it anything but live.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = followed(first, look, gateway.clock, gateway.stopping)
    return StreamingResponse(events, headers=headers, media_type="text/event-stream")


async def followed(status: Status, look: Look, clock: Clock, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """Ends with the upload, when the gateway stops, and after some minutes; then a client comes back by itself."""
    began = spoke = clock.monotonic()
    told = _event(status)
    yield b"retry: 1000\n\n" + told
    while status["finished_at"] is None and not stopping.is_set() and clock.monotonic() - began < _FOLLOWED_S:
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _LOOK_S)
        try:
            status = await look()
        except Unavailable as exc:
            yield f": {exc}\n\n".encode()
            continue
        now, event = clock.monotonic(), _event(status)
        if event != told:
            told, spoke = event, now
            yield event
        elif now - spoke > _QUIET_S:
            spoke = now
            yield b": nothing new\n\n"


def _event(status: Status) -> bytes:
    name = b"progress" if status["finished_at"] is None else b"end"
    data = orjson.dumps(status, option=orjson.OPT_UTC_Z, default=str)
    return b"event: %b\ndata: %b\n\n" % (name, data)
