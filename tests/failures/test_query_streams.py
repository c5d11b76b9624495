"""Fault tests 9 to 12: ClickHouse away, too slow, cut in the middle; clients that leave, or that take nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from devstack.stack import Stack
from support.accounts import Account, open_account
from support.client import Answered
from support.heavy import ROWS, Heavy, open_heavy
from support.polling import until

_HOLD_S = 3
_LOGGED = "SELECT status, rows, credits_used_mc FROM audit.request_log WHERE hold_id = $1"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def heavy(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Heavy]:
    folder: Path = tmp_path_factory.mktemp("datasets")
    env = {"QUERY_TIMEOUT_S": "3", "HOLD_TTL_S": str(_HOLD_S)}
    async with open_heavy(stack, folder, index=12, env=env) as opened:
        yield opened


@pytest_asyncio.fixture
async def rich(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[Account]:
    async with open_account(stack, admin, answered, credits=5000) as opened:
        yield opened


async def receipt_of(client: httpx.AsyncClient, query_id: str, state: str) -> dict[str, Any]:
    async def settled() -> dict[str, Any] | None:
        answer = await client.get(f"/v1/queries/{query_id}")
        return answer.json() if answer.status_code == 200 and answer.json()["state"] == state else None

    receipt = await until(f"a receipt that says {state}", settled, deadline_s=60)
    assert receipt is not None
    return receipt


async def logged(account: Account, query_id: str) -> dict[str, Any]:
    """The one row of the log for a query."""

    async def written() -> list[dict[str, Any]]:
        return [dict(row) for row in await account.ledger.fetch(_LOGGED, query_id)]

    (row,) = await until("the request to be logged", written, deadline_s=60)
    return row


async def nothing_runs(heavy: Heavy) -> None:
    async def still() -> bool:
        return await heavy.running() == 0

    # Two seconds are promised; the rest is the machine's.
    await until("the query to be stopped", still, deadline_s=20)


def slow(heavy: Heavy) -> dict[str, Any]:
    """Many seconds of comparing every row with a text of a thousand characters."""
    return {"dataset": heavy.dataset, "fuzzy": {"words": {"query": "0123456789" * 100, "threshold": 0.9}}}


async def test_without_clickhouse_a_query_says_when_to_come_back_and_costs_nothing(heavy: Heavy, rich: Account) -> None:
    """9"""
    async with rich.client(heavy.gateway.gateway) as client:
        heavy.gateway.clickhouse.refuse()
        try:
            for body in ({}, {"format": "csv"}):
                answer = await client.post("/v1/query", json={"dataset": heavy.dataset, "offset": 9, **body})
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
        finally:
            heavy.gateway.heal()

        async def again() -> bool:
            answer = await client.post("/v1/query", json={"dataset": heavy.dataset, "limit": 1})
            assert answer.status_code in {200, 503}
            return answer.status_code == 200

        await until("an answer", again, deadline_s=30)
        await rich.settled_at(5000 - 1.001)


async def test_a_query_past_its_limit_is_stopped_and_refunded(heavy: Heavy, rich: Account) -> None:
    """10: a stream that has begun cannot say 504 any more."""
    async with rich.client(heavy.gateway.gateway) as client:
        answer = await client.post("/v1/query", json=slow(heavy))
        assert (answer.status_code, answer.json()["code"]) == (504, "query_timeout")
        try:
            answer = await client.post("/v1/query", json={**slow(heavy), "format": "csv"})
        except httpx.RemoteProtocolError:
            pass  # its first line was on its way already: cut visibly is what is left
        else:
            assert (answer.status_code, answer.json()["code"]) == (504, "query_timeout")
        await nothing_runs(heavy)
        await rich.settled_at(5000)


@pytest.mark.parametrize("form", ["ndjson", "csv", "arrow"])
async def test_a_result_cut_in_the_middle_never_looks_whole(heavy: Heavy, rich: Account, form: str) -> None:
    """11"""
    account = rich
    async with account.client(heavy.gateway.gateway, answered=set()) as client:
        body = {"dataset": heavy.dataset, "format": form}
        async with client.stream("POST", "/v1/query", json=body, headers={"Accept-Encoding": "identity"}) as got:
            assert got.status_code == 200
            query_id = got.headers["x-query-id"]
            with pytest.raises(httpx.RemoteProtocolError):
                await read_on(got, heavy)
        receipt = await receipt_of(client, query_id, "released")
        assert (receipt["credits_used"], receipt["refund_reason"][:13]) == (0, "stream broke:")
        assert await logged(account, query_id) == {"status": 500, "rows": 0, "credits_used_mc": 0}
        await account.settled_at(5000)


async def read_on(answer: httpx.Response, heavy: Heavy) -> None:
    async for _ in answer.aiter_raw():
        heavy.gateway.clickhouse.reset()


async def test_a_client_that_leaves_a_stream_stops_its_query_and_pays_for_the_rows_sent(
    heavy: Heavy, rich: Account
) -> None:
    """12, first half"""
    async with rich.client(heavy.gateway.gateway, answered=set()) as client:
        body = {"dataset": heavy.dataset, "format": "ndjson"}
        async with client.stream("POST", "/v1/query", json=body, headers={"Accept-Encoding": "identity"}) as got:
            query_id = got.headers["x-query-id"]
            async for _ in got.aiter_raw():
                break
        await nothing_runs(heavy)
        receipt = await receipt_of(client, query_id, "captured")
        assert 0 < receipt["rows"] < ROWS
        assert receipt["credits_used"] == pytest.approx(1 + receipt["rows"] / 1000)
        row = await logged(rich, query_id)
        assert (row["status"], row["rows"]) == (499, receipt["rows"])


async def test_a_reader_that_takes_nothing_is_cut_before_its_hold_ends(heavy: Heavy, rich: Account) -> None:
    """12, second half"""
    address = urlsplit(heavy.stack.url(heavy.gateway.gateway))
    body = f'{{"dataset": "{heavy.dataset}", "format": "ndjson"}}'.encode()
    head = f"POST /v1/query HTTP/1.1\r\nhost: x\r\nx-api-key: {rich.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1024)
    try:
        writer.write(head.encode() + body)
        answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode().lower()
        query_id = answer.partition("x-query-id: ")[2].partition("\r\n")[0]
        assert query_id
        row = await logged(rich, query_id)
        assert (row["status"], 0 < row["rows"] < ROWS) == (499, True)
        await nothing_runs(heavy)
        async with rich.client() as client:
            assert (await receipt_of(client, query_id, "captured"))["rows"] == row["rows"]
        assert await rich.holds() == ["captured"]
    finally:
        writer.transport.abort()


@pytest.mark.long
async def test_a_stream_that_outlives_its_hold_is_paid_for_while_it_moves(heavy: Heavy, rich: Account) -> None:
    taken = 0
    async with rich.client(heavy.gateway.gateway) as client:
        body = {"dataset": heavy.dataset, "format": "ndjson"}
        async with client.stream("POST", "/v1/query", json=body, headers={"Accept-Encoding": "identity"}) as got:
            async for piece in got.aiter_raw():
                taken += piece.count(b"\n")
                await asyncio.sleep(0.008)  # a reader that is slower than its hold is long
        assert taken == ROWS
        receipt = await receipt_of(client, got.headers["x-query-id"], "captured")
        assert receipt["rows"] == ROWS
        await rich.settled_at(5000 - 1 - ROWS / 1000)
