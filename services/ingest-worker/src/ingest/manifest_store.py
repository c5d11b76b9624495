"""The manifest's connection to Postgres, and what its outages mean."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from common.errors import Permanent, Transient
from common.postgres import OUTAGES, Connection, Pool


class Store:
    """Every method raises Transient when Postgres is away; whatever was under way is then done again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ask(self) -> None:
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """For what else is kept beside uploads: the same outages, translated the same way."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except (*OUTAGES, asyncpg.TransactionRollbackError, asyncpg.QueryCanceledError) as exc:
            raise Transient(f"Postgres does not answer: {exc!r}") from exc
        except asyncpg.DataError as exc:
            raise Permanent(f"Postgres refuses a value: {exc}") from exc
