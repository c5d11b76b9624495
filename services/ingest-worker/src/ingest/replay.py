"""Replay: an upload's rejected rows are read again, by the declaration as it is now. What passes is loaded, the rest is
quarantined as a new generation. An undone upload is loaded again as a whole.

Rows are read from the retained object, not from what quarantine kept of them, so that every format and every size is
replayed as it was sent; a passing row gets the version that it would have had.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import asyncpg
import obstore
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.asyncclient import AsyncClient
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore

from common.bucket import announcement_key
from common.datasets import Dataset, Datasets
from common.errors import Permanent, Transient
from common.events import UploadReceived
from common.faultpoints import faultpoint
from common.postgres import Connection
from ingest import dataset_table, quarantine
from ingest.announce import announce
from ingest.arrival import Doubt
from ingest.blocks import LoadedBlock, blocks_of
from ingest.dataset_versions import raise_version
from ingest.jobs import Job
from ingest.manifest import Chunk, Manifest
from ingest.settings import Settings
from ingest.source import BucketObject
from ingest.undo_begin import Refused
from ingest.warehouse import outages_are_transient


@dataclass
class _Tally:
    passed: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    by_chunk: dict[int, tuple[int, int]] = field(default_factory=dict)

    def document(self, *, dry_run: bool) -> dict[str, Any]:
        figures = {"passed": self.passed, "failed": self.failed}
        rows = {"total": self.passed + self.failed} | figures
        return {"dry_run": dry_run, "rows": rows, "reasons": dict(self.reasons)}


class Replay:
    def __init__(
        self,
        manifest: Manifest,
        bucket: ObjectStore,
        clickhouse: AsyncClient,
        datasets: Datasets,
        settings: Settings,
        *,
        producer: AIOKafkaProducer,
    ) -> None:
        """The producer announces what is loaded again as a whole."""
        self._manifest, self._bucket, self._clickhouse, self._producer = manifest, bucket, clickhouse, producer
        self._datasets, self._settings = datasets, settings

    async def accept(self, connection: Connection, job: Job) -> None:
        """Of an upload that left nothing, undone or failed, all is loaded again; of any other its rejected rows."""
        upload = await connection.fetchrow(_LOCK, job.upload_id)
        if upload is None or upload["state"] == "duplicate":
            raise Refused("this upload loaded nothing of its own: replay the one that it is a duplicate of")
        state = upload["state"]
        if state in {"planning", "loading", "undoing"}:
            raise Refused("this upload is busy, replay it when it has ended")
        if upload["corrected_by"]:
            raise Refused(f"the rejected rows of this upload were corrected by {upload['corrected_by']}")
        if state == "undone" or (state == "failed" and upload["rows_rejected"] is None):
            await self._load_again(connection, job)

    async def _load_again(self, connection: Connection, job: Job) -> None:
        if job.body["dry_run"]:
            raise Refused(
                "nothing of this upload is there: a replay loads all of it again, and there is nothing to try"
            )
        if await connection.fetchval(_BEING_CLEARED, job.upload_id):
            raise Refused("what this upload had brought is being taken back, replay it when that is done")
        try:
            async with connection.transaction():
                await connection.execute(_LOAD_AGAIN, job.upload_id)
        except asyncpg.UniqueViolationError:
            raise Refused("the same content was sent again and is loaded under another id") from None

    async def run(self, job: Job) -> Mapping[str, Any]:
        """Raises Permanent when the object is not there any more, or the upload was undone meanwhile."""
        assert job.upload_id is not None  # noqa: S101 - a command of this kind has one
        async with self._manifest.connection() as connection:
            upload = await connection.fetchrow(_LOCK, job.upload_id)
            before = await connection.fetchval(_RESULT, job.job_id)
        if before is not None:
            return dict(before)
        if upload is None:
            raise Permanent("there is no such upload")
        if upload["state"] in {"planning", "loading"}:
            await self._announce(job.upload_id)
            return {"dry_run": False, "loading_again": True}
        dataset = self._datasets.get(job.dataset)
        if dataset is None:
            raise Permanent(f"there is no dataset {job.dataset}")
        return await self._replay(job, dataset, upload["generation"])

    async def _replay(self, job: Job, dataset: Dataset, generation: int) -> Mapping[str, Any]:
        assert job.upload_id is not None  # noqa: S101 - as above
        dry_run = bool(job.body["dry_run"])
        tally = _Tally()
        for chunk in await self._manifest.chunks_with_rejects(job.upload_id, generation):
            rejected = await self._rejected(chunk)
            before = (tally.passed, tally.failed)
            await self._read_again(chunk, dataset, rejected, tally, dry_run=dry_run)
            tally.by_chunk[chunk.chunk_no] = (tally.passed - before[0], tally.failed - before[1])
        faultpoint("replay.loaded")
        document = tally.document(dry_run=dry_run)
        if not dry_run:
            async with self._manifest.transaction() as connection:
                await _book(connection, job, generation, tally, document)
            faultpoint("replay.booked")
            await self._forget(job.upload_id, generation)
        return document

    async def _read_again(
        self, chunk: Chunk, dataset: Dataset, rejected: set[int], tally: _Tally, *, dry_run: bool
    ) -> None:
        stored = BucketObject(self._bucket, chunk.object_key, chunk.object_size)
        again = replace(chunk, generation=chunk.generation + 1)
        erased = await self._manifest.erased(chunk.dataset, chunk.received_at)
        blocks = blocks_of(again, stored, dataset, self._settings.limits, erased)
        try:
            while rejected and (block := await asyncio.to_thread(_next_of, blocks, rejected)) is not None:
                tally.passed += block.rows.rows
                tally.failed += block.rejects.rows
                tally.reasons.update(quarantine.reasons(block.rejects))
                if not dry_run:
                    await self._write(again, dataset, block)
        finally:
            await asyncio.to_thread(blocks.close)

    async def _write(self, chunk: Chunk, dataset: Dataset, block: LoadedBlock) -> None:
        """Always in doubt: the job may be repeated from its beginning."""
        doubt = Doubt(str(chunk.upload_id), chunk.generation)
        token = f"{chunk.upload_id}:{chunk.generation}:{chunk.chunk_no}:{block.no}:replay:"
        await quarantine.keep(self._clickhouse, block.rejects, f"{token}q{block.rejects.digest}", doubt)
        await dataset_table.load(self._clickhouse, dataset, block.rows, token + block.rows.digest, doubt)

    async def _rejected(self, chunk: Chunk) -> set[int]:
        place = {"upload": str(chunk.upload_id), "generation": chunk.generation, "chunk": chunk.chunk_no}
        async with outages_are_transient():
            found = await self._clickhouse.query(_REJECTED, parameters=place)
            return {int(row[0]) for row in found.result_rows}

    async def _forget(self, upload_id: UUID, generation: int) -> None:
        """The rejects of the generation before: read again, they are rows now, or rejects of this one."""
        async with outages_are_transient():
            await self._clickhouse.command(_FORGET, parameters={"upload": str(upload_id), "generation": generation})

    async def _announce(self, upload_id: UUID) -> None:
        key = announcement_key(upload_id)
        try:
            found = await obstore.get_async(self._bucket, key)
            event = UploadReceived.model_validate_json(bytes(await found.bytes_async()))
        except (FileNotFoundError, NotFoundError):
            raise Permanent("the file is not kept any more: send it again") from None
        except (OSError, BaseError) as exc:
            raise Transient(f"the bucket does not answer: {exc}") from exc
        await announce(self._producer, event)


def _next_of(blocks: Iterator[LoadedBlock], rejected: set[int]) -> LoadedBlock | None:
    """The next block that has rejected rows, and of it only these. Takes them from `rejected`."""
    for block in blocks:
        rows, rejects = dataset_table.only(block.rows, rejected), quarantine.only(block.rejects, rejected)
        if rows.rows or rejects.rows:
            return replace(block, rows=rows, rejects=rejects)
    return None


async def _book(connection: Connection, job: Job, generation: int, tally: _Tally, document: Mapping[str, Any]) -> None:
    """One step: the counts, the chunks of the new generation, the dataset's version, and that the job has done it."""
    booked = await connection.fetchval(_BOOK, job.upload_id, generation, tally.passed, tally.failed)
    if not booked:
        raise Permanent("this upload was undone while it was replayed")
    await connection.execute(_COPY_CHUNKS, job.upload_id, generation)
    for chunk_no, (passed, failed) in tally.by_chunk.items():
        await connection.execute(_COUNT_CHUNK, job.upload_id, generation + 1, chunk_no, passed, failed)
    if tally.passed:
        await raise_version(connection, job.dataset)
    await connection.execute(_KEEP_RESULT, job.job_id, dict(document))


_LOCK = "SELECT state, generation, rows_rejected, corrected_by FROM ingest.uploads WHERE upload_id = $1 FOR UPDATE"
_BEING_CLEARED = "SELECT EXISTS (SELECT FROM ingest.jobs WHERE upload_id = $1 AND kind = 'undo' AND state = 'waiting')"
_RESULT = "SELECT result FROM ingest.jobs WHERE job_id = $1"
_KEEP_RESULT = "UPDATE ingest.jobs SET result = $2 WHERE job_id = $1"
_LOAD_AGAIN = """
    UPDATE ingest.uploads
       SET state = 'planning', generation = generation + 1, live = true, error = NULL, layout = NULL, rows_total = NULL,
           rows_accepted = NULL, rows_rejected = NULL, started_at = now(), finished_at = NULL
     WHERE upload_id = $1
"""
# An upload of which nothing had been accepted has failed; the first row that passes makes it a load.
_BOOK = """
    UPDATE ingest.uploads
       SET generation = generation + 1, rows_accepted = rows_accepted + passed, rows_rejected = still_rejected,
           finished_at = now(),
           state = CASE WHEN still_rejected = 0 THEN 'completed'
                        WHEN rows_accepted + passed > 0 THEN 'completed_with_rejects' ELSE state END,
           error = CASE WHEN rows_accepted + passed > 0 THEN NULL ELSE error END,
           live = live OR (rows_accepted + passed > 0 AND NOT EXISTS (
                      SELECT FROM ingest.uploads other
                       WHERE other.dataset = uploads.dataset AND other.sha256 = uploads.sha256 AND other.live))
      FROM (SELECT $3::bigint AS passed, $4::bigint AS still_rejected) replayed
     WHERE upload_id = $1 AND generation = $2 AND state IN ('completed', 'completed_with_rejects', 'failed')
 RETURNING true
"""
_COPY_CHUNKS = """
    INSERT INTO ingest.chunks (upload_id, generation, chunk_no, start_byte, end_byte, first_row, first_line,
                               rows_planned, state, bytes_done, rows_accepted, rows_rejected, begun, finished_at)
         SELECT upload_id, generation + 1, chunk_no, start_byte, end_byte, first_row, first_line,
                rows_planned, state, bytes_done, rows_accepted, rows_rejected, begun, now()
           FROM ingest.chunks WHERE upload_id = $1 AND generation = $2
    ON CONFLICT DO NOTHING
"""
_COUNT_CHUNK = """
    UPDATE ingest.chunks SET rows_accepted = rows_accepted + $4::bigint, rows_rejected = $5::bigint
     WHERE upload_id = $1 AND generation = $2 AND chunk_no = $3
"""
_REJECTED = """
    SELECT DISTINCT row_no FROM quarantine
     WHERE upload_id = {upload:String} AND generation = {generation:UInt32} AND chunk_no = {chunk:UInt32}
"""
_FORGET = "DELETE FROM quarantine WHERE upload_id = {upload:String} AND generation <= {generation:UInt32}"
