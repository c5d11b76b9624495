"""Rows as CSV for a spreadsheet, which runs a cell that begins like a formula: a quote in front makes it text."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson

from gateway.answers import Row

_RUNS = frozenset("=+-@\t\r\n")


def csv_of(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    """A head and a line for each row. Nothing is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value[:1] in _RUNS else value
    if isinstance(value, datetime):
        return value.isoformat()
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value
