"""Writing entries: all of a batch, its rollups and its place in the topic in one transaction, each entry once.

What makes it once is event_id, unique in its day, never the offset: a topic that was made anew counts from 0 again,
and skipping by offset would lose its first records without a word.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

from audit.daily_usage import add_usage, day_of
from audit.entries import Entry
from audit.retention import Days
from common.errors import Permanent, Transient
from common.faultpoints import faultpoint
from common.postgres import Connection, Pool

_STAGE = "CREATE TEMP TABLE staged (LIKE audit.request_log) ON COMMIT DROP"
_INSERT_NEW = f"""
    INSERT INTO audit.request_log ({", ".join(Entry._fields)})
    SELECT {", ".join(Entry._fields)} FROM staged ORDER BY event_id
        ON CONFLICT DO NOTHING
 RETURNING event_id
"""  # noqa: S608 - our own column names
# A member that slept through a rebalance may be behind the one that took over: the place never goes back.
_REMEMBER = """
    INSERT INTO audit.consumer_offsets AS kept (topic, partition, next_offset)
    SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]) ORDER BY 1, 2
        ON CONFLICT (topic, partition) DO UPDATE
       SET next_offset = greatest(kept.next_offset, excluded.next_offset), updated_at = now()
"""


class Place(NamedTuple):
    topic: str
    partition: int


class Written(NamedTuple):
    new: int
    repeated: int


class RequestLog:
    def __init__(self, postgres: Pool, days: Days) -> None:
        self._postgres = postgres
        self._days = days
        self._repeating = False

    async def write(self, entries: Sequence[Entry], next_offsets: Mapping[Place, int]) -> Written:
        """Raises Permanent when Postgres refuses the content of an entry, Transient for everything else it may say."""
        once = list({entry.event_id: entry for entry in entries}.values())
        try:
            await self._days.ensure(map(day_of, once))
            async with self._postgres.acquire() as connection, connection.transaction():
                new = await self._insert(connection, once)
                faultpoint("audit.copied")
                await add_usage(connection, new)
                await _remember(connection, next_offsets)
        except asyncpg.CheckViolationError as exc:
            if exc.constraint_name is not None:
                raise Permanent(f"refused by {exc.constraint_name}") from exc
            self._days.forget()
            raise Transient("a day has lost its partition") from exc
        except (asyncpg.DataError, asyncpg.NotNullViolationError) as exc:
            raise Permanent(f"refused by the log: {type(exc).__name__}") from exc
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
            raise Transient(f"the log cannot be written: {exc!r}") from exc
        faultpoint("audit.committed")
        self._repeating = len(new) < len(once)
        return Written(len(new), len(entries) - len(new))

    async def _insert(self, connection: Connection, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Repeats are rare and come in rows: COPY goes straight to the log unless the batch before had some."""
        if self._repeating:
            return await _insert_new(connection, entries)
        try:
            async with connection.transaction():
                await _copy(connection, "request_log", entries, schema_name="audit")
        except asyncpg.UniqueViolationError:
            return await _insert_new(connection, entries)
        return entries


async def _insert_new(connection: Connection, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Returns those that were not there yet."""
    await connection.execute(_STAGE)
    await _copy(connection, "staged", entries)
    new = {row["event_id"] for row in await connection.fetch(_INSERT_NEW)}
    return [entry for entry in entries if entry.event_id in new]


async def _copy(connection: Connection, table: str, entries: Sequence[Entry], **where: Any) -> None:
    if entries:
        await connection.copy_records_to_table(table, records=entries, columns=Entry._fields, **where)


async def _remember(connection: Connection, next_offsets: Mapping[Place, int]) -> None:
    topics, partitions = [place.topic for place in next_offsets], [place.partition for place in next_offsets]
    await connection.execute(_REMEMBER, topics, partitions, list(next_offsets.values()))
