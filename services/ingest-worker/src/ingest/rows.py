"""From what a reader found to rows of the table and rejected records. Every record becomes one of the two.

What a refused value does to its row:
- of a normaliser (email, phone, country), with `on_invalid: drop_value`: the row is kept without it, unless that was
  its last identity; with `on_invalid: reject_row` the row is rejected;
- of a type (integer, float, decimal, boolean, date, timestamp, json), or bytes that are not UTF-8: the row is rejected
  either way. The file disagrees with the declaration there, and a number that silently goes missing changes sums.
The first fault by the order of the declaration is the one that is named.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common.datasets import Column, Dataset
from ingest.formats.batch import NESTED_VALUE, Batch, Fault, no_values
from ingest.formats.records import Positions
from ingest.normalise import Normal, arrow_type, normal, normal_phones
from ingest.typed import as_text, is_text, typed

ENCODING = "encoding"
_COUNTRY = "country"
_NESTED = frozenset({"json", "list"})


@dataclass(frozen=True)
class Rows:
    """`columns` has every column of the dataset; `dropped` counts values that a kept row lost, by reason."""

    columns: Mapping[str, Any]
    extra: Any
    row_numbers: Positions
    offsets: Positions
    faults: Sequence[Fault]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row_numbers)


def rows_of(batch: Batch, dataset: Dataset) -> Rows:
    return _Judgement(batch, dataset).rows()


class _Judgement:
    """One batch on its way: which rows are refused so far, and why."""

    def __init__(self, batch: Batch, dataset: Dataset) -> None:
        self._batch, self._dataset = batch, dataset
        self._count = len(batch.records)
        self._order = {name: place for place, name in enumerate(dataset.columns)}
        self._refused: dict[int, Fault] = {}
        self._lost: dict[str, tuple[str, npt.NDArray[np.bool_], Any]] = {}
        self._values: dict[str, Any] = {}

    def rows(self) -> Rows:
        texts = {name: self._text(name) for name in self._dataset.columns}
        later = [name for name, column in self._dataset.columns.items() if column.normalise == "phone"]
        for name in [*(name for name in texts if name not in later), *later]:
            self._judge(name, self._normal(name, texts[name]))
        self._refuse_the_nameless()
        return self._kept()

    def _text(self, name: str) -> Any:
        """The column as UTF-8, or still typed; rows where it is neither text nor a value are refused."""
        given = self._batch.columns.get(name)
        if given is None:
            return no_values(self._count)
        if not is_text(given):
            return self._not_nested(name, given)
        try:
            return given.cast(pa.string())
        except pa.ArrowInvalid:
            texts = [_decoded(value) for value in given.to_pylist()]
        for row, text in enumerate(texts):
            if text is None and given[row].is_valid:
                self._refuse(row, ENCODING, name)
        return pa.array(texts, pa.string())

    def _not_nested(self, name: str, given: Any) -> Any:
        """A column of text holds no object, and no list."""
        if not pa.types.is_nested(given.type) or self._dataset.columns[name].parsed.kind in _NESTED:
            return given
        for row in np.flatnonzero(given.is_valid().to_numpy(zero_copy_only=False)):
            self._refuse(int(row), NESTED_VALUE, name)
        return no_values(self._count)

    def _normal(self, name: str, texts: Any) -> Normal:
        column = self._dataset.columns[name]
        if texts.null_count == self._count:
            return Normal(pa.nulls(self._count, arrow_type(column)))
        if not is_text(texts):
            if (found := typed(column, texts)) is not None:
                return Normal(*found)
            texts = as_text(texts)
        if column.normalise == "phone" and column.parsed.of is None:
            return normal_phones(texts, self._regions())
        return normal(column, texts, region=self._dataset.default_region)

    def _regions(self) -> Any:
        """The region of each row's phones: its country, else the dataset's."""
        default = self._dataset.default_region
        name = next((name for name, column in self._dataset.columns.items() if column.type == _COUNTRY), None)
        if name is None:
            return pa.repeat(pa.scalar(default), self._count)
        return pc.coalesce(self._values[name], pa.scalar(default))

    def _judge(self, name: str, found: Normal) -> None:
        self._values[name] = found.values
        if found.reasons is None:
            return
        column = self._dataset.columns[name]
        if _is_lenient(column) and self._dataset.on_invalid == "drop_value":
            self._lost[name] = (name, found.reasons.is_valid().to_numpy(zero_copy_only=False), found.reasons)
            return
        self._refuse_all(np.flatnonzero(found.reasons.is_valid().to_numpy(zero_copy_only=False)), found.reasons, name)

    def _refuse_the_nameless(self) -> None:
        """A dropped value may have been all that identified its row."""
        identities = {name for names in self._dataset.identity for name in names}
        losers = [name for name in self._dataset.columns if name in identities and name in self._lost]
        if not losers:
            return
        named = self._identified()
        for name in losers:
            _, lost, reasons = self._lost[name]
            self._refuse_all(np.flatnonzero(lost & ~named), reasons, name)

    def _identified(self) -> npt.NDArray[np.bool_]:
        named = np.zeros(self._count, np.bool_)
        for names in self._dataset.identity:
            whole = np.ones(self._count, np.bool_)
            for name in names:
                whole &= _present(self._values[name])
            named |= whole
        return named

    def _refuse_all(self, rows: Positions, reasons: Any, column: str) -> None:
        for row, reason in zip(rows.tolist(), reasons.take(pa.array(rows)).to_pylist(), strict=True):
            self._refuse(row, reason, column)

    def _refuse(self, row: int, reason: str, column: str) -> None:
        before = self._refused.get(row)
        if before is None or self._order[column] < self._order[before.column]:
            self._refused[row] = Fault(int(self._batch.records[row]), reason, column)

    def _kept(self) -> Rows:
        kept = np.ones(self._count, np.bool_)
        kept[list(self._refused)] = False
        everything = not self._refused
        mask = None if everything else pa.array(kept)
        extra = self._batch.extra if self._batch.extra is not None else no_values(self._count)
        return Rows(
            {
                name: values if mask is None else values.filter(mask)
                for name, values in ((name, self._values[name]) for name in self._dataset.columns)
            },
            extra if mask is None else extra.filter(mask),
            self._batch.row_numbers[kept],
            self._batch.offsets[kept],
            [*self._batch.faults, *self._refused.values()],
            self._dropped(kept),
        )

    def _dropped(self, kept: npt.NDArray[np.bool_]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for _, lost, reasons in self._lost.values():
            counts.update(reasons.filter(pa.array(lost & kept)).to_pylist())
        return dict(counts)


def _is_lenient(column: Column) -> bool:
    return column.normalise is not None or column.type == _COUNTRY


def _present(values: Any) -> npt.NDArray[np.bool_]:
    """As the key's expression in common.identity sees it: neither null nor the empty text."""
    present = values.is_valid()
    if pa.types.is_string(values.type):
        present = pc.and_(present, pc.fill_null(pc.greater(pc.binary_length(values), 0), False))  # noqa: FBT003 - pyarrow's
    return present.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
