"""Admins look through what was loaded."""

from typing import Any

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.uploads import ended


async def _loaded(stack: Stack, admin: httpx.AsyncClient, tag: str, rows: int) -> dict[str, Any]:
    lines = [f"{tag}-{number}@example.com,{tag.upper()} {number}" for number in range(rows)]
    file = "\n".join(["email,city", *lines, ""]).encode()
    sent = await admin.post("/v1/uploads", params={"dataset": "people", "filename": f"{tag}.csv"}, content=file)
    assert sent.status_code == 202, sent.text
    upload: dict[str, Any] = sent.json()
    await ended(stack, upload["upload_id"])
    return upload


async def test_rows_are_found_by_a_text_in_them_and_counted(stack: Stack, admin: httpx.AsyncClient) -> None:
    tag = f"browse{new_id().hex[-12:]}"
    upload = await _loaded(stack, admin, tag, rows=5)
    asked = {"dataset": "people", "search": tag.upper()}
    rows = (await admin.get("/v1/admin/records", params=asked)).json()
    assert sorted(row["email"] for row in rows) == [f"{tag}-{number}@example.com" for number in range(5)]
    assert {row["upload_id"] for row in rows} == {upload["upload_id"]}
    assert (await admin.get("/v1/admin/records/count", params=asked)).json() == {"total": 5}
    pages = [
        (await admin.get("/v1/admin/records", params=asked | {"limit": 2, "offset": offset})).json()
        for offset in (0, 2, 4)
    ]
    assert [row for page in pages for row in page] == rows


async def test_without_the_scope_for_them_personal_columns_are_neither_shown_nor_searched(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    tag = f"private{new_id().hex[-12:]}"
    await _loaded(stack, admin, tag, rows=1)
    created = await create_user(admin, f"viewer-{new_id().hex[-12:]}", role="viewer")
    async with open_client(stack, created["api_key"], answered) as viewer:
        [row] = (await viewer.get("/v1/admin/records", params={"search": f"{tag} 0"})).json()
        assert "email" not in row
        found = await viewer.get("/v1/admin/records/count", params={"search": f"{tag}-0@"})
        assert found.json() == {"total": 0}


@pytest.mark.parametrize("search", ["' OR 1=1 --", "%", "_", "\\", "{search:String}", "`email`"])
async def test_what_is_looked_for_is_never_sql(admin: httpx.AsyncClient, search: str) -> None:
    asked = {"search": f"{search}{new_id().hex}"}
    assert (await admin.get("/v1/admin/records/count", params=asked)).json() == {"total": 0}


@pytest.mark.parametrize(
    "asked", [{"dataset": "nothing"}, {"limit": 0}, {"limit": 1001}, {"offset": -1}, {"offset": 100_001}]
)
async def test_what_cannot_be_browsed_is_refused(admin: httpx.AsyncClient, asked: dict[str, Any]) -> None:
    answer = await admin.get("/v1/admin/records", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_everybodys_uploads_are_listed_and_narrowed(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    me = (await admin.get("/v1/me")).json()["id"]
    made = [await _loaded(stack, admin, f"listed{new_id().hex[-12:]}", rows=1) for _ in range(3)]
    newest_first = [upload["upload_id"] for upload in reversed(made)]
    asked: dict[str, Any] = {"dataset": "people", "state": "completed", "user_id": me, "limit": 2}
    page = await admin.get("/v1/admin/uploads", params=asked)
    assert [one["upload_id"] for one in page.json()] == newest_first[:2]
    assert {one["user_id"] for one in page.json()} == {me}
    asked["cursor"] = page.headers["x-next-cursor"]
    assert (await admin.get("/v1/admin/uploads", params=asked)).json()[0]["upload_id"] == newest_first[2]
    assert (await admin.get("/v1/admin/uploads", params=asked | {"state": "no such"})).json() == []
    async with open_client(stack, stack.user_key, answered) as user:
        assert (await user.get("/v1/admin/uploads")).status_code == 403


async def test_the_statistics_have_every_day_of_the_last_thirty(admin: httpx.AsyncClient) -> None:
    figures = (await admin.get("/v1/admin/stats")).json()
    days = [day["date"] for day in figures["daily_usage"]]
    assert days == sorted(set(days))
    assert len(days) == 30
    assert figures["today_requests"] == figures["daily_usage"][-1]["requests"]
    assert figures["p50_ms"] <= figures["p95_ms"]
    assert figures["records_total"] >= 0
