"""Rows on their way into a dataset: blocks, their versions, and the insert. Into the history only: a view fills the
current table from it (table_schema.py).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.datasets import Dataset
from common.normalise.moment import EARLIEST
from ingest.arrival import Doubt, count_of, rows_arrived, rows_only
from ingest.rows import Rows
from ingest.warehouse import insert

_ORDER_TIME = "record_ts"
# UInt128 of 56 bits of microseconds since EARLIEST, 32 of the upload's sequence, 40 of the row's offset in its file.
_SEQUENCE_BITS, _OFFSET_BITS = 32, 40
_LOW_SEQUENCE_BITS = 64 - _OFFSET_BITS  # of the sequence, those in the lower half of the number


@dataclass(frozen=True)
class Origin:
    """Where rows come from, as far as the table cares. `sequence` orders uploads, `arrived` is the object's arrival."""

    upload_id: str
    sequence: int
    arrived: datetime


@dataclass(frozen=True)
class Origins:
    """The same of rows from several places: `upload` says of each row which of `upload_ids` it has."""

    upload_ids: Sequence[str]
    upload: npt.NDArray[np.int64]
    sequences: npt.NDArray[np.int64]
    arrived_us: npt.NDArray[np.int64]  # since 1970

    @classmethod
    def of(cls, origin: Origin, count: int) -> "Origins":
        arrived = int(origin.arrived.astimezone(UTC).timestamp() * 1_000_000)
        none = np.zeros(count, np.int64)
        return cls([origin.upload_id], none, none + origin.sequence, none + arrived)


@dataclass(frozen=True)
class Block:
    """The rows of one INSERT, encoded. Equal rows give an equal digest, and only equal rows do."""

    data: bytes
    rows: int
    digest: str


def encoded(rows: Rows, origin: Origin | Origins) -> Block:
    count = len(rows)
    origins = Origins.of(origin, count) if isinstance(origin, Origin) else origin
    columns = {name: _sent(values) for name, values in rows.columns.items()}
    columns["extra"] = rows.extra.fill_null("")
    columns["upload_id"] = pa.DictionaryArray.from_arrays(
        pa.array(origins.upload.astype(np.int16)), list(origins.upload_ids)
    )
    columns["row_no"] = pa.array(rows.row_numbers.astype(np.uint64))
    columns["version"] = _versions(rows, origins)
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return Block(data, count, hashlib.blake2b(data, digest_size=16).hexdigest())


def only(block: Block, row_numbers: set[int]) -> Block:
    """The rows of a block that have these numbers."""
    data = rows_only(block.data, row_numbers)
    return Block(data, count_of(data), hashlib.blake2b(data, digest_size=16).hexdigest())


def _sent(values: Any) -> Any:
    if pa.types.is_timestamp(values.type):
        return values.cast(pa.timestamp("us", "UTC"))
    if pa.types.is_list(values.type):
        if pa.types.is_timestamp(values.type.value_type):
            values = values.cast(pa.list_(pa.timestamp("us", "UTC")))
        # A list is never null in the table: the empty one says that nothing was given.
        return values.fill_null([]) if values.null_count else values
    return values


def _versions(rows: Rows, origins: Origins) -> Any:
    """Order time first: record_ts, else the arrival. Never the time of the insert, so a replay makes the same."""
    earliest = int(EARLIEST.timestamp()) * 1_000_000
    times = origins.arrived_us
    stamps = rows.columns.get(_ORDER_TIME)
    if stamps is not None and pa.types.is_timestamp(stamps.type):
        given = stamps.cast(pa.int64())
        times = np.where(given.is_valid().to_numpy(zero_copy_only=False), given.fill_null(0).to_numpy(), times)
    time = (times - earliest).astype(np.uint64)
    sequence = origins.sequences.astype(np.uint64)
    high = (time << np.uint64(_SEQUENCE_BITS - _LOW_SEQUENCE_BITS)) | (sequence >> np.uint64(_LOW_SEQUENCE_BITS))
    low = (sequence << np.uint64(_OFFSET_BITS)) | rows.offsets.astype(np.uint64)
    both = np.stack([low, high], axis=1).astype("<u8").tobytes()
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(both)])


async def load(client: AsyncClient, dataset: Dataset, block: Block, token: str, doubt: Doubt | None = None) -> None:
    """One INSERT of one block. With the same token again it changes nothing. Raises Transient: nothing is known.

    With a doubt left by an earlier try, it returns when every row is in both tables.
    """
    if not block.rows:
        return
    await _send(client, dataset, block.data, token)
    if doubt:
        await rows_arrived(client, dataset, block, doubt, token=token, send=partial(_send, client, dataset))


async def _send(client: AsyncClient, dataset: Dataset, data: bytes, token: str) -> None:
    columns = [*dataset.columns, "extra", "upload_id", "row_no", "version"]
    await insert(client, dataset.history, columns, data, token)
