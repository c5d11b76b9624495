import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from common.health import QuietServer
from gateway.early_refusals import logged_protocol
from support.audit_events import StoppedClock
from support.gateway_parts import ListSpool
from support.polling import until


@asynccontextmanager
async def _served(spool: ListSpool, connections_max: int = 10) -> AsyncIterator[int]:
    """An app that would answer 204, behind uvicorn as the gateway runs it; its port."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(
        app,
        port=0,
        http=logged_protocol(spool, StoppedClock(), "127.0.0.1"),  # type: ignore[arg-type]
        limit_concurrency=connections_max,
        lifespan="off",
        ws="none",
        log_config=None,
    )
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await until("the server", started, deadline_s=30)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await asyncio.wait_for(serving, 30)


async def _answer(port: int, sent: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body of what is answered before the connection ends."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    status, *lines = head.decode().split("\r\n")
    return status.split()[1], dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"FETCH /\r\n"])
async def test_what_is_no_http_is_answered_and_logged_like_any_fault(sent: bytes) -> None:
    spool = ListSpool()
    async with _served(spool) as port:
        status, headers, body = await _answer(port, sent)
    answer = json.loads(body)
    assert (status, answer["code"]) == ("400", "bad_header")
    [(event, settlement, user_id)] = spool.records
    assert event["event_id"] == answer["request_id"] == headers["x-request-id"]
    assert (event["status"], event["endpoint"], event["error_code"]) == (400, "unmatched", "bad_header")
    assert event["ip"] == "127.0.0.1"
    assert (settlement, user_id) == (None, None)


async def test_a_connection_too_many_is_answered_and_logged_under_the_address_that_the_proxy_names() -> None:
    spool = ListSpool()
    async with _served(spool, connections_max=1) as port:
        status, headers, body = await _answer(port, b"GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.7\r\n\r\n")
    answer = json.loads(body)
    assert (status, answer["code"], headers["retry-after"]) == ("503", "unavailable", "1")
    [(event, _, _)] = spool.records
    assert event["event_id"] == answer["request_id"] == headers["x-request-id"]
    assert (event["status"], event["error_code"], event["ip"]) == (503, "unavailable", "192.0.2.7")


async def test_what_the_app_answers_passes() -> None:
    spool = ListSpool()
    async with _served(spool) as port:
        status, _, _ = await _answer(port, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert status == "204"
    assert not spool.records
