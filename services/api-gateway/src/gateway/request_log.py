"""Reading the log of requests that audit publishes."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import BaseModel, Field

from common.postgres import Pool, outage_is_unavailable
from gateway.answers import bad_cursor, cursor_of, place_of
from gateway.query_seals import Seals


class LogEntry(BaseModel):
    id: UUID
    request_id: UUID
    user_id: UUID | None
    username: str | None
    endpoint: str
    method: str
    status: int
    duration_ms: float
    rows: int
    credits_used: float
    ip: str | None
    dataset: str | None
    error_code: str | None
    action: str | None
    target: str | None
    details: dict[str, Any] | None = Field(description="of an admin's action: what changed, old and new")
    trace_id: str | None = Field(description="where the request can be followed; null while tracing is off")
    created_at: datetime


class LogFilter(BaseModel):
    """What is None does not filter."""

    user_id: UUID | None = None
    username: str | None = None
    endpoint: str | None = None
    method: str | None = None
    status_from: int | None = None
    status_to: int | None = None
    dataset: str | None = None
    error_code: str | None = None
    action: str | None = None
    target: str | None = None
    ip: str | None = None
    request_id: UUID | None = None
    trace_id: str | None = None
    slower_than_ms: float | None = None
    since: datetime | None = None
    until: datetime | None = None
    looking: bool | None = None


# A deleted user's name stays in the stored log, which nobody can rewrite, and is shown nowhere.
_SHOWN = """
    SELECT event_id AS id, request_id, user_id,
           coalesce((SELECT u.username FROM gateway.users AS u WHERE u.id = user_id AND u.deleted_at IS NOT NULL),
                    username) AS username, endpoint, method, status, duration_ms, rows, credits_used_mc,
           ip, dataset, error_code, action, target, details, trace_id, created_at
      FROM audit.requests
"""
_CONDITIONS: Mapping[str, str] = {
    "user_id": "user_id = {}",
    # By the id that the name belongs to now: the log's own copy has no index, and may be a deleted user's.
    "username": "user_id = (SELECT id FROM gateway.users WHERE lower(username) = lower({}))",
    "endpoint": "endpoint = {}",
    "method": "method = upper({})",
    "status_from": "status >= {}",
    "status_to": "status <= {}",
    "dataset": "dataset = {}",
    "error_code": "error_code = {}",
    "action": "action = {}",
    "target": "target = {}",
    "ip": "ip = {}",
    "request_id": "event_id = {}",
    "trace_id": "trace_id = {}",
    "slower_than_ms": "duration_ms > {}",
    "since": "created_at >= {}",
    "until": "created_at <= {}",
    "looking": "(starts_with(endpoint, '/console') OR endpoint = '/v1/admin/logs/tail') = {}",
}
# The first half says which partitions it can be, the second where in them.
_BEFORE = "created_at <= {} AND (created_at, event_id) < ({}, {})"
# A request's id says when it began, and its day is one partition or the next.
_ID_IS_NEAR = timedelta(days=1)
_UUID_VERSION = 7


_LIST = "log"
# There may be a partition for each of hundreds of days, and a plan for all of them costs more than most pages do: the
# newest days are tried first.
_REACHES = (timedelta(days=2), timedelta(days=32), None)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A plan for any value would take the common one's way for the rare one too: through the whole log.
_PLAN_FOR_THESE = "SET LOCAL plan_cache_mode = force_custom_plan"


async def read_log(
    postgres: Pool, wanted: LogFilter, *, limit: int, cursor: str | None, seals: Seals, now: datetime
) -> tuple[list[asyncpg.Record], str | None]:
    """Newest first; one page and the next page's cursor. What was answered just now may still be on its way."""
    place = _place_in_log(seals, cursor)
    newest = max(_EPOCH, min(at for at in (now, wanted.until, place and place[0]) if at))
    rows: list[asyncpg.Record] = []
    async with outage_is_unavailable("The request log"):
        for reach in _REACHES:
            rows = await _page(postgres, wanted, place, oldest=newest - reach if reach else None, limit=limit + 1)
            if len(rows) > limit:
                break
    last = rows[limit - 1] if len(rows) > limit else None
    return rows[:limit], cursor_of(seals, _LIST, last["created_at"], last["id"]) if last else None


def _place_in_log(seals: Seals, cursor: str | None) -> tuple[datetime, UUID] | None:
    created_at, event_id = place_of(seals, _LIST, cursor, 2)
    if created_at is None or event_id is None:
        return None
    try:
        return datetime.fromisoformat(created_at), UUID(event_id)
    except ValueError:
        raise bad_cursor() from None


async def _page(
    postgres: Pool, wanted: LogFilter, before: tuple[datetime, UUID] | None, *, oldest: datetime | None, limit: int
) -> list[asyncpg.Record]:
    where = _Where(wanted)
    if before is not None:
        where.add(_BEFORE, before[0], *before)
    if oldest is not None:
        where.add(_CONDITIONS["since"], oldest)
    return await _fetch(
        postgres, f"{where.sql} ORDER BY created_at DESC, event_id DESC LIMIT {where.bind(limit)}", where
    )


async def read_log_after(postgres: Pool, wanted: LogFilter, *, since: datetime, limit: int) -> list[asyncpg.Record]:
    """The oldest of those that are newer than `since`."""
    where = _Where(wanted)
    where.add("created_at > {}", since)
    async with outage_is_unavailable("The request log"):
        return await _fetch(postgres, f"{where.sql} ORDER BY created_at, event_id LIMIT {where.bind(limit)}", where)


async def read_entry(postgres: Pool, request_id: UUID) -> asyncpg.Record | None:
    where = _Where(LogFilter(request_id=request_id))
    async with outage_is_unavailable("The request log"):
        return await postgres.fetchrow(f"{_SHOWN}{where.sql}", *where.values)


async def _fetch(postgres: Pool, wanted: str, where: "_Where") -> list[asyncpg.Record]:
    async with postgres.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute(_PLAN_FOR_THESE)
        return await connection.fetch(_SHOWN + wanted, *where.values)


class _Where:
    """Only the conditions that are asked for, so that Postgres plans for those; values are always parameters."""

    def __init__(self, wanted: LogFilter) -> None:
        self.values: list[Any] = []
        self._conditions: list[str] = []
        for name, value in _given(wanted):
            self.add(_CONDITIONS[name], value)

    def add(self, condition: str, *values: Any) -> None:
        self._conditions.append(condition.format(*map(self.bind, values)))

    def bind(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    @property
    def sql(self) -> str:
        return f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""


def _given(wanted: LogFilter) -> Iterator[tuple[str, Any]]:
    for name in LogFilter.model_fields:
        if (value := getattr(wanted, name)) is not None:
            yield name, value
    if wanted.request_id is not None and (began := time_of(wanted.request_id)) is not None:
        yield "since", began - _ID_IS_NEAR
        yield "until", began + _ID_IS_NEAR


def time_of(request_id: UUID) -> datetime | None:
    """When an id of version 7 was made."""
    if request_id.version != _UUID_VERSION:
        return None
    return datetime.fromtimestamp((request_id.int >> 80) / 1000, UTC)
