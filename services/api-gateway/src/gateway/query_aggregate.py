"""Aggregation: groups, spans of time and metrics, named by the caller and written by us."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.query_columns import Field
from gateway.query_filters import Faults
from gateway.query_masking import MASKED_METRICS, WITHOUT_PII
from gateway.query_order import direction_of
from gateway.query_request import Aggregate, TimeBucket

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_CALL = re.compile(r"\s*([a-z]+)\s*\(\s*([A-Za-z0-9_]*)\s*(?:,\s*([0-9.eE+-]+)\s*)?\)\s*")
_NUMBERS = frozenset({"integer", "float", "decimal"})
_ORDERED = _NUMBERS | {"string", "date", "timestamp"}
_ANY = _ORDERED | {"country", "enum", "boolean"}
_METRICS: Mapping[str, tuple[str, frozenset[str]]] = {
    "count": ("count({0})", _ANY | {"json"}),
    "uniq": ("uniqExact({0})", _ANY),
    "sum": ("sum({0})", _NUMBERS),
    # As floating point, which is what comes out anyway: the sum inside of an average of integers wraps as well.
    "avg": ("avg(toFloat64({0}))", _NUMBERS),
    "min": ("min({0})", _ORDERED),
    "max": ("max({0})", _ORDERED),
    "quantile": ("quantile({1})({0})", _NUMBERS - {"decimal"}),
}
_DIGITS_WITH_ROOM = 18
# Of moments; a day has no minutes. Not toStartOf…: those clamp everything before 1970, silently.
_DAY = "toYear({0}), toMonth({0}), toDayOfMonth({0})"
_BUCKETS: Mapping[str, str] = {
    "minute": f"makeDateTime64({_DAY}, toHour({{0}}), toMinute({{0}}), 0, 0, 6, 'UTC')",
    "hour": f"makeDateTime64({_DAY}, toHour({{0}}), 0, 0, 0, 6, 'UTC')",
    "day": "toDate32({0})",
    "week": "toDate32({0}) - toIntervalDay(toDayOfWeek({0}) - 1)",
    "month": "toDate32({0}) - toIntervalDay(toDayOfMonth({0}) - 1)",
    "quarter": "makeDate32(toYear({0}), 3 * toQuarter({0}) - 2, 1)",
    "year": "makeDate32(toYear({0}), 1, 1)",
}
_OF_DAYS = frozenset({"day", "week", "month", "quarter", "year"})
_HOW = "expected count(), count(column), sum, avg, min, max or uniq of a column, or quantile(column, 0.95)"


@dataclass(frozen=True)
class Output:
    """A column of the answer: `name` as the caller calls it, `alias` as the inner query does."""

    name: str
    alias: str
    sql: str
    free_text: bool = False


@dataclass(frozen=True)
class Aggregation:
    groups: tuple[Output, ...]
    metrics: tuple[Output, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(one.name for one in (*self.groups, *self.metrics))

    def inner_sql(self, source: str) -> str:
        """Aliases of ours inside: one that has the name of a column would take the column's place in WHERE."""
        listed = ", ".join(f"{one.sql} AS {one.alias}" for one in (*self.groups, *self.metrics))
        by = f" GROUP BY {', '.join(group.alias for group in self.groups)}" if self.groups else ""
        return f"SELECT {listed} {source}{by}"

    def listed(self, text: Callable[[str], str] | None = None) -> str:
        """The outer SELECT; `text` changes free text, for CSV."""
        return ", ".join(
            f"{text(one.alias) if text and one.free_text else one.alias} AS `{one.name}`"
            for one in (*self.groups, *self.metrics)
        )

    def order_by(self, sort: str | Sequence[str] | None, faults: Faults) -> str:
        """By what the answer holds; then, and by default, by the groups."""
        known = {one.name: one.alias for one in (*self.groups, *self.metrics)}
        wanted = [sort] if isinstance(sort, str) else list(sort or ())
        terms = []
        for place, asked in enumerate(wanted[:100]):
            path = f"sort.{place}" if len(wanted) > 1 else "sort"
            name, descending = direction_of(asked, path, faults)
            if name in known:
                terms.append(f"{known[name]} {'DESC' if descending else 'ASC'} NULLS LAST")
            else:
                faults.add(path, f"an aggregation is sorted by its groups and metrics: {', '.join(known)}")
        rest = [group.alias for group in self.groups]
        return ", ".join([*terms, *rest])


def aggregation_of(asked: Aggregate, fields: Mapping[str, Field], faults: Faults) -> Aggregation:
    groups = [_group(place, one, fields, faults) for place, one in enumerate(asked.group_by)]
    metrics = [_metric(place, name, call, fields, faults) for place, (name, call) in enumerate(asked.metrics.items())]
    found = Aggregation(tuple(one for one in groups if one), tuple(one for one in metrics if one))
    seen: set[str] = set()
    for name in found.columns:
        if name in seen:
            faults.add("aggregate", f"two columns of the answer would be called {name}")
        seen.add(name)
    return found


def _group(place: int, asked: str | TimeBucket, fields: Mapping[str, Field], faults: Faults) -> Output | None:
    path, alias = f"aggregate.group_by.{place}", f"__g{place}"
    if isinstance(asked, str) and asked in fields:
        return _plain_group(fields[asked], path, alias, faults)
    bucket = asked if isinstance(asked, TimeBucket) else _written_bucket(asked)
    if bucket is None:
        faults.add(path, "expected a column of this dataset, or a span of time as in day(record_ts)")
        return None
    return _bucket_group(bucket, fields.get(bucket.column), path, alias, faults)


def _plain_group(field: Field, path: str, alias: str, faults: Faults) -> Output | None:
    if field.hidden:
        faults.add(path, WITHOUT_PII)
        return None
    if field.kind in {"json", "list"}:
        faults.add(path, f"a {field.kind} column cannot be grouped by")
        return None
    return Output(field.name, alias, field.sql, field.free_text)


def _written_bucket(asked: str) -> TimeBucket | None:
    found = _CALL.fullmatch(asked)
    if found is None or found[3] is not None or found[1] not in _BUCKETS:
        return None
    return TimeBucket.model_validate({"column": found[2], "every": found[1]})


def _bucket_group(asked: TimeBucket, field: Field | None, path: str, alias: str, faults: Faults) -> Output | None:
    name = asked.as_ or f"{asked.column}_{asked.every}"
    if field is None:
        faults.add(path, "this dataset has no such column")
    elif field.hidden:
        faults.add(path, WITHOUT_PII)
    elif field.kind not in {"timestamp", "date"} or (field.kind == "date" and asked.every not in _OF_DAYS):
        faults.add(path, f"a {field.kind} column has no {asked.every}")
    elif not _NAME.fullmatch(name):
        faults.add(path, "a name has letters, digits and _, at most 63")
    else:
        return Output(name, alias, _BUCKETS[asked.every].format(field.sql))
    return None


def _metric(place: int, name: str, call: str, fields: Mapping[str, Field], faults: Faults) -> Output | None:
    path, alias = f"aggregate.metrics.{name[:80]}", f"__m{place}"
    if not _NAME.fullmatch(name):
        faults.add(path, "a name has letters, digits and _, at most 63")
        return None
    found = _CALL.fullmatch(call)
    if found is None or found[1] not in _METRICS or (found[3] is not None) != (found[1] == "quantile"):
        faults.add(path, _HOW)
        return None
    if not found[2]:
        if found[1] == "count":
            return Output(name, alias, "count()")
        faults.add(path, _HOW)
        return None
    return _of_column(Output(name, alias, found[1]), fields.get(found[2]), found[3], path, faults)


def _of_column(asked: Output, field: Field | None, level: str | None, path: str, faults: Faults) -> Output | None:
    template, kinds = _METRICS[asked.sql]
    if field is None:
        faults.add(path, "this dataset has no such column")
    elif field.hidden and asked.sql not in MASKED_METRICS:
        faults.add(path, WITHOUT_PII)
    elif field.kind not in kinds:
        faults.add(path, f"{asked.sql} of a {field.kind} column is not possible")
    elif (share := _share(level)) is None:
        faults.add(path, "a quantile is from 0 to 1, as in quantile(column, 0.95)")
    else:
        text = field.free_text and asked.sql in {"min", "max"}
        column = _without_overflow(field) if asked.sql == "sum" else field.sql
        return Output(asked.name, asked.alias, template.format(column, share), text)
    return None


def _without_overflow(field: Field) -> str:
    """ClickHouse adds up in 64 bits, or in 38 digits, and wraps silently. Here any number of rows fits."""
    parsed = field.column.parsed
    if parsed.kind == "integer":
        return f"toDecimal128({field.sql}, 0)"
    return f"toDecimal256({field.sql}, {parsed.scale})" if parsed.precision > _DIGITS_WITH_ROOM else field.sql


def _share(written: str | None) -> str | None:
    """The level of a quantile, written by us; "0" where there is none."""
    if written is None:
        return "0"
    try:
        share = float(written)
    except ValueError:
        return None
    return f"{share:.6f}" if 0 <= share <= 1 else None
