"""Lists: a JSON array, or what files without nesting write, items with semicolons between them."""

from collections.abc import Callable, Mapping

import orjson

from common.column_types import ColumnType
from common.normalise.rejection import Normalised, Rejection

_SEPARATOR = ";"
_SYNTAX = "list_syntax"
_JSON_TYPES: Mapping[str, Callable[[str], object]] = {"integer": int, "float": float, "boolean": "true".__eq__}


def list_of(item: ColumnType, rule: Callable[[str], Normalised] | None) -> Callable[[str], Normalised]:
    """The JSON array of the items as the rule writes them; items of which nothing is left are left out.

    One item that is refused refuses the list, with the item's reason.
    """

    def apply(value: str) -> Normalised:
        written = value.strip()
        if not written:
            return None
        texts = _items(written)
        if isinstance(texts, Rejection):
            return texts
        found = []
        for text in texts:
            one = text if rule is None else rule(text)
            if isinstance(one, Rejection):
                return one
            if one is not None and one != "":
                found.append(_typed(item, one))
        return orjson.dumps(found).decode()

    return apply


def _items(written: str) -> list[str] | Rejection:
    if not written.startswith("["):
        return [one.strip() for one in written.split(_SEPARATOR)]
    try:
        parsed = orjson.loads(written)
    except orjson.JSONDecodeError:
        return Rejection(_SYNTAX)
    texts = []
    for one in parsed:
        if isinstance(one, dict | list):
            return Rejection(_SYNTAX)
        if one is not None:
            texts.append(one if isinstance(one, str) else orjson.dumps(one).decode())
    return texts


def _typed(item: ColumnType, text: str) -> object:
    kind = _JSON_TYPES.get(item.kind)
    return text if kind is None else kind(text)
