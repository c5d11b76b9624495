"""A planned piece of an object as Arrow batches, whatever its format and its packing. Blocking: it runs in a thread."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from common.datasets import Dataset
from ingest.formats import xml
from ingest.formats.archives import members
from ingest.formats.batch import Batch
from ingest.formats.json_array import elements
from ingest.formats.layout import Layout
from ingest.formats.parquet import ParquetReader
from ingest.formats.readers import reader_of
from ingest.formats.records import Place, Records, Source, pieces
from ingest.formats.sandbox import Limits
from ingest.manifest import PlannedChunk
from ingest.source import Range, Stored, text_source

BLOCK_ROWS = 100_000
# Until the first block is there, nothing is inserted: it is soon there.
FIRST_BLOCK_ROWS = 25_000


@dataclass
class Reading:
    """One piece being read. `bytes_done` is how much of it the last batch reaches, as near as can be said."""

    layout: Layout
    chunk: PlannedChunk
    stored: Stored
    dataset: Dataset
    limits: Limits
    bytes_done: int = 0

    def batches(self) -> Iterator[Batch]:
        """Cut by the content alone, so that a retry makes the same ones, and their tokens fold the copies."""
        if self.layout.format == "parquet" and not self.layout.compression:
            yield from self._row_groups()
        elif self.layout.compression:
            yield from self._unpacked()
        else:
            yield from self._plain()

    def _plain(self) -> Iterator[Batch]:
        source = Range(self.stored, self.chunk.start, self.chunk.end)
        read = reader_of(self.layout, self.dataset)
        for piece in records_of(self.layout, source, self.chunk.place, self.limits):
            if self.layout.divisible:
                self.bytes_done = piece.place.offset + piece.consumed - self.chunk.start
            else:
                self.bytes_done = source.position - self.chunk.start
            yield read(piece)

    def _unpacked(self) -> Iterator[Batch]:
        """The files of an archive one after the other; their rows count on, their lines begin anew."""
        layouts = self.layout.members or (self.layout,)
        offset, row = self.chunk.place.offset, self.chunk.place.row
        with members(self.layout.compression, self._read_at, self.stored.size, self.limits) as inside:
            for layout, member in zip(layouts, inside, strict=True):
                read = reader_of(layout, self.dataset)
                for piece in records_of(layout, member.source, Place(offset, layout.line, row), self.limits):
                    offset, row = piece.place.offset + piece.consumed, piece.place.row + len(piece)
                    yield read(piece)

    def _read_at(self, offset: int, size: int) -> bytes:
        found = self.stored.read_at(offset, size)
        self.bytes_done = max(self.bytes_done, min(offset + len(found), self.chunk.end))
        return found

    def _row_groups(self) -> Iterator[Batch]:
        reader = ParquetReader(self.layout.header, self.dataset, self.limits)
        groups = _groups_from(self.layout.groups, self.chunk.place.row - 1, self.chunk.rows or 0)
        done = 0
        for batch in reader.batches(self.stored.read_at, self.stored.size, groups, self.chunk.place):
            done += len(batch.piece)
            share = min(1.0, done / max(1, self.chunk.rows or 0))
            self.bytes_done = int((self.chunk.end - self.chunk.start) * share)
            yield batch


def records_of(layout: Layout, source: Source, place: Place, limits: Limits) -> Iterator[Records]:
    """The records of a source, which begins with the file unless the file is divisible."""
    if layout.format == "xml":
        return xml.pieces(source, layout.path, place, limits)
    text = text_source(source, layout.encoding)
    if not layout.divisible:
        text.read(layout.offset)
    if layout.format in {"json_array", "json_objects"}:
        return elements(text, place, array=layout.format == "json_array", at_most=BLOCK_ROWS)
    return pieces(text, layout.dialect, place, at_most=BLOCK_ROWS, first=FIRST_BLOCK_ROWS)


def _groups_from(rows: tuple[int, ...], before: int, count: int) -> range:
    """The row groups that begin behind `before` rows and have `count` rows together."""
    ends = list(accumulate(rows))
    first = next(number for number, end in enumerate(ends) if end > before)
    last = next(number for number, end in enumerate(ends) if end >= before + count)
    return range(first, last + 1)
