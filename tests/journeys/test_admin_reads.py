"""What admins and viewers look up: a statement, the books, what was loaded by day, what waits in Kafka."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio

from common import topics
from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until


@pytest_asyncio.fixture
async def viewer(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    created = await create_user(admin, f"viewer-{new_id().hex[-12:]}", role="viewer", plan="unlimited")
    async with open_client(stack, created["api_key"], answered) as client:
        yield client


async def test_a_users_statement_is_what_the_user_sees(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, payer: httpx.AsyncClient
) -> None:
    user_id = (await payer.get("/v1/me")).json()["id"]
    await admin.post("/v1/admin/add-credits", json={"user_id": user_id, "credits": 2, "reason": "a gift"})
    own = (await payer.get("/v1/credits/statement")).json()
    assert [entry["reason"] for entry in own][:1] == ["a gift"]
    assert (await viewer.get(f"/v1/admin/user/{user_id}/statement")).json() == own
    first = await viewer.get(f"/v1/admin/user/{user_id}/statement", params={"limit": 1})
    following = await viewer.get(
        f"/v1/admin/user/{user_id}/statement", params={"limit": 1, "cursor": first.headers["X-Next-Cursor"]}
    )
    assert first.json() + following.json() == own[:2]
    assert (await viewer.get(f"/v1/admin/user/{new_id()}/statement")).status_code == 404


async def test_the_statement_of_all_accounts_says_whose_and_by_whom(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, payer: httpx.AsyncClient
) -> None:
    user = (await payer.get("/v1/me")).json()
    by = (await admin.get("/v1/me")).json()["username"]
    await admin.post("/v1/admin/add-credits", json={"user_id": user["id"], "credits": 2, "reason": "a gift"})
    await admin.post(f"/v1/admin/user/{user['id']}/update-credits", json={"credits": 7, "reason": "corrected"})

    async def ledger(**wanted: Any) -> list[dict[str, Any]]:
        found = await viewer.get("/v1/admin/statement", params={"limit": 1000, **wanted})
        assert found.status_code == 200, found.text
        entries: list[dict[str, Any]] = found.json()
        return entries

    own = (await payer.get("/v1/credits/statement")).json()
    of_user = await ledger(user_id=user["id"])
    assert [{name: one[name] for name in own[0]} for one in of_user] == own
    assert {(one["user_id"], one["username"]) for one in of_user} == {(user["id"], user["username"])}
    assert [(one["kind"], one["reason"], one["actor"]) for one in of_user[:2]] == [
        ("adjustment", "corrected", by),
        ("grant", "a gift", by),
    ]
    # Among everybody's, by kind and by time.
    granted = of_user[1]
    assert granted in await ledger(kind="grant", **{"from": granted["created_at"], "to": granted["created_at"]})
    assert granted not in await ledger(kind="adjustment")
    assert not await ledger(user_id=new_id())
    first = await viewer.get("/v1/admin/statement", params={"user_id": user["id"], "limit": 1})
    following = {"user_id": user["id"], "limit": 1, "cursor": first.headers["X-Next-Cursor"]}
    assert (await viewer.get("/v1/admin/statement", params=following)).json() == of_user[1:2]
    assert (await payer.get("/v1/admin/statement")).status_code == 403
    for wrong in ({"kind": "gift"}, {"from": "0001-01-01T00:00:00+12:00"}, {"to": "yesterday"}):
        assert (await viewer.get("/v1/admin/statement", params=wrong)).status_code == 422, wrong


async def test_the_books_are_held_against_each_other_on_demand(viewer: httpx.AsyncClient) -> None:
    figures = (await viewer.get("/v1/admin/reconcile")).json()
    assert "accounts_unlike_entries" in figures
    assert figures["accounts_unlike_entries"] == 0


async def test_rows_loaded_by_day_include_those_of_today(admin: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    async def today() -> int:
        days = (await viewer.get("/v1/admin/datasets/people/loads", params={"days": 2})).json()
        assert len(days) == 2
        every = (await viewer.get("/v1/admin/datasets", params={"days": 2})).json()
        assert next(one["rows"] for one in every if one["name"] == "people") >= 0
        assert [len(one["loads"]) for one in every] == [2] * len(every)
        assert days[-1]["date"] >= started
        return int(days[-1]["rows"]) + int(days[0]["rows"])  # midnight may pass meanwhile

    started = datetime.now(UTC).date().isoformat()
    before = await today()
    rows = "".join(f"{new_id().hex}@example.com,1\n" for _ in range(3))
    sent = await admin.post("/v1/uploads", params={"dataset": "people"}, content=f"email,age\n{rows}")
    assert sent.status_code == 202, sent.text

    async def counted() -> bool:
        return await today() >= before + 3

    await until("the rows to be counted", counted, deadline_s=60)
    of_people = await today()
    everything = (await viewer.get("/v1/admin/loads", params={"days": 2})).json()
    assert sum(day["rows"] for day in everything) >= of_people
    assert (await viewer.get("/v1/admin/datasets/nope/loads")).status_code == 404


async def test_what_waits_in_kafka_is_told_by_topic_and_group(viewer: httpx.AsyncClient) -> None:
    async def handled() -> bool:
        answer = await viewer.get("/v1/admin/topics")
        assert answer.status_code == 200, answer.text
        states = {state["topic"]: state for state in answer.json()}
        assert set(states) == {topic.name for topic in topics.ALL}
        assert {name for name, state in states.items() if state["dead_letters"]} == {t.name for t in topics.DEAD}
        requests = states[topics.AUDIT_REQUESTS.name]
        groups: dict[str, int] = {group["group"]: group["lag"] for group in requests["groups"]}
        # It is asked over HTTP, and so is never quite done; but it does come near.
        return bool(requests["messages"]) and groups.get("audit-logger", 1_000_000) < 50

    await until("the log to have caught up", handled, deadline_s=60, every_s=0.3)


@pytest.mark.parametrize(
    "path", ["/reconcile", "/topics", "/loads", "/datasets/people/loads", f"/user/{new_id()}/statement"]
)
async def test_none_of_it_is_a_clients_business(payer: httpx.AsyncClient, path: str) -> None:
    refused = await payer.get(f"/v1/admin{path}")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
