"""ORDER BY, and where the next page begins: behind the last row in that order, however many rows come meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.query_columns import Field
from gateway.query_filters import Conditions, Faults
from gateway.query_masking import WITHOUT_PII

SORTS_MAX = 10
# Ascending: FINAL reads in this order and stops early.
TIE_BREAK = "dedupe_key"
PLACE = "__place"


@dataclass(frozen=True)
class Term:
    field: Field
    descending: bool

    @property
    def sql(self) -> str:
        # Columns without a value come last in both directions.
        return f"{self.field.sql} {'DESC' if self.descending else 'ASC'} NULLS LAST"


@dataclass(frozen=True)
class Position:
    """The last row of a page. `as_of`: the server's time of the first page, which all pages are read as of."""

    as_of: str
    values: tuple[str | None, ...]  # of the terms
    key: str  # hexadecimal
    total: int | None = None


def terms_of(sort: str | Sequence[str] | None, fields: Mapping[str, Field], faults: Faults) -> list[Term]:
    wanted = [sort] if isinstance(sort, str) else list(sort or ())
    if len(wanted) > SORTS_MAX:
        faults.add("sort", f"expected at most {SORTS_MAX} columns")
        return []
    found = []
    for place, asked in enumerate(wanted):
        path = f"sort.{place}" if len(wanted) > 1 else "sort"
        name, descending = direction_of(asked, path, faults)
        field = fields.get(name)
        if field is None:
            faults.add(path, 'expected "column", "column ASC" or "column DESC"')
        elif field.hidden:
            faults.add(path, WITHOUT_PII)
        elif not field.sortable:
            faults.add(path, f"a {field.kind} column cannot be sorted by")
        else:
            found.append(Term(field, descending))
    return found


def direction_of(asked: str, path: str, faults: Faults) -> tuple[str, bool]:
    name, _, direction = asked.strip().partition(" ")
    direction = direction.strip().upper() or "ASC"
    if direction not in {"ASC", "DESC"}:
        faults.add(path, 'expected "column", "column ASC" or "column DESC"')
    return name, direction == "DESC"


def order_by(terms: Sequence[Term]) -> str:
    return ", ".join([*(term.sql for term in terms), TIE_BREAK])


def place_sql(terms: Sequence[Term]) -> str:
    """A last column that says where a row stands: the time, the values it is sorted by, its key."""
    values = "".join(f"toString({term.field.sql}), " for term in terms)
    return f"[toString(now64(6, 'UTC')), {values}hex({TIE_BREAK})] AS {PLACE}"


def behind(terms: Sequence[Term], position: Position, conditions: Conditions) -> str:
    """Only rows behind the position: equal in the first terms, and behind it in the next."""
    key = conditions.bind("String", position.key)
    behind_key = f"{TIE_BREAK} > toFixedString(unhex({key}), 16)"
    if not terms:
        return behind_key
    equal: list[str] = []
    ways: list[str] = []
    for term, value in zip(terms, position.values, strict=True):
        column = term.field.sql
        if value is None:  # nothing but another absent value comes behind an absent one
            equal.append(f"isNull({column})")
            continue
        bound = conditions.bind(term.field.parameter, value)
        ways.append(_both(equal, f"ifNull({column} {'<' if term.descending else '>'} {bound}, true)"))
        equal.append(f"{column} = {bound}")
    ways.append(_both(equal, behind_key))
    return f"({' OR '.join(ways)})"


def _both(conditions: Sequence[str], last: str) -> str:
    return f"({' AND '.join([*conditions, last])})"
