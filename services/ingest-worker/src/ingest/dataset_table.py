"""The ClickHouse table of a dataset: all that is known about its shape is in this file.

For now one ReplacingMergeTree, read with FINAL: one row per dedupe_key, the one with the highest version.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.datasets import Column, Dataset
from common.identity import dedupe_key_sql
from common.normalise.moment import EARLIEST
from ingest.rows import Rows
from ingest.warehouse import insert, outages_are_transient

# The most inserts into one table between a try and its retry that deduplication must still see.
_DEDUPLICATION_WINDOW = 100_000
_ORDER_TIME = "record_ts"
# UInt128 of 56 bits of microseconds since EARLIEST, 32 of the upload's sequence, 40 of the row's offset in its file.
_SEQUENCE_BITS, _OFFSET_BITS = 32, 40
_LOW_SEQUENCE_BITS = 64 - _OFFSET_BITS  # of the sequence, those in the lower half of the number
_TYPES: Mapping[str, str] = {
    "string": "String",
    "country": "String",
    "json": "String",
    "integer": "Int64",
    "float": "Float64",
    "boolean": "Bool",
    "date": "Date32",
    "timestamp": "DateTime64(6, 'UTC')",
}


class TableDiffers(Exception):
    """The table cannot become what the declaration says without a reload."""


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


def _sent(values: Any) -> Any:
    return values.cast(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(values.type) else values


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


async def load(client: AsyncClient, dataset: Dataset, block: Block, token: str) -> None:
    """One INSERT of one block. With the same token again it changes nothing. Raises Transient: nothing is known."""
    if block.rows:
        columns = [*dataset.columns, "extra", "upload_id", "row_no", "version"]
        await insert(client, dataset.name, columns, block.data, token)


async def ensure_table(client: AsyncClient, dataset: Dataset) -> list[str]:
    """Create the table or add what it lacks; returns the changes. Another type or identity raises TableDiffers."""
    async with outages_are_transient():
        await client.command(_create_sql(dataset))
        described = await client.query(f"DESCRIBE TABLE {dataset.name}")
        existing = {str(row[0]): str(row[1]) for row in described.result_rows}
        shown = await client.query(f"SHOW CREATE TABLE {dataset.name}")
        _refuse_other_identity(dataset, str(shown.result_rows[0][0]))
        changes = _changes(dataset, existing)
        for change in changes:
            await client.command(f"ALTER TABLE {dataset.name} {change}")
        return changes


def _changes(dataset: Dataset, existing: Mapping[str, str]) -> list[str]:
    missing = [name for name in dataset.columns if name not in existing]
    for name, column in dataset.columns.items():
        if name in existing and existing[name] != clickhouse_type(column):
            raise TableDiffers(
                f"dataset {dataset.name}: column {name} is {existing[name]} in the table and {column.type} in the "
                "declaration; declare a column of another name, or another dataset, and load it"
            )
    if not missing:
        return []
    columns = [f"ADD COLUMN IF NOT EXISTS {_column_sql(name, dataset.columns[name])}" for name in missing]
    indexes = [
        f"ADD {index}" for name in missing if (index := _index_sql(name, dataset.columns[name], "IF NOT EXISTS "))
    ]
    return [*columns, *indexes, f"MODIFY COLUMN dedupe_key {_key_sql(dataset)}"]


def _create_sql(dataset: Dataset) -> str:
    columns = [_column_sql(name, column) for name, column in dataset.columns.items()]
    indexes = [index for name, column in dataset.columns.items() if (index := _index_sql(name, column))]
    parts = [
        f"dedupe_key {_key_sql(dataset)}",
        "version UInt128",
        "upload_id LowCardinality(String)",
        "row_no UInt64",
        "ingest_ts DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')",
        *columns,
        "extra String",
        *indexes,
    ]
    return (
        f"CREATE TABLE IF NOT EXISTS {dataset.name} ({', '.join(parts)}) "
        "ENGINE = ReplacingMergeTree(version) ORDER BY dedupe_key "
        f"SETTINGS non_replicated_deduplication_window = {_DEDUPLICATION_WINDOW} "
        f"COMMENT '{_identity_note(dataset)}'"
    )


def clickhouse_type(column: Column) -> str:
    if column.type.startswith("decimal"):
        precision, scale = (int(part) for part in column.type[len("decimal(") : -1].split(","))
        return f"Nullable(Decimal({precision}, {scale}))"
    return f"Nullable({_TYPES[column.type]})"


def _column_sql(name: str, column: Column) -> str:
    return f"`{name}` {clickhouse_type(column)}"


def _index_sql(name: str, column: Column, condition: str = "") -> str | None:
    if column.index == "exact":
        return f"INDEX {condition}{name}_exact `{name}` TYPE bloom_filter(0.01) GRANULARITY 1"
    if column.index == "text":
        return f"INDEX {condition}{name}_text lowerUTF8(`{name}`) TYPE text(tokenizer = ngrams(3))"
    return None


def _key_sql(dataset: Dataset) -> str:
    return f"FixedString(16) DEFAULT {dedupe_key_sql(dataset, _digest_sql(dataset))}"


def _digest_sql(dataset: Dataset) -> str:
    """Of the values that are there, with names and lengths: a column that is added later changes no old digest."""
    parts = [
        f"if(isNull(`{name}`), '', concat('{name}=', toString(length(toString(assumeNotNull(`{name}`)))), ':', "
        f"toString(assumeNotNull(`{name}`))))"
        for name in sorted(dataset.columns)
    ]
    return f"sipHash128('{dataset.name}', 'row', concat({', '.join([*parts, 'extra'])}))"


def _identity_note(dataset: Dataset) -> str:
    return "identity: " + (", ".join("+".join(names) for names in dataset.identity) or "the whole row")


def _refuse_other_identity(dataset: Dataset, create_sql: str) -> None:
    found = re.search(r"COMMENT '(identity: [^']*)'", create_sql)
    wanted = _identity_note(dataset)
    if found and found[1] != wanted:
        raise TableDiffers(
            f"dataset {dataset.name}: the table was made with {found[1]}, the declaration says {wanted}; "
            "keys of loaded rows cannot change: declare another dataset and load it"
        )
