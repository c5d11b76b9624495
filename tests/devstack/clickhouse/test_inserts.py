# ruff: noqa: S608 -- the tables are the tests' own
from __future__ import annotations

import gzip
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
import pandas as pd
import pyarrow as pa
import pytest
from backports import zstd
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

COLUMNS = ["id", "name"]


def count(client: Client, table: str) -> int:
    return int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])


def test_rows_arrays_and_frames_are_inserted(ingest: Client, table: str) -> None:
    assert ingest.insert(table, [[1, "a"], [2, "b"]], column_names=COLUMNS).written_rows == 2
    assert ingest.insert_arrow(table, pa.table({"id": [3], "name": ["c"]})).written_rows == 1
    assert ingest.insert_df(table, pd.DataFrame({"id": [4], "name": ["d"]})).written_rows == 1
    assert [row[1] for row in ingest.query(f"SELECT * FROM {table} ORDER BY id").result_rows] == list("abcd")


async def test_the_async_client_inserts(server: Any, table: str) -> None:
    client: AsyncClient = await server.async_client("ingest")
    await client.insert(table, [[n, "x" * 50] for n in range(50_000)], column_names=COLUMNS)
    assert (await client.query(f"SELECT count() FROM {table}")).result_rows == [(50_000,)]
    await client.close()


@pytest.mark.parametrize(
    ("coding", "squeeze"),
    [("gzip", gzip.compress), ("zstd", zstd.compress), ("lz4", lz4.frame.compress), (None, bytes)],
)
def test_raw_inserts_come_in_every_coding(ingest: Client, table: str, coding: str | None, squeeze: Any) -> None:
    ingest.raw_insert(table, COLUMNS, squeeze(b"1,a\n2,b\n"), fmt="CSV", compression=coding)
    assert count(ingest, table) == 2


def test_a_raw_insert_may_be_a_stream(ingest: Client, table: str) -> None:
    ingest.raw_insert(table, COLUMNS, (b"%d,x\n" % n for n in range(1000)), fmt="CSV")
    assert count(ingest, table) == 1000


def test_a_large_insert_goes_through_the_spool_folder_and_leaves_nothing_there(
    server: Any, ingest: Client, table: str
) -> None:
    ingest.raw_insert(table, COLUMNS, b"".join(b"%d,%s\n" % (n, b"y" * 100) for n in range(100_000)), fmt="CSV")
    assert count(ingest, table) == 100_000
    assert list((server.folder / "spool").iterdir()) == []


def test_values_are_inserted_short_long_and_with_parameters(ingest: Client, table: str) -> None:
    ingest.command(f"INSERT INTO {table} (id, name) VALUES (1, 'it''s'), (2, 'b')")
    ingest.command(f"INSERT INTO {table} VALUES ({{id:UInt64}}, {{name:String}})", parameters={"id": 3, "name": "c"})
    ingest.command(f"INSERT INTO {table} VALUES " + ", ".join(f"({n}, 'long')" for n in range(10, 40_010)))
    assert count(ingest, table) == 40_003


def test_the_format_may_sit_in_the_url_and_the_data_in_the_body(ingest: Client, table: str) -> None:
    ingest.command(f"INSERT INTO {table} SETTINGS max_threads = 1 FORMAT JSONEachRow", data='{"id": 1, "name": "ü"}')
    assert ingest.query(f"SELECT * FROM {table}").result_rows == [(1, "ü")]


def test_insert_select_and_words_that_look_like_clauses(ingest: Client, table: str) -> None:
    ingest.command(f"INSERT INTO {table} (id, name) SELECT number, 'FORMAT VALUES; DROP' FROM numbers(5)")
    ingest.raw_insert(table, COLUMNS, b'9,"into outfile; select 1"\n', fmt="CSV")
    assert count(ingest, table) == 6


def test_bad_data_inserts_nothing_and_says_where(ingest: Client, table: str) -> None:
    with pytest.raises(DatabaseError, match="row 2"):
        ingest.raw_insert(table, COLUMNS, "1,a\nx,b\n", fmt="CSV")
    with pytest.raises(DatabaseError, match="Cannot decompress"):
        ingest.raw_insert(table, COLUMNS, b"not gzip at all", fmt="CSV", compression="gzip")
    assert count(ingest, table) == 0


def test_input_is_refused_rather_than_losing_rows(ingest: Client, table: str) -> None:
    with pytest.raises(DatabaseError, match="NOT_IMPLEMENTED"):
        ingest.command(f"INSERT INTO {table} SELECT * FROM input('id UInt64, name String') FORMAT CSV", data="1,a")


def test_an_insert_past_its_time_limit_is_an_error_not_a_part(ingest: Client, table: str) -> None:
    with pytest.raises(DatabaseError, match="TIMEOUT_EXCEEDED"):
        ingest.command(
            f"INSERT INTO {table} SELECT number, toString(sleepEachRow(0.2)) FROM numbers(100)",
            settings={"max_execution_time": 1, "max_block_size": 1},
        )


def test_a_token_folds_the_second_copy_and_lets_other_tokens_through(ingest: Client, table: str) -> None:
    for token in ("one", "one", "two"):
        ingest.insert(table, [[1, "a"]], column_names=COLUMNS, settings={"insert_deduplication_token": token})
    assert count(ingest, table) == 2


def test_a_materialised_view_with_a_window_stays_exact_when_a_token_is_repeated(ingest: Client, table: str) -> None:
    ingest.command(
        f"CREATE TABLE {table}_sums (name String, n UInt64) ENGINE = SummingMergeTree ORDER BY name"
        " SETTINGS non_replicated_deduplication_window = 1000"
    )
    ingest.command(
        f"CREATE MATERIALIZED VIEW {table}_mv TO {table}_sums AS SELECT name, count() AS n FROM {table} GROUP BY name"
    )
    settings = {"insert_deduplication_token": "same", "deduplicate_blocks_in_dependent_materialized_views": 1}
    for _ in range(3):
        ingest.insert(table, [[1, "a"], [2, "a"]], column_names=COLUMNS, settings=settings)
    assert ingest.query(f"SELECT sum(n) FROM {table}_sums").result_rows == [(2,)]
    ingest.command(f"DROP TABLE {table}_mv")
    ingest.command(f"DROP TABLE {table}_sums")
