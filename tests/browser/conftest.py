"""The console in a browser: one Chromium for the session, an admin's and a viewer's key, and something to look at."""

import sys
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from common.ids import new_id
from devstack.stack import Stack
from support.browser import CHROMIUM, WHY_SKIPPED, open_browser
from support.client import create_user


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
