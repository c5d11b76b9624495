"""What a reader makes of a piece of a file: columns of text, and the records that could not be read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from common.datasets import Dataset
from ingest.formats.records import Positions, Records

RAGGED_ROW, QUOTE_SYNTAX, RECORD_TOO_LONG = "ragged_row", "quote_syntax", "record_too_long"
JSON_SYNTAX, NOT_AN_OBJECT, NESTED_VALUE, INEXACT_NUMBER = (
    "json_syntax",
    "not_an_object",
    "nested_value",
    "inexact_number",
)
UNKNOWN_FIELD = "unknown_field"


@dataclass(frozen=True)
class Fault:
    """A record that does not become a row."""

    record: int  # its index in the piece
    reason: str
    column: str = ""


@dataclass(frozen=True)
class Batch:
    """Rows of a piece: `records[i]` is the record that row i came from.

    `columns`: the columns of the dataset that the file has: as string, as binary that may not be UTF-8, or typed as the
    file has them; null where a row has no value. `extra`: one JSON object per row of the fields that are no columns,
    or None.
    """

    piece: Records
    records: Positions
    columns: Mapping[str, Any]
    extra: Any | None = None
    faults: Sequence[Fault] = field(default_factory=list)

    @property
    def offsets(self) -> Positions:
        return self.piece.place.offset + self.piece.starts[self.records]

    @property
    def row_numbers(self) -> Positions:
        return self.piece.place.row + self.records


Reader = Callable[[Records], Batch]


def by_column(labels: Sequence[str], dataset: Dataset) -> tuple[dict[str, list[str]], list[str]]:
    """Which labels fill which column, in the order of the file, and the labels that are no column."""
    columns: dict[str, list[str]] = {}
    unknown: list[str] = []
    for label in labels:
        column = dataset.column_of(label)
        if column is None:
            unknown.append(label)
        else:
            columns.setdefault(column, []).append(label)
    return columns, unknown


def first_present(arrays: Sequence[Any]) -> Any:
    """Two fields that fill the same column: the first that has a value."""
    if len(arrays) > 1 and len({array.type for array in arrays}) > 1:
        arrays = [array.cast(pa.string()) for array in arrays]
    present = [_without_empty(array) for array in arrays[:-1]]
    return reduce(pc.coalesce, [*present, arrays[-1]])


def _without_empty(array: Any) -> Any:
    if not (pa.types.is_string(array.type) or pa.types.is_binary(array.type)):
        return array
    return pc.if_else(pc.greater(pc.binary_length(array), 0), array, None)


def no_values(count: int) -> Any:
    return pa.nulls(count, pa.string())
