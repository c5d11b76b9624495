"""The console in a browser: one Chromium for the session, an admin's and a viewer's key, and something to look at."""

import sys
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from common.ids import new_id
from devstack.stack import Stack
from support.browser import CHROMIUM, WHY_SKIPPED, Seen, open_browser
from support.client import Answered, create_user, open_client
from support.polling import until


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        sys.stderr.write(f"\n!!! THE CONSOLE IS NOT TESTED IN A BROWSER: {WHY_SKIPPED}\n")
        pytest.skip(WHY_SKIPPED)
    async with open_browser() as opened:
        yield opened


@pytest.fixture
def admin_key(stack: Stack) -> str:
    return str(stack.status().admin_key)


@pytest_asyncio.fixture(scope="session")
async def viewer_key(admin: httpx.AsyncClient) -> str:
    created = await create_user(admin, f"viewer-{new_id().hex[-12:]}", role="viewer", credits=0, plan="unlimited")
    return str(created["api_key"])


@pytest_asyncio.fixture(scope="session")
async def seen(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[Seen]:
    created = await create_user(admin, f"looked-at-{new_id().hex[-12:]}", credits=5)
    async with open_client(stack, created["api_key"], answered) as user:
        request_id = (await user.post("/v1/query", json={"limit": 2})).headers["x-request-id"]
        await user.post("/v1/query", json={"limit": 0})
    rows = "\n".join(f"{new_id().hex}@example.com,{age},Ada" for age in ("30", "old", "41"))
    sent = await admin.post(
        "/v1/uploads", params={"dataset": "people", "filename": "people.csv"}, content=f"email,age,first_name\n{rows}\n"
    )
    upload_id = sent.json()["upload_id"]

    async def loaded_and_logged() -> bool:
        upload = (await admin.get(f"/v1/uploads/{upload_id}")).json()
        return bool(upload["finished_at"]) and (await admin.get(f"/v1/admin/logs/{request_id}")).status_code == 200

    await until("an upload and a request to look at", loaded_and_logged, deadline_s=60)
    yield Seen(created["user"]["id"], upload_id, request_id)
