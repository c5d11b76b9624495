"""Rows of an answer on stdout, page after page, as a table, JSON, NDJSON or CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import IO, Any, Literal

from bigdata_client.command.output import json_text, table, text_of
from bigdata_client.queries import QueryResult, Row

PageFormat = Literal["table", "json", "ndjson", "csv"]


def write_pages(pages: Iterable[QueryResult], form: PageFormat, file: IO[str], select: Sequence[str]) -> None:
    """Only one page is ever in memory."""
    match form:
        case "table":
            for page in pages:
                print_table(page.data, select)
        case "ndjson":
            for row in _rows(pages):
                file.write(json_text(row) + "\n")
        case "json":
            _write_array(_rows(pages), file)
        case "csv":
            _write_csv(_rows(pages), file, select)


def print_table(rows: Sequence[Row], select: Sequence[str]) -> None:
    if rows:
        columns = list(select) or list(rows[0])
        table(columns, ([row.get(column) for column in columns] for row in rows))


def _rows(pages: Iterable[QueryResult]) -> Iterator[Row]:
    return chain.from_iterable(page.data for page in pages)


def _write_array(rows: Iterable[Row], file: IO[str]) -> None:
    before = "[\n  "
    for row in rows:
        file.write(before + json_text(row))
        before = ",\n  "
    file.write("\n]\n" if before.startswith(",") else "[]\n")


def _write_csv(rows: Iterator[Row], file: IO[str], select: Sequence[str]) -> None:
    first = next(rows, None)
    columns = list(select) or list(first or ())
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in chain([first] if first is not None else [], rows):
        writer.writerow([_cell(row.get(column)) for column in columns])


def _cell(value: Any) -> str:
    """Text that a spreadsheet would run as a formula gets a quote in front, as the gateway's own CSV has it."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(value):
        return f"'{value}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json_text(value) if isinstance(value, Mapping | list) else text_of(value) if value is None else str(value)


def _is_number(text: str) -> bool:
    """A phone in E.164 and a negative number are no formulas."""
    return text.lstrip("+-").replace(".", "", 1).isdigit()


def binary_out() -> IO[bytes]:
    return sys.stdout.buffer
