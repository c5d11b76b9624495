"""Parquet by row groups: decoded in a child process, row by row what the dataset's columns want, still typed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from common.datasets import Dataset
from ingest.formats.batch import UNKNOWN_FIELD, Batch, Fault, by_column, first_present
from ingest.formats.extra import objects_of, python_values, shown
from ingest.formats.layout import Unreadable
from ingest.formats.records import RAW_BYTES_KEPT, REGULAR, Place, Records
from ingest.formats.sandbox import Limits, ReadAt, sandbox

_WHAT = "the Parquet file"


@dataclass(frozen=True)
class Footer:
    """What the file says of itself: names of columns, and rows of each row group."""

    columns: tuple[str, ...]
    rows: tuple[int, ...]


def footer(read_at: ReadAt, size: int, dataset: Dataset, limits: Limits) -> Footer:
    with sandbox("parquet:look", read_at, size, limits, what=_WHAT) as frames:
        found = next(frame.meta for frame in frames if frame.meta is not None)
    columns = tuple(map(str, found["columns"]))
    if any("\0" in label for label in columns):
        raise Unreadable("the name of a column of the Parquet file has a NUL in it")
    if not any(dataset.column_of(label) for label in columns):
        names = ", ".join(label[:40] for label in columns[:8])
        raise Unreadable(f"no column of dataset {dataset.name} is in the Parquet file: {names}")
    if len(set(columns)) < len(columns):
        twice = next(label for label in columns if columns.count(label) > 1)
        raise Unreadable(f"two columns of the Parquet file are called {twice[:40]!r}")
    return Footer(columns, tuple(map(int, found["rows"])))


@dataclass(frozen=True)
class _Rows(Records):
    """Rows of a batch, each a record; as text they are JSON objects."""

    batch: Any = None

    def text(self, index: int) -> bytes:
        columns = self.batch.slice(index, 1).columns
        row = {name: python_values(one)[0] for name, one in zip(self.batch.schema.names, columns, strict=True)}
        return orjson.dumps(row, default=shown, option=orjson.OPT_NON_STR_KEYS)

    def raw(self, index: int) -> bytes:
        return self.text(index)[:RAW_BYTES_KEPT]


class ParquetReader:
    """`header`: the file's columns."""

    def __init__(self, header: Sequence[str], dataset: Dataset, limits: Limits) -> None:
        self._dataset, self._limits = dataset, limits
        self._columns, self._unknown = by_column(header, dataset)
        if dataset.extra == "drop":
            self._unknown = []
        self._wanted = [label for label in header if dataset.column_of(label) or label in self._unknown]

    def batches(self, read_at: ReadAt, size: int, groups: range, place: Place) -> Iterator[Batch]:
        """The rows of these row groups. `place` is that of the first of them; rows stand for lines and offsets."""
        values = {"first": groups.start, "last": groups.stop - 1, "columns": self._wanted}
        with sandbox("parquet:run", read_at, size, self._limits, what=_WHAT, values=values) as frames:
            for frame in frames:
                for batch in _decoded(frame.data):
                    yield self._batch(batch, place)
                    place = Place(
                        place.offset + batch.num_rows, place.line + batch.num_rows, place.row + batch.num_rows
                    )

    def _batch(self, batch: Any, place: Place) -> Batch:
        places = np.arange(batch.num_rows)
        kinds = np.full(batch.num_rows, REGULAR, np.uint8)
        piece = _Rows(b"", places, places + 1, places, kinds, batch.num_rows, batch.num_rows, place, batch)
        rows, faults = places, list[Fault]()
        if self._dataset.extra == "reject" and self._unknown:
            rows, faults = self._without_unknown(batch)
            batch = batch.take(pa.array(rows))
        columns = {
            column: first_present([batch.column(label) for label in labels]) for column, labels in self._columns.items()
        }
        extra = None
        if self._dataset.extra == "keep" and self._unknown:
            extra = objects_of({label: batch.column(label) for label in self._unknown})
        return Batch(piece, rows, columns, extra, faults)

    def _without_unknown(self, batch: Any) -> tuple[Any, list[Fault]]:
        """A row with a value in a field that is no column is rejected, and the first such field is named."""
        found: dict[int, Fault] = {}
        for label in self._unknown:
            for index in np.flatnonzero(batch.column(label).is_valid().to_numpy(zero_copy_only=False)):
                found.setdefault(int(index), Fault(int(index), UNKNOWN_FIELD, label))
        kept = np.ones(batch.num_rows, np.bool_)
        kept[list(found)] = False
        return np.flatnonzero(kept), list(found.values())


def _decoded(data: bytes) -> Iterator[Any]:
    """Checked in full: the child may have been made to write anything."""
    try:
        with pa.ipc.open_stream(data) as stream:
            table = stream.read_all()
            table.validate(full=True)
    except pa.ArrowException as exc:
        raise Unreadable(f"{_WHAT} cannot be read: {(str(exc).splitlines() or [''])[0][:300]}") from exc
    batch = table.combine_chunks()
    yield from batch.to_batches() if batch.num_rows else ()
