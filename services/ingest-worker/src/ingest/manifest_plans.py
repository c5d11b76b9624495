"""From an announced upload to its chunks, in the manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from common.events import UploadReceived
from ingest.formats.layout import Layout
from ingest.formats.records import Place
from ingest.manifest_store import Store
from ingest.upload_end import FINISHED, finish_upload


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


class OfUpload(Protocol):
    """An upload or a chunk of it, as it is loaded this time."""

    @property
    def upload_id(self) -> UUID: ...

    @property
    def generation(self) -> int: ...


@dataclass(frozen=True)
class PlannedChunk:
    """A piece of an object, to be written to the manifest. `rows` is None where nobody counted them."""

    start: int
    end: int
    place: Place
    rows: int | None


class Plans(Store):
    async def claim(self, event: UploadReceived) -> Upload:
        """The row of this upload, made now or found. The same content again becomes a duplicate of the live one."""
        async with self.connection() as connection:
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
        async with self.connection() as connection, connection.transaction():
            if not await connection.fetchval(_LOADING, upload.upload_id, layout.model_dump_json()):
                return
            rows = [
                (upload.upload_id, upload.generation, no, one.start, one.end, one.place.row, one.place.line, one.rows)
                for no, one in enumerate(chunks)
            ]
            await connection.executemany(_ADD_CHUNK, rows)
            if not rows:
                await finish_upload(connection, upload.upload_id)

    async def chunks_to_announce(self, upload: OfUpload, *, stalled_s: float, ahead: int) -> list[int]:
        """Chunks that were never announced, or long ago and nothing is heard of them. They count as announced now.

        No more than make `ahead` announced ones that are not done.
        """
        async with self.connection() as connection:
            found = await connection.fetch(_TO_ANNOUNCE, upload.upload_id, upload.generation, stalled_s, ahead)
            return [int(row["chunk_no"]) for row in found]

    async def announcement_failed(self, upload: OfUpload, chunk_nos: Sequence[int]) -> None:
        async with self.connection() as connection:
            await connection.execute(_NOT_ANNOUNCED, upload.upload_id, upload.generation, list(chunk_nos))

    async def finished(self, upload_ids: Sequence[UUID]) -> set[UUID]:
        """Which of these have come to an end."""
        async with self.connection() as connection:
            rows = await connection.fetch(_ENDED, list(upload_ids), sorted(FINISHED))
            return {row["upload_id"] for row in rows}


_FIND = """
    SELECT upload_id, dataset, filename, object_key, size, declared_format, generation, state
      FROM ingest.uploads WHERE upload_id = $1
"""
_CLAIM = """
    INSERT INTO ingest.uploads (upload_id, dataset, filename, object_key, size, sha256, sender, declared_format,
                                received_at, replaces, live, state, started_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, true, 'planning', now())
    ON CONFLICT DO NOTHING
      RETURNING true
"""
_CLAIM_DUPLICATE = """
    INSERT INTO ingest.uploads (upload_id, dataset, filename, object_key, size, sha256, sender, declared_format,
                                received_at, replaces, live, state, duplicate_of)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, false, 'duplicate', first.upload_id
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
      WITH planned AS (
           SELECT chunk_no, published_at IS NULL
                            OR greatest(published_at, progress_at) < now() - make_interval(secs => $3) AS silent
             FROM ingest.chunks WHERE upload_id = $1 AND generation = $2 AND state = 'planned'),
           next AS (
           SELECT chunk_no FROM planned WHERE silent ORDER BY chunk_no
            LIMIT greatest(0, $4 - (SELECT count(*) FROM planned WHERE NOT silent)))
    UPDATE ingest.chunks SET published_at = now()
     WHERE upload_id = $1 AND generation = $2 AND state = 'planned' AND chunk_no IN (SELECT chunk_no FROM next)
 RETURNING chunk_no
"""
_NOT_ANNOUNCED = """
    UPDATE ingest.chunks SET published_at = NULL
     WHERE upload_id = $1 AND generation = $2 AND chunk_no = ANY($3::integer[]) AND state = 'planned'
"""
_ENDED = "SELECT upload_id FROM ingest.uploads WHERE upload_id = ANY($1::uuid[]) AND state = ANY($2::text[])"


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
        event.replaces,
    )
