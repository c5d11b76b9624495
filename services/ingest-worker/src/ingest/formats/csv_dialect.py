"""Delimiter, quote and header of a CSV file, from its first records and from what the dataset calls its columns."""

import csv
import re
from collections import Counter
from dataclasses import dataclass

from common.datasets import Dataset
from ingest.formats.layout import Layout, Unreadable
from ingest.formats.records import TOO_LONG, Dialect, Records, scan

_DELIMITERS = (",", ";", "\t", "|", ":")
_RECORDS_LOOKED_AT = 200
_COLUMNS_MAX = 4096
# Cells that are data and no label: numbers, dates, e-mail addresses.
_DATA = re.compile(r"[+-]?[\d.,:/ T-]*\d[\d.,:/ TZ+-]*|[^@\s]+@[^@\s]+\.[^@\s]+")
_FRAMED = re.compile(r"'[^']*'")


@dataclass(frozen=True)
class _Reading:
    """The sample read with one delimiter."""

    delimiter: str
    quote: str
    rows: list[list[str]]
    known: int  # cells of the first row that are labels of the dataset
    same_width: float  # share of rows as wide as most are

    @property
    def rank(self) -> tuple[int, bool, float, bool, int]:
        width = len(self.rows[0])
        return self.known, width > 1, self.same_width, not self._leaves_frames, width

    @property
    def _leaves_frames(self) -> bool:
        """Whether all data are still between single quotes: then those are no part of them."""
        cells = [cell for row in self.rows[1:] for cell in row if cell]
        return len(cells) > 1 and all(_FRAMED.fullmatch(cell) for cell in cells)


def csv_layout(text: bytes, dataset: Dataset, *, encoding: str, mark: int, whole: bool) -> Layout:
    """`text` is the beginning of the file in UTF-8, without its byte order mark of `mark` bytes."""
    readings = [
        reading
        for quote in _quotes(text)
        for delimiter in _DELIMITERS
        if (reading := _read(text, delimiter, quote, dataset, whole=whole))
    ]
    if not readings:
        raise Unreadable("the first line is longer than 1 MiB: this is no CSV")
    best = max(readings, key=lambda reading: reading.rank)
    width = len(best.rows[0])
    if width > _COLUMNS_MAX:
        raise Unreadable(f"the first line has {width} columns, more than {_COLUMNS_MAX}")
    layout = Layout(format="csv", encoding=encoding, offset=mark, delimiter=best.delimiter, quote=best.quote)
    if not _is_header(best, dataset):
        return layout.model_copy(update={"header": _columns_by_place(best, dataset)})
    header = tuple(_label(cell) or f"column_{number}" for number, cell in enumerate(best.rows[0], 1))
    records = scan(text, layout.dialect, final=whole)
    after = records.first(1)
    return layout.model_copy(
        update={"header": header, "offset": mark + after.consumed, "line": 1 + after.lines_consumed}
    )


def _label(cell: str) -> str:
    """As text that every store takes: what is no UTF-8, and NUL, become the sign for what cannot be shown."""
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\ufffd").strip()


def _read(text: bytes, delimiter: str, quote: str, dataset: Dataset, *, whole: bool) -> _Reading | None:
    records = scan(text, Dialect(quote.encode(), delimiter.encode()), final=whole).first(_RECORDS_LOOKED_AT)
    if not len(records) or records.kinds[0] == TOO_LONG:
        return None
    rows = [cells for index in range(len(records)) if (cells := cells_of(records, index, delimiter, quote))]
    if not rows:
        return None
    widths = Counter(map(len, rows))
    known = len({column for cell in rows[0] if (column := dataset.column_of(cell))})
    return _Reading(delimiter, quote, rows, known, widths.most_common(1)[0][1] / len(rows))


def cells_of(records: Records, index: int, delimiter: str, quote: str) -> list[str] | None:
    """One record by the standard library's reader, which says whether a quote stays open; None then."""
    text = records.text(index).decode("utf-8", "surrogateescape")
    try:
        rows = list(csv.reader([text], delimiter=delimiter, quotechar=quote, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _quotes(text: bytes) -> tuple[str, ...]:
    """A single quote is mostly data (O'Brien, '70s): it may frame fields only where no double quote is in sight, and
    then only if the rows fit better that way.
    """
    return ('"',) if b'"' in text or b"'" not in text else ('"', "'")


def _is_header(reading: _Reading, dataset: Dataset) -> bool:
    first = reading.rows[0]
    if reading.known:
        return True
    if any(_DATA.fullmatch(cell.strip()) for cell in first):
        return False
    if len(first) == len(dataset.columns) and len(reading.rows) > 1:
        return False
    labels = ", ".join(cell.strip()[:40] for cell in first[:8])
    raise Unreadable(f"no column of dataset {dataset.name} is in the first line: {labels}")


def _columns_by_place(reading: _Reading, dataset: Dataset) -> tuple[str, ...]:
    width = len(reading.rows[0])
    if width != len(dataset.columns):
        raise Unreadable(
            f"the file has no header and {width} columns, dataset {dataset.name} has {len(dataset.columns)}"
        )
    return tuple(dataset.columns)
