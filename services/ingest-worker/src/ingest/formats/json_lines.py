"""JSON lines, one object a line: each line stands alone, so nothing of one record reaches another.

Flat objects go through pyarrow (json_flat.py), all others through orjson, one by one.
"""

from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from common.datasets import Dataset
from ingest.formats.batch import (
    INEXACT_NUMBER,
    JSON_SYNTAX,
    NESTED_VALUE,
    NOT_AN_OBJECT,
    RECORD_TOO_LONG,
    UNKNOWN_FIELD,
    Batch,
    Fault,
    by_column,
    first_present,
)
from ingest.formats.json_flat import flat_columns
from ingest.formats.records import TOO_LONG, Records

Object = dict[str, Any]
_TEXT = {str, type(None)}
_WHOLE = {int, type(None)}
_EXACT_MAX = 2**53


class JsonLinesReader:
    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __call__(self, piece: Records) -> Batch:
        flat = flat_columns(piece, self._dataset)
        if flat is None:
            return self.one_by_one(piece)
        columns, _ = by_column(sorted(flat), self._dataset)
        filled = {name: first_present([flat[label] for label in labels]) for name, labels in columns.items()}
        return Batch(piece, np.arange(len(piece)), filled)

    def one_by_one(self, piece: Records) -> Batch:
        objects, records, faults = _parsed(piece)
        labels = set().union(*objects)
        unknown = {label for label in labels if self._dataset.column_of(label) is None}
        if unknown and self._dataset.extra == "reject":
            objects, records, strangers = _without_unknown(objects, records, unknown)
            faults += strangers
        rejected: dict[int, Fault] = {}
        columns: dict[str, list[Any]] = {}
        for label in sorted(labels - unknown):
            name = self._dataset.column_of(label)
            if name is not None:
                found = self._texts(name, _values(objects, label), records, rejected)
                columns.setdefault(name, []).append(found)
        filled = {name: first_present(arrays) for name, arrays in columns.items()}
        batch = Batch(piece, np.asarray(records, np.int64), filled, self._extra(objects, unknown), faults)
        return _without(batch, rejected) if rejected else batch

    def _texts(self, name: str, values: list[Any], records: list[int], rejected: dict[int, Fault]) -> Any:
        kinds = set(map(type, values))
        kind = self._dataset.columns[name].parsed.kind
        if kinds <= _TEXT and kind != "json":
            return pa.array(values, pa.string())
        if kinds <= _WHOLE and kind == "integer":
            with suppress(OverflowError, pa.ArrowInvalid):  # beyond 64 bits they are judged as text
                return pa.array(values, pa.int64())
        if kinds <= _WHOLE:
            return pa.array(["" if one is None else str(one) for one in values], pa.string(), mask=_none(values))
        texts: list[str | None] = []
        for row, value in enumerate(values):
            text, reason = _text(value, kind)
            texts.append(text)
            if reason:
                rejected.setdefault(row, Fault(records[row], reason, name))
        return pa.array(texts, pa.string())

    def _extra(self, objects: Sequence[Object], unknown: set[str]) -> Any | None:
        if self._dataset.extra != "keep" or not unknown:
            return None
        return pa.array([_members(one, unknown) for one in objects], pa.string())


def _parsed(piece: Records) -> tuple[list[Object], list[int], list[Fault]]:
    """All at once where every record is an object, as it should be; else one by one."""
    places = list(zip(piece.starts.tolist(), piece.ends.tolist(), strict=True))
    if not np.any(piece.kinds == TOO_LONG):
        try:
            found = [orjson.loads(piece.buffer[start:end]) for start, end in places]
        except orjson.JSONDecodeError:
            pass
        else:
            if set(map(type, found)) <= {dict}:
                return found, list(range(len(found))), []
    return _parsed_one_by_one(piece)


def _parsed_one_by_one(piece: Records) -> tuple[list[Object], list[int], list[Fault]]:
    objects: list[Object] = []
    records: list[int] = []
    faults: list[Fault] = []
    for index in range(len(piece)):
        if piece.kinds[index] == TOO_LONG:
            faults.append(Fault(index, RECORD_TOO_LONG))
            continue
        try:
            found = orjson.loads(piece.text(index))
        except orjson.JSONDecodeError:
            faults.append(Fault(index, JSON_SYNTAX))
            continue
        if isinstance(found, dict):
            objects.append(found)
            records.append(index)
        else:
            faults.append(Fault(index, NOT_AN_OBJECT))
    return objects, records, faults


def _values(objects: Sequence[Object], label: str) -> list[Any]:
    try:
        return list(map(itemgetter(label), objects))
    except KeyError:  # one of them lacks it
        return [one.get(label) for one in objects]


def _text(value: Any, kind: str) -> tuple[str | None, str]:
    """A value as text, and why it cannot be one: a column of text holds no object, and no number that lost digits."""
    if value is None:
        return None, ""
    if kind == "json":
        return orjson.dumps(value).decode(), ""
    if isinstance(value, str):
        return value, ""
    if isinstance(value, dict | list):
        return (
            (orjson.dumps(value).decode(), "") if kind == "list" and isinstance(value, list) else (None, NESTED_VALUE)
        )
    if isinstance(value, float) and kind != "float" and abs(value) >= _EXACT_MAX:
        return None, INEXACT_NUMBER
    return orjson.dumps(value).decode(), ""


def _none(values: Sequence[Any]) -> Any:
    return np.fromiter((one is None for one in values), np.bool_, len(values))


def _members(one: Object, unknown: set[str]) -> str | None:
    members = {label: value for label, value in one.items() if label in unknown and value is not None}
    return orjson.dumps(members).decode() if members else None


def _without_unknown(
    objects: list[Object], records: list[int], unknown: set[str]
) -> tuple[list[Object], list[int], list[Fault]]:
    """A row with a value in a field that is no column is rejected, and the first such field is named."""
    strangers: dict[int, str] = {}
    for row, one in enumerate(objects):
        label = next((label for label, value in one.items() if label in unknown and value is not None), None)
        if label is not None:
            strangers[row] = label
    faults = [Fault(records[row], UNKNOWN_FIELD, label) for row, label in strangers.items()]
    kept = [row for row in range(len(objects)) if row not in strangers]
    return [objects[row] for row in kept], [records[row] for row in kept], faults


def _without(batch: Batch, rejected: dict[int, Fault]) -> Batch:
    kept = np.ones(len(batch.records), np.bool_)
    kept[list(rejected)] = False
    mask = pa.array(kept)
    return Batch(
        batch.piece,
        batch.records[kept],
        {name: values.filter(mask) for name, values in batch.columns.items()},
        None if batch.extra is None else batch.extra.filter(mask),
        [*batch.faults, *rejected.values()],
    )
