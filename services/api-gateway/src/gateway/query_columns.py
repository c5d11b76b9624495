"""What a filter may ask of a column: its operators, and how a value of the request becomes a bound parameter.

A value reaches ClickHouse as text of a declared parameter type, never as SQL, written by the rule that wrote the
column: an e-mail in capitals finds its row, and what no row can hold is refused instead of wrapped or clamped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.datasets import SYSTEM_COLUMNS, Column, Dataset
from common.normalise import Rejection, normalise

_EQUALITY = ("eq", "ne", "in", "nin", "is_null")
# Of a hidden column: its whole value, one at a time, where that is how a row is looked up. With lists somebody would
# halve what a value can be at each question.
_LOOKUP, _PRESENCE = ("eq", "is_null"), ("is_null",)
_ORDER = ("gt", "gte", "lt", "lte")
_NUMBERS = (*_EQUALITY, *_ORDER)
_OPERATORS: Mapping[str, tuple[str, ...]] = {
    "string": (*_EQUALITY, *_ORDER, "prefix", "contains"),
    "country": _EQUALITY,
    "enum": _EQUALITY,
    "integer": _NUMBERS,
    "decimal": _NUMBERS,
    "float": _NUMBERS,
    "boolean": _EQUALITY,
    "date": _NUMBERS,
    "timestamp": _NUMBERS,
    "list": ("contains", "is_null"),
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
# By kind: what the JSON value must be, and what to say otherwise. `true` is no integer, "5" no number.
_JSON_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "expected text"),
    "country": ((str,), "expected a country: its ISO 3166 code or name"),
    "enum": ((str,), "expected one of the values the dataset declares"),
    "integer": ((int,), "expected an integer"),
    "decimal": ((int, float, str), "expected a number, or text that holds one"),
    "float": ((int, float), "expected a number"),
    "boolean": ((bool,), "expected true or false"),
    "date": ((str,), "expected a date, YYYY-MM-DD"),
    "timestamp": ((str,), "expected a timestamp, such as 2026-01-31T12:00:00Z"),
}
_RANGE = "outside of what the column can hold"
_REASONS: Mapping[str, str] = {
    "email_syntax": "expected an e-mail address; for a part of one use prefix or contains",
    "phone_invalid": "expected a phone number; with + and country code it needs no region",
}
# The identity's hash is of no use to a client; the other system columns can be asked for.
_OFFERED_SYSTEM_COLUMNS = ("ingest_ts", "upload_id", "row_no")
VALUE_CHARS_MAX = 10_000


class BadValue(Exception):
    """A value that this column cannot be compared with; the text says what would be right, never the value."""


@dataclass(frozen=True)
class Field:
    """A column as a query of this caller sees it. `hidden`: a personal one, and the caller has no scope for it;
    `findable`: rows are looked up by it.
    """

    name: str
    column: Column
    hidden: bool = False
    findable: bool = False

    @property
    def kind(self) -> str:
        return self.column.parsed.kind

    @property
    def operators(self) -> tuple[str, ...]:
        offered = _OPERATORS[self.kind]
        if not self.hidden:
            return offered
        return tuple(one for one in offered if one in (_LOOKUP if self.findable else _PRESENCE))

    @property
    def parameter(self) -> str:
        """The ClickHouse type of a bound value; of a list, that of one element."""
        item = self.column.parsed.item
        if item.kind == "decimal":
            return f"Decimal({item.precision}, {item.scale})"
        return _PARAMETERS.get(item.kind, "String")

    @property
    def item(self) -> Field:
        """The elements of a list, as a column of their own; of any other column, itself."""
        if self.kind != "list":
            return self
        return Field(self.name, self.column.model_copy(update={"type": self.column.type[len("list(") : -1].strip()}))

    @property
    def sql(self) -> str:
        return f"`{self.name}`"

    @property
    def free_text(self) -> bool:
        """Text that somebody wrote: not a phone number, whose + is no formula."""
        return self.kind in {"string", "json"} and self.column.normalise != "phone"

    @property
    def sortable(self) -> bool:
        return self.kind not in {"json", "list"} and not self.hidden


def fields_of(dataset: Dataset, *, pii: bool = True) -> dict[str, Field]:
    """Every column a query on this dataset may name; without `pii` the personal ones are hidden."""
    system = {name: Column(type=SYSTEM_COLUMNS[name]) for name in _OFFERED_SYSTEM_COLUMNS}
    if dataset.extra == "keep":
        # The input fields that no column takes. Beside personal columns there may be a misspelt one among them.
        personal = any(column.pii for column in dataset.columns.values())
        system["extra"] = Column(type="json", pii=personal)
    findable = set(dataset.findable)
    return {
        name: Field(name, one, one.pii and not pii, name in findable)
        for name, one in (dataset.columns | system).items()
    }


def whole_value(field: Field, value: Any, region: str) -> str | int:
    """A value as the column stores it, for its bound parameter. `region` is that of phone numbers without a +."""
    accepted, expected = _JSON_TYPES[field.kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        raise BadValue(expected)
    written = normalise(field.column, _written(value), region=region)
    if isinstance(written, Rejection):
        reason = written.reason
        raise BadValue(_RANGE if reason.endswith("_range") else _REASONS.get(reason, expected))
    if written is None:
        raise BadValue('blank is not a value: use {"is_null": true}')
    if field.column.values and written not in field.column.values:
        raise BadValue(f"expected one of: {', '.join(field.column.values)}"[:300])
    return int(written) if field.kind == "integer" else written


def part_of_value(field: Field, value: Any) -> str:
    """Text that a stored value begins with, contains or is ordered against. A part of a value cannot be normalised
    like a whole one, but what normalising does to every character is done.
    """
    if not isinstance(value, str):
        raise BadValue("expected text")
    text = unicodedata.normalize("NFC", _written(value))
    return text.lower() if field.column.normalise == "email" else text


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else repr(value)
    if len(text) > VALUE_CHARS_MAX:
        raise BadValue(f"expected at most {VALUE_CHARS_MAX} characters")
    return text
