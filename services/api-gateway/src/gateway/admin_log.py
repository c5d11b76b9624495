"""The log on the admin side: pages, one entry, CSV, and live."""

from typing import Annotated, Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from common.errors import NotFound
from gateway.answers import CURSOR_HEADER, Cursor, Limit, Text, one, page, public
from gateway.api_keys import Caller, caller_with
from gateway.audit_trail import trail_of
from gateway.csv_cells import csv_of
from gateway.log_tail import LogTail, follow
from gateway.request_log import LogEntry, LogFilter, read_entry, read_log, time_of
from gateway.roles import ADMIN_READERS
from gateway.users import require_user
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/admin", tags=["admin"])
Reader = Annotated[Caller, Depends(caller_with("read", roles=ADMIN_READERS))]
Running = Annotated[Gateway, Depends(gateway_of)]
_STATUS = r"^[1-5]([0-9]{2}|xx)$"
_CSV = "text/csv; charset=utf-8"
_EVENTS = "text/event-stream"


def log_filter(
    *,
    user_id: UUID | None = None,
    username: Text | None = None,
    endpoint: Annotated[Text | None, Query(description="a route's template, or unmatched")] = None,
    method: Text | None = None,
    status: Annotated[str | None, Query(pattern=_STATUS, description="404, or 4xx for all of them")] = None,
    dataset: Text | None = None,
    error_code: Text | None = None,
    action: Text | None = None,
    target: Text | None = None,
    ip: Text | None = None,
    request_id: UUID | None = None,
    trace_id: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
    slower_than_ms: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to")] = None,
    looking: Annotated[bool | None, Query(description="false: without pages of the console and the live log")] = None,
) -> LogFilter:
    return LogFilter(
        user_id=user_id,
        username=username,
        endpoint=endpoint,
        method=method,
        status_from=int(status.replace("x", "0")) if status else None,
        status_to=int(status.replace("x", "9")) if status else None,
        dataset=dataset,
        error_code=error_code,
        action=action,
        target=target,
        ip=ip,
        request_id=request_id,
        trace_id=trace_id,
        slower_than_ms=slower_than_ms,
        since=since,
        until=until,
        looking=looking,
    )


Wanted = Annotated[LogFilter, Depends(log_filter)]


@router.get("/logs", response_model=list[LogEntry], responses={200: {"content": {_CSV: {}}}})
async def logs(
    *,
    _: Reader,
    gateway: Running,
    wanted: Wanted,
    format: Literal["json", "csv"] = "json",  # noqa: A002 - the parameter's public name
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The log, newest first. from and to are inclusive. In CSV, what a spreadsheet would run is made text."""
    rows, following = await _read(gateway, wanted, limit, cursor)
    if format == "json":
        return page(rows, following)
    headers = {"Content-Disposition": 'attachment; filename="requests.csv"'}
    if following:
        headers[CURSOR_HEADER] = following
    return Response(csv_of(list(LogEntry.model_fields), map(public, rows)), headers=headers, media_type=_CSV)


@router.get("/logs/tail", response_class=StreamingResponse, responses={200: {"content": {_EVENTS: {}}}})
async def tail(
    request: Request,
    _: Reader,
    gateway: Running,
    wanted: Wanted,
    last_event_id: Annotated[UUID | None, Header()] = None,
) -> Response:
    """Requests as they get into the log, as server-sent events. With Last-Event-ID, from that request on."""
    trail_of(request).followed = True
    since = wanted.since or (time_of(last_event_id) if last_event_id else None) or gateway.clock.now()
    following = LogTail(gateway.postgres, wanted, min(since, gateway.clock.now()), gateway.clock)
    # A proxy that gathers what it passes on would make it anything but live.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(follow(following, gateway.clock, gateway.stopping), headers=headers, media_type=_EVENTS)


@router.get("/logs/{request_id}", response_model=LogEntry)
async def log(_: Reader, gateway: Running, request_id: UUID) -> Response:
    entry = await read_entry(gateway.postgres, request_id)
    if entry is None:
        raise NotFound
    return one(entry)


@router.get("/user/{user_id}/logs", response_model=list[LogEntry])
async def user_logs(_: Reader, gateway: Running, user_id: UUID, limit: Limit = 100, cursor: Cursor = None) -> Response:
    await require_user(gateway.postgres, user_id)
    return page(*await _read(gateway, LogFilter(user_id=user_id), limit, cursor))


async def _read(
    gateway: Gateway, wanted: LogFilter, limit: int, cursor: str | None
) -> tuple[list[asyncpg.Record], str | None]:
    now = gateway.clock.now()
    return await read_log(gateway.postgres, wanted, limit=limit, cursor=cursor, seals=gateway.seals, now=now)
