"""The log as it grows, as server-sent events: one for each request that audit has written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from common.clock import Clock
from common.errors import Unavailable
from common.postgres import Pool
from gateway.answers import encoded, public
from gateway.request_log import LogFilter, read_log_after

_LOOK_S = 1.0
_QUIET_S = 15.0  # shorter than what a proxy waits before it closes a connection that says nothing
# A key may be revoked, a role taken away: whoever follows comes back and is asked again. Browsers do so by themselves.
_FOLLOWED_S = 600.0
_PAGE_ROWS = 500
_REMEMBERED = 20_000
# Events of several partitions are written side by side: what is older than the newest by so much may still come.
_OVERLAP = timedelta(seconds=5)


class LogTail:
    """Each entry once, in the order in which it is found. Looks behind the newest entry, not behind the clock: after
    an outage of the log, what was late is not missed.
    """

    def __init__(self, postgres: Pool, wanted: LogFilter, since: datetime, clock: Clock) -> None:
        self._postgres = postgres
        self._clock = clock
        self._wanted = wanted
        self._since = since
        self._newest = since
        self._seen: dict[UUID, None] = {}  # in the order in which they came

    async def new(self) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = []
        after = max(self._since, self._newest - _OVERLAP)
        while True:
            page = await read_log_after(self._postgres, self._wanted, since=after, limit=_PAGE_ROWS)
            found += [row for row in page if row["id"] not in self._seen]
            self._seen |= dict.fromkeys(row["id"] for row in page)
            if len(page) < _PAGE_ROWS:
                break
            after = page[-1]["created_at"]
        if found:
            newest = max(row["created_at"] for row in found)
            # A gateway whose clock is ahead must not hide what others answer until then.
            self._newest = max(self._newest, min(newest, self._clock.now()))
        while len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return found


async def follow(tail: LogTail, clock: Clock, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """Ends when the gateway stops, and after some minutes; a client that reconnects goes on where it was."""
    began = spoke = clock.monotonic()
    yield b"retry: 1000\n\n"
    while not stopping.is_set() and (now := clock.monotonic()) - began < _FOLLOWED_S:
        pieces = await _pieces(tail)
        if pieces or now - spoke > _QUIET_S:
            spoke = now
            yield b"".join(pieces) or b": nothing new\n\n"
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _LOOK_S)


async def _pieces(tail: LogTail) -> list[bytes]:
    try:
        return [
            b"id: %b\nevent: request\ndata: %b\n\n" % (str(row["id"]).encode(), _data(row)) for row in await tail.new()
        ]
    except Unavailable as exc:
        return [f": {exc}\n\n".encode()]


def _data(row: asyncpg.Record) -> bytes:
    return encoded(public(row))
