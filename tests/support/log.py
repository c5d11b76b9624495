"""What the log says of requests, as an admin reads it."""

from typing import Any

import httpx

from support.polling import until


async def entry_of(admin: httpx.AsyncClient, answer: httpx.Response) -> dict[str, Any]:
    """The one entry of a request that was answered, once it has arrived."""
    request_id = answer.headers["x-request-id"]

    async def logged() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await admin.get("/v1/admin/logs", params={"request_id": request_id})).json()
        return rows

    [entry] = await until(f"request {request_id} in the log", logged, deadline_s=40)
    return entry
