"""The rules of common.normalise applied to whole columns: over distinct values, and with patterns for the values that
are plainly right, so that Python sees only the others.

A pattern may only accept what the rule would return unchanged, or as the pattern's own function changes it; a test
compares both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from common.column_types import ColumnType
from common.datasets import Column
from common.normalise import Normalised, Rejection, rule_of
from common.normalise.phone import phone
from ingest.phones import plain_phones

_REGION_CHARS = 2
_PHONES_REMEMBERED = 50_000  # the odd ones, which repeat: n/a, 12, 000
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
# At most 64 bytes in all keep every part within its limit.
_PLAIN_EMAIL = rf"^{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]*[a-z0-9])?$"
_PLAIN_EMAIL_MAX = 64
# Printable, single blanks, composed: every character from U+00A1 to U+024F is its own NFC.
_PLAIN_TEXT = r"^[!-~\x{A1}-\x{24F}]+(?: [!-~\x{A1}-\x{24F}]+)*$"
_PLAIN_INTEGER = r"^(?:0|-?[1-9][0-9]{0,17})$"
_PLAIN_FLOAT = r"^-?[0-9]{1,15}(?:\.[0-9]{1,15})?$"
# The first year is left out, and with it what an offset may lead out of range.
_PLAIN_MOMENT = (
    r"^(?:19(?:0[1-9]|[1-9][0-9])|20[0-9]{2})-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])?$"
)
_WITH_OFFSET = r"(?:Z|[+-][0-9]{2}:[0-9]{2})$"
_ANY_MOMENT = "2000-01-01T00:00:00Z"
_PLAIN_DAY = r"^(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])$"


@dataclass(frozen=True)
class Normal:
    """A column as the table stores it; `reasons` says where a value was refused, None when nowhere."""

    values: Any
    reasons: Any | None = None


def normal(column: Column, texts: Any, *, region: str) -> Normal:
    """Text as the column's rule and type want it. A value that is refused becomes null, with its reason."""
    rule = rule_of(column, region)
    if rule is None:
        return Normal(texts)
    encoded = pc.dictionary_encode(texts)
    distinct = encoded.dictionary
    if not len(distinct):
        return Normal(pa.nulls(len(texts), arrow_type(column)))
    values, reasons = _apply(rule, _plain(column), distinct)
    typed = _typed(values, column)
    taken = typed.take(encoded.indices)
    return Normal(taken, None if reasons is None else reasons.take(encoded.indices))


def _typed(values: Any, column: Column) -> Any:
    of = column.parsed.of
    if of is None:
        return values.cast(arrow_type(column))
    # The rule wrote JSON arrays; what JSON has no type for (moments, decimals) is text in them.
    lists = [None if text is None else orjson.loads(text) for text in values.to_pylist()]
    if of.kind in {"date", "timestamp", "decimal"}:
        flat = pa.array(lists, pa.list_(pa.string()))
        return flat.cast(arrow_type(column))
    return pa.array(lists, arrow_type(column))


def normal_phones(texts: Any, regions: Any) -> Normal:
    """Phones of rows that may each have a region of their own: `regions` is never null."""
    placed = pc.binary_join_element_wise(regions, texts, "")
    encoded = pc.dictionary_encode(placed)
    if not len(encoded.dictionary):
        return Normal(pa.nulls(len(texts), pa.string()))
    values, reasons = _apply(_phone, plain_phones, encoded.dictionary)
    return Normal(values.take(encoded.indices), None if reasons is None else reasons.take(encoded.indices))


def arrow_type(column: Column) -> Any:
    """What is sent to ClickHouse for a column."""
    return _arrow_type(column.parsed)


def _arrow_type(column: ColumnType) -> Any:
    if column.of is not None:
        return pa.list_(_arrow_type(column.of))
    if column.kind == "decimal":
        return pa.decimal128(column.precision, column.scale)
    return _ARROW_TYPES[column.kind]


_ARROW_TYPES: Mapping[str, Any] = {
    "string": pa.string(),
    "country": pa.string(),
    "enum": pa.string(),
    "json": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}


@lru_cache(_PHONES_REMEMBERED)
def _phone(placed: str) -> Normalised:
    return phone(placed[_REGION_CHARS:], placed[:_REGION_CHARS])


# Of distinct texts: which it decides, their values, and the reasons of those it refuses, if it refuses any.
Plain = Callable[[Any], tuple[Any, Any, Any | None]]


def _apply(rule: Callable[[str], Normalised], plain: Plain | None, distinct: Any) -> tuple[Any, Any | None]:
    """The rule over distinct texts: values, and reasons where it refused."""
    if plain is None:
        return _by_rule(rule, distinct)
    decided, values, reasons = plain(distinct)
    if pc.all(decided).as_py():
        return values, reasons
    odd = pc.invert(decided)
    odd_values, odd_reasons = _by_rule(rule, distinct.filter(odd))
    values = pc.replace_with_mask(values, odd, odd_values)
    if reasons is None and odd_reasons is None:
        return values, None
    before = pa.nulls(len(distinct), pa.string()) if reasons is None else reasons
    after = pa.nulls(len(odd_values), pa.string()) if odd_reasons is None else odd_reasons
    return values, pc.replace_with_mask(before, odd, after)


def _by_rule(rule: Callable[[str], Normalised], texts: Any) -> tuple[Any, Any | None]:
    answers = [rule(text) for text in texts.to_pylist()]
    values = pa.array([None if isinstance(answer, Rejection) else answer for answer in answers], pa.string())
    if not any(isinstance(answer, Rejection) for answer in answers):
        return values, None
    return values, pa.array(
        [answer.reason if isinstance(answer, Rejection) else None for answer in answers], pa.string()
    )


def _plain(column: Column) -> Plain | None:
    if column.parsed.of is not None or column.formats:
        return None
    return _PLAIN_BY_NORMALISER[column.normalise] if column.normalise else _PLAIN_BY_TYPE.get(column.type)


def _matching(pattern: str) -> Plain:
    return lambda texts: (pc.match_substring_regex(texts, pattern), texts, None)


def _plain_emails(texts: Any) -> tuple[Any, Any, None]:
    values = pc.ascii_lower(pc.ascii_trim_whitespace(texts))
    short = pc.less_equal(pc.binary_length(values), _PLAIN_EMAIL_MAX)
    return pc.and_(short, pc.match_substring_regex(values, _PLAIN_EMAIL)), values, None


def _plain_moments(texts: Any) -> tuple[Any, Any, None]:
    right = pc.match_substring_regex(texts, _PLAIN_MOMENT)
    placed = pc.match_substring_regex(texts, _WITH_OFFSET)
    zoned = pc.if_else(placed, texts, pc.binary_join_element_wise(texts, "Z", ""))
    moments = pc.if_else(right, zoned, _ANY_MOMENT).cast(pa.timestamp("us", "UTC"))
    return right, moments.cast(pa.timestamp("us")).cast(pa.string()), None


_PLAIN_BY_NORMALISER: Mapping[str, Plain | None] = {
    "email": _plain_emails,
    "name": _matching(_PLAIN_TEXT),
    "text": _matching(_PLAIN_TEXT),
    "phone": None,
}
_PLAIN_BY_TYPE: Mapping[str, Plain] = {
    "integer": _matching(_PLAIN_INTEGER),
    "float": _matching(_PLAIN_FLOAT),
    "date": _matching(_PLAIN_DAY),
    "timestamp": _plain_moments,
}
