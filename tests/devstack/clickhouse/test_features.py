# ruff: noqa: S608 -- the tables are the tests' own
from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError


@pytest.fixture
def people(ingest: Client) -> Iterator[str]:
    ingest.command(
        "CREATE TABLE people (id UInt64, version UInt32, city LowCardinality(String), extra JSON, bio String,"
        " INDEX by_city city TYPE bloom_filter GRANULARITY 1,"
        " INDEX by_gram bio TYPE ngrambf_v1(3, 1024, 2, 0) GRANULARITY 1,"
        " INDEX by_text bio TYPE text(tokenizer = 'splitByNonAlpha'),"
        " PROJECTION by_version (SELECT * ORDER BY version))"
        " ENGINE = ReplacingMergeTree(version) ORDER BY id"
        " SETTINGS non_replicated_deduplication_window = 100, deduplicate_merge_projection_mode = 'rebuild'"
    )
    rows = [[n, 1, f"city{n % 7}", {"n": n, "tags": ["a", "b"]}, f"lives near number{n}"] for n in range(1000)]
    ingest.insert("people", rows, column_names=["id", "version", "city", "extra", "bio"])
    yield "people"
    ingest.command("DROP TABLE people")


def test_json_and_low_cardinality_make_the_round_trip(gateway: Client, people: str) -> None:
    answer = gateway.query(f"SELECT city, extra, extra.n FROM {people} WHERE id = 8").result_rows
    assert answer == [("city1", {"n": 8, "tags": ["a", "b"]}, 8)]


def test_indexes_are_used_and_the_estimate_says_how_much_is_read(gateway: Client, people: str) -> None:
    plan = gateway.query(f"EXPLAIN indexes = 1 SELECT * FROM {people} WHERE hasToken(bio, 'number77')").result_rows
    assert any("by_text" in row[0] for row in plan)
    assert gateway.query(f"SELECT id FROM {people} WHERE hasToken(bio, 'number77')").result_rows == [(77,)]
    estimate = gateway.query(f"EXPLAIN ESTIMATE SELECT * FROM {people} WHERE id = 5").result_rows[0]
    assert tuple(estimate[:2]) == ("bigdata", people)


def test_final_shows_the_newest_version(ingest: Client, gateway: Client, people: str) -> None:
    ingest.insert(people, [[5, 2, "new"]], column_names=["id", "version", "city"])
    assert gateway.query(f"SELECT city FROM {people} FINAL WHERE id = 5").result_rows == [("new",)]


def test_mutations_and_lightweight_deletes_take_rows_away(ingest: Client, gateway: Client, people: str) -> None:
    ingest.command(f"ALTER TABLE {people} DELETE WHERE id < 10", settings={"mutations_sync": 2})
    ingest.command(f"ALTER TABLE {people} UPDATE bio = 'gone' WHERE id < 20", settings={"mutations_sync": 2})
    assert gateway.query(f"SELECT count(), countIf(bio = 'gone') FROM {people}").result_rows == [(990, 10)]
    assert ingest.query("SELECT count() > 0 FROM system.mutations").result_rows == [(True,)]


def test_ingest_may_make_and_drop_but_only_in_its_database(ingest: Client) -> None:
    for sql in ("CREATE DATABASE other", "CREATE TABLE system.x (a UInt8) ENGINE = Memory", "DROP DATABASE system"):
        with pytest.raises(DatabaseError, match="ACCESS_DENIED"):
            ingest.command(sql)
    ingest.command("CREATE TABLE a (x UInt8) ENGINE = MergeTree ORDER BY x")
    ingest.command("ALTER TABLE a ADD COLUMN y String")
    ingest.command("RENAME TABLE a TO b")
    ingest.command("TRUNCATE TABLE b")
    ingest.command("OPTIMIZE TABLE b FINAL")
    ingest.command("CREATE VIEW v AS SELECT x FROM b")
    assert {row[0] for row in ingest.query("SHOW TABLES").result_rows} >= {"b", "v"}
    ingest.command("DROP VIEW v")
    ingest.command("DROP TABLE b")
