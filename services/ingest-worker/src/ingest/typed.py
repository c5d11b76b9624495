"""Values that a file brings with their types (Parquet), as columns of the table: range checks instead of parsing.

What has another type than its column is written as text, and goes the way of every text.
"""

from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from common.datasets import Column
from common.normalise.moment import EARLIEST, LATEST
from ingest.formats.extra import python_values, shown

# The values as the table wants them, and where they are refused, why.
Typed = tuple[Any, Any | None]


def is_text(values: Any) -> bool:
    return any(
        check(values.type)
        for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


def typed(column: Column, values: Any) -> Typed | None:
    """None where the types differ, and text has to stand between them."""
    convert = _CONVERSIONS.get(column.parsed.kind)
    if convert is None or column.normalise:
        return None
    try:
        return convert(column, values)
    except pa.ArrowInvalid:
        return None


def as_text(values: Any) -> Any:
    """Any values as their text; lists and objects as JSON."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_null(kind):
        return values.cast(pa.string())
    if pa.types.is_nested(kind):
        return pa.array([_json(value) for value in python_values(values)], pa.string())
    if pa.types.is_time(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind):
        return pa.array([None if value is None else str(value) for value in python_values(values)], pa.string())
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return as_text(values.cast(pa.timestamp(kind.unit)))  # the same moment in UTC
    if pa.types.is_floating(kind):
        return _floats_as_text(values)
    return values.cast(pa.string())


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value, default=shown, option=orjson.OPT_NON_STR_KEYS).decode()


def _floats_as_text(values: Any) -> Any:
    """A whole number without its point, as the same number in JSON or CSV would be read; NaN is nothing."""
    values = values.cast(pa.float64())
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
    whole = pc.fill_null(whole, False)  # noqa: FBT003 - pyarrow's
    texts = pc.if_else(
        whole, pc.if_else(whole, values, 0.0).cast(pa.int64()).cast(pa.string()), values.cast(pa.string())
    )
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.string()), texts)


def _integer(_: Column, values: Any) -> Typed | None:
    return (values.cast(pa.int64()), None) if pa.types.is_integer(values.type) else None


def _float(_: Column, values: Any) -> Typed | None:
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        return None
    if pa.types.is_integer(values.type):
        return values.cast(pa.float64(), safe=False), None
    numbers = values.cast(pa.float64())
    finite = pc.is_finite(numbers)
    return pc.if_else(finite, numbers, None), _reasons(pc.is_inf(numbers), "float_range")


def _decimal(column: Column, values: Any) -> Typed | None:
    if not (pa.types.is_decimal(values.type) or pa.types.is_integer(values.type)):
        return None
    return values.cast(pa.decimal128(column.parsed.precision, column.parsed.scale)), None


def _boolean(_: Column, values: Any) -> Typed | None:
    return (values, None) if pa.types.is_boolean(values.type) else None


def _date(_: Column, values: Any) -> Typed | None:
    if not pa.types.is_date(values.type):
        return None
    return _within(values.cast(pa.date32()), EARLIEST.date(), LATEST.date(), "date_range")


def _timestamp(_: Column, values: Any) -> Typed | None:
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("s"))
    if not pa.types.is_timestamp(values.type):
        return None
    plain = values.cast(pa.timestamp(values.type.unit))  # naive means UTC, and zones are kept as moments of UTC
    earliest, latest = EARLIEST.astimezone(UTC).replace(tzinfo=None), LATEST.astimezone(UTC).replace(tzinfo=None)
    try:
        plain = plain.cast(pa.timestamp("us"), safe=values.type.unit != "ns")
    except pa.ArrowInvalid:  # beyond what microseconds hold, so beyond the range too
        return None
    return _within(plain, earliest, latest, "timestamp_range")


def _within(values: Any, first: Any, last: Any, reason: str) -> Typed:
    lower, upper = pa.scalar(first, values.type), pa.scalar(last, values.type)
    inside = pc.and_(pc.greater_equal(values, lower), pc.less_equal(values, upper))
    return pc.if_else(inside, values, pa.scalar(None, values.type)), _reasons(pc.invert(inside), reason)


def _reasons(refused: Any, reason: str) -> Any | None:
    refused = pc.fill_null(refused, False)  # noqa: FBT003 - pyarrow's
    if not np.any(refused.to_numpy(zero_copy_only=False)):
        return None
    return pc.if_else(refused, pa.scalar(reason), pa.scalar(None, pa.string()))


_CONVERSIONS: Mapping[str, Callable[[Column, Any], Typed | None]] = {
    "integer": _integer,
    "float": _float,
    "decimal": _decimal,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
}
