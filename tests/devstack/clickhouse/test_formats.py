# ruff: noqa: S608 -- the tables are the tests' own
from __future__ import annotations

import gzip
import http.client
import io
import json
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from urllib3.exceptions import ProtocolError

from devstack.clickhouse_http.results import WHOLE_RESULT_BYTES_MAX

ROWS = 200_000
MANY = f"SELECT number AS n, toString(number) AS s FROM numbers({ROWS}) ORDER BY n"
BREAKS_LATE = "SELECT throwIf(number = 2900000) AS n FROM numbers(3000000)"


def test_native_rows_come_back(gateway: Client) -> None:
    assert gateway.query(MANY).result_rows[-1] == (ROWS - 1, str(ROWS - 1))


def test_arrow_tables_and_frames_come_back(gateway: Client) -> None:
    assert gateway.query_arrow(MANY).column("n").to_pylist()[-1] == ROWS - 1
    assert gateway.query_df(MANY)["s"].iloc[-1] == str(ROWS - 1)


def test_an_empty_arrow_table_still_has_its_columns(gateway: Client) -> None:
    table = gateway.query_arrow("SELECT number AS n, 'x' AS s FROM numbers(0)")
    assert (table.num_rows, table.column_names) == (0, ["n", "s"])


@pytest.mark.parametrize("form", ["Arrow", "ArrowStream"])
def test_arrow_in_both_its_shapes_is_one_document(gateway: Client, form: str) -> None:
    raw = gateway.raw_query(MANY, fmt=form)
    reader = pa.ipc.open_file(raw) if form == "Arrow" else pa.ipc.open_stream(raw)
    assert reader.read_all().num_rows == ROWS


def test_text_formats_come_back_whole(gateway: Client) -> None:
    assert gateway.raw_query(MANY, fmt="CSV").count(b"\n") == ROWS
    assert gateway.raw_query(MANY, fmt="CSVWithNames").startswith(b'"n","s"\n0,"0"\n')
    assert gateway.raw_query(MANY, fmt="CSVWithNames").count(b"\n") == ROWS + 1
    lines = gateway.raw_query(MANY, fmt="JSONEachRow").splitlines()
    assert (len(lines), json.loads(lines[-1])["s"]) == (ROWS, str(ROWS - 1))
    document = json.loads(gateway.raw_query(MANY, fmt="JSONCompact"))
    assert (document["rows"], document["data"][-1][1]) == (ROWS, str(ROWS - 1))


def test_parquet_comes_back(gateway: Client) -> None:
    assert pq.read_table(io.BytesIO(gateway.raw_query(MANY, fmt="Parquet"))).num_rows == ROWS


def test_totals_are_part_of_a_joined_answer(gateway: Client) -> None:
    raw = gateway.raw_query(
        "SELECT number % 2 AS p, count() FROM numbers(10) GROUP BY p WITH TOTALS ORDER BY p", fmt="CSV"
    )
    assert raw == b"0,5\n1,5\n\n0,10\n"


def test_a_format_built_whole_is_bounded(gateway: Client) -> None:
    too_many = WHOLE_RESULT_BYTES_MAX // 8 + 1_000_000
    with pytest.raises(DatabaseError, match="TOO_MANY_ROWS_OR_BYTES"):
        gateway.raw_query(f"SELECT number FROM numbers({too_many})", fmt="JSON")


def test_streams_arrive_in_blocks(gateway: Client) -> None:
    with gateway.query_row_block_stream("SELECT number FROM numbers(1000000)") as blocks:
        assert sum(len(block) for block in blocks) == 1_000_000
    with gateway.query_arrow_stream("SELECT number FROM numbers(1000000)") as tables:
        assert sum(table.num_rows for table in tables) == 1_000_000


async def test_async_streams_arrive_in_blocks(async_gateway: AsyncClient) -> None:
    count = 0
    async with await async_gateway.query_row_block_stream("SELECT number FROM numbers(1000000)") as blocks:
        async for block in blocks:
            count += len(block)
    assert count == 1_000_000


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_an_error_in_mid_stream_is_raised_with_its_code(server: Any, compress: bool | str) -> None:  # noqa: FBT001
    client = server.client("gateway", compress=compress)
    with (
        pytest.raises(StreamFailureError, match="Code: 395"),
        client.query_row_block_stream(BREAKS_LATE) as blocks,
    ):
        for _ in blocks:
            pass


async def test_an_error_in_mid_stream_reaches_the_async_client(async_gateway: AsyncClient) -> None:
    # aiohttp may drop unread bytes when the connection is cut; what counts is that the part is not taken for the whole.
    async def read_all() -> None:
        async with await async_gateway.query_row_block_stream(BREAKS_LATE) as blocks:
            async for _ in blocks:
                pass

    with pytest.raises(StreamFailureError, match=r"Code: 395|connection closed"):
        await read_all()


def test_a_raw_stream_that_breaks_is_cut_off(gateway: Client) -> None:
    stream: Any = gateway.raw_stream(BREAKS_LATE, fmt="CSV")
    with pytest.raises(ProtocolError, match=r"ended prematurely|IncompleteRead"):
        stream.read()
    stream.close()


def test_waiting_for_the_end_turns_a_late_error_into_a_status(gateway: Client) -> None:
    with pytest.raises(DatabaseError, match="code: 395"):
        gateway.query(BREAKS_LATE)


DECODERS = {"gzip": gzip.decompress, "zstd": zstd.decompress, "lz4": lz4.frame.decompress, "identity": bytes}


@pytest.mark.parametrize("rows", [1000, 1_000_000])
@pytest.mark.parametrize("coding", list(DECODERS))
def test_answers_are_compressed_as_asked(server: Any, coding: str, rows: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    headers = {"X-ClickHouse-User": "gateway", "X-ClickHouse-Key": "g-secret", "Accept-Encoding": coding}
    connection.request("POST", "/?enable_http_compression=1", f"SELECT number FROM numbers({rows})", headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.headers.get("Content-Encoding", "identity") == coding
    assert DECODERS[coding](body).count(b"\n") == rows


def test_nothing_is_compressed_unasked(server: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    headers = {"X-ClickHouse-User": "gateway", "X-ClickHouse-Key": "g-secret", "Accept-Encoding": "gzip"}
    connection.request("POST", "/", "SELECT number FROM numbers(10000)", headers)
    answer = connection.getresponse()
    assert answer.read().count(b"\n") == 10_000
    connection.close()
    assert answer.headers.get("Content-Encoding") is None


@pytest.mark.parametrize("coding", ["lz4", "zstd", "gzip", False])
def test_clients_with_each_compression_read_and_write(server: Any, table: str, coding: bool | str) -> None:  # noqa: FBT001
    client = server.client("ingest", compress=coding)
    client.insert(table, [[n, "x" * 100] for n in range(3000)], column_names=["id", "name"])
    assert client.query(f"SELECT * FROM {table}").row_count == 3000
