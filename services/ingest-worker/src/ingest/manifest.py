"""The manifest in Postgres: which uploads there are, their chunks, and what became of them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from common.errors import Permanent, Transient
from common.events import UploadReceived
from common.postgres import OUTAGES, Connection, Pool
from ingest.formats.layout import Layout
from ingest.formats.records import Place

FINISHED = frozenset({"completed", "completed_with_rejects", "failed", "undone", "duplicate"})
_ERROR_CHARS_MAX = 1000


@dataclass(frozen=True)
class Upload:
    upload_id: UUID
    dataset: str
    filename: str
    object_key: str
    size: int
    declared_format: str | None
    generation: int
    state: str


@dataclass(frozen=True)
class PlannedChunk:
    """A piece of an object, to be written to the manifest. `rows` is None where nobody counted them."""

    start: int
    end: int
    place: Place
    rows: int | None


@dataclass(frozen=True)
class Chunk:
    """All that a loader has to know."""

    upload_id: UUID
    generation: int
    chunk_no: int
    sequence: int
    dataset: str
    object_key: str
    received_at: datetime
    layout: Layout
    start: int
    end: int
    place: Place
    rows_planned: int | None
    attempts: int


@dataclass(frozen=True)
class Counts:
    accepted: int = 0
    rejected: int = 0
    bytes_done: int = 0


class Manifest:
    """Every method raises Transient when Postgres is away; whatever was under way is then done again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(self, event: UploadReceived) -> Upload:
        """The row of this upload, made now or found. The same content again becomes a duplicate of the live one."""
        async with self._connection() as connection:
            while True:
                if found := await connection.fetchrow(_FIND, event.upload_id):
                    return Upload(**found)
                async with connection.transaction():
                    values = _values(event)
                    if not await connection.fetchval(_CLAIM, *values):
                        # None when the live one failed meanwhile: then the claim may succeed now.
                        await connection.execute(_CLAIM_DUPLICATE, *values)

    async def planned(self, upload: Upload, layout: Layout, chunks: Sequence[PlannedChunk]) -> None:
        """From planning to loading, in one step: either the whole plan exists or none of it."""
        async with self._connection() as connection, connection.transaction():
            if not await connection.fetchval(_LOADING, upload.upload_id, layout.model_dump_json()):
                return
            rows = [
                (upload.upload_id, upload.generation, no, one.start, one.end, one.place.row, one.place.line, one.rows)
                for no, one in enumerate(chunks)
            ]
            await connection.executemany(_ADD_CHUNK, rows)
            if not rows:
                await _finish_upload(connection, upload.upload_id)

    async def chunks_to_announce(self, upload: Upload, stalled_s: float) -> list[int]:
        """Chunks that were never announced, or long ago and nothing is heard of them. They count as announced now."""
        async with self._connection() as connection:
            found = await connection.fetch(_TO_ANNOUNCE, upload.upload_id, upload.generation, stalled_s)
            return [int(row["chunk_no"]) for row in found]

    async def announcement_failed(self, upload: Upload, chunk_nos: Sequence[int]) -> None:
        async with self._connection() as connection:
            await connection.execute(_NOT_ANNOUNCED, upload.upload_id, upload.generation, list(chunk_nos))

    async def begin(self, upload_id: UUID, generation: int, chunk_no: int) -> Chunk | None:
        """The chunk, counted as begun once more; None when there is nothing left to do for it."""
        async with self._connection() as connection:
            found = await connection.fetchrow(_BEGIN, upload_id, generation, chunk_no)
            return _chunk(dict(found)) if found else None

    async def interrupted(self, chunk: Chunk) -> None:
        """The attempt ended for no fault of the chunk: it does not count against it."""
        async with self._connection() as connection:
            await connection.execute(_INTERRUPTED, *_key(chunk))

    async def progress(self, chunk: Chunk, so_far: Counts) -> None:
        async with self._connection() as connection:
            await connection.execute(_PROGRESS, *_key(chunk), so_far.bytes_done, so_far.accepted, so_far.rejected)

    async def done(self, chunk: Chunk, counts: Counts, dropped: Mapping[str, int]) -> str | None:
        """Mark the chunk done; with the last one the upload ends, in the same transaction. Returns how it ended."""
        async with self._connection() as connection, connection.transaction():
            # The lock makes one of two loaders that finish together see the other's chunk.
            await connection.fetchval(_LOCK, chunk.upload_id)
            values = (chunk.end - chunk.start, counts.accepted, counts.rejected, dict(dropped))
            if not await connection.fetchval(_DONE, *_key(chunk), *values):
                return None
            if await connection.fetchval(_ANY_LEFT, chunk.upload_id, chunk.generation):
                return None
            return await _finish_upload(connection, chunk.upload_id)

    async def fail(self, upload_id: UUID, error: str) -> bool:
        """End an upload with a reason. Its content may be sent again. False: it had ended already."""
        async with self._connection() as connection, connection.transaction():
            failed = await connection.fetchrow(_FAIL, upload_id, error[:_ERROR_CHARS_MAX])
            if failed is None:
                return False
            if await connection.fetchval(_ANY_ROWS, upload_id):
                await raise_version(connection, failed["dataset"])
            return True

    async def finished(self, upload_ids: Sequence[UUID]) -> set[UUID]:
        """Which of these have come to an end."""
        async with self._connection() as connection:
            rows = await connection.fetch(_ENDED, list(upload_ids), sorted(FINISHED))
            return {row["upload_id"] for row in rows}

    async def ask(self) -> None:
        async with self._connection() as connection:
            await connection.fetchval("SELECT 1")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """For what else is kept beside uploads: the same outages, translated the same way."""
        async with self._connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except (*OUTAGES, asyncpg.TransactionRollbackError, asyncpg.QueryCanceledError) as exc:
            raise Transient(f"Postgres does not answer: {exc!r}") from exc
        except asyncpg.DataError as exc:
            raise Permanent(f"Postgres refuses a value: {exc}") from exc


_FIND = """
    SELECT upload_id, dataset, filename, object_key, size, declared_format, generation, state
      FROM ingest.uploads WHERE upload_id = $1
"""
_CLAIM = """
    INSERT INTO ingest.uploads (upload_id, dataset, filename, object_key, size, sha256, sender, declared_format,
                                received_at, live, state, started_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, true, 'planning', now())
    ON CONFLICT DO NOTHING
      RETURNING true
"""
_CLAIM_DUPLICATE = """
    INSERT INTO ingest.uploads (upload_id, dataset, filename, object_key, size, sha256, sender, declared_format,
                                received_at, live, state, duplicate_of)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, false, 'duplicate', first.upload_id
           FROM ingest.uploads first
          WHERE first.dataset = $2 AND first.sha256 = $6 AND first.live
    ON CONFLICT DO NOTHING
"""
_LOADING = """
    UPDATE ingest.uploads SET state = 'loading', layout = $2::text::jsonb
     WHERE upload_id = $1 AND state = 'planning'
 RETURNING true
"""
_ADD_CHUNK = """
    INSERT INTO ingest.chunks (upload_id, generation, chunk_no, start_byte, end_byte,
                               first_row, first_line, rows_planned)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_TO_ANNOUNCE = """
    UPDATE ingest.chunks SET published_at = now()
     WHERE upload_id = $1 AND generation = $2 AND state = 'planned'
       AND (published_at IS NULL
            OR greatest(published_at, progress_at) < now() - make_interval(secs => $3))
 RETURNING chunk_no
"""
_NOT_ANNOUNCED = """
    UPDATE ingest.chunks SET published_at = NULL
     WHERE upload_id = $1 AND generation = $2 AND chunk_no = ANY($3::integer[]) AND state = 'planned'
"""
_BEGIN = """
    UPDATE ingest.chunks c SET attempts = c.attempts + 1, progress_at = now()
      FROM ingest.uploads u
     WHERE c.upload_id = $1 AND c.generation = $2 AND c.chunk_no = $3 AND c.state = 'planned'
       AND u.upload_id = c.upload_id AND u.generation = c.generation AND u.state = 'loading'
 RETURNING c.upload_id, c.generation, c.chunk_no, u.sequence, u.dataset, u.object_key, u.received_at, u.layout,
           c.start_byte, c.end_byte, c.first_row, c.first_line, c.rows_planned, c.attempts
"""
_INTERRUPTED = """
    UPDATE ingest.chunks SET attempts = greatest(0, attempts - 1)
     WHERE upload_id = $1 AND generation = $2 AND chunk_no = $3
"""
_PROGRESS = """
    UPDATE ingest.chunks SET bytes_done = $4, rows_accepted = $5, rows_rejected = $6, progress_at = now()
     WHERE upload_id = $1 AND generation = $2 AND chunk_no = $3 AND state = 'planned'
"""
_LOCK = "SELECT true FROM ingest.uploads WHERE upload_id = $1 FOR UPDATE"
_DONE = """
    UPDATE ingest.chunks
       SET state = 'done', bytes_done = $4, rows_accepted = $5, rows_rejected = $6, values_dropped = $7,
           progress_at = now(), finished_at = now()
     WHERE upload_id = $1 AND generation = $2 AND chunk_no = $3 AND state = 'planned'
 RETURNING true
"""
_ANY_LEFT = """
    SELECT EXISTS (SELECT FROM ingest.chunks WHERE upload_id = $1 AND generation = $2 AND state = 'planned')
"""
_ANY_ROWS = "SELECT EXISTS (SELECT FROM ingest.chunks WHERE upload_id = $1 AND rows_accepted > 0)"
# A file of which nothing was accepted has failed, and says so; its content may be sent again after the declaration
# has changed.
_FINISH = """
      WITH sums AS (
           SELECT coalesce(sum(c.rows_accepted), 0) AS accepted, coalesce(sum(c.rows_rejected), 0) AS rejected,
                  coalesce(sum(coalesce(c.rows_planned, c.rows_accepted + c.rows_rejected)), 0) AS total
             FROM ingest.uploads u
        LEFT JOIN ingest.chunks c ON c.upload_id = u.upload_id AND c.generation = u.generation
            WHERE u.upload_id = $1)
    UPDATE ingest.uploads
       SET state = CASE WHEN rejected = 0 THEN 'completed'
                        WHEN accepted = 0 THEN 'failed'
                        ELSE 'completed_with_rejects' END,
           live = accepted > 0 OR rejected = 0,
           error = CASE WHEN accepted = 0 AND rejected > 0 THEN 'all ' || rejected || ' rows were rejected'
                        WHEN accepted = 0 THEN 'the file has no rows' END,
           rows_total = total, rows_accepted = accepted, rows_rejected = rejected, finished_at = now()
      FROM sums
     WHERE upload_id = $1 AND state = 'loading'
 RETURNING state, dataset, accepted
"""
_FAIL = """
    UPDATE ingest.uploads SET state = 'failed', live = false, error = $2, finished_at = now()
     WHERE upload_id = $1 AND state IN ('planning', 'loading')
 RETURNING dataset
"""
_RAISE_VERSION = """
    INSERT INTO ingest.dataset_versions AS v (dataset, version, raised_at) VALUES ($1, 1, now())
    ON CONFLICT (dataset) DO UPDATE SET version = v.version + 1, raised_at = now()
      RETURNING pg_notify('dataset_version', json_build_object('dataset', dataset, 'version', version)::text)
"""
_ENDED = "SELECT upload_id FROM ingest.uploads WHERE upload_id = ANY($1::uuid[]) AND state = ANY($2::text[])"


async def _finish_upload(connection: Connection, upload_id: UUID) -> str | None:
    ended = await connection.fetchrow(_FINISH, upload_id)
    if ended is None:
        return None
    if ended["accepted"]:
        await raise_version(connection, ended["dataset"])
    return str(ended["state"])


async def raise_version(connection: Connection, dataset: str) -> None:
    await connection.fetchval(_RAISE_VERSION, dataset)


def _values(event: UploadReceived) -> tuple[Any, ...]:
    return (
        event.upload_id,
        event.dataset,
        event.filename,
        event.object_key,
        event.size,
        event.sha256,
        event.sender,
        event.declared_format,
        event.received_at,
    )


def _key(chunk: Chunk) -> tuple[UUID, int, int]:
    return chunk.upload_id, chunk.generation, chunk.chunk_no


def _chunk(found: Mapping[str, Any]) -> Chunk:
    layout = Layout.model_validate(found["layout"])
    # Where a file is one stream in another encoding, rows are placed in its UTF-8 form.
    offset = found["start_byte"] if layout.divisible else layout.offset
    return Chunk(
        upload_id=found["upload_id"],
        generation=found["generation"],
        chunk_no=found["chunk_no"],
        sequence=found["sequence"],
        dataset=found["dataset"],
        object_key=found["object_key"],
        received_at=found["received_at"],
        layout=layout,
        start=found["start_byte"],
        end=found["end_byte"],
        place=Place(offset, found["first_line"], found["first_row"]),
        rows_planned=found["rows_planned"],
        attempts=found["attempts"],
    )
