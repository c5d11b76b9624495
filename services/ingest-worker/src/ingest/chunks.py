"""A chunk becomes rows: parse, normalise, quarantine, insert, then the manifest, and the offset last of all."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord
from clickhouse_connect.driver.asyncclient import AsyncClient
from obstore.store import ObjectStore

from common.datasets import Dataset, Datasets
from common.errors import Permanent, Transient
from common.events import ChunkPlanned, event_of
from common.faultpoints import faultpoint
from common.logs import get_logger
from common.metrics import counter
from ingest import dataset_table, quarantine
from ingest.arrival import Doubt
from ingest.blocks import LoadedBlock, blocks_of
from ingest.manifest import Chunk, Counts, Manifest
from ingest.settings import Settings
from ingest.source import BucketObject
from ingest.turns import Turns

_log = get_logger(__name__)
_rows = counter("bigdata_upload_rows_total", "Rows of uploads, by what became of them", "dataset", "outcome")
_chunks = counter("bigdata_chunks_total", "Chunks, by how their load ended", "outcome")


@dataclass
class _Tally:
    """What of a chunk is durable so far."""

    counts: Counts = field(default_factory=Counts)
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, block: LoadedBlock) -> None:
        self.counts = Counts(
            self.counts.accepted + block.rows.rows, self.counts.rejected + block.rejects.rows, block.bytes_done
        )
        for reason, count in block.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count


class ChunkLoader:
    def __init__(
        self,
        manifest: Manifest,
        bucket: ObjectStore,
        clickhouse: AsyncClient,
        datasets: Datasets,
        settings: Settings,
        *,
        turns: Turns,
        moved: Callable[[], None],
    ) -> None:
        """`moved` is called for each block: a long chunk is progress too."""
        self._manifest, self._bucket, self._clickhouse = manifest, bucket, clickhouse
        self._datasets, self._settings, self._turns, self._moved = datasets, settings, turns, moved

    async def take(self, record: ConsumerRecord) -> None:
        """When it returns, the chunk is durable or its upload has failed. Raises Transient: the same again later."""
        event = event_of(ChunkPlanned, record.value)
        faultpoint("ingest.fetched")
        chunk = await self._manifest.begin(event.upload_id, event.generation, event.chunk_no)
        if chunk is None:
            return
        log = _log.bind(upload_id=str(chunk.upload_id), chunk_no=chunk.chunk_no, dataset=chunk.dataset)
        try:
            outcome = await self._load(chunk)
        except Permanent as exc:
            await self._manifest.fail(chunk.upload_id, str(exc), chunk.chunk_no)
            _chunks.labels("failed").inc()
            log.warning("upload failed", reason=str(exc))
        except BaseException:
            # An outage, a shutdown or a fault of ours: the chunk did not kill its loader.
            await asyncio.shield(self._uncount(chunk))
            raise
        else:
            _chunks.labels("done").inc()
            log.info("chunk loaded", upload_ended=outcome)
            if outcome is None:
                await self._next_turn(chunk)

    async def _next_turn(self, chunk: Chunk) -> None:
        """This one is done whether or not the next can be announced: the watch announces what was not."""
        try:
            await self._turns.announce(chunk)
        except Transient as exc:
            _log.warning("the next chunks wait for the watch", upload_id=str(chunk.upload_id), reason=str(exc))

    async def _uncount(self, chunk: Chunk) -> None:
        _chunks.labels("interrupted").inc()
        try:
            await self._manifest.interrupted(chunk)
        except Transient as exc:
            _log.warning("an attempt stays counted", chunk_no=chunk.chunk_no, reason=str(exc))

    async def _load(self, chunk: Chunk) -> str | None:
        if chunk.attempts > self._settings.chunk_attempts_max:
            raise Permanent(f"chunk {chunk.chunk_no} stopped its loader {chunk.attempts - 1} times and is given up")
        dataset = self._datasets.get(chunk.dataset)
        if dataset is None:
            raise Permanent(f"there is no dataset {chunk.dataset}")
        tally = _Tally()
        async with aclosing(self._blocks(chunk, dataset)) as blocks:
            async for block in blocks:
                await self._write(chunk, dataset, block)
                tally.add(block)
                if not await self._manifest.progress(chunk, tally.counts):
                    # What it brought is being taken back, which waits for this.
                    await self._manifest.interrupted(chunk)
                    return None
                self._moved()
                self._check_rejects(chunk, tally.counts)
        _check(chunk, tally.counts)
        faultpoint("ingest.before_manifest")
        outcome = await self._manifest.done(chunk, tally.counts, tally.dropped)
        faultpoint("ingest.after_manifest")
        _rows.labels(chunk.dataset, "accepted").inc(tally.counts.accepted)
        _rows.labels(chunk.dataset, "rejected").inc(tally.counts.rejected)
        return outcome

    def _check_rejects(self, chunk: Chunk, so_far: Counts) -> None:
        """A file of which hardly anything fits must not be written into the quarantine as a whole."""
        found = so_far.accepted + so_far.rejected
        if so_far.rejected > self._settings.rejects_max and so_far.rejected > found * self._settings.rejects_share_max:
            raise Permanent(
                f"{so_far.rejected} of the first {found} rows of chunk {chunk.chunk_no} were rejected: "
                "the rest was not read"
            )

    async def _write(self, chunk: Chunk, dataset: Dataset, block: LoadedBlock) -> None:
        doubt = Doubt(str(chunk.upload_id), chunk.generation) if chunk.in_doubt else None
        faultpoint("ingest.parsed")
        token = _token(chunk, block.no, f"q{block.rejects.digest}")
        await quarantine.keep(self._clickhouse, block.rejects, token, doubt)
        faultpoint("ingest.quarantined")
        token = _token(chunk, block.no, block.rows.digest)
        await dataset_table.load(self._clickhouse, dataset, block.rows, token, doubt)
        faultpoint("ingest.inserted")

    async def _blocks(self, chunk: Chunk, dataset: Dataset) -> AsyncGenerator[LoadedBlock]:
        """Blocks made in a thread, one ahead of the one being inserted, so that heartbeats and status go on."""
        stored = BucketObject(self._bucket, chunk.object_key, chunk.object_size)
        erased = await self._manifest.erased(chunk.dataset, chunk.received_at)
        blocks = blocks_of(chunk, stored, dataset, self._settings.limits, erased)
        coming = asyncio.create_task(asyncio.to_thread(_next, blocks))
        try:
            while (block := await coming) is not None:
                coming = asyncio.create_task(asyncio.to_thread(_next, blocks))
                yield block
        finally:
            # A thread cannot be cancelled: leaving while it works would let it read on in the next chunk's time.
            await asyncio.wait({coming})
            await asyncio.to_thread(blocks.close)


def _next(blocks: Generator[LoadedBlock]) -> LoadedBlock | None:
    return next(blocks, None)


def _check(chunk: Chunk, counts: Counts) -> None:
    found = counts.accepted + counts.rejected
    if chunk.rows_planned is not None and found != chunk.rows_planned:
        raise Permanent(
            f"chunk {chunk.chunk_no} has {chunk.rows_planned} rows, {found} were found: reported as a fault"
        )


def _token(chunk: Chunk, block_no: int, digest: str) -> str:
    return f"{chunk.upload_id}:{chunk.generation}:{chunk.chunk_no}:{block_no}:{digest}"
