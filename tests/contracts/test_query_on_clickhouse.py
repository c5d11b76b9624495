"""What the planner writes is what ClickHouse understands: every type and operator, hostile text, limits, leaving."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
import pytest_asyncio
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.datasets import Dataset, Datasets
from common.errors import QueryTimeout, QueryTooExpensive
from common.ids import new_id
from devstack.stack import Stack
from ingest.table_schema import ensure_tables
from support.polling import until
from support.query_reader import Reader, open_as, open_reader

KINDS = {
    "code": "string",
    "title": "string",
    "land": "country",
    "many": "integer",
    "paid": "decimal(20, 4)",
    "ratio": "float",
    "active": "boolean",
    "born": "date",
    "seen": "timestamp",
    "note": "json",
}
ROWS: list[dict[str, Any]] = [
    {"code": "a", "title": "First", "land": "IN", "many": 2**63 - 1, "paid": "0.1000", "ratio": 0.1, "active": True}
    | {"born": "1900-01-01", "seen": "2149-06-06 23:59:59.999999", "note": '{"x": [1]}'},
    {"code": "b", "title": "zoë%_\\", "land": "US", "many": -(2**63), "paid": "-9999999999999999.9999", "ratio": -1e300}
    | {"active": False, "born": "2149-06-06", "seen": "1970-01-01 00:00:00.000001"},
    {"code": "c"},
]


def declared(**price: Any) -> Dataset:
    columns = {name: {"type": kind} for name, kind in KINDS.items()}
    document = {"name": "kinds", "identity": ["code"], "columns": columns, "extra": "drop"}
    return Dataset.model_validate(document | ({"price": price} if price else {}))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ingest(servers: Stack) -> AsyncIterator[AsyncClient]:
    async with open_as(servers, "ingest") as client:
        for table in ("kinds_fill", "kinds", "kinds_history"):
            await client.command(f"DROP TABLE IF EXISTS {table}")
        await ensure_tables(client, declared())
        lines = b"\n".join(
            orjson.dumps(row | {"upload_id": "u", "row_no": no, "version": 1}) for no, row in enumerate(ROWS)
        )
        settings = {"insert_deduplication_token": str(new_id()), "input_format_json_read_numbers_as_strings": 1}
        await client.raw_insert("kinds_history", insert_block=lines, fmt="JSONEachRow", settings=settings)
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def reader(servers: Stack, ingest: AsyncClient) -> AsyncIterator[Reader]:
    assert ingest
    async with open_reader(servers, declared()) as opened:
        yield opened


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ("title", "First", "zoë%_\\"),
        ("land", "india", "usa"),
        ("many", 2**63 - 1, -(2**63)),
        ("paid", 0.1, "-9999999999999999.9999"),
        ("ratio", 0.1, -1e300),
        ("active", True, False),
        ("born", "1900-01-01", "2149-06-06"),
        ("seen", "2149-06-06T23:59:59.999999Z", "1970-01-01T00:00:00.000001Z"),
    ],
)
async def test_equality_and_lists_find_exactly_their_rows(reader: Reader, column: str, first: Any, second: Any) -> None:
    assert await reader.codes(filters={column: first}) == "a"
    assert await reader.codes(filters={column: second}) == "b"
    assert await reader.codes(filters={column: [first, second]}) == "ab"
    assert await reader.codes(filters={column: {"ne": first}}) == "bc"
    assert await reader.codes(filters={column: {"nin": [first, second]}}) == "c"
    assert await reader.codes(filters={column: {"is_null": True}}) == "c"
    assert await reader.codes(filters={column: {"is_null": False}}) == "ab"


@pytest.mark.parametrize(
    ("column", "low", "between", "high"),
    [
        ("title", "First", "a", "zoë%_\\"),
        ("many", -(2**63), 0, 2**63 - 1),
        ("paid", "-9999999999999999.9999", 0, 0.1),
        ("ratio", -1e300, 0, 0.1),
        ("born", "1900-01-01", "2000-02-29", "2149-06-06"),
        ("seen", "1970-01-01T00:00:00.000001Z", "2026-01-01", "2149-06-06T23:59:59.999999Z"),
    ],
)
async def test_comparisons_include_what_they_say(
    reader: Reader, column: str, low: Any, between: Any, high: Any
) -> None:
    both = set("ab")
    assert set(await reader.codes(range={column: {"from": low, "to": high}})) == both
    assert set(await reader.codes(filters={column: {"gte": low, "lte": high}})) == both
    assert await reader.codes(filters={column: {"gt": low, "lt": high}}) == ""
    below, above = (
        await reader.codes(range={column: {"to": between}}),
        await reader.codes(range={column: {"from": between}}),
    )
    assert {below, above} == both


async def test_every_type_can_be_sorted_by_and_absent_values_come_last(reader: Reader) -> None:
    for column in set(KINDS) - {"note", "code"}:
        for direction in ("ASC", "DESC"):
            assert (await reader.codes(sort=f"{column} {direction}"))[-1] == "c", (column, direction)


async def test_values_come_back_as_json_of_their_type(reader: Reader) -> None:
    page = await reader.page(filters={"code": "a"}, select=None)
    row = orjson.loads(page.data)[0]
    assert row.pop("ingest_ts").endswith("Z")
    assert row == {
        "code": "a",
        "title": "First",
        "land": "IN",
        "many": 2**63 - 1,
        "paid": 0.1,
        "ratio": 0.1,
        "active": True,
        "born": "1900-01-01",
        "seen": "2149-06-06T23:59:59.999999Z",
        "note": '{"x": [1]}',
    }


HOSTILE = [
    "'",
    "\\",
    "\\'",
    "\\N",
    "\\x41",
    "\t",
    "\n",
    "\r\n",
    "`",
    '"',
    "%",
    "_",
    "{p0:String}",
    "--",
    "/*",
    ";",
    "\x7f",
    "😀",
]


@pytest.mark.parametrize("text", [*HOSTILE, "".join(HOSTILE), "' OR '1'='1", "a' UNION SELECT version() --"])
async def test_text_is_only_text(reader: Reader, ingest: AsyncClient, text: str) -> None:
    row = {"code": f"h{text}h", "title": f"x{text}y", "upload_id": "u", "row_no": 9, "version": 1}
    settings = {"insert_deduplication_token": str(new_id())}
    await ingest.raw_insert("kinds_history", insert_block=orjson.dumps(row), fmt="JSONEachRow", settings=settings)
    for filters in (
        {"code": f"h{text}h"},
        {"code": [f"h{text}h"]},
        {"code": f"h{text}h", "title": {"prefix": f"x{text}"}},
        {"code": f"h{text}h", "title": {"contains": text}},
    ):
        page = await reader.page(filters=filters, select=["code", "title"])
        assert orjson.loads(page.data) == [{"code": f"h{text}h", "title": f"x{text}y"}], filters
    found = await reader.page(filters={"code": f"h{text}h"}, fuzzy={"title": {"query": f"X{text}Y"}})
    assert found.rows == 1
    assert (await reader.page(filters={"title": text})).rows == 0


async def test_a_result_beyond_what_was_paid_for_is_refused_whole(reader: Reader) -> None:
    paid = Reader(Datasets({"kinds": declared(per_query=1, per_row=1, per_query_max=50)}), reader.warehouse)
    assert (await paid.page(filters={"code": ["a", "b"]}, max_credits=3)).rows == 2
    with pytest.raises(QueryTooExpensive):
        await paid.page(filters={"code": ["a", "b", "c"]}, max_credits=3)


async def test_a_price_by_rows_read_counts_them_and_limits_them(reader: Reader, ingest: AsyncClient) -> None:
    await ingest.command(
        "INSERT INTO kinds_history (code, upload_id, row_no, version) "
        "SELECT concat('n', toString(number)), 'n', number, 1 FROM numbers(100000)"
    )
    paid = Reader(
        Datasets({"kinds": declared(per_query=1, per_million_rows_read=10, per_query_max=20)}), reader.warehouse
    )
    whole = await paid.page(filters={"title": "none"})
    assert whole.rows_read >= 100_000
    point = await paid.page(filters={"code": "a"})
    assert (point.rows, point.rows_read < 20_000) == (1, True)
    with pytest.raises(QueryTooExpensive):
        await paid.page(filters={"title": "none"}, max_credits=1.5)


async def test_a_query_past_its_time_is_stopped(reader: Reader) -> None:
    slow = replace(reader.plan(), sql=_SLOW, count_sql=None, settings={"max_execution_time": 1})
    with pytest.raises(QueryTimeout):
        await reader.warehouse.fetch(slow, new_id())


async def test_leaving_stops_the_query_on_the_server(servers: Stack, reader: Reader) -> None:
    slow = replace(reader.plan(), sql=_SLOW, count_sql=None)
    async with open_as(servers, "admin") as admin:

        async def running() -> int:
            found = await admin.query(
                "SELECT count() FROM system.processes WHERE query LIKE '%slow%' AND query NOT LIKE '%processes%'"
            )
            return int(found.result_rows[0][0])

        async def stopped() -> bool:
            return not await running()

        fetching = asyncio.create_task(reader.warehouse.fetch(slow, new_id()))
        await until("the query to run", running)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await until("the query to be stopped", stopped, deadline_s=5)


_SLOW = (
    "SELECT count() AS slow FROM kinds AS a CROSS JOIN kinds AS b CROSS JOIN kinds AS c "
    "WHERE a.row_no + b.row_no * c.row_no = 7"
)
