"""ClickHouse as the loader uses it: inserts that can be repeated, and outages told from refusals."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from common.errors import Permanent, Transient
from common.tracing import span

# What no retry can help: the data or the statement. Everything else (too many parts, disk full, memory, a restart,
# a table or column that a migration has yet to make, or makes at this moment) passes, and the loader waits for it.
_REFUSALS = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        53,  # TYPE_MISMATCH
        62,  # SYNTAX_ERROR
        70,  # CANNOT_CONVERT_TYPE
        117,  # INCORRECT_DATA
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    }
)


async def insert(client: AsyncClient, table: str, columns: Sequence[str], arrow: bytes, token: str) -> None:
    """One INSERT of one Arrow stream as one block. The same token again changes nothing, for the table's window.

    Once and no more: clickhouse-connect repeats an INSERT of bytes by itself when the connection breaks, and what a
    server that was killed knows of the first try may swallow the second (arrival.py).
    """
    settings = {
        "insert_deduplication_token": token,
        "insert_deduplicate": 1,
        "async_insert": 0,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
        # Every query reads with FINAL, so copies within the block may wait for its first merge: a third of the work.
        "optimize_on_insert": 0,
    }
    with span("clickhouse.insert", table=table):
        async with outages_are_transient():
            await client.raw_insert(table, columns, _once(arrow), settings=settings, fmt="ArrowStream")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@asynccontextmanager
async def outages_are_transient() -> AsyncIterator[None]:
    try:
        yield
    except DatabaseError as exc:
        if exc.code in _REFUSALS:
            raise Permanent(f"ClickHouse refuses the rows: {_first_line(exc)}") from exc
        raise Transient(f"ClickHouse: {_first_line(exc)}") from exc
    except (TimeoutError, ClickHouseError, aiohttp.ClientError, OSError) as exc:
        raise Transient(f"ClickHouse does not answer: {_first_line(exc)}") from exc


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [repr(exc)])[0][:300]
