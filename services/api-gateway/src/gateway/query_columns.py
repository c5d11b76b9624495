"""What a filter may ask of a column: its operators, and how a value of the request becomes a bound parameter.

A value reaches ClickHouse as text of a declared parameter type, never as SQL. Whatever ClickHouse would clamp, wrap or
read differently (integers beyond 64 bits, dates beyond the type, year 2200) is refused here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any

from common.datasets import SYSTEM_COLUMNS, Column, Dataset

_INT64 = 1 << 63
_DECIMAL_DIGITS_MAX = 76
_EQUALITY = ("eq", "ne", "in", "nin", "is_null")
_ORDER = ("gt", "gte", "lt", "lte")
_TEXT = ("prefix", "contains")
_NUMBERS = (*_EQUALITY, *_ORDER)
_OPERATORS: Mapping[str, tuple[str, ...]] = {
    "string": (*_EQUALITY, *_ORDER, *_TEXT),
    "country": _EQUALITY,
    "integer": _NUMBERS,
    "decimal": _NUMBERS,
    "float": _NUMBERS,
    "boolean": _EQUALITY,
    "date": _NUMBERS,
    "timestamp": _NUMBERS,
    "json": (),
}
# Wider than the columns where that is free: a bound beyond the column's range must not be clamped into it.
_PARAMETERS: Mapping[str, str] = {
    "integer": "Int64",
    "float": "Float64",
    "boolean": "Bool",
    "date": "Date32",
    "timestamp": "DateTime64(6, 'UTC')",
}
# The identity's hash is of no use to a client; the other system columns can be asked for.
_OFFERED_SYSTEM_COLUMNS = ("ingest_ts", "upload_id", "row_no")


class BadValue(Exception):
    """A value that this column cannot be compared with; the text says what would be right, never the value."""


@dataclass(frozen=True)
class Field:
    """A column as a query sees it."""

    name: str
    kind: str
    parameter: str  # the ClickHouse type of a bound value
    operators: tuple[str, ...]
    column: Column | None = None  # None: a system column

    @property
    def sql(self) -> str:
        return f"`{self.name}`"

    @property
    def sortable(self) -> bool:
        return self.kind != "json"

    @property
    def is_text(self) -> bool:
        return self.kind == "string"


def fields_of(dataset: Dataset) -> dict[str, Field]:
    """Every column a query on this dataset may name."""
    declared = {name: _field(name, column.type, column) for name, column in dataset.columns.items()}
    return declared | {name: _field(name, SYSTEM_COLUMNS[name], None) for name in _OFFERED_SYSTEM_COLUMNS}


def _field(name: str, type_: str, column: Column | None) -> Field:
    kind = type_.partition("(")[0]
    return Field(name, kind, _parameter(kind, type_), _OPERATORS[kind], column)


def _parameter(kind: str, type_: str) -> str:
    if kind == "decimal":
        return f"Decimal({type_.removeprefix('decimal(')}"
    return _PARAMETERS.get(kind, "String")


def whole_value(field: Field, value: Any, normalise: Callable[[Field, str], str]) -> Any:
    """A value as the column stores it; raises BadValue."""
    return _READERS[field.kind](field, value, normalise)


def part_of_value(field: Field, value: Any) -> str:
    """Text that a stored value begins with, contains or is ordered against: a part of a value cannot be normalised
    as a whole one, but what normalising does to every character is done.
    """
    text = unicodedata.normalize("NFC", _text(value))
    return text.lower() if field.column and field.column.normalise == "email" else text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue("expected text")
    return value


def _string(field: Field, value: Any, normalise: Callable[[Field, str], str]) -> str:
    return normalise(field, _text(value))


def _integer(_field: Field, value: Any, _normalise: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValue("expected an integer")
    if not -_INT64 <= value < _INT64:
        raise BadValue("an integer of at most 64 bits is expected")
    return value


def _float(_field: Field, value: Any, _normalise: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValue("expected a number")
    try:
        return float(value)
    except OverflowError:
        raise BadValue("the number is out of range") from None


def _decimal(field: Field, value: Any, _normalise: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadValue("expected a number, or text that holds one")
    precision, scale = (int(digits) for digits in re.findall(r"\d+", field.parameter))
    try:
        # repr is the shortest text of a float: 0.1 is one tenth here.
        number = Decimal(repr(value) if isinstance(value, float) else value)
        with localcontext(prec=_DECIMAL_DIGITS_MAX):
            fitting = number.quantize(Decimal(1).scaleb(-scale))
    except InvalidOperation:
        raise BadValue("expected a decimal number within the column's range") from None
    if not number.is_finite() or fitting != number or len(fitting.as_tuple().digits) > precision:
        raise BadValue(f"expected at most {precision} digits, {scale} of them after the point")
    return format(fitting, "f")


def _boolean(_field: Field, value: Any, _normalise: object) -> str:
    if not isinstance(value, bool):
        raise BadValue("expected true or false")
    return "true" if value else "false"


def _date(_field: Field, value: Any, _normalise: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise BadValue("expected a date, YYYY-MM-DD")
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise BadValue("expected a day of the calendar") from None
    return _in_range(day).isoformat()


def _timestamp(_field: Field, value: Any, _normalise: object) -> str:
    """ISO 8601; naive means UTC, as in the files that are loaded."""
    if not isinstance(value, str):
        raise BadValue("expected a timestamp, such as 2026-01-31T12:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadValue("expected a timestamp, such as 2026-01-31T12:00:00Z") from None
    _in_range(moment.date())
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _in_range(day: date) -> date:
    # What Date32 and DateTime64 hold; beyond it ClickHouse clamps without a word.
    if not date(1900, 1, 1) <= day <= date(2299, 12, 31):
        raise BadValue("expected a year from 1900 to 2299")
    return day


def _json(_field: Field, _value: Any, _normalise: object) -> str:
    raise BadValue("a json column cannot be filtered")


_READERS: Mapping[str, Callable[[Field, Any, Callable[[Field, str], str]], Any]] = {
    "string": _string,
    "country": _string,
    "integer": _integer,
    "decimal": _decimal,
    "float": _float,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
    "json": _json,
}
