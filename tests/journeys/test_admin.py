"""The admin side: users and credits, the log and the figures, and who may see what."""

import asyncio
import re
from typing import Any
from uuid import UUID

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until


def _name() -> str:
    return f"admin-{new_id().hex[-12:]}"


async def _statement(user: httpx.AsyncClient) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await user.get("/v1/credits/statement")).json()
    return entries


async def test_a_new_user_has_a_key_that_works_and_the_credits_granted(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        name = _name()
        created = await create_user(admin, name, credits=12.5)
        assert created["user"]["credits"] == 12.5
        taken = await admin.post("/v1/admin/create-user", json={"username": name.upper()})
        assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    async with open_client(stack, created["api_key"], answered) as user:
        me = (await user.get("/v1/me")).json()
        assert (me["id"], me["username"], me["role"], me["scopes"]) == (
            created["user"]["id"], name, "user", ["query", "read"],
        )  # fmt: skip
        assert (await user.get("/v1/credits")).json() == {"balance": 12.5, "held": 0, "available": 12.5}


async def test_of_two_who_create_the_same_user_at_once_one_gets_a_key(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        body = {"username": _name(), "credits": 3}
        answers = await asyncio.gather(*(admin.post("/v1/admin/create-user", json=body) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
        [made] = [answer.json() for answer in answers if answer.status_code == 200]
    async with open_client(stack, made["api_key"], answered) as user:
        assert (await user.get("/v1/credits")).json()["balance"] == 3
        assert len(await _statement(user)) == 1


async def test_a_grant_with_a_key_is_posted_once(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        created = await create_user(admin, _name(), credits=1)
        grant = {"user_id": created["user"]["id"], "credits": 0.001, "reason": "thanks"}
        headers = {"Idempotency-Key": new_id().hex}
        answers = [await admin.post("/v1/admin/add-credits", json=grant, headers=headers) for _ in range(2)]
        assert [answer.json()["balance"] for answer in answers] == [1.001, 1.001]
        other = await admin.post("/v1/admin/add-credits", json=grant | {"credits": 5}, headers=headers)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
        again = await admin.post("/v1/admin/add-credits", json=grant)
        assert again.json()["balance"] == 1.002
    async with open_client(stack, created["api_key"], answered) as user:
        assert [entry["amount"] for entry in await _statement(user)] == [0.001, 0.001, 1]


@pytest.mark.parametrize("credits", [0, -1, 0.0001, 1e15, "5", True, None])
async def test_a_grant_that_is_no_amount_changes_nothing(stack: Stack, answered: Answered, *, credits: Any) -> None:  # noqa: A002 - the field's name
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        created = await create_user(admin, _name(), credits=1)
        grant = {"user_id": created["user"]["id"], "credits": credits}
        assert (await admin.post("/v1/admin/add-credits", json=grant)).status_code == 422
    async with open_client(stack, created["api_key"], answered) as user:
        assert len(await _statement(user)) == 1


async def test_nobody_gets_credits_who_does_not_exist(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        answer = await admin.post("/v1/admin/add-credits", json={"user_id": str(UUID(int=1)), "credits": 1})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("sort", ["created_at DESC", "username", "credits DESC", "last_used_at ASC"])
async def test_pages_of_users_show_everybody_once(stack: Stack, answered: Answered, sort: str) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        tag = _name()
        names = [f"{tag}-{n}" for n in range(5)]
        for n, name in enumerate(names):
            await create_user(admin, name, credits=n % 2)
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await admin.get("/v1/admin/users", params={"search": tag, "sort": sort, "limit": 2, **cursor})
            assert page.status_code == 200, page.text
            seen += [user["username"] for user in page.json()]
            if "x-next-cursor" not in page.headers:
                break
            cursor = {"cursor": page.headers["x-next-cursor"]}
        assert sorted(seen) == names


async def test_every_admin_action_is_in_the_log_with_actor_and_target(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        created = await create_user(admin, _name())
        wanted: dict[str, str | int] = {"action": "create-user", "limit": 1000}

        async def logged() -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = (await admin.get("/v1/admin/logs", params=wanted)).json()
            return [row for row in rows if row["target"] == created["user"]["id"]]

        [row] = await until("the action in the log", logged)
        assert (row["username"], row["endpoint"], row["status"]) == ("admin", "/v1/admin/create-user", 200)


async def test_the_figures_count_what_happened(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        before = (await admin.get("/v1/admin/stats")).json()
        created = await create_user(admin, _name())
        async with open_client(stack, created["api_key"], answered) as user:
            for _ in range(3):
                await user.get("/v1/me")
            await user.get("/v1/nowhere")

        async def counted() -> bool:
            shown = (await admin.get(f"/v1/admin/user/{created['user']['id']}")).json()
            return bool(shown["today_requests"] == 3)  # without a route nobody asked for a key

        await until("the requests to be counted", counted)
        after = (await admin.get("/v1/admin/stats")).json()
        assert after["total_users"] == before["total_users"] + 1
        assert after["today_requests"] >= before["today_requests"] + 5
        assert len(after["daily_usage"]) == 30
        assert after["daily_usage"][-1]["new_users"] == after["new_users_today"]


async def test_a_user_reaches_nothing_on_the_admin_side(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.user_key, answered) as user, open_client(stack, None, answered) as nobody:
        document = (await user.get("/openapi.json")).json()
        routes = [
            (method, re.sub(r"\{\w+\}", str(UUID(int=1)), path))
            for path, operations in document["paths"].items()
            if path.startswith("/v1/admin/")
            for method in operations
        ]
        assert len(routes) >= 7
        for method, path in routes:
            assert (await user.request(method, path)).status_code == 403, path
            assert (await nobody.request(method, path)).status_code == 401, path


async def test_a_viewer_reads_the_admin_side_and_changes_nothing(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        created = await create_user(admin, _name(), role="viewer")
    async with open_client(stack, created["api_key"], answered) as viewer:
        for path in ("/v1/admin/users", "/v1/admin/logs", "/v1/admin/stats"):
            assert (await viewer.get(path)).status_code == 200
        refused = await viewer.post("/v1/admin/create-user", json={"username": _name()})
        assert refused.status_code == 403


async def test_an_admin_cannot_make_a_super_admin(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as first:
        created = await create_user(first, _name(), role="admin")
        assert (await first.get("/v1/health")).json()["status"] == "ok"
    async with open_client(stack, created["api_key"], answered) as admin:
        refused = await admin.post("/v1/admin/create-user", json={"username": _name(), "role": "super_admin"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
