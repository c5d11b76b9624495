"""What becomes of each chunk, in the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ingest.formats.layout import Layout
from ingest.formats.records import Place
from ingest.manifest_plans import PlannedChunk
from ingest.manifest_store import Store
from ingest.upload_end import finish_upload


@dataclass(frozen=True)
class Chunk:
    """All that a loader has to know."""

    upload_id: UUID
    generation: int
    chunk_no: int
    sequence: int
    dataset: str
    object_key: str
    object_size: int
    received_at: datetime
    layout: Layout
    start: int
    end: int
    place: Place
    rows_planned: int | None
    attempts: int
    in_doubt: bool  # an earlier try may have ended anywhere

    @property
    def planned(self) -> PlannedChunk:
        return PlannedChunk(self.start, self.end, self.place, self.rows_planned)


@dataclass(frozen=True)
class Counts:
    accepted: int = 0
    rejected: int = 0
    bytes_done: int = 0


class Chunks(Store):
    async def begin(self, upload_id: UUID, generation: int, chunk_no: int) -> Chunk | None:
        """The chunk, counted as begun once more; None when there is nothing left to do for it."""
        async with self.connection() as connection:
            found = await connection.fetchrow(_BEGIN, upload_id, generation, chunk_no)
            return _chunk(dict(found)) if found else None

    async def erased(self, dataset: str, received_at: datetime) -> dict[str, frozenset[str]]:
        """Hashes of values that were erased after an object had arrived, by column."""
        async with self.connection() as connection:
            rows = await connection.fetch(_ERASED, dataset, received_at)
            return {row["column"]: frozenset(row["hashes"]) for row in rows}

    async def chunks_with_rejects(self, upload_id: UUID, generation: int) -> list[Chunk]:
        """Of an upload that has ended."""
        async with self.connection() as connection:
            return [_chunk(dict(row)) for row in await connection.fetch(_WITH_REJECTS, upload_id, generation)]

    async def interrupted(self, chunk: Chunk) -> None:
        """The attempt ended for no fault of the chunk: it does not count against it."""
        async with self.connection() as connection:
            await connection.execute(_INTERRUPTED, *_key(chunk))

    async def progress(self, chunk: Chunk, so_far: Counts) -> bool:
        """False: nobody wants the rest of this chunk any more, its upload has failed meanwhile."""
        async with self.connection() as connection:
            values = (so_far.bytes_done, so_far.accepted, so_far.rejected)
            return bool(await connection.fetchval(_PROGRESS, *_key(chunk), *values))

    async def done(self, chunk: Chunk, counts: Counts, dropped: Mapping[str, int]) -> str | None:
        """Mark the chunk done; with the last one the upload ends, in the same transaction. Returns how it ended."""
        async with self.connection() as connection, connection.transaction():
            # The lock makes one of two loaders that finish together see the other's chunk.
            await connection.fetchval(_LOCK, chunk.upload_id)
            values = (chunk.end - chunk.start, counts.accepted, counts.rejected, dict(dropped))
            if not await connection.fetchval(_DONE, *_key(chunk), *values):
                return None
            if await connection.fetchval(_ANY_LEFT, chunk.upload_id, chunk.generation):
                return None
            return await finish_upload(connection, chunk.upload_id)


_BEGIN = """
    UPDATE ingest.chunks c SET attempts = c.attempts + 1, begun = c.begun + 1, running = true, begun_at = now(),
           progress_at = now()
      FROM ingest.uploads u
     WHERE c.upload_id = $1 AND c.generation = $2 AND c.chunk_no = $3 AND c.state = 'planned'
       AND u.upload_id = c.upload_id AND u.generation = c.generation AND u.state = 'loading'
 RETURNING c.upload_id, c.generation, c.chunk_no, u.sequence, u.dataset, u.object_key, u.size, u.received_at, u.layout,
           c.start_byte, c.end_byte, c.first_row, c.first_line, c.rows_planned, c.attempts, c.begun
"""
_ERASED = """
    SELECT "column", array_agg(sha256) AS hashes FROM ingest.erased
     WHERE dataset = $1 AND erased_at >= $2 GROUP BY "column"
"""
_WITH_REJECTS = """
    SELECT c.upload_id, c.generation, c.chunk_no, u.sequence, u.dataset, u.object_key, u.size, u.received_at, u.layout,
           c.start_byte, c.end_byte, c.first_row, c.first_line, c.rows_planned, c.attempts, c.begun
      FROM ingest.chunks c JOIN ingest.uploads u USING (upload_id)
     WHERE c.upload_id = $1 AND c.generation = $2 AND c.rows_rejected > 0 ORDER BY c.chunk_no
"""
_INTERRUPTED = """
    UPDATE ingest.chunks SET attempts = greatest(0, attempts - 1), running = false
     WHERE upload_id = $1 AND generation = $2 AND chunk_no = $3
"""
_PROGRESS = """
    UPDATE ingest.chunks c SET bytes_done = $4, rows_accepted = $5, rows_rejected = $6, progress_at = now()
      FROM ingest.uploads u
     WHERE c.upload_id = $1 AND c.generation = $2 AND c.chunk_no = $3 AND c.state = 'planned'
       AND u.upload_id = c.upload_id AND u.state = 'loading'
 RETURNING true
"""
_LOCK = "SELECT true FROM ingest.uploads WHERE upload_id = $1 FOR UPDATE"
_DONE = """
    UPDATE ingest.chunks
       SET state = 'done', running = false, bytes_done = $4, rows_accepted = $5, rows_rejected = $6,
           values_dropped = $7, progress_at = now(), finished_at = now()
     WHERE upload_id = $1 AND generation = $2 AND chunk_no = $3 AND state = 'planned'
 RETURNING true
"""
_ANY_LEFT = """
    SELECT EXISTS (SELECT FROM ingest.chunks WHERE upload_id = $1 AND generation = $2 AND state = 'planned')
"""


def _key(chunk: Chunk) -> tuple[UUID, int, int]:
    return chunk.upload_id, chunk.generation, chunk.chunk_no


def _chunk(found: Mapping[str, Any]) -> Chunk:
    layout = Layout.model_validate(found["layout"])
    return Chunk(
        upload_id=found["upload_id"],
        generation=found["generation"],
        chunk_no=found["chunk_no"],
        sequence=found["sequence"],
        dataset=found["dataset"],
        object_key=found["object_key"],
        object_size=found["size"],
        received_at=found["received_at"],
        layout=layout,
        start=found["start_byte"],
        end=found["end_byte"],
        place=Place(_offset(layout, found), found["first_line"], found["first_row"]),
        rows_planned=found["rows_planned"],
        attempts=found["attempts"],
        in_doubt=found["begun"] > 1,
    )


def _offset(layout: Layout, found: Mapping[str, Any]) -> int:
    """Of the first row: its byte; its number in Parquet; where a file is one stream, its place in the stream."""
    if layout.format == "parquet":
        return int(found["first_row"]) - 1
    return int(found["start_byte"]) if layout.divisible else layout.offset
