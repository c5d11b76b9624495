import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

import aiohttp
import pytest

from common.datasets import Dataset, Datasets
from common.errors import QueryTimeout, QueryTooExpensive, Unavailable
from gateway.query_plan import QueryPlan, Terms, plan_query
from gateway.query_request import QueryRequest
from gateway.warehouse import Warehouse, WarehouseFault
from gateway.warehouse_http import RefusedResult, WarehouseHttp
from support.polling import eventually

QUERY_ID = UUID(int=7)


def plan(price: dict[str, Any] | None = None, /, **body: Any) -> QueryPlan:
    declared = {"name": "people", "identity": ["email"], "columns": {"email": {"type": "string"}}}
    dataset = Dataset.model_validate(declared | ({"price": price} if price else {}))
    return plan_query(QueryRequest.model_validate(body), Datasets({"people": dataset}), Terms(timeout_s=5))


class Client:
    """Answers pages and counts by a script, and remembers what it was asked."""

    def __init__(self, page: Callable[[], Awaitable[bytes]], total: bytes = b"[345]\n") -> None:
        self.page = page
        self.total = total
        self.asked: list[str] = []
        self.settings: list[dict[str, Any]] = []
        self.cancelled = 0

    async def whole(self, sql: str, parameters: dict[str, Any], settings: dict[str, Any], form: str) -> bytes:
        assert not isinstance(parameters, str)
        self.asked.append(f"{'count' if 'count()' in sql else 'page'} {form}")
        self.settings.append(settings)
        try:
            await asyncio.sleep(0)
            return self.total if "count()" in sql else await self.page()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def rows(count: int) -> bytes:
    """Each with its place, as a scan answers them."""
    return b"".join(b'{"email":"%d","__place":["now","%d"]}\n' % (number, number) for number in range(count))


def answering(raw: bytes) -> Callable[[], Awaitable[bytes]]:
    async def page() -> bytes:
        return raw

    return page


def failing(error: Exception) -> Callable[[], Awaitable[bytes]]:
    async def page() -> bytes:
        raise error

    return page


def warehouse(client: Client) -> Warehouse:
    http = cast("WarehouseHttp", client)
    return Warehouse(http, http, timeout_s=5)


async def test_a_page_inside_its_limit_is_its_own_count() -> None:
    client = Client(answering(rows(3)))
    page = await warehouse(client).fetch(plan(limit=10, offset=20), QUERY_ID)
    assert (page.rows, page.total, client.asked) == (3, 23, ["page JSONEachRow"])
    assert page.data == b'[{"email":"0"},{"email":"1"},{"email":"2"}]'


async def test_a_full_page_is_counted() -> None:
    client = Client(answering(rows(10)))
    page = await warehouse(client).fetch(plan(limit=10), QUERY_ID)
    assert (page.rows, page.total) == (10, 345)
    assert client.asked == ["page JSONEachRow", "count JSONCompactEachRow"]


async def test_an_empty_page_behind_the_last_row_is_counted_and_an_empty_first_one_is_not() -> None:
    client = Client(answering(b""))
    behind = await warehouse(client).fetch(plan(limit=10, offset=500), QUERY_ID)
    first = await warehouse(client).fetch(plan(limit=10), QUERY_ID)
    assert (behind.total, first.total, first.data) == (345, 0, b"[]")


async def test_nothing_is_counted_when_no_total_is_wanted() -> None:
    client = Client(answering(rows(10)))
    page = await warehouse(client).fetch(plan(limit=10, count="none"), QUERY_ID)
    assert (page.total, client.asked) == (None, ["page JSONEachRow"])


async def test_one_row_at_most_is_its_own_count_even_when_the_page_is_full() -> None:
    client = Client(answering(rows(1)))
    page = await warehouse(client).fetch(plan(limit=1, filters={"email": "a"}), QUERY_ID)
    assert (page.total, client.asked) == (1, ["page JSONEachRow"])


async def test_a_slow_page_is_counted_beside_and_a_needless_count_is_dropped() -> None:
    counted = asyncio.Event()

    async def page() -> bytes:
        await counted.wait()
        return rows(2)

    class Slow(Client):
        async def whole(self, sql: str, parameters: dict[str, Any], settings: dict[str, Any], form: str) -> bytes:
            if "count()" in sql:
                counted.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            return await super().whole(sql, parameters, settings, form)

    client = Slow(page)
    answer = await asyncio.wait_for(warehouse(client).fetch(plan(limit=10), QUERY_ID), 5)
    assert (answer.total, client.cancelled) == (2, 1)


async def test_leaving_stops_both_queries() -> None:
    async def page() -> bytes:
        await asyncio.Event().wait()
        return b""

    client = Client(page)
    running = asyncio.create_task(warehouse(client).fetch(plan(), QUERY_ID))
    await eventually(lambda: len(client.asked) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert client.cancelled == 1


async def test_places_are_taken_off_and_the_last_one_is_kept() -> None:
    # A value that looks like the place.
    raw = b'{"email":",\\"__place\\":","__place":["now","1"]}\n{"email":"b","__place":["now",null,"2"]}\n'
    page = await warehouse(Client(answering(raw))).fetch(plan(limit=10), QUERY_ID)
    assert page.data == b'[{"email":",\\"__place\\":"},{"email":"b"}]'
    assert page.place == b'["now",null,"2"]'


async def test_a_price_by_rows_read_is_told_how_many_there_were() -> None:
    raw = (
        b'{"meta":[{"name":"email","type":"String"}]}\n'
        b'{"row":{"email":"{\\"progress\\":","__place":["now","1"]}}\n'
        b'{"progress":{"read_rows":"100","read_bytes":"1"}}\n'
        b'{"progress":{"read_rows":"8192","read_bytes":"8"}}\n'
        b'{"rows_before_limit_at_least":1}\n'
    )
    client = Client(answering(raw))
    page = await warehouse(client).fetch(plan({"per_million_rows_read": 1}, count="none"), QUERY_ID)
    assert (page.rows, page.rows_read, client.asked) == (1, 8192, ["page JSONEachRowWithProgress"])
    assert page.data == b'[{"email":"{\\"progress\\":"}]'


async def test_a_fault_that_is_told_between_the_lines_is_a_fault() -> None:
    raw = b'{"row":{"email":"a"}}\n{"exception":"Code: 158. DB::Exception: Limit for rows exceeded"}\n'
    with pytest.raises(QueryTooExpensive):
        await warehouse(Client(answering(raw))).fetch(plan({"per_million_rows_read": 1}, count="none"), QUERY_ID)


async def test_limits_and_the_query_id_travel_with_the_query() -> None:
    client = Client(answering(rows(1)))
    priced = {"per_query": 1, "per_row": 1, "per_query_max": 50}
    await warehouse(client).fetch(plan(priced, limit=100, max_credits=3), QUERY_ID)
    assert client.settings[0]["max_result_rows"] == 2
    assert client.settings[0]["max_execution_time"] == 5
    assert client.settings[0]["log_comment"] == str(QUERY_ID)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (RefusedResult(159, "x"), QueryTimeout),
        (TimeoutError(), QueryTimeout),
        (RefusedResult(158, "x"), QueryTooExpensive),
        (RefusedResult(396, "x"), QueryTooExpensive),
        (RefusedResult(241, "Memory limit (for query) exceeded"), QueryTooExpensive),
        (RefusedResult(241, "Memory limit (total) exceeded"), Unavailable),
        (RefusedResult(60, "no such table"), Unavailable),
        (RefusedResult(202, "too many queries"), Unavailable),
        (RefusedResult(None, "bad gateway"), Unavailable),
        (aiohttp.ServerDisconnectedError(), Unavailable),
        (ConnectionRefusedError(), Unavailable),
        (RefusedResult(115, "Setting x is unknown or readonly"), WarehouseFault),
        (RefusedResult(62, "SELECT secret FROM x: syntax error"), WarehouseFault),
    ],
)
async def test_errors_become_answers_without_a_word_of_clickhouse(error: Exception, answer: type[Exception]) -> None:
    with pytest.raises(answer) as raised:
        await warehouse(Client(failing(error))).fetch(plan(), QUERY_ID)
    assert "secret" not in str(raised.value)
    assert "x" not in str(raised.value).split()
