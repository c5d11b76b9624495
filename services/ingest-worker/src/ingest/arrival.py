"""Whether rows that were sent have arrived, for tries that may have ended anywhere (decision 12).

ClickHouse remembers a block's token before it writes the block. Killed between the two, it answers the repeat as if the
rows were there. So after a try whose end nobody saw, rows are counted in both tables, and what is missing is sent under
a token that nothing has burnt.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.datasets import Dataset
from common.errors import Transient
from common.ids import new_id
from common.logs import get_logger
from common.metrics import counter
from ingest.table_schema import row_columns
from ingest.warehouse import outages_are_transient

# A server that is killed once more between the count and its own insert costs one more turn.
_TURNS_MAX = 3

_log = get_logger(__name__)
_sent_again = counter("bigdata_rows_sent_again_total", "Rows that a repeated insert had not brought")

Send = Callable[[bytes, str], Awaitable[None]]


@dataclass(frozen=True)
class Doubt:
    """Whose rows an earlier try may have left, or half left."""

    upload_id: str
    generation: int


class Sent(Protocol):
    """Rows as an Arrow stream of one batch that has a column row_no."""

    @property
    def data(self) -> bytes: ...


async def rows_arrived(
    client: AsyncClient, dataset: Dataset, block: Sent, doubt: Doubt, *, token: str, send: Send
) -> None:
    """Make sure of a block of a dataset in both of its tables. `send` inserts a stream under a token."""
    place = {"upload": doubt.upload_id} | _range(block.data)
    query = _ROWS_THERE.format(table=dataset.history, block=_OF_BLOCK)
    await _all_there(client, block, query, place, again=lambda data: send(data, f"{token}:{new_id()}"))
    await _fill_current(client, dataset, place)


async def rejects_arrived(client: AsyncClient, rejects: Sent, doubt: Doubt, *, token: str, send: Send) -> None:
    """The same for rejected rows."""
    place = {"upload": doubt.upload_id, "generation": doubt.generation} | _range(rejects.data)
    query = _ROWS_THERE.format(table="quarantine", block=_OF_BLOCK + _OF_GENERATION)
    await _all_there(client, rejects, query, place, again=lambda data: send(data, f"{token}:{new_id()}"))


_OF_BLOCK = "upload_id = {upload:String} AND row_no BETWEEN {first:UInt64} AND {last:UInt64}"
_ROWS_THERE = "SELECT DISTINCT row_no FROM {table} WHERE {block}"
_OF_GENERATION = " AND generation = {generation:UInt32}"


async def _all_there(
    client: AsyncClient, block: Sent, query: str, place: Mapping[str, Any], *, again: Callable[[bytes], Awaitable[None]]
) -> None:
    for _ in range(_TURNS_MAX):
        async with outages_are_transient():
            found = await client.query(query, parameters=dict(place))
        missing = _row_numbers(block.data) - {int(row[0]) for row in found.result_rows}
        if not missing:
            return
        _sent_again.inc(len(missing))
        _log.warning("rows had not arrived", rows=len(missing), **place)
        await again(rows_only(block.data, missing))
    raise Transient(f"rows are missing although they were sent {_TURNS_MAX} times")


# The keys of a block whose version, or a later one, the current table does not have.
_GAPS = """
    SELECT dedupe_key FROM (
        SELECT dedupe_key, max(version) AS version FROM {history} WHERE {block} GROUP BY dedupe_key) AS sent
    LEFT JOIN (
        SELECT dedupe_key, max(version) AS version FROM {current}
         WHERE dedupe_key IN (SELECT dedupe_key FROM {history} WHERE {block}) GROUP BY dedupe_key) AS there
    USING (dedupe_key)
    WHERE there.version < sent.version
"""
_FILL = "INSERT INTO {current} ({columns}) SELECT {columns} FROM {history} WHERE {block} AND dedupe_key IN ({gaps})"


async def _fill_current(client: AsyncClient, dataset: Dataset, place: Mapping[str, Any]) -> None:
    """What the view did not bring is copied; a second copy would be folded by its version."""
    names = {"history": dataset.history, "current": dataset.name, "block": _OF_BLOCK}
    gaps = _GAPS.format(**names)
    async with outages_are_transient():
        found = await client.query(f"SELECT count() FROM ({gaps})", parameters=dict(place))  # noqa: S608 - declared names
        missing = int(found.result_rows[0][0])
        if missing:
            _sent_again.inc(missing)
            _log.warning("rows had not passed the view", table=dataset.name, rows=missing, **place)
            fill = _FILL.format(columns=", ".join(row_columns(dataset)), gaps=gaps, **names)
            await client.command(fill, parameters=dict(place), settings={"insert_deduplicate": 0})


def _range(data: bytes) -> dict[str, int]:
    numbers = _column(data)
    return {"first": int(numbers.min()), "last": int(numbers.max())}


def _row_numbers(data: bytes) -> set[int]:
    return set(_column(data).tolist())


def _column(data: bytes) -> Any:
    with pa.ipc.open_stream(data) as stream:
        return stream.read_next_batch().column("row_no").to_numpy()


def count_of(data: bytes) -> int:
    return len(_column(data))


def rows_only(data: bytes, row_numbers: set[int]) -> bytes:
    """The rows of an Arrow stream that have these numbers."""
    with pa.ipc.open_stream(data) as stream:
        batch = stream.read_next_batch()
    wanted = np.isin(batch.column("row_no").to_numpy(), np.fromiter(row_numbers, np.uint64, len(row_numbers)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as out:
        out.write_batch(batch.filter(pa.array(wanted)))
    found: bytes = sink.getvalue().to_pybytes()
    return found
