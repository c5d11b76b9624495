"""Rows of a stream that ends too soon, counted as its bytes pass."""

import io
import random
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from gateway.query_row_counts import row_count

_ROWS = 5000
_WAYS: dict[str, dict[str, Any]] = {
    "plain": {"compression": "none", "use_dictionary": False},
    "second kind of pages": {"data_page_version": "2.0", "compression": "zstd"},
    "many groups, small pages, checksums": {"row_group_size": 900, "data_page_size": 500, "write_page_checksum": True},
    "indexes behind the columns": {"write_page_index": True, "compression": "gzip"},
}


def written(**way: Any) -> bytes:
    sink = io.BytesIO()
    names = pa.array([f"n{number}" * (number % 9) if number % 7 else None for number in range(_ROWS)])
    table = pa.table({"a": range(_ROWS), "b": names, "c": [number / 3 for number in range(_ROWS)]})
    parquet.write_table(table, sink, **way)
    return sink.getvalue()


@pytest.mark.parametrize("way", _WAYS.values(), ids=_WAYS)
def test_rows_of_a_parquet_file_are_known_before_its_end(way: dict[str, Any]) -> None:
    data = written(**way)
    footer = int.from_bytes(data[-8:-4], "little") + 8
    for size in (1, 1000, len(data)):
        counting, seen = row_count("parquet", 3), 0
        for start in range(0, len(data) - footer, size):
            counting.add(data[start : min(start + size, len(data) - footer)])
            assert seen <= counting.rows <= _ROWS
            seen = counting.rows
        assert counting.rows == _ROWS
        counting.add(data[-footer:])
        counting.end()
        assert counting.rows == _ROWS


def test_half_of_the_columns_are_half_of_the_rows() -> None:
    data = written(compression="none", use_dictionary=False)
    counting = row_count("parquet", 3)
    begin = parquet.read_metadata(io.BytesIO(data)).row_group(0).column(1).data_page_offset
    counting.add(data[:begin])
    assert counting.rows == _ROWS // 3


def test_with_lists_rows_are_known_at_the_end_only() -> None:
    counting = row_count("parquet", None)
    data = written()
    counting.add(data)
    assert counting.rows == 0
    counting.end()
    assert counting.rows == _ROWS


def test_bytes_that_are_no_parquet_count_nothing_and_harm_nothing() -> None:
    draw = random.Random(7)  # noqa: S311 - it repeats on purpose
    for _ in range(300):
        counting = row_count("parquet", 3)
        counting.add(b"PAR1" + draw.randbytes(200))
        counting.add(draw.randbytes(200))
