"""CSV by pyarrow, all columns as text. What it cannot read is rejected record by record, never fatal.

An empty cell is null; a quoted empty one is the empty text, as data frames write it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from common.datasets import Dataset
from ingest.formats.batch import (
    QUOTE_SYNTAX,
    RAGGED_ROW,
    RECORD_TOO_LONG,
    UNKNOWN_FIELD,
    Batch,
    Fault,
    by_column,
    first_present,
)
from ingest.formats.csv_dialect import cells_of
from ingest.formats.extra import objects_of
from ingest.formats.layout import Layout
from ingest.formats.records import ODD, REGULAR, TOO_LONG, Positions, Records


class CsvReader:
    def __init__(self, layout: Layout, dataset: Dataset) -> None:
        self._layout, self._dataset = layout, dataset
        self._labels = _distinct(layout.header)
        self._columns, self._unknown = by_column(self._labels, dataset)
        if dataset.extra == "drop":
            self._unknown = []
        wanted = [label for label in self._labels if dataset.column_of(label) or label in self._unknown]
        self._read_options = csv.ReadOptions(use_threads=False, column_names=self._labels, block_size=1 << 30)
        self._convert_options = csv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(self._labels, pa.binary()),
            check_utf8=False,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    def __call__(self, piece: Records) -> Batch:
        regular = np.flatnonzero(piece.kinds == REGULAR)
        table, rows, faults = self._by_arrow(piece, regular)
        odd_rows, odd_cells, odd_faults = self._one_by_one(piece, np.flatnonzero(piece.kinds == ODD))
        if odd_rows:
            table = pa.concat_tables([table, self._wanted(odd_cells)])
            rows = np.concatenate([rows, odd_rows])
        faults += odd_faults
        faults += [Fault(int(index), RECORD_TOO_LONG) for index in np.flatnonzero(piece.kinds == TOO_LONG)]
        if self._dataset.extra == "reject" and self._unknown:
            table, rows, strangers = self._without_unknown(table, rows)
            faults += strangers
        columns = {
            column: first_present([table.column(label).combine_chunks() for label in labels])
            for column, labels in self._columns.items()
        }
        return Batch(piece, rows, columns, self._extra(table), faults)

    def _without_unknown(self, table: Any, rows: Positions) -> tuple[Any, Positions, list[Fault]]:
        """A row with a value in a field that is no column is rejected, and the first such field is named."""
        found: dict[int, Fault] = {}
        for label in self._unknown:
            for index in np.flatnonzero(table.column(label).is_valid().to_numpy()):
                found.setdefault(int(index), Fault(int(rows[index]), UNKNOWN_FIELD, label))
        kept = np.ones(len(rows), np.bool_)
        kept[list(found)] = False
        return table.filter(pa.array(kept)), rows[kept], list(found.values())

    def _extra(self, table: Any) -> Any | None:
        if self._dataset.extra != "keep" or not self._unknown:
            return None
        return objects_of({label: table.column(label).combine_chunks() for label in self._unknown})

    def _by_arrow(self, piece: Records, regular: Positions) -> tuple[Any, Positions, list[Fault]]:
        ragged: list[int] = []

        def skip(row: Any) -> str:
            ragged.append(row.number - 1)
            return "skip"

        if not len(regular):
            return self._wanted([]), regular, []
        options = csv.ParseOptions(
            delimiter=self._layout.delimiter,
            quote_char=self._layout.quote,
            newlines_in_values=True,
            invalid_row_handler=skip,
        )
        text = _joined(piece, regular)
        try:
            table = csv.read_csv(pa.BufferReader(text), self._read_options, options, self._convert_options)
        except pa.ArrowInvalid:
            table = None
        if table is None or table.num_rows + len(ragged) != len(regular):
            # Arrow sees other records than we do. One by one there is nothing to disagree about.
            rows, cells, faults = self._one_by_one(piece, regular)
            return self._wanted(cells), np.asarray(rows, np.int64), faults
        kept = np.ones(len(regular), np.bool_)
        kept[ragged] = False
        return table, regular[kept], [Fault(int(regular[index]), RAGGED_ROW) for index in ragged]

    def _one_by_one(self, piece: Records, records: Positions) -> tuple[list[int], list[list[str]], list[Fault]]:
        """The slow way, for records that are not regular. A line that leaves a quote open is rejected, and so is the
        next odd one, which would hold its end.
        """
        rows: list[int] = []
        cells: list[list[str]] = []
        faults: list[Fault] = []
        quote_open = False
        for index in map(int, records):
            found = cells_of(piece, index, self._layout.delimiter, self._layout.quote)
            if found is None or quote_open:
                faults.append(Fault(index, QUOTE_SYNTAX))
            elif len(found) != len(self._labels):
                faults.append(Fault(index, RAGGED_ROW))
            else:
                rows.append(index)
                cells.append(found)
            quote_open = found is None and not quote_open
        return rows, cells, faults

    def _wanted(self, rows: Sequence[Sequence[str]]) -> Any:
        """The same table that Arrow would have made of these cells."""
        cells = zip(*rows, strict=True) if rows else [() for _ in self._labels]
        arrays = [
            pa.array([cell.encode("utf-8", "surrogateescape") or None for cell in column], pa.binary())
            for column in cells
        ]
        return pa.table(arrays, names=self._labels).select(self._convert_options.include_columns)


def _joined(piece: Records, regular: Positions) -> Any:
    """The text of these records: the piece as it is when they are all of it. It ends with a line break, for pyarrow
    takes an empty last cell without one for as quoted as the cell before it.
    """
    if len(regular) < len(piece):
        return pa.py_buffer(b"".join(piece.text(index) + b"\n" for index in regular))
    begin, end = int(piece.starts[0]), int(piece.ends[-1])
    if end == len(piece.buffer):
        return pa.py_buffer(piece.buffer[begin:] + b"\n")
    return pa.py_buffer(memoryview(piece.buffer)[begin : end + 1])


def _distinct(header: Sequence[str]) -> list[str]:
    """Labels, the second of two equal ones with a number: `mail`, `mail_2`."""
    seen: dict[str, int] = {}
    labels: list[str] = []
    for label in header:
        seen[label] = seen.get(label, 0) + 1
        labels.append(label if seen[label] == 1 else f"{label}_{seen[label]}")
    return labels
