"""Streamed answers with every other part played: how they end, and what each end costs."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from backports import zstd
from starlette.types import Message

from common.errors import (
    QueryTooExpensive,
)
from gateway.query_plan import QueryPlan
from gateway.query_stream import BrokenStream
from gateway.spool import Captured, Released
from gateway.warehouse_http import BrokenResult
from support.played_query import Everything, PlayedResult, scope
from support.polling import eventually


async def test_a_stream_has_its_figures_in_headers_and_is_charged_by_its_rows(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/v1/query", json={"format": "csv", "count": "exact"})
    assert answer.text == '"a","ingest_ts"\n"x"\n"y"\n'
    assert answer.headers["content-type"].startswith("text/csv")
    assert (answer.headers["x-total-records"], answer.headers["x-credits-reserved"]) == ("7", "20")
    hold_id, amount_mc, _, _ = everything.credits.reserved[0]
    assert (answer.headers["x-query-id"], amount_mc) == (str(hold_id), 20_000)
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert (settlement.amount_mc, settlement.receipt.rows) == (2000, 2)
    assert everything.warehouse.closed


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_stream_is_packed_on_request(everything: Everything, client: httpx.AsyncClient, coding: str) -> None:
    everything.warehouse.pieces = [b'{"a":1}\n' * 20_000, b'{"a":2}\n']
    headers = {"Accept": "application/x-ndjson", "Accept-Encoding": coding}
    async with client.stream("POST", "/v1/query", json={}, headers=headers) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    unpacked = gzip.decompress(raw) if coding == "gzip" else zstd.decompress(raw)
    assert (answer.headers["content-encoding"], unpacked.count(b"\n")) == (coding, 20_001)
    assert everything.logged["rows"] == 20_001


@pytest.mark.parametrize("fault", [BrokenResult(159), BrokenResult(None), ConnectionResetError()])
async def test_a_stream_that_breaks_is_cut_and_costs_nothing(
    everything: Everything, client: httpx.AsyncClient, fault: Exception
) -> None:
    everything.warehouse.pieces = [b'{"a":1}\n', fault]
    await client.post("/v1/query", json={"format": "ndjson"})
    settlement = everything.settlement
    assert isinstance(settlement, Released)
    assert settlement.reason.startswith("stream broke")
    assert (everything.logged["status"], everything.warehouse.closed) == (500, True)


async def test_a_stream_that_is_refused_is_an_error_of_its_own(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    everything.warehouse.result = QueryTooExpensive()
    answer = await client.post("/v1/query", json={"format": "parquet"})
    assert (answer.status_code, answer.json()["details"]["estimate"]) == (422, {"rows_read": 1234})
    assert isinstance(everything.settlement, Released)


@pytest.mark.parametrize("stuck_at", ["opening", "the first bytes"])
async def test_a_stream_that_does_not_begin_in_time_is_a_timeout(
    everything: Everything, client: httpx.AsyncClient, stuck_at: str
) -> None:
    everything.settings(query_timeout_s=0.05)

    async def opened(_plan: QueryPlan, _query_id: UUID) -> PlayedResult:
        if stuck_at == "opening":
            await asyncio.Event().wait()
        everything.warehouse.pieces, everything.warehouse.stuck = [], True
        return PlayedResult(everything.warehouse)

    everything.warehouse.open_result = opened  # type: ignore[method-assign, assignment]
    answer = await client.post("/v1/query", json={"format": "csv"})
    assert (answer.status_code, answer.json()["code"]) == (504, "query_timeout")
    assert isinstance(everything.settlement, Released)
    assert everything.warehouse.closed == (stuck_at != "opening")


async def test_a_client_that_leaves_a_stream_pays_for_the_rows_sent(everything: Everything) -> None:
    everything.warehouse.stuck = True
    left = asyncio.Event()
    sent: list[Message] = []
    body: list[Message] = [{"type": "http.request", "body": b'{"format":"ndjson"}', "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    running = asyncio.ensure_future(everything.app(scope(), receive, send))
    await eventually(lambda: len(sent) == 3)
    left.set()
    await asyncio.wait_for(running, 5)
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert (settlement.amount_mc, settlement.receipt.rows, everything.logged["status"]) == (2000, 2, 499)
    assert everything.warehouse.closed


async def test_a_reader_that_takes_nothing_is_cut_at_the_holds_deadline(everything: Everything) -> None:
    everything.settings(hold_ttl_s=1)
    everything.warehouse.stuck = True
    body: list[Message] = [{"type": "http.request", "body": b'{"format":"ndjson"}', "more_body": False}]

    async def receive() -> Message:
        if not body:
            await asyncio.Event().wait()
        return body.pop()

    async def send(message: Message) -> None:
        if message.get("body") == b'"y"\n':
            await asyncio.Event().wait()

    with pytest.raises(BrokenStream):
        await asyncio.wait_for(everything.app(scope(), receive, send), 20)
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert everything.logged["status"] == 499


async def test_a_stream_that_moves_keeps_its_hold_open(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.settings(hold_ttl_s=1)

    class Slow(PlayedResult):
        async def pieces(self) -> AsyncIterator[bytes]:
            for _ in range(8):
                await asyncio.sleep(0.2)
                yield b"1\n"

    async def opened(plan: QueryPlan, _query_id: UUID) -> PlayedResult:
        assert plan.form.streamed
        return Slow(everything.warehouse)

    everything.warehouse.open_result = opened  # type: ignore[method-assign]
    answer = await client.post("/v1/query", json={"format": "ndjson"})
    assert answer.text == "1\n" * 8
    assert everything.credits.extended >= 2
