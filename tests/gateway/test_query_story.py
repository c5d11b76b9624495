"""The story of POST /v1/query with every other part played: what is held, charged, released and answered, and when."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest
from starlette.types import Message

from common.errors import (
    ClientError,
    IdempotencyMismatch,
    InsufficientCredits,
    QueryTimeout,
    QueryTooExpensive,
    Unavailable,
)
from gateway.query_order import Position
from gateway.spool import Captured, Released
from gateway.warehouse import Page, WarehouseFault
from support.played_query import PRICE, Everything, scope


async def test_an_answer_is_held_for_in_full_and_charged_for_what_it_has(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/v1/query", json={"limit": 10})
    document = answer.json()
    assert document["data"] == [{"a": 1}, {"a": 2}]
    metadata = document["metadata"]
    assert (metadata["credits_used"], metadata["credits_remaining"]) == (2, 54)  # 50 left after the hold of 6
    assert (metadata["total_records"], metadata["returned"]) == (2, 2)
    assert datetime.fromisoformat(metadata["as_of"]).tzinfo == UTC
    hold_id, amount_mc, key, _ = everything.credits.reserved[0]
    assert (amount_mc, key, metadata["query_id"]) == (6000, None, str(hold_id))
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert (settlement.hold_id, settlement.amount_mc, settlement.answer) == (hold_id, 2000, None)
    assert (settlement.receipt.rows, settlement.receipt.state) == (2, "captured")
    assert (everything.logged["rows"], everything.logged["credits_used_mc"]) == (2, 2000)
    assert (everything.logged["dataset"], everything.logged["endpoint"]) == ("people", "/v1/query")


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (QueryTimeout(), 504, "query_timeout"),
        (QueryTooExpensive(), 422, "query_too_expensive"),
        (Unavailable(), 503, "unavailable"),
        (WarehouseFault("code 62"), 500, "WarehouseFault"),
    ],
)
async def test_what_fails_costs_nothing_and_its_receipt_says_why(
    everything: Everything, client: httpx.AsyncClient, failure: Exception, status: int, reason: str
) -> None:
    everything.warehouse.result = failure
    answer = await client.post("/v1/query", json={})
    assert answer.status_code == status
    settlement = everything.settlement
    assert isinstance(settlement, Released)
    assert settlement.receipt is not None
    assert (settlement.reason, settlement.receipt.refund_reason, settlement.receipt.state) == (
        reason,
        reason,
        "released",
    )
    assert everything.logged["credits_used_mc"] == 0


@pytest.mark.parametrize("refusal", [InsufficientCredits(details={"available": 0, "needed": 1}), IdempotencyMismatch()])
async def test_without_a_hold_no_query_runs_and_nothing_is_settled(
    everything: Everything, client: httpx.AsyncClient, refusal: ClientError
) -> None:
    everything.credits.refusal = refusal
    answer = await client.post("/v1/query", json={})
    assert (answer.status_code, answer.json()["code"]) == (refusal.status, refusal.code)
    assert everything.warehouse.fetched == []
    assert everything.settlement is None


async def test_a_hold_that_may_have_been_opened_is_released(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.credits.refusal = Unavailable()
    assert (await client.post("/v1/query", json={})).status_code == 503
    assert everything.warehouse.fetched == []
    settlement = everything.settlement
    assert isinstance(settlement, Released)
    assert settlement.hold_id == everything.credits.reserved[0][0]


@pytest.mark.parametrize("body", [b'{"limit": 0}', b"{", b'{"filters": {"nope": 1}}', b'{"max_credits": 0.1}'])
async def test_a_bad_request_never_reaches_credits(
    everything: Everything, client: httpx.AsyncClient, body: bytes
) -> None:
    assert (await client.post("/v1/query", content=body)).status_code in {400, 422}
    assert everything.credits.reserved == []
    assert everything.settlement is None


async def test_a_client_that_leaves_stops_its_query_and_pays_nothing(everything: Everything) -> None:
    everything.warehouse.stuck = True
    left = asyncio.Event()
    body: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    running = asyncio.ensure_future(everything.app(scope(), receive, send))
    left.set()
    await asyncio.wait_for(running, 5)
    assert everything.warehouse.cancelled
    settlement = everything.settlement
    assert isinstance(settlement, Released)
    assert (settlement.reason, everything.logged["status"]) == ("client_left", 499)


async def test_a_full_page_says_where_the_next_one_begins(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.warehouse.result = Page(b"[1,2]", 2, 9, 0, b'["2026-01-01 00:00:00.000000","5","00ff"]')
    first = (await client.post("/v1/query", json={"limit": 2, "sort": "a"})).json()["metadata"]
    cursor = first["next_cursor"]
    assert cursor
    following = await client.post("/v1/query", json={"limit": 3, "sort": "a", "cursor": cursor, "select": ["a"]})
    assert following.status_code == 200, following.text
    plan = everything.warehouse.fetched[-1]
    assert plan.position == Position("2026-01-01 00:00:00.000000", ("5",), "00ff", 9)
    for other in ({"sort": "a DESC"}, {"sort": "a", "filters": {"a": 1}}):
        refused = await client.post("/v1/query", json={"cursor": cursor, **other})
        assert (refused.status_code, refused.json()["details"][0]["path"]) == (422, "cursor")
    changed = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    assert (await client.post("/v1/query", json={"cursor": changed, "sort": "a"})).status_code == 422


async def test_a_quote_is_kept_when_prices_rise(everything: Everything, client: httpx.AsyncClient) -> None:
    quote = (await client.post("/v1/query/quote", json={"limit": 5})).json()
    assert (quote["credits_min"], quote["credits_max"], quote["rows_read_estimate"]) == (1, 3.5, 1234)
    everything.declare({"per_query": 10, "per_row": 1, "per_query_max": 99})
    answer = await client.post("/v1/query", json={"limit": 5, "quote_id": quote["quote_id"]})
    assert answer.json()["metadata"]["credits_used"] == 2
    for body in ({"limit": 6, "quote_id": quote["quote_id"]}, {"limit": 5, "quote_id": "x"}):
        refused = await client.post("/v1/query", json=body)
        assert (refused.status_code, refused.json()["details"][0]["path"]) == (422, "quote_id")
    everything.caller = replace(everything.caller, user_id=UUID(int=8))
    assert (await client.post("/v1/query", json={"limit": 5, "quote_id": quote["quote_id"]})).status_code == 422


async def test_a_dataset_that_is_not_granted_is_forbidden(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.declare(PRICE, access={"query": {"users": ["somebody"]}})
    answer = await client.post("/v1/query", json={})
    assert (answer.status_code, answer.json()["details"]) == (403, {"dataset": "people"})
    assert everything.credits.reserved == []
