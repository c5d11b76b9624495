"""Counting the rows of a stream while its bytes pass, since they are what a client that leaves has to pay for."""

from __future__ import annotations

import struct
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.query_parquet_pages import PageCount

_QUOTE, _LINE_FEED = 34, 10
_FOOTER_BYTES_MAX = 4 << 20
_CONTINUES = b"\xff\xff\xff\xff"
_RECORD_BATCH = 3  # of MessageHeader in Arrow's Message.fbs


class RowCount(Protocol):
    """`rows` so far."""

    rows: int

    def add(self, piece: bytes) -> None: ...

    def end(self) -> None: ...


class LineCount:
    """JSON lines: inside JSON text a line feed is escaped."""

    def __init__(self, _columns: int | None) -> None:
        self.rows = 0

    def add(self, piece: bytes) -> None:
        self.rows += piece.count(b"\n")

    def end(self) -> None: ...


class CsvCount:
    """A line feed between quotes belongs to a cell."""

    def __init__(self, _columns: int | None) -> None:
        self.rows = 0
        self._quotes = 0

    def add(self, piece: bytes) -> None:
        signs = np.frombuffer(piece, np.uint8)
        ends = np.flatnonzero(signs == _LINE_FEED)
        quotes = np.flatnonzero(signs == _QUOTE)
        before = np.searchsorted(quotes, ends) + self._quotes
        self.rows += int(np.count_nonzero(before % 2 == 0))
        self._quotes += len(quotes)

    def end(self) -> None: ...


class ParquetCount:
    """Exact from the footer, which is the last to come; until then by the pages, and not at all with lists among the
    columns, whose values are no rows.
    """

    def __init__(self, columns: int | None) -> None:
        self.rows = 0
        self._columns = columns
        self._pages = PageCount()
        self._tail = b""

    def add(self, piece: bytes) -> None:
        self._tail = (self._tail + piece)[-_FOOTER_BYTES_MAX:]
        if self._columns:
            self._pages.add(piece)
            self.rows = self._pages.values // self._columns

    def end(self) -> None:
        self.rows = pq.ParquetFile(pa.BufferReader(b"PAR1" + self._tail)).metadata.num_rows


class ArrowCount:
    """The length of every record batch, from its message: `ffffffff`, length, metadata, body."""

    def __init__(self, _columns: int | None) -> None:
        self.rows = 0
        self._waiting = bytearray()
        self._skip = 0

    def add(self, piece: bytes) -> None:
        if self._skip >= len(piece):
            self._skip -= len(piece)
            return
        self._waiting += piece[self._skip :]
        self._skip = 0
        while self._message():
            pass

    def end(self) -> None: ...

    def _message(self) -> bool:
        if len(self._waiting) < 8:  # noqa: PLR2004 - the two numbers in front
            return False
        size = int.from_bytes(self._waiting[4:8], "little")
        if self._waiting[:4] != _CONTINUES or size == 0:
            self._waiting.clear()
            return False
        if len(self._waiting) < 8 + size:
            return False
        rows, body = _batch(bytes(self._waiting[8 : 8 + size]))
        self.rows += rows
        whole = 8 + size + body
        self._skip = max(0, whole - len(self._waiting))
        del self._waiting[:whole]
        return not self._skip


def _batch(metadata: bytes) -> tuple[int, int]:
    """Rows and body bytes of a message, read from its flatbuffer: version, header_type, header, bodyLength."""
    (table,) = struct.unpack_from("<I", metadata)
    kind_at, header_at, body_at = (_field(metadata, table, slot) for slot in (1, 2, 3))
    body = struct.unpack_from("<q", metadata, body_at)[0] if body_at else 0
    if not kind_at or metadata[kind_at] != _RECORD_BATCH or not header_at:
        return 0, body
    header = header_at + struct.unpack_from("<I", metadata, header_at)[0]
    length_at = _field(metadata, header, 0)
    return (struct.unpack_from("<q", metadata, length_at)[0] if length_at else 0), body


def _field(metadata: bytes, table: int, slot: int) -> int:
    """Where a field of a flatbuffer's table is; 0 when it has its default."""
    (back,) = struct.unpack_from("<i", metadata, table)
    layout = table - back
    (size,) = struct.unpack_from("<H", metadata, layout)
    place = 4 + 2 * slot
    if place >= size:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, layout + place)
    return table + offset if offset else 0


_COUNTS: dict[str, type[LineCount | CsvCount | ParquetCount | ArrowCount]] = {
    "ndjson": LineCount,
    "csv": CsvCount,
    "parquet": ParquetCount,
    "arrow": ArrowCount,
}


def row_count(form: str, columns: int | None) -> RowCount:
    """`columns`: how many there are; None where a row may have several values in one."""
    return _COUNTS[form](columns)
