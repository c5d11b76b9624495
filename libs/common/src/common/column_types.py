"""The types that a declaration may name: string, integer, decimal(p,s), float, boolean, date, timestamp, country, enum,
json, and list(...) of any of these but json.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

SCALARS = ("string", "integer", "float", "boolean", "date", "timestamp", "country", "enum", "json")
TYPES = "string, integer, decimal(p,s), float, boolean, date, timestamp, country, enum, json, or list(...) of one"
_DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")
_LIST = re.compile(r"list\((.+)\)")
_DIGITS_MAX = 38  # of Arrow's and ClickHouse's 128-bit decimals


@dataclass(frozen=True)
class ColumnType:
    """`kind` is a name of SCALARS, decimal or list; `of` is what a list holds."""

    kind: str
    precision: int = 0
    scale: int = 0
    of: "ColumnType | None" = None

    @property
    def item(self) -> "ColumnType":
        """The type of one value: of a list's elements, else this one."""
        return self.of or self


@lru_cache(1000)
def column_type(text: str) -> ColumnType:
    """Raises ValueError, saying what would be right."""
    if text in SCALARS:
        return ColumnType(text)
    if found := _DECIMAL.fullmatch(text):
        return _decimal(text, int(found[1]), int(found[2]))
    if found := _LIST.fullmatch(text):
        of = column_type(found[1].strip())
        if of.kind in {"list", "json"}:
            raise ValueError(f"{text}: a list holds no {of.kind}; declare the column as json")
        return ColumnType("list", of=of)
    if text.startswith(("decimal(", "list(decimal(")) and not text.endswith(")"):
        raise ValueError(f'unknown type {text!r}: between braces write it in quotes, as in "decimal(9,2)"')
    raise ValueError(f"unknown type {text!r}: {TYPES}")


def _decimal(text: str, precision: int, scale: int) -> ColumnType:
    if not 1 <= precision <= _DIGITS_MAX or scale > precision:
        raise ValueError(f"{text}: expected decimal(p,s) with p from 1 to {_DIGITS_MAX} and s at most p")
    return ColumnType("decimal", precision, scale)
