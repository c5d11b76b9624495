"""Fields that are no columns, as one JSON object a row; a field without a value is left out."""

from collections.abc import Mapping
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

_BEYOND_PYTHON = (OverflowError, ValueError)


def objects_of(fields: Mapping[str, Any]) -> Any:
    """`{"label":value,…}` of each row, null where no field has a value. Bytes that are no UTF-8 are replaced."""
    members = [_members(label, values) for label, values in fields.items()]
    joined = pc.binary_join_element_wise(*members, "", null_handling="replace", null_replacement="")
    inner = pc.utf8_slice_codeunits(joined, start=1)  # each member begins with a comma
    objects = pc.binary_join_element_wise("{", inner, "}", "")
    return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), objects)


def _members(label: str, values: Any) -> Any:
    """`,"label":value` of each row."""
    name = orjson.dumps(label.encode("utf-8", "replace").decode()).decode()
    if pa.types.is_nested(values.type) or pa.types.is_null(values.type):
        return pa.array([_member(name, value) for value in python_values(values)], pa.string())
    encoded = pc.dictionary_encode(values)
    texts = [_member(name, value) for value in python_values(encoded.dictionary)]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _member(name: str, value: Any) -> str | None:
    if value is None:
        return None
    return f",{name}:{orjson.dumps(value, default=shown, option=orjson.OPT_NON_STR_KEYS).decode()}"


def python_values(values: Any) -> list[Any]:
    """As Python sees them. A moment that it has no date for is shown as the number that it is stored as."""
    try:
        found: list[Any] = values.to_pylist()
    except _BEYOND_PYTHON:
        return [_python_value(value) for value in values]
    return found


def _python_value(value: Any) -> Any:
    try:
        return value.as_py()
    except _BEYOND_PYTHON:
        return str(getattr(value, "value", "out of range"))


def shown(value: object) -> object:
    """What JSON has no type for, for orjson."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
