"""Invariant I8: how long after a fault everything is well again, by the clock of whoever watches."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import httpx
from aiokafka.errors import KafkaError

from devstack.stack import Stack
from support.offsets import READERS, Offsets, ends, waiting

_LOOK_S = 0.1
# Also true under load: whoever began before the fault ended holds nothing any more, and nobody sits in a transaction.
_HELD = """
    SELECT count(*) FROM pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
       AND (xact_start < $1 OR (state LIKE 'idle in transaction%' AND state_change < now() - interval '1 second'))
"""
_AWAY = (OSError, TimeoutError, httpx.HTTPError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(frozen=True)
class Recovery:
    """Seconds since the end of a fault; None when it took longer than somebody waited."""

    health_s: float | None
    lag_s: float | None
    pools_s: float | None

    @property
    def all_s(self) -> float | None:
        parts = [one for one in (self.health_s, self.lag_s, self.pools_s) if one is not None]
        return max(parts) if len(parts) == 3 else None


async def recovery(stack: Stack, ended: float, *, deadline_s: float) -> Recovery:
    """`ended`: of time.monotonic. Health says 200, what waited in a topic is handled, no connection is held."""
    moment = datetime.now(UTC)
    looks = (lambda: _healthy(stack), _Lag(stack).gone, lambda: _none_held(stack, moment))
    return Recovery(*await asyncio.gather(*(_first(look, ended, deadline_s) for look in looks)))


async def _first(look: Callable[[], Awaitable[bool]], ended: float, deadline_s: float) -> float | None:
    while (passed := time.monotonic() - ended) < deadline_s:
        try:
            async with asyncio.timeout(deadline_s - passed):
                if await look():
                    return round(time.monotonic() - ended, 2)
        except _AWAY:
            pass
        await asyncio.sleep(_LOOK_S)
    return None


async def _healthy(stack: Stack) -> bool:
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=5) as client:
        return (await client.get("/v1/health")).status_code == httpx.codes.OK


class _Lag:
    """Under load there is always something on its way: counted is what was there at the first look."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._until: Offsets = {}

    async def gone(self) -> bool:
        self._until = self._until or await ends(self._stack, *READERS.values())
        return await waiting(self._stack, self._until) == 0


async def _none_held(stack: Stack, moment: datetime) -> bool:
    connection = await asyncpg.connect(str(stack.status().postgres), timeout=10)
    try:
        return not await connection.fetchval(_HELD, moment, timeout=10)
    finally:
        connection.terminate()
