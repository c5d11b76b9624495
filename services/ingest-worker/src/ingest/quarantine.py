"""Rejected records: where they were, why, and what they said."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import pyarrow as pa
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.datasets import Dataset
from ingest.arrival import Doubt, count_of, rejects_arrived, rows_only
from ingest.erased import NOTHING, REASON, Erased, names_erased
from ingest.formats.batch import Fault
from ingest.formats.records import Records
from ingest.warehouse import insert, outages_are_transient

_TABLE = "quarantine"
_DEDUPLICATION_WINDOW = 100_000
# `column` is empty where the record as a whole is at fault. `raw` is cut at 64 KiB and need not be UTF-8.
_CREATE = f"""
    CREATE TABLE IF NOT EXISTS {_TABLE} (
        dataset LowCardinality(String), upload_id LowCardinality(String), generation UInt32, chunk_no UInt32,
        row_no UInt64, line UInt64, column LowCardinality(String), reason LowCardinality(String), raw String,
        ts DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'))
    ENGINE = MergeTree ORDER BY (upload_id, generation, row_no)
    SETTINGS non_replicated_deduplication_window = {_DEDUPLICATION_WINDOW}
"""


@dataclass(frozen=True)
class Rejects:
    """Encoded for one INSERT."""

    data: bytes
    rows: int
    digest: str


def encoded(
    faults: Sequence[Fault],
    piece: Records,
    *,
    dataset: Dataset,
    upload_id: UUID,
    generation: int,
    chunk_no: int,
    erased: Erased = NOTHING,
) -> Rejects:
    faults = sorted(faults, key=lambda fault: fault.record)
    count = len(faults)
    records = [fault.record for fault in faults]
    batch = pa.record_batch(
        {
            "dataset": pa.array([dataset.name] * count),
            "upload_id": pa.array([str(upload_id)] * count),
            "generation": pa.array([generation] * count, pa.uint32()),
            "chunk_no": pa.array([chunk_no] * count, pa.uint32()),
            "row_no": pa.array([piece.place.row + record for record in records], pa.uint64()),
            "line": pa.array([piece.place.line + int(piece.lines[record]) for record in records], pa.uint64()),
            "column": pa.array([fault.column for fault in faults]),
            "reason": pa.array([fault.reason for fault in faults]),
            "raw": pa.array([_raw(fault, piece, dataset, erased) for fault in faults], pa.binary()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return Rejects(data, count, hashlib.blake2b(data, digest_size=16).hexdigest())


def _raw(fault: Fault, piece: Records, dataset: Dataset, erased: Erased) -> bytes:
    raw = piece.raw(fault.record)
    if erased and (fault.reason == REASON or names_erased(raw, dataset, erased)):
        return b""
    return raw


def only(rejects: Rejects, row_numbers: set[int]) -> Rejects:
    """The rejects of rows that have these numbers."""
    data = rows_only(rejects.data, row_numbers)
    return Rejects(data, count_of(data), hashlib.blake2b(data, digest_size=16).hexdigest())


def reasons(rejects: Rejects) -> list[str]:
    with pa.ipc.open_stream(rejects.data) as stream:
        found: list[str] = stream.read_next_batch().column("reason").to_pylist()
        return found


async def keep(client: AsyncClient, rejects: Rejects, token: str, doubt: Doubt | None = None) -> None:
    """With a doubt left by an earlier try, it returns when every reject is there."""
    if not rejects.rows:
        return
    await _send(client, rejects.data, token)
    if doubt:
        await rejects_arrived(client, rejects, doubt, token=token, send=partial(_send, client))


async def _send(client: AsyncClient, data: bytes, token: str) -> None:
    columns = ["dataset", "upload_id", "generation", "chunk_no", "row_no", "line", "column", "reason", "raw"]
    await insert(client, _TABLE, columns, data, token)


async def ensure_table(client: AsyncClient) -> None:
    async with outages_are_transient():
        await client.command(_CREATE)
