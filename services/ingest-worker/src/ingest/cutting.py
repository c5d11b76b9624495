"""Where a file is cut into chunks: text at record boundaries, Parquet at row groups, everything else not at all."""

from collections.abc import Iterator

import numpy as np

from ingest.formats.layout import Layout
from ingest.formats.records import Place, Source, pieces
from ingest.manifest import PlannedChunk
from ingest.source import Range, Stored

_ALL = 1 << 31  # records of a window


def cuts(layout: Layout, stored: Stored, chunk_bytes: int) -> Iterator[PlannedChunk]:
    """Blocking. Text is read once, whole, to count its records and to find where they end."""
    if layout.divisible:
        yield from _text_cuts(Range(stored, layout.offset, stored.size), layout, chunk_bytes)
    elif layout.format == "parquet" and not layout.compression:
        yield from _row_group_cuts(layout.groups, stored.size, chunk_bytes)
    else:
        yield PlannedChunk(0, stored.size, layout.place, None)


def _text_cuts(source: Source, layout: Layout, chunk_bytes: int) -> Iterator[PlannedChunk]:
    """Chunks of about `chunk_bytes`, each cut where the record that reaches this size ends."""
    begin, rows, end = layout.place, 0, layout.offset
    for piece in pieces(source, layout.dialect, layout.place, at_most=_ALL):
        following = np.append(piece.starts[1:], piece.consumed) + piece.place.offset
        lines = np.append(piece.lines[1:], piece.lines_consumed) + piece.place.line
        taken = 0
        while (last := int(np.searchsorted(following, begin.offset + chunk_bytes))) < len(piece):
            rows += last + 1 - taken
            yield PlannedChunk(begin.offset, int(following[last]), begin, rows)
            begin = Place(int(following[last]), int(lines[last]), begin.row + rows)
            taken, rows = last + 1, 0
        rows += len(piece) - taken
        end = piece.place.offset + piece.consumed
    if rows:
        yield PlannedChunk(begin.offset, end, begin, rows)


def _row_group_cuts(groups: tuple[int, ...], size: int, chunk_bytes: int) -> Iterator[PlannedChunk]:
    """Whole row groups, as many as make a chunk. Each has its share of the bytes by its rows: the footer's own account
    of them is not trusted.
    """
    total = sum(groups)
    begin = rows = 0
    for number, count in enumerate(groups):
        rows += count
        start, end = size * begin // max(1, total), size * (begin + rows) // max(1, total)
        if rows and (end - start >= chunk_bytes or number == len(groups) - 1 or not any(groups[number + 1 :])):
            yield PlannedChunk(start, end, Place(begin, begin + 1, begin + 1), rows)
            begin, rows = begin + rows, 0
