"""Erased values: rows that have one are left out of whatever is loaded from an object that arrived before the erasure.

Only hashes are kept. Whoever sends somebody's data again later has a reason to, and it is loaded. A record of the
topic arrived when its timestamp says.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.datasets import Dataset
from ingest.formats.batch import Batch, Fault
from ingest.formats.records import Positions
from ingest.rows import Rows

REASON = "erased"
Erased = Mapping[str, frozenset[str]]  # of each column, the hashes of its erased values
NOTHING: Erased = {}
Erasures = Mapping[str, Mapping[str, int]]  # of each column, when each hash's value was erased, in ms since 1970
_NEVER = -(1 << 62)
# What a record that was not read as columns may hold: pieces between the delimiters of any format.
_PIECE = re.compile(rb"[^\s,;|\"'<>{}\[\]=]+")


def hash_of(dataset: str, column: str, value: str) -> str:
    """Of a value as the column stores it."""
    return hashlib.sha256(f"{dataset}:{column}:{value}".encode()).hexdigest()


def without_erased(rows: Rows, batch: Batch, dataset: Dataset, erased: Erased) -> Rows:
    """Rows with an erased value become rejects, so that every row of the file stays accounted for."""
    kept = np.ones(len(rows), np.bool_)
    for name, hashes in erased.items():
        distinct = rows.columns[name].dictionary_encode()
        hit = [
            value is not None and hash_of(dataset.name, name, value) in hashes
            for value in distinct.dictionary.to_pylist()
        ]
        if any(hit):
            found = np.array([*hit, False])[distinct.indices.fill_null(len(hit)).to_numpy(zero_copy_only=False)]
            kept &= ~found
    if kept.all():
        return rows
    mask = pa.array(kept)
    lost = rows.row_numbers[~kept] - batch.piece.place.row
    return replace(
        rows,
        columns={name: values.filter(mask) for name, values in rows.columns.items()},
        extra=rows.extra.filter(mask),
        row_numbers=rows.row_numbers[kept],
        offsets=rows.offsets[kept],
        faults=[*rows.faults, *(Fault(int(record), REASON) for record in lost)],
    )


def erased_after(rows: Rows, dataset: Dataset, erasures: Erasures, arrived_ms: Positions) -> npt.NDArray[np.bool_]:
    """Which rows have a value that was erased when they had arrived."""
    latest = np.full(len(rows), _NEVER)
    for name, moments in erasures.items():
        distinct = rows.columns[name].dictionary_encode()
        found = [
            _NEVER if value is None else moments.get(hash_of(dataset.name, name, value), _NEVER)
            for value in distinct.dictionary.to_pylist()
        ]
        of_row = distinct.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
        latest = np.maximum(latest, np.array([*found, _NEVER])[of_row])
    erased: npt.NDArray[np.bool_] = latest >= arrived_ms
    return erased


def names_erased(raw: bytes, dataset: Dataset, erased: Erased) -> bool:
    """Whether a record that was rejected holds an erased value, as it was written or in lower case."""
    pieces: Sequence[str] = [piece.decode("utf-8", "replace") for piece in _PIECE.findall(raw)]
    return any(
        hash_of(dataset.name, name, text) in hashes
        for name, hashes in erased.items()
        for piece in pieces
        for text in (piece, piece.lower())
    )
