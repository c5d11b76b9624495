"""Who was erased, for the records topic: what arrived before stays out, and an erasure waits for what is being loaded.

Files leave a mark in the manifest while they are loaded; records hold a lock that the deletion of an erasure asks for.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg

from common.errors import Transient
from common.normalise.moment import LATEST
from common.postgres import Connection
from ingest.erased import Erasures
from ingest.manifest import Manifest

_LOCK = "hashtextextended('records', 0)"
# Senders write what they like; beyond this, Python has no date.
_ARRIVED_MS_MAX = int(LATEST.timestamp() * 1000)
# Short: loaders that come later stand behind whoever waits for the others.
_WAIT_MS = 2000
# A session's lock, which the pool takes back with the connection: a load may last longer than a transaction should.
_HOLD = f"SELECT pg_advisory_lock_shared({_LOCK})"
_WAIT = f"SELECT pg_advisory_xact_lock({_LOCK})"
_ERASED = """
    SELECT dataset, "column", sha256, (extract(epoch FROM erased_at) * 1000)::bigint AS at_ms
      FROM ingest.erased WHERE erased_at >= $1
"""


@asynccontextmanager
async def erasures_since(manifest: Manifest, arrived_ms: int) -> AsyncIterator[Mapping[str, Erasures]]:
    """By dataset, those after this moment. No erasure begins to delete while the body loads."""
    moment = datetime.fromtimestamp(min(max(0, arrived_ms), _ARRIVED_MS_MAX) / 1000, UTC)
    async with manifest.connection() as connection:
        await connection.execute(_HOLD)
        found: dict[str, dict[str, dict[str, int]]] = {}
        for row in await connection.fetch(_ERASED, moment):
            of_column = found.setdefault(row["dataset"], {}).setdefault(row["column"], {})
            of_column[row["sha256"]] = row["at_ms"]
        yield found


async def wait_for_records(connection: Connection) -> None:
    """Until no batch is being loaded that began before. Raises Transient: not yet."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {_WAIT_MS}")
            await connection.execute(_WAIT)
    except asyncpg.LockNotAvailableError as exc:
        raise Transient("records that were read before the erasure are still being loaded") from exc
