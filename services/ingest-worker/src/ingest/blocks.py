"""A chunk as blocks that are ready to insert: read, parsed, normalised, encoded. Blocking: it runs in a thread.

Blocks are cut by the content alone, so that a retry makes the same blocks, and their tokens fold the copies.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from common.datasets import Dataset
from ingest import dataset_table, quarantine
from ingest.formats.layout import Layout
from ingest.formats.readers import reader_of
from ingest.formats.records import Source, pieces
from ingest.manifest import Chunk
from ingest.rows import rows_of
from ingest.source import text_source

BLOCK_ROWS = 100_000


@dataclass(frozen=True)
class LoadedBlock:
    """`no` numbers the blocks of a chunk; `bytes_done` is how far into the chunk's text it reaches."""

    no: int
    rows: dataset_table.Block
    rejects: quarantine.Rejects
    dropped: Mapping[str, int]
    bytes_done: int


def blocks_of(chunk: Chunk, source: Source, dataset: Dataset) -> Iterator[LoadedBlock]:
    read = reader_of(chunk.layout, dataset)
    origin = dataset_table.Origin(str(chunk.upload_id), chunk.sequence, chunk.received_at)
    text = text_of(source, chunk.layout)
    begin = chunk.place.offset
    for no, piece in enumerate(pieces(text, chunk.layout.dialect, chunk.place, at_most=BLOCK_ROWS)):
        rows = rows_of(read(piece), dataset)
        rejects = quarantine.encoded(
            rows.faults,
            piece,
            dataset=dataset,
            upload_id=chunk.upload_id,
            generation=chunk.generation,
            chunk_no=chunk.chunk_no,
        )
        done = piece.place.offset + piece.consumed - begin
        yield LoadedBlock(no, dataset_table.encoded(rows, origin), rejects, rows.dropped, done)


def text_of(source: Source, layout: Layout) -> Source:
    """The text from where the data begin; a divisible source is placed there by its chunk already."""
    text = text_source(source, layout.encoding)
    if not layout.divisible:
        text.read(layout.offset)
    return text
