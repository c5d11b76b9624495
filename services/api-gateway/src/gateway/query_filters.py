"""The WHERE clause: conditions of SQL that we wrote, over bound parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.datasets import Dataset
from common.errors import InvalidRequest
from common.identity import identity_key_sql
from gateway.query_columns import BadValue, Field, part_of_value, whole_value
from gateway.query_masking import WITHOUT_PII
from gateway.query_request import SIMILAR_CHARS_MIN, Fuzzy, Range

IN_VALUES_MAX = 10_000
# ClickHouse takes a form field of 128 KiB (http_max_field_value_size), and a list travels as one.
_IN_BYTES_MAX = 120 << 10
_COMPARISONS: Mapping[str, str] = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
# A row without a value is not equal to any: eq and ne together find every row.
_EQUALITY: Mapping[str, str] = {
    "eq": "{column} = {value}",
    "ne": "ifNull({column} != {value}, true)",
    "in": "{column} IN {value}",
    "nin": "ifNull({column} NOT IN {value}, true)",
}
# Not LIKE: %, _ and \ are ordinary characters of a value.
_TEXT: Mapping[str, str] = {
    "prefix": "startsWith({column}, {text})",
    "contains": "position({column}, {text}) > 0",
}
# A name is compared as a whole, by the share of it that has to be changed; of a long text it is asked which share of
# the query's n-grams is in it. n-grams alone give 1 for (Maria, jo) and 0 for (Jon, john).
_SHORT_CHARS_MAX = 32
_SIMILARITY = (
    f"if(lengthUTF8({{column}}) <= {_SHORT_CHARS_MAX}, "
    f"1 - editDistanceUTF8(lowerUTF8(substringUTF8({{column}}, 1, {_SHORT_CHARS_MAX})), {{text}}) / "
    "greatest(lengthUTF8({column}), lengthUTF8({text})), ngramSearchUTF8(lowerUTF8({column}), {text}))"
)
_BARE_IN_ARRAYS = frozenset({"integer", "float", "decimal"})
# Their text is the same for the bound value and for the column, since both have the same type.
_KEY_KINDS = frozenset({"string", "country", "integer", "boolean", "date", "timestamp"})
_UNORDERED_TEXT = frozenset({"email", "phone"})


@dataclass
class Faults:
    """Everything that is wrong with a request, so that one answer names all of it."""

    found: list[dict[str, str]] = field(default_factory=list)

    def add(self, path: str, error: str) -> None:
        self.found.append({"path": path, "error": error})

    def raise_if_any(self) -> None:
        if self.found:
            raise InvalidRequest(details=self.found)


@dataclass
class Conditions:
    """ANDed conditions and what is bound in them, in the order they were asked for."""

    dataset: Dataset
    fields: Mapping[str, Field]
    faults: Faults
    region: str  # of phone numbers without a +
    sql: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    _equal: dict[str, str] = field(default_factory=dict)  # column -> the bound value it must equal
    _one_of: dict[str, str] = field(default_factory=dict)  # column -> the condition that names its values

    @property
    def identity_key(self) -> str | None:
        """SQL of the dedupe_key, when the whole first identity must be equal to something.

        Correct for the first identity only: a row that has it is keyed by it, whatever else the row holds.
        """
        if not self.dataset.identity:
            return None
        columns: Sequence[str] = self.dataset.identity[0]
        if not all(self._identifies(name) for name in columns):
            return None
        values = {name: f"toString({self._equal[name]})" for name in columns}
        return identity_key_sql(self.dataset, columns, values)

    @property
    def findable(self) -> list[str]:
        """Conditions that name values of columns the history indexes and that find few rows.

        Those of one part of an identity of several columns do not count: a source may have sent half of the rows.
        """
        whole = [names for names in self.dataset.identity if all(name in self._one_of for name in names)]
        exact = [(name,) for name, column in self.dataset.columns.items() if column.index == "exact"]
        wanted = {name for names in (*whole, *exact) for name in names if name in self._one_of}
        return [condition for name, condition in self._one_of.items() if name in wanted]

    def add(self, condition: str) -> None:
        self.sql.append(condition)

    def bind(self, type_: str, value: Any) -> str:
        """The placeholder of a bound value."""
        return self._bind(type_, value)

    def filter(self, name: str, asked: Any) -> None:
        path = f"filters.{name}"
        column = self._field(path, name)
        if column is None:
            return
        if isinstance(asked, list):
            self._operator(column, "in", asked, path)
        elif isinstance(asked, dict):
            if not asked:
                self.faults.add(path, f"name an operator: {', '.join(column.operators)}")
            for operator, value in asked.items():
                self._operator(column, operator, value, f"{path}.{operator[:80]}")
        else:
            self._operator(column, "eq", asked, path)

    def range(self, name: str, asked: Range) -> None:
        path = f"range.{name}"
        column = self._field(path, name)
        if column is None:
            return
        if asked.from_ is None and asked.to is None:
            self.faults.add(path, "give from, to or both")
        if asked.from_ is not None:
            self._operator(column, "gte", asked.from_, f"{path}.from")
        if asked.to is not None:
            self._operator(column, "lte", asked.to, f"{path}.to")

    def fuzzy(self, name: str, asked: Fuzzy) -> None:
        path = f"fuzzy.{name}"
        column = self._field(path, name)
        if column is None:
            return
        if column.kind != "string":
            self.faults.add(path, "fuzzy search needs a text column")
        elif column.hidden:
            self.faults.add(path, WITHOUT_PII)
        elif asked.threshold is None:
            value = self._bind("String", part_of_value(column, asked.query))
            self.sql.append(f"positionCaseInsensitiveUTF8({column.sql}, {value}) > 0")
        else:
            self._similar(column, asked.query, asked.threshold, path)

    def _similar(self, column: Field, query: str, threshold: float, path: str) -> None:
        text = part_of_value(column, query).strip().lower()
        if len(text) < SIMILAR_CHARS_MIN:
            self.faults.add(f"{path}.query", f"similarity needs at least {SIMILAR_CHARS_MIN} characters")
            return
        likeness = _SIMILARITY.format(column=column.sql, text=self._bind("String", text))
        self.sql.append(f"{likeness} >= {self._bind('Float64', repr(threshold))}")

    def _field(self, path: str, name: str) -> Field | None:
        column = self.fields.get(name)
        if column is None:
            self.faults.add(path, "this dataset has no such column")
        return column

    def _operator(self, column: Field, operator: str, value: Any, path: str) -> None:
        if operator not in column.operators:
            self.faults.add(path, _no_such_operator(column))
            return
        try:
            self.sql.append(self._condition(column, operator, value))
        except BadValue as exc:
            self.faults.add(path, str(exc))

    def _condition(self, column: Field, operator: str, value: Any) -> str:
        if operator == "is_null":
            return self._is_null(column, value)
        if column.kind == "list":  # contains
            return f"has({column.sql}, {self._value(column.item, value)})"
        if operator in _COMPARISONS:
            return f"{column.sql} {_COMPARISONS[operator]} {self._ordered_value(column, value)}"
        if operator in _TEXT:
            text = self._bind("String", part_of_value(column, value))
            return _TEXT[operator].format(column=column.sql, text=text)
        bound = self._values(column, value) if operator in {"in", "nin"} else self._value(column, value)
        condition = _EQUALITY[operator].format(column=column.sql, value=bound)
        if operator == "eq":
            self._equal.setdefault(column.name, bound)
        if operator in {"eq", "in"}:
            self._one_of.setdefault(column.name, condition)
        return condition

    def _is_null(self, column: Field, value: Any) -> str:
        if not isinstance(value, bool):
            raise BadValue("expected true or false")
        if column.kind == "list":  # which is never null
            return f"{'empty' if value else 'notEmpty'}({column.sql})"
        return f"{'isNull' if value else 'isNotNull'}({column.sql})"

    def _value(self, column: Field, value: Any) -> str:
        return self._bind(column.parameter, self._as_stored(column, value))

    def _values(self, column: Field, values: Any) -> str:
        if not isinstance(values, list) or not values:
            raise BadValue("expected a list with at least one value")
        if len(values) > IN_VALUES_MAX:
            raise BadValue(f"expected at most {IN_VALUES_MAX} values")
        stored = [self._as_stored(column, value) for value in values]
        if sum(_bytes_sent(value) for value in stored) > _IN_BYTES_MAX:
            raise BadValue(f"expected at most {_IN_BYTES_MAX} bytes of values")
        # ClickHouse reads numbers in an array without quotes, everything else with them.
        bound = f"[{','.join(map(str, stored))}]" if column.kind in _BARE_IN_ARRAYS else stored
        return self._bind(f"Array({column.parameter})", bound)

    def _ordered_value(self, column: Field, value: Any) -> str:
        if column.column.normalise in _UNORDERED_TEXT:
            return self._bind("String", part_of_value(column, value))
        return self._value(column, value)

    def _as_stored(self, column: Field, value: Any) -> Any:
        if value is None:
            raise BadValue('null is not a value: use {"is_null": true}')
        return whole_value(column, value, self.region)

    def _bind(self, type_: str, value: Any) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{type_}}}"

    def _identifies(self, name: str) -> bool:
        bound = self._equal.get(name)
        if bound is None or self.fields[name].kind not in _KEY_KINDS:
            return False
        return bool(self.parameters[bound[1:].partition(":")[0]] != "")  # an empty text identifies nothing


def _no_such_operator(column: Field) -> str:
    known = f"operators of a {column.kind} column: {', '.join(column.operators) or 'none'}"
    return f"{WITHOUT_PII}; {known}" if column.hidden else known


def _bytes_sent(value: object) -> int:
    """With quotes, comma and escapes."""
    text = str(value)
    return len(text.encode()) + sum(map(text.count, "\\'`\t\n")) + len("'', ")
