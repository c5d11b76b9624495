"""A chunk as blocks that are ready to insert: read, parsed, normalised, encoded. Blocking: it runs in a thread.

Blocks are cut by the content alone, so that a retry makes the same blocks, and their tokens fold the copies.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

from common.datasets import Dataset
from ingest import dataset_table, quarantine
from ingest.erased import NOTHING, Erased, without_erased
from ingest.formats.sandbox import Limits
from ingest.manifest import Chunk
from ingest.reading import Reading
from ingest.rows import rows_of
from ingest.source import Stored


@dataclass(frozen=True)
class LoadedBlock:
    """`no` numbers the blocks of a chunk; `bytes_done` is how far into the chunk's text it reaches."""

    no: int
    rows: dataset_table.Block
    rejects: quarantine.Rejects
    dropped: Mapping[str, int]
    bytes_done: int


def blocks_of(
    chunk: Chunk, stored: Stored, dataset: Dataset, limits: Limits, erased: Erased = NOTHING
) -> Generator[LoadedBlock]:
    origin = dataset_table.Origin(str(chunk.upload_id), chunk.sequence, chunk.received_at)
    reading = Reading(chunk.layout, chunk.planned, stored, dataset, limits)
    for no, batch in enumerate(reading.batches()):
        rows = rows_of(batch, dataset)
        if erased:
            rows = without_erased(rows, batch, dataset, erased)
        rejects = quarantine.encoded(
            rows.faults,
            batch.piece,
            dataset=dataset,
            upload_id=chunk.upload_id,
            generation=chunk.generation,
            chunk_no=chunk.chunk_no,
            erased=erased,
        )
        yield LoadedBlock(no, dataset_table.encoded(rows, origin), rejects, rows.dropped, reading.bytes_done)
