"""The version of each dataset: raised when a load ends or is undone. Known here within a second, by NOTIFY and reading.

A cached answer of an older version is dead, and while an upload is being undone its rows are left out of every answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from common.clock import Clock
from common.errors import Unavailable
from common.lifecycle import forever, in_background
from common.postgres import OUTAGES, Pool, borrowed
from gateway.published_views import published
from gateway.settings import Settings

_READ_EVERY_S = 0.5
_FRESH_S = 1.0
_READ_S = 2.0
_LISTEN_AGAIN_S = 5.0
_CHANNEL = "dataset_version"
_READ = "SELECT * FROM ingest.dataset_freshness"


@dataclass(frozen=True)
class Freshness:
    """`excluded`: uploads that are being undone."""

    version: int = 0
    loaded_at: datetime | None = None
    excluded: tuple[str, ...] = ()


class Versions:
    def __init__(self, postgres: Pool, clock: Clock) -> None:
        self._postgres = postgres
        self._clock = clock
        self._known: Mapping[str, Freshness] = {}
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def of(self, dataset: str) -> Freshness:
        """At most a second old: older knowledge is read again first. Raises Unavailable."""
        if self._read_at is None or self._clock.monotonic() - self._read_at > _FRESH_S:
            await self.refresh()
        return self._known.get(dataset, Freshness())

    async def all(self) -> Mapping[str, Freshness]:
        await self.refresh()
        return self._known

    async def refresh(self) -> None:
        """Read once for everybody who asks meanwhile."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        # Shielded: whoever leaves must not take it from the others.
        await asyncio.shield(self._reading)

    async def refresh_now(self) -> None:
        """Like refresh, with a read that begins after this call: what has just ended is in it."""
        if self._reading is not None and not self._reading.done():
            with suppress(Exception):
                await asyncio.shield(self._reading)
        await self.refresh()

    async def follow(self) -> None:
        """One look, at once when Postgres says that something changed, else half a second later."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), _READ_EVERY_S)
        self._changed.clear()
        with suppress(Unavailable):  # whoever needs to know asks again, and is told so
            await self.refresh()

    async def listen(self, dsn: str) -> None:
        """Until the connection is lost; the regular look goes on without it."""
        connection = await asyncpg.connect(dsn, timeout=_READ_S, command_timeout=_READ_S)
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(_CHANNEL, lambda *_: self._changed.set())
            await lost.wait()
        finally:
            connection.terminate()

    async def _read(self) -> None:
        asked_at = self._clock.monotonic()  # before asking: what changes meanwhile must not count as known
        async with published("The state of datasets"), borrowed(self._postgres, _READ_S) as connection:
            rows = await connection.fetch(_READ)
        self._known = {row["dataset"]: _freshness(row) for row in rows}
        self._read_at = asked_at


def _freshness(row: asyncpg.Record) -> Freshness:
    return Freshness(row["version"], row["fresh_at"], tuple(str(one) for one in row.get("excluded") or ()))


@asynccontextmanager
async def open_versions(postgres: Pool, settings: Settings, clock: Clock) -> AsyncIterator[Versions]:
    versions = Versions(postgres, clock)

    async def listen() -> None:
        with suppress(*OUTAGES):
            await versions.listen(settings.postgres_url.get_secret_value())

    async with in_background(
        forever("follow dataset versions", versions.follow, pause_s=0),
        forever("listen for dataset versions", listen, pause_s=_LISTEN_AGAIN_S),
    ):
        yield versions
