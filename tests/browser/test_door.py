"""Who gets into the console, how long they stay, and what a session may do; without a browser."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.stack import further_copy, without

CREATE = "/console/api/v1/admin/create-user"


@asynccontextmanager
async def nobody(stack: Stack, answered: Answered, gateway: str = "gateway") -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(stack, None, answered, gateway=gateway) as client:
        yield client


async def sign_in(client: httpx.AsyncClient, key: str, wanted: str = "/console") -> httpx.Response:
    return await client.post("/console/sign-in", data={"key": key, "next": wanted})


async def csrf(client: httpx.AsyncClient) -> str:
    page = await client.get("/console/query")
    found = re.search(r'name="csrf" content="([0-9a-f]{64})"', page.text)
    assert found is not None, page.text
    return found[1]


async def test_a_page_without_a_session_leads_to_the_sign_in_and_back(
    stack: Stack, answered: Answered, admin_key: str
) -> None:
    async with nobody(stack, answered) as client:
        sent = await client.get("/console/users?role=admin")
        assert sent.status_code == 303
        assert sent.headers["location"] == "/console/sign-in?next=%2Fconsole%2Fusers%3Frole%3Dadmin"
        assert (await client.get(sent.headers["location"])).status_code == 200
        entered = await sign_in(client, admin_key, "/console/users?role=admin")
        assert (entered.status_code, entered.headers["location"]) == (303, "/console/users?role=admin")
        assert (await client.get("/console/users?role=admin")).status_code == 200


async def test_the_session_is_a_cookie_that_no_script_and_no_other_site_can_use(
    stack: Stack, answered: Answered, admin_key: str
) -> None:
    async with nobody(stack, answered) as client:
        cookie = (await sign_in(client, admin_key)).headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/console"} <= set(cookie.split("; "))
        assert admin_key not in cookie
        page = await client.get("/console")
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'")
        assert page.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*(src=|application/json))|\son\w+=|\sstyle=", page.text)


async def test_who_cannot_come_in_is_told_why(stack: Stack, answered: Answered, admin: httpx.AsyncClient) -> None:
    client_key = (await create_user(admin, f"client-{new_id().hex[-12:]}"))["api_key"]
    async with nobody(stack, answered) as client:
        for key, status, told in [
            ("bd_wrong", 401, "not valid"),
            ("", 401, "not valid"),
            ("ключ", 401, "not valid"),
            (client_key, 403, "for admins and viewers"),
            ("x" * 20_000, 401, "not a key"),
        ]:
            refused = await sign_in(client, key)
            assert (refused.status_code, told in refused.text) == (status, True), refused.text
            assert "set-cookie" not in refused.headers
        foreign = await client.post("/console/sign-in", data={"key": "x"}, headers={"sec-fetch-site": "cross-site"})
        assert foreign.status_code == 403
        assert (await client.post("/console/sign-in", content=b"\xff")).status_code == 422


@pytest.mark.parametrize("wanted", ["https://elsewhere.example/", "//elsewhere.example", "/v1/me", "/console/../x"])
async def test_signing_in_leads_to_no_other_site(stack: Stack, answered: Answered, admin_key: str, wanted: str) -> None:
    async with nobody(stack, answered) as client:
        assert (await sign_in(client, admin_key, wanted)).headers["location"] == "/console"


async def test_a_change_needs_the_token_of_the_page(stack: Stack, answered: Answered, admin_key: str) -> None:
    async with nobody(stack, answered) as client:
        assert (await client.post(CREATE, json={})).status_code == 401
        await sign_in(client, admin_key)
        body = {"username": f"made-{new_id().hex[-12:]}", "credits": 1}
        for wrong in (b"", b"0" * 64, "é".encode()):
            refused = await client.post(CREATE, json=body, headers={b"x-csrf-token": wrong})
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        made = await client.post(CREATE, json=body, headers={"x-csrf-token": await csrf(client)})
        assert made.status_code == 200, made.text
        assert (await client.get("/console/api/docs")).status_code == 404
        assert (await client.get("/v1/me")).status_code == 401  # the cookie is no key


async def test_a_viewer_looks_at_everything_and_changes_nothing(
    stack: Stack, answered: Answered, viewer_key: str, admin: httpx.AsyncClient
) -> None:
    target = (await create_user(admin, f"target-{new_id().hex[-12:]}"))["user"]["id"]
    async with nobody(stack, answered) as client:
        await sign_in(client, viewer_key)
        headers = {"x-csrf-token": await csrf(client)}
        for path in ("", "/users", f"/users/{target}", "/logs", "/uploads", "/datasets", "/credits", "/health"):
            page = await client.get(f"/console{path}")
            assert page.status_code == 200, path
            assert not re.search(r"data-api=|data-drop|data-opens=", page.text), path
        for path, body in (
            ("/admin/create-user", {"username": "nobody"}),
            ("/admin/add-credits", {"user_id": target, "credits": 1}),
            ("/uploads?dataset=people", {}),
            ("/query", {}),
        ):
            refused = await client.post(f"/console/api/v1{path}", json=body, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path


async def test_a_session_ends_by_signing_out_by_idleness_and_by_age(
    stack: Stack, answered: Answered, admin: httpx.AsyncClient
) -> None:
    created = await create_user(admin, f"viewer-{new_id().hex[-12:]}", role="viewer", credits=0)
    postgres = await asyncpg.connect(str(stack.status().postgres))
    try:
        async with nobody(stack, answered) as client:
            await sign_in(client, created["api_key"])
            cookie = dict(client.cookies)
            refused = await client.post("/console/sign-out", data={"csrf": "0"})
            assert refused.status_code == 403
            out = await client.post("/console/sign-out", data={"csrf": await csrf(client)})
            assert (out.status_code, out.headers["location"]) == (303, "/console/sign-in")
            client.cookies.update(cookie)  # as one who kept a copy
            assert (await client.get("/console")).status_code == 303
            client.cookies.clear()
            ended = "UPDATE gateway.console_sessions s SET {} = now() - interval '1 day' FROM gateway.api_keys k "
            whose = "WHERE k.id = s.key_id AND k.user_id = $1"
            for column in ("seen_at", "created_at"):
                await sign_in(client, created["api_key"])
                assert (await client.get("/console")).status_code == 200
                await postgres.execute(ended.format(column) + whose, created["user"]["id"])
                assert (await client.get("/console")).status_code == 303
                assert (await client.get("/console/api/v1/me")).status_code == 401
            # What has ended is swept at the next sign-in, whoever's.
            await sign_in(client, created["api_key"])
            left = "SELECT count(*) FROM gateway.console_sessions s JOIN gateway.api_keys k ON k.id = s.key_id "
            assert await postgres.fetchval(left + "WHERE k.user_id = $1", created["user"]["id"]) == 1
    finally:
        await postgres.close()


async def test_a_session_ends_with_its_user(stack: Stack, answered: Answered, admin: httpx.AsyncClient) -> None:
    created = await create_user(admin, f"viewer-{new_id().hex[-12:]}", role="viewer", credits=0)
    async with nobody(stack, answered) as client:
        await sign_in(client, created["api_key"])
        assert (await client.get("/console")).status_code == 200
        disabled = await admin.post(f"/v1/admin/user/{created['user']['id']}/disable")
        assert disabled.status_code == 200, disabled.text
        ended = await client.get("/console/users")
        assert (ended.status_code, ended.headers["location"]) == (303, "/console/sign-in?ended=1")
        assert 'bigdata_console=""' in ended.headers["set-cookie"]
        assert "has ended" in (await client.get(ended.headers["location"])).text


@pytest.mark.long
async def test_losing_redis_signs_nobody_out(stack: Stack, answered: Answered, admin_key: str) -> None:
    async with nobody(stack, answered) as client:
        await sign_in(client, admin_key)
        async with without(stack, "redis"):
            assert (await client.get("/console/users")).status_code == 200
        assert (await client.get("/console/users")).status_code == 200


async def test_what_is_not_there_is_a_page_that_says_so(stack: Stack, answered: Answered, admin_key: str) -> None:
    async with nobody(stack, answered) as client:
        await sign_in(client, admin_key)
        for path in ("/nothing", f"/users/{new_id()}", f"/uploads/{new_id()}", f"/logs/{new_id()}", "/datasets/nope"):
            page = await client.get(f"/console{path}")
            assert page.status_code == 404, path
            assert "cannot be shown" in page.text
            assert "text/html" in page.headers["content-type"]
        assert (await client.get("/console/users/not-an-id")).status_code == 422
        assert (await client.get("/console/static/0/console.css")).status_code == 404


@pytest.mark.long
async def test_any_gateway_answers_a_session_that_another_opened(
    stack: Stack, answered: Answered, admin_key: str
) -> None:
    async with further_copy(stack, "gateway") as second, nobody(stack, answered) as here:
        await sign_in(here, admin_key)
        token = await csrf(here)
        async with nobody(stack, answered, gateway=second) as there:
            there.cookies.update(here.cookies)
            assert await csrf(there) == token
            assert (await there.get("/console/api/v1/me")).status_code == 200
