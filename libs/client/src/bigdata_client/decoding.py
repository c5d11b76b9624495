"""JSON documents into frozen dataclasses, by their annotations. Unknown fields are ignored: servers may grow."""

from __future__ import annotations

import types
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bigdata_client.errors import BrokenAnswer

T = TypeVar("T")


def decode(kind: type[T], document: Any) -> T:
    """Raises BrokenAnswer when a field that has no default is missing, or a moment is not one."""
    try:
        return _build(kind, document)
    except (KeyError, TypeError, ValueError) as exc:
        raise BrokenAnswer(f"this is not the {kind.__name__} that was expected: {exc!r}") from exc


def _build(kind: type[T], document: Any) -> T:
    if not isinstance(document, Mapping):
        raise TypeError(f"an object was expected, not {type(document).__name__}")
    found = {}
    for name, hint, required in _fields(cast("Hashable", kind)):
        if name in document:
            found[name] = _value(hint, document[name])
        elif required:
            raise KeyError(name)
    return kind(**found)


@cache
def _fields(kind: Any) -> list[tuple[str, Any, bool]]:
    hints = get_type_hints(kind)
    return [
        (one.name, hints[one.name], one.default is MISSING and one.default_factory is MISSING)
        for one in fields(kind)
        if one.init
    ]


def _value(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        if value is None:
            return None
        # Unions here are always `something | None`.
        hint = next(one for one in get_args(hint) if one is not types.NoneType)
        origin = get_origin(hint)
    if origin is tuple:
        return tuple(_value(get_args(hint)[0], one) for one in value)
    if is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if hint is date:
        return date.fromisoformat(value)
    return value
