"""The door of the console when what it asks is away."""

from typing import Any, cast

import httpx
from starlette.types import Receive, Scope, Send

from common.errors import Unavailable
from common.http import RequestIds
from gateway.console.door import ConsoleDoor
from gateway.console.frame import refusal_page
from gateway.console.sessions import Session, Sessions


class _Away:
    async def find(self, _token: str, *, noticed: bool) -> Session | None:
        raise Unavailable(f"The console is not available, noticed={noticed}")


async def _nobody_answers(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("this request must not pass")


async def _get(path: str, **headers: str) -> httpx.Response:
    door = ConsoleDoor(_nobody_answers, cast("Sessions", _Away()), refusal_page)
    transport = httpx.ASGITransport(RequestIds(cast("Any", door)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get(path, headers={"cookie": "bigdata_console=token", **headers})


async def test_a_page_says_so_as_a_page_and_the_api_as_the_api() -> None:
    page = await _get("/console/users")
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "cannot be shown" in page.text
    assert page.headers["retry-after"] == "1"
    assert "content-security-policy" in page.headers
    api = await _get("/console/api/v1/me")
    assert (api.status_code, api.json()["code"]) == (503, "unavailable")


async def test_events_that_a_browser_asks_for_by_itself_are_nobody_being_there() -> None:
    assert "noticed=True" in (await _get("/console/users")).text
    assert "noticed=False" in (await _get("/console/users", accept="text/event-stream")).text
