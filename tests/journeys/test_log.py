"""Every request is in the log exactly once, whatever was answered; admins find it, export it and watch it grow."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support.audit_log import open_log
from support.client import Answered, create_user, open_client
from support.log import entry_of
from support.polling import until

_OLD_ENTRY = """
    INSERT INTO audit.request_log
           (event_id, created_at, rows, credits_used_mc, duration_ms, status, method, endpoint)
    VALUES ($1, $2, 0, 0, 1, 200, 'GET', $3)
"""


@pytest_asyncio.fixture
async def nobody(stack: Stack, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(stack, None, answered) as client:
        yield client


async def _in_log(admin: httpx.AsyncClient, answer: httpx.Response) -> tuple[int, str | None, str, str | None]:
    entry = await entry_of(admin, answer)
    return entry["status"], entry["error_code"], entry["endpoint"], entry["username"]


async def test_refusals_are_in_the_log_with_their_code_and_who_it_was(
    admin: httpx.AsyncClient, nobody: httpx.AsyncClient, stack: Stack, answered: Answered
) -> None:
    name = f"refused-{new_id().hex[-12:]}"
    made = await create_user(admin, name, credits=0)
    assert await _in_log(admin, await nobody.get("/v1/me")) == (401, "missing_api_key", "/v1/me", None)
    wrong = await nobody.get("/v1/me", headers={"x-api-key": "bd_wrong"})
    assert await _in_log(admin, wrong) == (401, "invalid_api_key", "/v1/me", None)
    assert await _in_log(admin, await nobody.get(f"/v1/{name}")) == (404, "not_found", "unmatched", None)
    async with open_client(stack, made["api_key"], answered) as user:
        asked = {"dataset": "people", "limit": 1}
        for answer, status, code, endpoint in (
            (await user.post("/v1/query", json=asked), 402, "insufficient_credits", "/v1/query"),
            (await user.post("/v1/query", json={"limit": -1}), 422, "invalid_request", "/v1/query"),
            (await user.post("/v1/query", content=b"{"), 400, "malformed_json", "/v1/query"),
            (await user.get("/v1/admin/users"), 403, "forbidden", "/v1/admin/users"),
            (await user.get(f"/v1/queries/{new_id()}"), 404, "not_found", "/v1/queries/{query_id}"),
        ):
            assert await _in_log(admin, answer) == (status, code, endpoint, name)


async def test_a_request_too_many_is_in_the_log(admin: httpx.AsyncClient, stack: Stack, answered: Answered) -> None:
    made = await create_user(admin, f"hasty-{new_id().hex[-12:]}")
    async with open_client(stack, made["api_key"], answered) as user:
        key = (await user.post("/v1/keys", json={"name": "slow", "requests_per_minute": 1})).json()["api_key"]
        answers = [await user.get("/v1/me", headers={"x-api-key": key}) for _ in range(3)]
    refused = [one for one in answers if one.status_code == 429]
    assert (await _in_log(admin, refused[0]))[:2] == (429, "rate_limited")


async def test_an_admins_action_is_in_the_log_with_what_it_changed(admin: httpx.AsyncClient) -> None:
    made = await create_user(admin, f"richer-{new_id().hex[-12:]}", credits=1)
    grant = {"user_id": made["user"]["id"], "credits": 2.5, "reason": "thanks"}
    entry = await entry_of(admin, await admin.post("/v1/admin/add-credits", json=grant))
    assert (entry["action"], entry["target"], entry["username"]) == ("add-credits", made["user"]["id"], "admin")
    assert entry["details"] == {"credits": 2.5, "balance": {"old": 1, "new": 3.5}, "reason": "thanks"}


async def test_what_is_done_to_a_user_is_in_the_log_old_and_new(admin: httpx.AsyncClient) -> None:
    made = await create_user(admin, f"changed-{new_id().hex[-12:]}", credits=1)
    about = f"/v1/admin/user/{made['user']['id']}"
    for path, body, action, details in (
        ("change-role", {"role": "viewer"}, "change-role", {"role": {"old": "user", "new": "viewer"}}),
        ("status", {"status": "disabled"}, "change-status", {"status": {"old": "active", "new": "disabled"}}),
        ("status", {"status": "active"}, "change-status", {"status": {"old": "disabled", "new": "active"}}),
        ("disable", {}, "disable", {"status": {"old": "active", "new": "disabled"}}),
        ("update-credits", {"credits": 7, "reason": "why"}, "update-credits",
         {"balance": {"old": 1, "new": 7}, "reason": "why"}),
        ("regenerate-key", {}, "regenerate-key", {"grace_seconds": 0}),
    ):  # fmt: skip
        entry = await entry_of(admin, await admin.post(f"{about}/{path}", json=body))
        assert (entry["status"], entry["action"], entry["target"]) == (200, action, made["user"]["id"])
        assert entry["details"] == details
    entry = await entry_of(admin, await admin.delete(about))
    assert (entry["action"], entry["target"], entry["username"]) == ("delete-user", made["user"]["id"], "admin")


async def test_an_upload_is_in_the_log_with_its_id(admin: httpx.AsyncClient) -> None:
    file = f"email\n{new_id().hex}@example.com\n".encode()
    sent = await admin.post("/v1/uploads", params={"dataset": "people", "filename": "log.csv"}, content=file)
    entry = await entry_of(admin, sent)
    assert (entry["action"], entry["target"], entry["dataset"]) == ("upload", sent.json()["upload_id"], "people")


@pytest.mark.parametrize("status", ["404", "4xx"])
async def test_filters_narrow_the_log(admin: httpx.AsyncClient, stack: Stack, answered: Answered, status: str) -> None:
    name = f"Filtered-{new_id().hex[-12:]}"
    made = await create_user(admin, name, credits=0)
    async with open_client(stack, made["api_key"], answered) as user:
        found = [await user.get("/v1/me"), await user.get(f"/v1/queries/{new_id()}")]
    await entry_of(admin, found[0])
    wanted = await entry_of(admin, found[1])
    for more in (
        {"username": name.lower()},
        {"endpoint": "/v1/queries/{query_id}", "method": "get"},
        {"error_code": "not_found", "ip": wanted["ip"]},
        {"from": wanted["created_at"], "to": wanted["created_at"]},
        {"slower_than_ms": wanted["duration_ms"] - 0.001},
    ):
        asked = {"user_id": made["user"]["id"], "status": status, **more}
        assert (await admin.get("/v1/admin/logs", params=asked)).json() == [wanted], more
        assert wanted not in (await admin.get("/v1/admin/logs", params=asked | {"status": "2xx"})).json()
    assert (await admin.get(f"/v1/admin/logs/{wanted['request_id']}")).json() == wanted
    assert (await admin.get(f"/v1/admin/user/{made['user']['id']}/logs", params={"limit": 1})).json() == [wanted]


@pytest.mark.parametrize(
    "query",
    [{"status": "600"}, {"status": "4x"}, {"from": "2026-01-01T00:00:00"}, {"limit": 0}, {"limit": 1001},
     {"cursor": "bm9uZQ=="}, {"cursor": "WyIxIiwgIjIiXQ=="}, {"trace_id": "x"}, {"slower_than_ms": "nan"},
     {"format": "xml"}, {"endpoint": "a\x00b"}],
)  # fmt: skip
async def test_what_is_no_filter_is_refused(admin: httpx.AsyncClient, query: dict[str, Any]) -> None:
    answer = await admin.get("/v1/admin/logs", params=query)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert next(iter(query)) in answer.json()["details"][0]["path"]


async def test_an_entry_that_is_not_there_is_not_found(admin: httpx.AsyncClient) -> None:
    for unknown in (new_id(), UUID(int=1)):
        assert (await admin.get(f"/v1/admin/logs/{unknown}")).status_code == 404


async def _all_pages(admin: httpx.AsyncClient, asked: dict[str, Any]) -> list[str]:
    """Request ids, as the cursors lead; the last cursor is left in `asked`."""
    seen: list[str] = []
    while True:
        page = await admin.get("/v1/admin/logs", params=asked)
        seen += [row["request_id"] for row in page.json()]
        if "x-next-cursor" not in page.headers:
            return seen
        asked["cursor"] = page.headers["x-next-cursor"]


async def test_pages_show_every_entry_once(admin: httpx.AsyncClient, stack: Stack, answered: Answered) -> None:
    made = await create_user(admin, f"paged-{new_id().hex[-12:]}")
    async with open_client(stack, made["api_key"], answered) as user:
        answers = [await user.get("/v1/me") for _ in range(5)]
    for answer in answers:
        await entry_of(admin, answer)
    asked: dict[str, Any] = {"user_id": made["user"]["id"], "limit": 2}
    seen = await _all_pages(admin, asked)
    assert seen == [answer.headers["x-request-id"] for answer in reversed(answers)]
    of_another_list = await admin.get("/v1/admin/users", params={"cursor": asked["cursor"]})
    assert of_another_list.json()["details"][0]["path"] == "query.cursor"


async def test_pages_go_back_to_entries_of_any_age(admin: httpx.AsyncClient, stack: Stack) -> None:
    route, ids = f"/v1/long-ago/{new_id()}", [new_id() for _ in range(5)]
    async with open_log(stack) as log:
        for days, event_id in zip((0, 1, 10, 40, 100), ids, strict=True):
            at = datetime.now(UTC) - timedelta(days=days)
            await log.execute("SELECT audit.ensure_day($1)", at.date())
            await log.execute(_OLD_ENTRY, event_id, at, route)
    asked: dict[str, Any] = {"endpoint": route, "limit": 1}
    seen = await _all_pages(admin, asked)
    assert seen == [str(event_id) for event_id in ids]
    long_ago = {"endpoint": route, "to": (datetime.now(UTC) - timedelta(days=20)).isoformat()}
    assert [row["request_id"] for row in (await admin.get("/v1/admin/logs", params=long_ago)).json()] == seen[3:]
    assert (await admin.get("/v1/admin/logs", params={"to": "0001-01-01T00:00:00Z"})).json() == []


async def test_in_csv_no_cell_is_a_formula(admin: httpx.AsyncClient, stack: Stack) -> None:
    """The log's texts come from clients: here from an event that says so itself."""
    entry = await entry_of(admin, await admin.get("/v1/me"))
    asked = {"request_id": entry["request_id"], "format": "csv"}
    answer = await admin.get("/v1/admin/logs", params=asked)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert (row["request_id"], row["status"], row["endpoint"]) == (entry["request_id"], "200", "/v1/me")
    formula = "=HYPERLINK(1)"
    owner = await asyncpg.connect(str(stack.status().postgres))
    try:
        forged = new_id()
        await owner.execute(
            "INSERT INTO audit.request_log (event_id, created_at, rows, credits_used_mc, duration_ms, status, method,"
            " endpoint, target) VALUES ($1, now(), 0, 0, 1, 200, 'GET', 'forged', $2)",
            forged,
            formula,
        )
    finally:
        await owner.close()
    asked["request_id"] = str(forged)
    [row] = csv.DictReader(io.StringIO((await admin.get("/v1/admin/logs", params=asked)).text))
    assert row["target"] == f"'{formula}"


async def test_the_live_log_shows_requests_as_they_come_and_goes_on_where_it_was(admin: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60), admin.stream("GET", "/v1/admin/logs/tail", params={"endpoint": "/v1/me"}) as live:
        assert live.headers["content-type"].startswith("text/event-stream")
        first = (await admin.get("/v1/me")).headers["x-request-id"]
        shown = await _shown(live, first)
    assert (shown["endpoint"], shown["status"]) == ("/v1/me", 200)
    missed = (await admin.get("/v1/me")).headers["x-request-id"]
    async with (
        asyncio.timeout(60),
        admin.stream("GET", "/v1/admin/logs/tail", headers={"Last-Event-ID": first}) as live,
    ):
        assert (await _shown(live, missed))["request_id"] == missed


async def _shown(live: httpx.Response, request_id: str) -> dict[str, Any]:
    async for line in live.aiter_lines():
        if line.startswith("data: "):
            entry: dict[str, Any] = json.loads(line.removeprefix("data: "))
            if entry["request_id"] == request_id:
                return entry
    raise AssertionError("the live log ended")


async def test_a_user_cannot_follow_the_log(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.user_key, answered) as user:
        assert (await user.get("/v1/admin/logs/tail")).status_code == 403


async def test_a_live_log_is_in_the_log_as_answered(admin: httpx.AsyncClient) -> None:
    async with admin.stream("GET", "/v1/admin/logs/tail") as live:
        request_id = live.headers["x-request-id"]

    async def logged() -> Any:
        return (await admin.get("/v1/admin/logs", params={"request_id": request_id})).json()

    [entry] = await until("the entry of the live log itself", logged, deadline_s=40)
    assert entry["status"] == 200  # whoever follows leaves in the end: that is no fault of anybody's
