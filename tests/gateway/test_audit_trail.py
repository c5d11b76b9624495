import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Message

from common.credit_operations import Receipt
from common.errors import InsufficientCredits
from common.events import RequestFinished
from common.http import RequestIds, install_error_envelope
from gateway.audit_trail import AuditTrail, trail_of
from gateway.spool import Captured, Released
from support.audit_events import StoppedClock
from support.gateway_parts import ListSpool, caller

_HOLD = UUID(int=1)
_RECEIPT = Receipt(query_id=_HOLD, dataset="people", state="captured", price_version="v1")
_CAPTURED = Captured(_HOLD, UUID(int=7), 1500, _RECEIPT)


def _app() -> FastAPI:
    app = FastAPI()
    install_error_envelope(app)

    @app.get("/charged/{item}")
    async def charged(request: Request, item: str) -> dict[str, str]:
        trail = trail_of(request)
        trail.caller, trail.rows, trail.dataset, trail.settlement = caller(), 3, "people", _CAPTURED
        trail.headers.append((b"ratelimit-limit", b"600"))
        return {"item": item}

    @app.get("/refused")
    async def refused(request: Request) -> None:
        trail_of(request).caller = caller()
        raise InsufficientCredits

    @app.get("/fault")
    async def fault(request: Request) -> None:
        trail = trail_of(request)
        trail.caller, trail.hold, trail.settlement = caller(), _HOLD, _CAPTURED
        raise ValueError("a secret detail")

    @app.get("/held")
    async def held(request: Request) -> Response:
        trail = trail_of(request)
        trail.caller, trail.hold = caller(), _HOLD
        return Response(status_code=503)

    @app.get("/breaks")
    async def breaks(request: Request) -> StreamingResponse:
        trail = trail_of(request)
        trail.caller, trail.settlement = caller(), _CAPTURED

        async def pieces() -> AsyncIterator[bytes]:
            yield b"some"
            raise OSError("the other side is gone")

        return StreamingResponse(pieces())

    @app.get("/endless")
    async def endless(request: Request, followed: str = "") -> StreamingResponse:
        trail_of(request).caller, trail_of(request).followed = caller(), bool(followed)

        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"more"
                await asyncio.sleep(0.001)

        return StreamingResponse(pieces())

    return app


def _audited() -> tuple[AuditTrail, ListSpool]:
    spool = ListSpool()
    return AuditTrail(RequestIds(_app()), spool, StoppedClock()), spool


async def _get(path: str) -> tuple[httpx.Response, dict[str, Any], Captured | Released | None]:
    app, spool = _audited()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        answer = await http.get(path, headers={"x-api-key": "canary"})
    [(event, settlement, _)] = spool.records
    assert event["event_id"] == answer.headers["x-request-id"]
    assert "canary" not in str(event)
    return answer, event, settlement


async def test_an_answer_leaves_one_record_with_its_charge() -> None:
    answer, event, settlement = await _get("/charged/17")
    parsed = RequestFinished.model_validate(event)
    assert set(event) == set(RequestFinished.model_fields)
    assert (parsed.endpoint, parsed.status, parsed.rows, parsed.credits_used_mc) == ("/charged/{item}", 200, 3, 1500)
    assert (parsed.user_id, parsed.username, parsed.hold_id) == (UUID(int=7), "ada", _HOLD)
    assert settlement == _CAPTURED
    assert answer.headers["ratelimit-limit"] == "600"


async def test_a_refusal_is_recorded_with_its_code() -> None:
    answer, event, settlement = await _get("/refused")
    assert (answer.status_code, event["status"], event["error_code"]) == (402, 402, "insufficient_credits")
    assert settlement is None


async def test_what_is_nowhere_is_recorded_without_its_path() -> None:
    _, event, _ = await _get("/nowhere/with-a-secret")
    assert (event["status"], event["endpoint"], event["user_id"]) == (404, "unmatched", None)


async def test_a_fault_of_ours_costs_nothing_and_shows_nothing() -> None:
    answer, event, settlement = await _get("/fault")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert (event["status"], event["error_code"], event["credits_used_mc"]) == (500, "internal", 0)
    assert settlement == Released(_HOLD, UUID(int=7), "answered 500")


async def test_a_hold_that_nothing_settled_is_released() -> None:
    _, event, settlement = await _get("/held")
    assert isinstance(settlement, Released)
    assert (settlement.hold_id, event["hold_id"]) == (_HOLD, str(_HOLD))


async def test_an_answer_that_breaks_on_our_side_is_cut_visibly_and_costs_nothing() -> None:
    app, spool = _audited()
    sent: list[Message] = []
    with pytest.raises(Exception, match="gone"):
        await app(_scope("/breaks"), _never, _collect(sent))
    assert sent[-1].get("more_body", False)
    [(event, settlement, _)] = spool.records
    assert event["status"] == 500
    assert isinstance(settlement, Released)


@pytest.mark.parametrize(("query", "status"), [(b"", 499), (b"followed=yes", 200)])
async def test_a_client_that_leaves_is_recorded_once_and_is_no_failure_of_what_only_it_ends(
    query: bytes, status: int
) -> None:
    app, spool = _audited()
    sent: list[Message] = []

    async def leaving() -> Message:
        while len(sent) < 5:  # noqa: ASYNC110 - the fifth message is when this client has enough
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    await app({**_scope("/endless"), "query_string": query}, leaving, _collect(sent))
    [(event, _, user_id)] = spool.records
    assert (event["status"], user_id) == (status, UUID(int=7))


async def test_the_record_is_written_before_the_last_byte_is_passed_on() -> None:
    app, spool = _audited()
    written_before: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            written_before.append(len(spool.records))

    await app(_scope("/charged/1"), _never, send)
    assert written_before == [1]


async def test_the_caller_leaves_the_limiter_once_whatever_happens() -> None:
    left: list[int] = []
    spool = ListSpool()

    async def inner(scope: Any, _receive: Any, _send: Any) -> None:
        scope["state"]["trail"].leave = lambda: left.append(1)
        scope["state"]["request_id"] = UUID(int=1)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - whatever the app raises
        await AuditTrail(inner, spool, StoppedClock())(_scope("/x"), _never, _collect([]))
    assert left == [1]
    assert len(spool.records) == 1


def _scope(path: str) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [], "client": ("192.0.2.1", 1),
        "server": ("test", 80), "scheme": "http", "root_path": "",
    }  # fmt: skip


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def _collect(sent: list[Message]) -> Any:
    async def send(message: Message) -> None:
        sent.append(message)

    return send
