"""Many requests at the same moment, on two gateways: a balance is never spent twice, a key never runs twice."""

import asyncio
from collections import Counter

import httpx

from support.accounts import Account, answered_in_the_end, never_asked, some_key
from support.proxied import Proxied


async def _at_once(account: Account, proxied: Proxied, each: int, key: dict[str, str]) -> list[httpx.Response]:
    """So many requests on each of two gateways, all on their way before the first answer is read."""
    async with account.client() as one, account.client(proxied.gateway) as other:
        asked = [
            client.post("/v1/query", json=never_asked(key), headers=key) for _ in range(each) for client in (one, other)
        ]
        return await asyncio.gather(*asked)


async def test_a_balance_of_10_buys_10_of_200_concurrent_queries(account: Account, proxied: Proxied) -> None:
    """6: on two gateways; the other 190 are refused, and nothing is owed."""
    answers = await _at_once(account, proxied, 100, {})
    assert Counter(answer.status_code for answer in answers) == {200: 10, 402: 190}
    refused = [answer.json() for answer in answers if answer.status_code == 402]
    assert {one["code"] for one in refused} == {"insufficient_credits"}
    assert all(one["details"]["available"] < one["details"]["needed"] == 1 for one in refused)
    await account.settled_at(0)
    assert await account.charges() == 10
    assert await account.holds() == ["captured"] * 10


async def test_50_concurrent_requests_with_one_key_run_one_query(account: Account, proxied: Proxied) -> None:
    """7: every query needs a hold of its own, and there was one; whoever is answered gets the same bytes."""
    key = some_key()
    answers = await _at_once(account, proxied, 25, key)
    assert {answer.status_code for answer in answers} <= {200, 409}
    bodies = {answer.content for answer in answers if answer.status_code == 200}
    assert len(bodies) == 1
    waiting = [answer for answer in answers if answer.status_code == 409]
    assert {answer.json()["code"] for answer in waiting} <= {"idempotency_in_progress"}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in waiting)
    await account.settled_at(9)
    assert (await account.holds(), await account.charges()) == (["captured"], 1)
    for gateway in ("gateway", proxied.gateway):
        async with account.client(gateway) as client:
            assert {(await answered_in_the_end(client, key)).content} == bodies
    assert await account.balance() == (9, 0)
