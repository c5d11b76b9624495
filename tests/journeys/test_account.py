"""What callers see of themselves."""

from typing import Any

import httpx

from support.polling import until


async def test_own_stats_are_by_day_and_by_endpoint(payer: httpx.AsyncClient) -> None:
    for _ in range(2):
        assert (await payer.post("/v1/query", json={"limit": 1})).status_code == 200
    assert (await payer.post("/v1/query", json={"limit": 0})).status_code == 422

    async def counted() -> dict[str, Any]:
        stats = (await payer.get("/v1/stats")).json()
        queries = [one for one in stats["endpoints"] if one["endpoint"] == "/v1/query"]
        return stats if queries and queries[0]["requests"] == 3 else {}

    stats = await until("the log to have counted", counted, deadline_s=30, every_s=0.2)
    queries = next(one for one in stats["endpoints"] if one["endpoint"] == "/v1/query")
    assert (queries["errors"], queries["credits_used"]) == (1, 2)
    assert (stats["credits_used"], stats["errors"]) == (2, 1)
    assert len(stats["daily_usage"]) == 30
    assert stats["today_requests"] == stats["daily_usage"][-1]["requests"]
    assert stats["total_requests"] == sum(day["requests"] for day in stats["daily_usage"]) >= 3
    assert [day["credits_used"] for day in (await payer.get("/v1/usage?days=2")).json()] == [0, 2]


async def test_the_statement_has_pages_and_the_last_has_no_cursor(payer: httpx.AsyncClient) -> None:
    for _ in range(2):
        await payer.post("/v1/query", json={"limit": 1})

    async def settled() -> bool:
        return len((await payer.get("/v1/credits/statement")).json()) == 3

    await until("the charges to be settled", settled, deadline_s=30)
    whole = (await payer.get("/v1/credits/statement")).json()
    pages, cursor = [], None
    while True:
        page = await payer.get("/v1/credits/statement", params={"limit": 1} | ({"cursor": cursor} if cursor else {}))
        pages += page.json()
        cursor = page.headers.get("x-next-cursor")
        if cursor is None:
            break
    assert pages == whole
    assert [entry["balance"] for entry in whole] == [8, 9, 10]


async def test_a_cursor_that_is_none_is_refused(payer: httpx.AsyncClient) -> None:
    for cursor in ("x", "WzEsMl0=", "W10=", "WyItMSJd", "WyI5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkiXQ==", "bnVsbA=="):
        answer = await payer.get("/v1/credits/statement", params={"cursor": cursor})
        assert answer.status_code in {200, 422}, cursor
        assert answer.status_code == 422 or answer.json() == []
