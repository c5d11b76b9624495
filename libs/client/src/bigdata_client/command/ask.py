"""Flags of `bigdata query` become the body of POST /v1/query. Pure."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from bigdata_client.command.outcome import Exit, Stop

_SIGNS = {"!=": "ne", ">=": "gte", "<=": "lte", "^=": "prefix", "~=": "contains", ">": "gt", "<": "lt", "=": "eq"}
_CONDITION = re.compile(
    r"(?P<field>[A-Za-z_]\w*)(?::(?P<operator>\w+)=|(?P<sign>!=|>=|<=|\^=|~=|>|<|=))(?P<value>.*)", re.DOTALL
)
_PAIR = re.compile(r"(?P<field>[A-Za-z_]\w*)=(?P<value>.*)", re.DOTALL)
_FILE_BYTES_MAX = 8 << 20


def body_of(file: str | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The body in the file, if there is one; what a flag says wins, and an empty part is no flag."""
    given = {name: value for name, value in flags.items() if value not in (None, [], {})}
    return {**(body_from_file(file) if file else {}), **given}


def body_from_file(path: str) -> dict[str, Any]:
    """A body of JSON from a file, or from stdin with `-`."""
    text = sys.stdin.read(_FILE_BYTES_MAX) if path == "-" else Path(path).read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise Stop(f"{path}: this is not JSON: {exc}", Exit.USAGE) from exc
    if not isinstance(found, dict):
        raise Stop(f'{path}: expected an object like {{"dataset": "people", "filters": {{}}}}', Exit.USAGE)
    return found


def filters_of(conditions: Sequence[str], text_fields: Collection[str] = ()) -> dict[str, Any]:
    """Conditions on the same field are ANDed, but for `=`: several of those are a list of what it may be.

    `text_fields` hold text whatever it looks like: a ZIP code is no number.
    """
    equal: dict[str, list[Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    for condition in conditions:
        part = _CONDITION.fullmatch(condition)
        if part is None:
            raise Stop(
                f"--where {condition!r}: write FIELD=VALUE, or one of != >= <= > < ^= (prefix) ~= (contains), "
                "or FIELD:OPERATOR=VALUE, e.g. age>=18 or phone:is_null=true",
                Exit.USAGE,
            )
        field, operator = part["field"], part["operator"] or _SIGNS[part["sign"]]
        value = value_of(part["value"], as_text=field in text_fields and operator != "is_null")
        if operator == "eq":
            equal.setdefault(field, []).append(value)
        else:
            found.setdefault(field, {})[operator] = value
    for field, values in equal.items():
        operators = {"eq": values[0]} if len(values) == 1 else {"in": values}
        found[field] = {**operators, **found.get(field, {})}
    return {field: _short(operators) for field, operators in found.items()}


def _short(operators: Mapping[str, Any]) -> Any:
    if set(operators) == {"eq"}:
        return operators["eq"]
    return operators["in"] if set(operators) == {"in"} else dict(operators)


def value_of(given: str, *, as_text: bool = False) -> Any:
    """A number, true, false or null is that, everything else text; quotes make text of anything: FIELD='"12"'."""
    try:
        found = json.loads(given)
    except ValueError:
        return given
    if isinstance(found, dict) or (as_text and not isinstance(found, str | list)):
        return given
    return found


def looks_typed(conditions: Sequence[str]) -> bool:
    """Whether any value looks like something else than text, so that the column's type matters."""
    parts = (_CONDITION.fullmatch(one) for one in conditions)
    return any(part is not None and not isinstance(value_of(part["value"]), str) for part in parts)


def ranges_of(ranges: Sequence[str]) -> dict[str, Any]:
    found = {}
    for one in ranges:
        part = _PAIR.fullmatch(one)
        begin, dots, end = part["value"].partition("..") if part else ("", "", "")
        if part is None or not dots or not (begin or end):
            raise Stop(f"--range {one!r}: write FIELD=FROM..TO, e.g. ingest_ts=2026-01-01..2026-02-01", Exit.USAGE)
        ends = {"from": begin, "to": end}
        found[part["field"]] = {name: value_of(value) for name, value in ends.items() if value}
    return found


def fuzzy_of(fuzzy: Sequence[str]) -> dict[str, Any]:
    """FIELD=TEXT, or FIELD=TEXT@0.6 for similarity."""
    found = {}
    for one in fuzzy:
        part = _PAIR.fullmatch(one)
        if part is None or not part["value"]:
            raise Stop(
                f"--fuzzy {one!r}: write FIELD=TEXT, or FIELD=TEXT@0.6 for a similarity of at least 0.6", Exit.USAGE
            )
        text, at, threshold = part["value"].rpartition("@")
        if at and re.fullmatch(r"0?\.\d+|1(\.0+)?", threshold):
            found[part["field"]] = {"query": text, "threshold": float(threshold)}
        else:
            found[part["field"]] = {"query": part["value"]}
    return found


def aggregate_of(group_by: Sequence[str], metrics: Sequence[str]) -> dict[str, Any] | None:
    if not metrics and not group_by:
        return None
    named = {}
    for one in metrics:
        name, equals, metric = one.partition("=")
        if not equals or not name.isidentifier():
            raise Stop(f"--metric {one!r}: write NAME=FUNCTION, e.g. n='count()' or people='uniq(email)'", Exit.USAGE)
        named[name] = metric
    return {"group_by": names_of(group_by), "metrics": named or {"n": "count()"}}


def names_of(given: Sequence[str]) -> list[str]:
    """`-s a,b -s c` is a, b, c."""
    return [name.strip() for one in given for name in one.split(",") if name.strip()]
