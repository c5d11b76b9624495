"""Similarity, aggregation, masks, cursors and formats, as ClickHouse itself answers them."""

import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.datasets import Dataset
from common.errors import InvalidRequest
from common.ids import new_id
from devstack.stack import Stack
from gateway.query_formats import FORMS
from gateway.query_order import Position
from gateway.query_plan import QueryPlan
from gateway.query_row_counts import row_count
from ingest.table_schema import ensure_tables
from support.query_reader import Reader, open_as, open_reader

WORDS = Dataset.model_validate(
    {
        "name": "words",
        "identity": ["code"],
        "columns": {
            "code": {"type": "string"},
            "name": {"type": "string", "normalise": "name", "pii": True},
            "email": {"type": "string", "normalise": "email", "pii": True},
            "phone": {"type": "string", "normalise": "phone", "pii": True, "index": "exact"},
            "secret": {"type": "string", "pii": True},
            "salary": {"type": "integer", "pii": True},
            "born": {"type": "date", "pii": True},
            "text": {"type": "string"},
            "age": {"type": "integer"},
            "paid": {"type": "decimal(38, 0)"},
            "land": {"type": "country"},
            "seen": {"type": "timestamp"},
        },
    }
)
ROWS: list[dict[str, Any]] = [
    {"code": "a", "name": "Jon", "email": "jon@x.com", "phone": "+12125552368", "secret": "s", "salary": 7}
    | {"born": "1990-05-06", "text": "=1+1", "age": 1, "land": "IN", "seen": "2026-01-01 10:11:12.000000"},
    {"code": "b", "name": "John", "text": 'two\nlines "quoted"', "age": 2, "land": "IN"}
    | {"seen": "2026-01-31 23:59:59.000000"},
    {"code": "c", "name": "Maria", "text": "a long text about the weather in the mountains of the north", "age": 4}
    | {"land": "US", "seen": "1901-02-03 00:00:00.000000"},
    {"code": "d", "text": "@cmd"},
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ingest(servers: Stack) -> AsyncIterator[AsyncClient]:
    async with open_as(servers, "ingest") as client:
        for table in ("words_fill", "words", "words_history"):
            await client.command(f"DROP TABLE IF EXISTS {table}")
        await ensure_tables(client, WORDS)
        await add(client, ROWS)
        yield client


async def add(client: AsyncClient, rows: list[dict[str, Any]], version: int = 1) -> None:
    lines = b"\n".join(
        orjson.dumps({"upload_id": "u", "row_no": no, "version": version} | row) for no, row in enumerate(rows)
    )
    settings = {"insert_deduplication_token": str(new_id())}
    await client.raw_insert("words_history", insert_block=lines, fmt="JSONEachRow", settings=settings)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def reader(servers: Stack, ingest: AsyncClient) -> AsyncIterator[Reader]:
    assert ingest
    async with open_reader(servers, WORDS) as opened:
        yield opened


@pytest.fixture
def masked(reader: Reader) -> Reader:
    return Reader(reader.datasets, reader.warehouse, replace(reader.terms, pii=False))


async def rows(reader: Reader, **body: Any) -> list[dict[str, Any]]:
    return await reader.rows(dataset="words", **body)


@pytest.mark.parametrize(
    ("field", "query", "threshold", "found"),
    [
        ("name", "john", 1, "b"),
        ("name", "john", 0.75, "ab"),
        ("name", "JOHN", 0.6, "ab"),
        ("name", "jo ", 1, None),
        ("name", "maria", 0.9, "c"),
        ("text", "wether in the montains", 0.5, "c"),
        ("text", "wether in the montains", 0.99, ""),
    ],
)
async def test_similar_texts_are_found_by_threshold(
    reader: Reader, field: str, query: str, threshold: float, found: str | None
) -> None:
    if found is None:
        return
    asked = {field: {"query": query, "threshold": threshold}}
    assert await reader.codes(dataset="words", fuzzy=asked) == found


async def test_groups_metrics_and_spans_of_time(reader: Reader) -> None:
    aggregate = {
        "group_by": ["land"],
        "metrics": {
            "n": "count()", "ages": "count(age)", "code": "min(code)", "age": "max(age)", "all": "sum(age)",
            "mean": "avg(age)", "names": "uniq(name)", "mid": "quantile(age, 0.5)",
        },
    }  # fmt: skip
    found = await rows(reader, aggregate=aggregate, sort=["all DESC"], select=None)
    assert [(row["land"], row["n"], row["all"], row["names"]) for row in found] == [
        ("US", 1, 4, 1),
        ("IN", 2, 3, 2),
        (None, 1, None, 0),
    ]
    assert found[1] | {"mid": 1.5, "mean": 1.5, "code": "a", "age": 2, "ages": 2} == found[1]
    whole = await rows(reader, aggregate={"metrics": {"n": "count()"}}, sort=None, select=None)
    assert whole == [{"n": 4}]


async def test_sums_and_averages_of_large_numbers_do_not_wrap(reader: Reader, ingest: AsyncClient) -> None:
    largest = 2**63 - 1
    await add(ingest, [{"code": f"huge{no}", "age": largest, "paid": "9" * 38} for no in range(3)])
    aggregate = {"metrics": {"all": "sum(age)", "paid": "sum(paid)", "mean": "avg(age)"}}
    body = {"filters": {"code": {"prefix": "huge"}}, "aggregate": aggregate, "sort": None, "select": None}
    exact = Reader(reader.datasets, reader.warehouse, replace(reader.terms, form=FORMS["csv"]))
    raw = await exact.streamed(dataset="words", **body)
    assert raw.decode().split(",")[:2] == [str(3 * largest), str(3 * (10**38 - 1))]
    (found,) = await rows(reader, **body)
    assert found["mean"] == pytest.approx(float(largest))
    for table in ("words", "words_history"):
        await ingest.command(f"DELETE FROM {table} WHERE startsWith(code, 'huge')")  # noqa: S608 - names of this test


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        ("minute", ["1901-02-03T00:00:00", "2026-01-01T10:11:00", "2026-01-31T23:59:00"]),
        ("hour", ["1901-02-03T00:00:00", "2026-01-01T10:00:00", "2026-01-31T23:00:00"]),
        ("day", ["1901-02-03", "2026-01-01", "2026-01-31"]),
        ("week", ["1901-01-28", "2025-12-29", "2026-01-26"]),
        ("month", ["1901-02-01", "2026-01-01"]),
        ("quarter", ["1901-01-01", "2026-01-01"]),
        ("year", ["1901-01-01", "2026-01-01"]),
    ],
)
async def test_every_span_of_time_begins_where_it_should(reader: Reader, bucket: str, expected: list[str]) -> None:
    aggregate = {"group_by": [f"{bucket}(seen)"], "metrics": {"n": "count()"}}
    filters = {"seen": {"is_null": False}}
    found = await rows(reader, aggregate=aggregate, filters=filters, sort=None, select=None)
    assert [row[f"seen_{bucket}"][: len(expected[0])] for row in found] == expected


async def test_personal_columns_are_masked_in_their_own_form(masked: Reader) -> None:
    names = ["name", "email", "phone", "secret", "salary", "born", "age"]
    found = await rows(masked, select=names, filters={"code": ["a", "d"]})
    assert found == [
        {"name": "J***", "email": "j***@x.com", "phone": "+12*******68", "secret": "***"}
        | {"salary": None, "born": None, "age": 1},
        dict.fromkeys(names),
    ]


async def test_a_masked_column_is_found_by_its_exact_value_alone(masked: Reader) -> None:
    assert [row["code"] for row in await rows(masked, filters={"phone": "(212) 555-2368"})] == ["a"]
    assert len(await rows(masked, filters={"phone": {"is_null": True}, "salary": {"is_null": False}})) == 0
    for guess in ({"phone": ["(212) 555-2368"]}, {"email": "JON@x.com"}, {"name": {"ne": "Jon"}}, {"salary": 7}):
        with pytest.raises(InvalidRequest):
            masked.plan(dataset="words", filters=guess)
    counted = await rows(masked, aggregate={"metrics": {"n": "uniq(name)"}}, sort=None, select=None)
    assert counted == [{"n": 3}]


async def test_masks_reach_every_format(masked: Reader) -> None:
    for form in ("ndjson", "csv", "parquet", "arrow"):
        streaming = Reader(masked.datasets, masked.warehouse, replace(masked.terms, form=FORMS[form]))
        raw = await streaming.streamed(dataset="words", select=["email", "secret", "salary"], filters={"code": "a"})
        assert b"jon" not in raw.lower(), form


async def test_pages_go_on_where_they_ended_whatever_is_added(reader: Reader, ingest: AsyncClient) -> None:
    seen: list[str] = []
    position: Position | None = None
    for turn in range(5):
        terms = replace(reader.terms, position=position)
        page = await Reader(reader.datasets, reader.warehouse, terms).page(
            dataset="words", sort=["land DESC", "age"], limit=1, cursor="x" if position else None
        )
        seen += [row["code"] for row in orjson.loads(page.data)]
        if not page.rows:
            break
        now, *values, key = orjson.loads(page.place)
        position = Position(position.as_of if position else now, tuple(values), key, 4)
        late = [{"code": f"z{turn}", "land": "US", "age": turn}]
        await add(ingest, late)
    assert seen == ["c", "a", "b", "d"]
    for table in ("words", "words_history"):
        await ingest.command(f"DELETE FROM {table} WHERE startsWith(code, 'z')")  # noqa: S608 - names of this test


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet", "arrow"])
async def test_every_format_has_every_row_and_its_rows_are_counted(reader: Reader, form: str) -> None:
    names = ["code", "text", "age", "seen"]
    streaming = Reader(reader.datasets, reader.warehouse, replace(reader.terms, form=FORMS[form]))
    filters = {"code": ["a", "b", "c", "d"]}
    raw = await streaming.streamed(dataset="words", select=names, filters=filters)
    for size in (1, 7, len(raw)):
        counting = row_count(form, len(names))
        for start in range(0, len(raw), size):
            counting.add(raw[start : start + size])
        # Before the footer has come, which a client that leaves does not wait for.
        assert counting.rows == 4, size
        counting.end()
        assert counting.rows == 4, size
    found = _read(form, raw, names)
    assert [row["code"] for row in found] == ["a", "b", "c", "d"]
    assert str(found[1]["text"]) == 'two\nlines "quoted"'
    dangerous = ["'=1+1", "'@cmd"] if form == "csv" else ["=1+1", "@cmd"]
    assert [found[0]["text"], found[3]["text"]] == dangerous


def _read(form: str, raw: bytes, names: list[str]) -> list[dict[str, Any]]:
    if form == "ndjson":
        return [orjson.loads(line) for line in raw.splitlines()]
    if form == "csv":
        return list(csv.DictReader(io.StringIO(raw.decode(), newline=""), names))
    table = pq.read_table(io.BytesIO(raw)) if form == "parquet" else pa.ipc.open_stream(raw).read_all()
    found: list[dict[str, Any]] = table.to_pylist()
    return found


async def test_a_million_rows_are_streamed_and_counted(reader: Reader) -> None:
    for form in ("ndjson", "arrow", "csv"):
        plan = replace(reader.plan(dataset="words"), form=FORMS[form])
        plan = replace(plan, sql="SELECT number, toString(number) FROM numbers(1000000)", parameters={})
        result = await reader.warehouse.open_result(plan, new_id())
        counting, largest = row_count(form, 2), 0
        try:
            async for piece in result.pieces():
                counting.add(piece)
                largest = max(largest, len(piece))
        finally:
            result.close()
        assert (counting.rows, largest < 8 << 20) == (1_000_000, True), form


async def test_an_estimate_is_given_without_reading(reader: Reader) -> None:
    assert await reader.warehouse.estimate(reader.plan(dataset="words", filters={"age": 1})) >= 4
    assert await reader.warehouse.total(reader.plan(dataset="words", filters={"code": ["a", "b"]}), 1) == 2


async def _explained(client: AsyncClient, plan: QueryPlan, sql: str) -> tuple[str, int, int]:
    """EXPLAIN indexes = 1 of a statement: the text, and the granules left of all."""
    raw = await client.raw_query(f"EXPLAIN indexes = 1 {sql}", parameters=dict(plan.parameters), fmt="TabSeparatedRaw")
    text = raw.decode("utf-8", "replace")  # a key is bytes
    left, whole = re.findall(r"Granules: (\d+)/(\d+)", text)[-1]
    return text, int(left), int(whole)


async def _rows_read(reader: Reader, **body: Any) -> int:
    priced = replace(reader.plan(dataset="words", **body), counts_rows_read=True, count_sql=None)
    return (await reader.warehouse.fetch(priced, new_id())).rows_read


@pytest_asyncio.fixture
async def many(ingest: AsyncClient) -> AsyncIterator[None]:
    """Enough rows for granules to be left out."""
    await ingest.command(
        "INSERT INTO words_history (code, phone, age, upload_id, row_no, version) "
        "SELECT concat('m', toString(number)), concat('+1212555', leftPad(toString(number), 6, '0')), number, 'many', "
        "number, 1 FROM numbers(200000)",
        settings={"insert_deduplication_token": str(new_id())},
    )
    yield
    for table in ("words", "words_history"):
        await ingest.command(f"DELETE FROM {table} WHERE upload_id = 'many'")  # noqa: S608 - names of this test


@pytest.mark.usefixtures("many")
async def test_each_kind_of_query_reads_what_its_index_leaves(reader: Reader, ingest: AsyncClient) -> None:
    lookup = reader.plan(dataset="words", filters={"code": "m7"})
    text, left, whole = await _explained(ingest, lookup, lookup.sql)
    assert "PrimaryKey" in text
    assert left <= 3 < whole
    assert "words_history" not in text

    other = reader.plan(dataset="words", filters={"phone": "+12125552368"})
    # EXPLAIN does not show what is inside IN: it is asked for by itself, and the whole by the rows it reads.
    found = re.search(r"IN \((SELECT dedupe_key FROM words_history WHERE [^)]*)\)", other.sql)
    assert found
    text, left, whole = await _explained(ingest, other, found[1])
    assert "phone_exact" in text
    assert left <= whole / 4
    assert await _rows_read(reader, filters={"phone": "+12125552368"}) < 100_000

    for scan in ({"range": {"age": {"from": 5, "to": 9}}}, {"fuzzy": {"text": {"query": "north"}}}):
        plan = reader.plan(dataset="words", **scan)
        text, left, whole = await _explained(ingest, plan, plan.sql)
        assert "FROM words FINAL" in plan.sql  # the table that merges make cheaper, and nothing else
        assert ("words_history" in text, left) == (False, whole)


@pytest.mark.usefixtures("many")
async def test_pages_in_key_order_read_no_more_than_themselves(reader: Reader, ingest: AsyncClient) -> None:
    """And show every key once."""
    seen: set[str] = set()
    position: Position | None = None
    for _ in range(4):
        terms = replace(reader.terms, position=position)
        paging = Reader(reader.datasets, reader.warehouse, terms)
        page = await paging.page(dataset="words", sort=None, limit=500, cursor="x" if position else None)
        codes = {row["code"] for row in orjson.loads(page.data)}
        assert (len(codes), len(codes & seen)) == (500, 0)
        seen |= codes
        now, *values, key = orjson.loads(page.place)
        position = Position(position.as_of if position else now, tuple(values), key, page.total)
    assert await reader.warehouse.estimate(paging.plan(dataset="words", sort=None, limit=500, cursor="x")) < 450_000
    assert ingest


async def test_during_an_undo_the_replaced_rows_show(reader: Reader, ingest: AsyncClient) -> None:
    await add(ingest, [{"code": "old", "age": 1, "phone": "+12125550000"}], version=1)
    newer = {"code": "old", "age": 2, "phone": "+12125551111", "upload_id": "late"}
    await add(ingest, [newer], version=2)
    without = Reader(reader.datasets, reader.warehouse, replace(reader.terms, excluded=("late",)))
    for body in ({"filters": {"code": "old"}}, {"filters": {"phone": "+12125550000"}}, {"filters": {"age": 1}}):
        found = await rows(without, **body, select=["code", "age"])
        assert {"code": "old", "age": 1} in found
    assert await rows(without, filters={"phone": "+12125551111"}) == []
    assert (await rows(reader, filters={"code": "old"}, select=["age"])) == [{"age": 2}]
    # An old version that matches is no row: the newest does not.
    assert await rows(reader, filters={"phone": "+12125550000"}) == []
    for table in ("words", "words_history"):
        await ingest.command(f"DELETE FROM {table} WHERE code = 'old'")  # noqa: S608 - names of this test
