"""An HTTP client for tests that remembers every request id that was answered, for invariant I4."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from devstack.stack import Stack

Answered = set[str]


@asynccontextmanager
async def open_client(
    stack: Stack, key: str | None, answered: Answered, *, gateway: str = "gateway", timeout_s: float = 60
) -> AsyncIterator[httpx.AsyncClient]:
    """Talks to one gateway of the stack. `key` None sends none."""

    async def remember(response: httpx.Response) -> None:
        answered.add(response.headers["x-request-id"])

    async with httpx.AsyncClient(
        base_url=stack.url(gateway),
        headers={"x-api-key": key} if key else {},
        timeout=timeout_s,
        event_hooks={"response": [remember]},
    ) as client:
        yield client


async def create_user(admin: httpx.AsyncClient, username: str, **fields: Any) -> dict[str, Any]:
    """The answer of create-user: `user` and `api_key`."""
    answer = await admin.post("/v1/admin/create-user", json={"username": username, **fields})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document
