import csv
import io
from datetime import UTC, datetime

import pytest

from gateway.csv_cells import csv_of


def _back(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode())))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_text_that_a_spreadsheet_would_run_begins_with_a_quote(start: str) -> None:
    assert _back(csv_of(["a"], [{"a": f"{start}1+1"}]))[1] == [f"'{start}1+1"]


def test_other_values_stay_what_they_are() -> None:
    row = {"a": -1.5, "b": None, "c": {"old": 1}, "d": datetime(2026, 1, 2, tzinfo=UTC), "e": 'x,"y"\nz', "f": ""}
    assert _back(csv_of(list(row), [row])) == [
        list(row),
        ["-1.5", "", '{"old":1}', "2026-01-02T00:00:00+00:00", 'x,"y"\nz', ""],
    ]


def test_without_rows_there_is_a_head() -> None:
    assert csv_of(["a", "b"], []) == b"a,b\r\n"
