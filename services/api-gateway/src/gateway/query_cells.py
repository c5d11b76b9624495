"""CSV cells that a spreadsheet would run begin with a quote mark instead: `=HYPERLINK(...)` is then only text."""

from __future__ import annotations

_STARTS = "['=', '+', '-', '@', char(9), char(10), char(13)]"


def csv_cell(sql: str) -> str:
    """SQL of a text whose first sign means nothing to a spreadsheet; null stays null."""
    return f"if(has({_STARTS}, substring({sql}, 1, 1)), concat(char(39), {sql}), {sql})"
