"""Postgres: one pool per process, a deadline on every statement."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import orjson

from common.errors import Unavailable
from common.settings import PostgresSettings

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# What a driver raises when the server is away, frozen, restarting or out of connections: nothing was decided.
OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
_CLOSE_S = 5


@asynccontextmanager
async def open_postgres(settings: PostgresSettings, *, connections_min: int = 1) -> AsyncIterator[Pool]:
    """A pool. Leaving it waits a few seconds, then terminates: against a frozen server close() waits for ever."""
    pool = await _BoundedPool(
        settings.postgres_url.get_secret_value(),
        wait_s=settings.postgres_statement_s,
        min_size=connections_min,
        max_size=settings.postgres_pool_max,
        command_timeout=settings.postgres_statement_s,
        timeout=settings.postgres_statement_s,
        server_settings={
            "application_name": settings.config_section,
            "idle_in_transaction_session_timeout": "30s",
            "statement_timeout": f"{int(settings.postgres_statement_s * 1000)}",
        },
        init=_json_as_objects,
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), _CLOSE_S)
        except TimeoutError:
            pool.terminate()


class _BoundedPool(asyncpg.Pool):
    """Raises TimeoutError when no connection comes free in time; giving one back is bounded likewise.

    The library's own pool waits for ever: behind a few slow statements every request would queue without an answer.
    """

    def __init__(self, dsn: str, *, wait_s: float, **options: Any) -> None:
        super().__init__(
            dsn,
            max_queries=50_000,
            max_inactive_connection_lifetime=300,
            loop=None,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            **options,
        )
        self._wait_s = wait_s

    def acquire(self, *, timeout: float | None = None) -> "asyncpg.pool.PoolAcquireContext[asyncpg.Record]":
        return super().acquire(timeout=self._wait_s if timeout is None else timeout)


@asynccontextmanager
async def borrowed(pool: Pool, deadline_s: float) -> AsyncIterator[Connection]:
    """A connection for a body that ends within the deadline, waiting for the connection included, or TimeoutError.

    One that is interrupted is terminated: giving it back in good order waits for a frozen server.
    """
    async with asyncio.timeout(deadline_s):
        connection = await pool.acquire()
        try:
            yield connection
        except asyncio.CancelledError:
            connection.terminate()
            raise
        finally:
            await pool.release(connection)


@asynccontextmanager
async def outage_is_unavailable(what: str) -> AsyncIterator[None]:
    """Translate a driver's outage to the answer that tells the client to come back: 503 with Retry-After."""
    try:
        yield
    except OUTAGES as exc:
        raise Unavailable(f"{what} is not available, try again shortly") from exc


async def _json_as_objects(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind,
            encoder=lambda value: orjson.dumps(value).decode(),
            decoder=orjson.loads,
            schema="pg_catalog",
        )
