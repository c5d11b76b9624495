"""A query's result as pieces of bytes in the wanted format.

The engine encodes every block by itself. Formats without header and footer can be joined as they come; Arrow and
Parquet are put together again with pyarrow; of the WithNames formats, and of JSON and everything else, the engine
builds the whole result in memory. Those are bounded by max_result_bytes (WHOLE_RESULT_BYTES_MAX, counted before
encoding; JSON may take several times that), beyond which the query fails with code 396 and no row is sent.
"""

from __future__ import annotations

import io
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from devstack.clickhouse_http.engine import Chunk, Connection, run
from devstack.clickhouse_http.refusals import EngineError

WHOLE_RESULT_BYTES_MAX: Final = 128 << 20

_JOINABLE: Final = frozenset(
    {
        "csv", "jsoncompacteachrow", "jsoneachrow", "jsonlines", "jsonstringseachrow", "lineasstring", "native",
        "ndjson",         "null", "rawblob", "rowbinary", "tabseparated", "tabseparatedraw", "tsv", "tsvraw",
    }
)  # fmt: skip
_ARROW: Final = frozenset({"arrow", "arrowstream"})
_PARQUET: Final = "parquet"


def streams(form: str, *, by_clause: bool = False) -> bool:
    """`by_clause`: the statement itself says FORMAT, so the engine cannot be asked for another one."""
    return form.lower() in _JOINABLE or form.lower() in _ARROW or (form.lower() == _PARQUET and not by_clause)


@dataclass
class Totals:
    """The numbers of X-ClickHouse-Summary, summed while the pieces go by."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    started: float = field(default_factory=time.perf_counter)

    def add(self, chunk: Chunk) -> None:
        self.read_rows += chunk.storage_rows_read()
        self.read_bytes += chunk.storage_bytes_read()
        self.written_rows += chunk.rows_written()
        self.written_bytes += chunk.bytes_written()
        self.result_rows += chunk.rows_read()
        self.result_bytes += chunk.bytes_read()

    def summary(self) -> dict[str, str]:
        """ClickHouse sends these numbers as strings, and so do we."""
        elapsed = int((time.perf_counter() - self.started) * 1e9)
        return {
            "read_rows": str(self.read_rows),
            "read_bytes": str(self.read_bytes),
            "written_rows": str(self.written_rows),
            "written_bytes": str(self.written_bytes),
            "total_rows_to_read": str(self.read_rows),
            "result_rows": str(self.result_rows or self.written_rows),
            "result_bytes": str(self.result_bytes or self.written_bytes),
            "elapsed_ns": str(elapsed),
        }


@dataclass(frozen=True)
class Query:
    sql: bytes
    params: Mapping[str, str]
    form: str
    streamed: bool


def pieces(connection: Connection, query: Query, totals: Totals) -> Generator[bytes]:
    """Close the iterator to cancel what is left of a stream."""
    if not query.streamed:
        chunk = run(connection, query.sql, query.params, query.form)
        totals.add(chunk)
        yield chunk.bytes()
    elif query.form.lower() in _ARROW:
        yield from _arrow(connection, query, totals)
    elif query.form.lower() == _PARQUET:
        yield from _parquet(connection, query, totals)
    else:
        for chunk in _stream(connection, query, totals):
            yield chunk.bytes()


def _stream(connection: Connection, query: Query, totals: Totals) -> Iterator[Chunk]:
    try:
        stream = connection.send_query(query.sql, query.form, params=query.params)
        finished = False
        try:
            while True:
                chunk = connection.streaming_fetch_result(stream)
                totals.add(chunk)
                # Totals and extremes come in a last piece that counts no rows.
                finished = chunk.rows_read() == 0
                if finished and not chunk.bytes():
                    return
                yield chunk
        finally:
            if not finished:
                connection.streaming_cancel_query(stream)
    except RuntimeError as exc:
        raise EngineError(str(exc)) from exc


def _arrow(connection: Connection, query: Query, totals: Totals) -> Iterator[bytes]:
    """One Arrow stream (or file) out of the engine's one per block.

    An empty result has no block to take the schema from and is asked for a second time, whole.
    """
    as_file = query.form.lower() == "arrow"
    sink = _Sink()
    writer: Any = None
    for chunk in _stream(connection, query, totals):
        data = pa.py_buffer(chunk.bytes())
        table = pa.ipc.open_file(data).read_all() if as_file else pa.ipc.open_stream(data).read_all()
        if writer is None:
            writer = pa.ipc.new_file(sink, table.schema) if as_file else pa.ipc.new_stream(sink, table.schema)
        writer.write_table(table)
        yield sink.take()
    if writer is None:
        yield run(connection, query.sql, query.params, query.form).bytes()
    else:
        writer.close()
        yield sink.take()


def _parquet(connection: Connection, query: Query, totals: Totals) -> Iterator[bytes]:
    """A row group for each of the engine's blocks, of which it would otherwise build the whole file in memory."""
    sink = _Sink()
    writer: Any = None
    for chunk in _stream(connection, replace(query, form="ArrowStream"), totals):
        table = pa.ipc.open_stream(pa.py_buffer(chunk.bytes())).read_all()
        if writer is None:
            writer = pq.ParquetWriter(sink, table.schema)
        writer.write_table(table)
        yield sink.take()
    if writer is None:
        yield run(connection, query.sql, query.params, query.form).bytes()
    else:
        writer.close()
        yield sink.take()


class _Sink(io.RawIOBase):
    """Collects what pyarrow writes; its position counts everything, since an Arrow file's footer holds offsets."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._waiting.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        taken, self._waiting = b"".join(self._waiting), []
        return taken
