"""Answers given again, queries asked once for several, scans that wait, with every other part played."""

import asyncio
from dataclasses import replace
from uuid import UUID

import httpx

from common.errors import (
    QueryTimeout,
)
from gateway.query_plan import QueryPlan
from gateway.warehouse import Page
from support.played_query import PRICE, Everything
from support.polling import eventually


async def test_an_answer_of_the_last_minute_is_given_again_at_its_own_price(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    first = (await client.post("/v1/query", json={"limit": 5})).json()
    again = (await client.post("/v1/query", json={"limit": 5, "offset": 0, "count": "exact"})).json()
    assert len(everything.warehouse.fetched) == 1
    assert again["data"] == first["data"]
    assert (first["metadata"]["cached"], again["metadata"]["cached"]) == (False, True)
    assert again["metadata"]["query_id"] != first["metadata"]["query_id"]
    assert again["metadata"]["as_of"] == first["metadata"]["as_of"]
    assert [amount for _, amount, _, _ in everything.credits.reserved] == [3500, 2000]  # the second one's is known


async def test_what_was_answered_at_once_goes_to_redis_together_for_the_other_gateways(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    for limit in (5, 6):
        await client.post("/v1/query", json={"limit": limit})
    assert everything.redis.kept == {}
    await eventually(lambda: len(everything.redis.kept) == 2)


async def test_another_version_or_another_view_of_the_data_is_another_answer(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/query", json={"limit": 5})
    everything.versions.version = 2
    await client.post("/v1/query", json={"limit": 5})
    assert len(everything.warehouse.fetched) == 2
    everything.declare(PRICE, columns={"a": {"type": "integer", "pii": True}})
    await client.post("/v1/query", json={"limit": 5})
    assert len(everything.warehouse.fetched) == 3
    everything.caller = replace(everything.caller, scopes=frozenset({"query", "pii"}))
    await client.post("/v1/query", json={"limit": 5})
    assert len(everything.warehouse.fetched) == 3  # it sees what was to be seen before: the second answer
    everything.caller = replace(everything.caller, scopes=frozenset({"query"}))


async def test_a_failure_is_not_kept_and_without_redis_all_is_well(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    page, everything.warehouse.result = everything.warehouse.result, QueryTimeout()
    assert (await client.post("/v1/query", json={})).status_code == 504
    everything.warehouse.result = page
    everything.redis.down = True
    for _ in range(2):
        assert (await client.post("/v1/query", json={})).status_code == 200
    assert len(everything.warehouse.fetched) == 3
    assert everything.redis.kept == {}


async def test_equal_queries_at_once_are_asked_once(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.redis.down = True
    begun, go = asyncio.Event(), asyncio.Event()
    fetch = everything.warehouse.fetch

    async def slow(plan: QueryPlan, _query_id: UUID) -> Page:
        begun.set()
        await go.wait()
        return await fetch(plan, _query_id)

    everything.warehouse.fetch = slow  # type: ignore[method-assign]
    asking = [asyncio.create_task(client.post("/v1/query", json={})) for _ in range(5)]
    await begun.wait()
    await eventually(lambda: len(everything.credits.reserved) == 5)
    go.set()
    assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
    assert len(everything.warehouse.fetched) == 1
    assert len(everything.spool.records) == 5


async def test_scans_of_one_user_wait_for_each_other_and_not_for_ever(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    everything.warehouse.stuck = True
    asking = [asyncio.create_task(client.post("/v1/query", json={"limit": n})) for n in (1, 2)]
    await eventually(lambda: len(everything.warehouse.fetched) == 2)
    refused = await client.post("/v1/query", json={"limit": 3})
    assert (refused.status_code, refused.json()["details"]) == (429, {"scans_at_once": 2})
    everything.caller = replace(everything.caller, user_id=UUID(int=8))
    third = asyncio.create_task(client.post("/v1/query", json={"limit": 4}))
    await eventually(lambda: len(everything.warehouse.fetched) == 3)
    for task in (*asking, third):
        task.cancel()
    await asyncio.wait([*asking, third])
