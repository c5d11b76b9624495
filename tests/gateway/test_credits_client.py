import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from common.credit_operations import Grant
from common.errors import IdempotencyMismatch, InsufficientCredits, InvalidRequest, NotFound, Unavailable
from gateway.credits_client import CreditsClient, RefusedOperation, open_credits
from support.gateway_parts import gateway_settings

_ADA = UUID(int=7)
_DIGEST = "0" * 64


class _Service:
    """Stands for the credits service: records batches, answers what the test says."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.tokens: set[str] = set()
        self.answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {"ok": True}
        self.status = 200
        self.cut = 0  # connections to cut before answering again
        self.go = asyncio.Event()
        self.go.set()

    async def batch(self, request: web.Request) -> web.Response:
        if self.cut:
            self.cut -= 1
            assert request.transport is not None
            request.transport.close()
        operations = (await request.json())["operations"]
        self.tokens.add(request.headers["authorization"])
        self.batches.append(operations)
        await self.go.wait()
        if self.status != 200:
            return web.json_response({}, status=self.status)
        if any(operation.get("reason") == "malformed" for operation in operations):
            return web.json_response({}, status=422)
        return web.json_response({"outcomes": [self.answer(operation) for operation in operations]})

    async def too_slow(self, _: web.Request) -> web.Response:
        return web.json_response({}, status=503)


@asynccontextmanager
async def _client(folder: Path, **settings: Any) -> AsyncIterator[tuple[CreditsClient, _Service]]:
    service = _Service()
    app = web.Application(client_max_size=8 << 20)
    app.router.add_post("/v1/batch", service.batch)
    app.router.add_get("/v1/too-slow", service.too_slow)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with open_credits(gateway_settings(folder, credits_url=f"http://127.0.0.1:{port}", **settings)) as client:
            yield client, service
    finally:
        await runner.cleanup()


async def _reserve(client: CreditsClient, number: int = 1) -> Any:
    return await client.reserve(_ADA, UUID(int=number), 1500, 60, f"key-{number}", _DIGEST)


def _release(number: int, reason: str = "test") -> bytes:
    return b'{"op":"release","hold_id":"%b","reason":"%b"}' % (str(UUID(int=number)).encode(), reason.encode())


async def test_reserves_and_settlements_leave_in_one_call(tmp_path: Path) -> None:
    async with _client(tmp_path) as (client, service):
        service.go.clear()
        first = asyncio.create_task(_reserve(client))
        while not service.batches:  # noqa: ASYNC110 - until the first call is in flight
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(_reserve(client, n)) for n in range(2, 20)]
        settling = [asyncio.create_task(client.settle(_release(n))) for n in range(20, 30)]
        await asyncio.sleep(0)
        service.go.set()
        await asyncio.gather(first, *rest, *settling)
        assert [len(batch) for batch in service.batches] == [1, 28]
        assert service.tokens == {"Bearer first"}


async def test_too_few_credits_say_what_is_there_and_what_is_needed_in_credits(tmp_path: Path) -> None:
    async with _client(tmp_path) as (client, service):
        service.answer = lambda _: {
            "ok": False, "code": "insufficient_credits", "available_mc": 500, "needed_mc": 1500,
        }  # fmt: skip
        with pytest.raises(InsufficientCredits) as refused:
            await _reserve(client)
        assert refused.value.details == {"available": 0.5, "needed": 1.5}


async def test_refusals_become_the_answers_a_client_can_act_on(tmp_path: Path) -> None:
    grant = Grant(user_id=_ADA, amount_mc=1, actor="test", key="k")
    async with _client(tmp_path) as (client, service):
        service.answer = lambda _: {"ok": False, "code": "idempotency_mismatch"}
        with pytest.raises(IdempotencyMismatch):
            await _reserve(client)
        service.answer = lambda _: {"ok": False, "code": "unknown_user"}
        with pytest.raises(NotFound):
            await client.administer(grant)
        with pytest.raises(Unavailable):
            await _reserve(client)
        service.answer = lambda _: {"ok": False, "code": "amount_out_of_range"}
        with pytest.raises(InvalidRequest):
            await client.administer(grant)


async def test_a_cut_connection_is_tried_once_more_on_a_fresh_one(tmp_path: Path) -> None:
    async with _client(tmp_path) as (client, service):
        await _reserve(client)
        service.cut = 1
        assert (await _reserve(client)).ok
        service.cut = 2
        with pytest.raises(Unavailable):
            await _reserve(client)


async def test_an_outage_is_answered_fast_and_ends_by_itself(tmp_path: Path) -> None:
    async with _client(tmp_path) as (client, service):
        service.status = 503
        for _ in range(3):
            with pytest.raises(Unavailable):
                await _reserve(client)
        asked = len(service.batches)
        with pytest.raises(Unavailable):
            await _reserve(client)
        assert len(service.batches) == asked  # not even tried
        service.status = 200
        async with asyncio.timeout(5):
            while True:
                try:
                    assert (await _reserve(client)).ok
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)


async def test_reads_that_fail_stop_nobody_from_being_charged(tmp_path: Path) -> None:
    async with _client(tmp_path) as (client, service):
        for _ in range(5):
            with pytest.raises(Unavailable):
                await client.read("/v1/too-slow")
        assert (await _reserve(client, 1)).ok
        assert len(service.batches) == 1


async def test_a_silent_service_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    async with _client(tmp_path, credits_timeout_s=0.1) as (client, service):
        service.go.clear()
        async with asyncio.timeout(1):
            with pytest.raises(Unavailable):
                await _reserve(client)
        service.go.set()


async def test_one_malformed_operation_fails_alone(tmp_path: Path) -> None:
    async with _client(tmp_path) as (client, _):
        operations = [_release(n) for n in range(9)] + [_release(9, "malformed")]
        results = await asyncio.gather(*map(client.settle, operations), return_exceptions=True)
        assert [isinstance(result, RefusedOperation) for result in results] == [False] * 9 + [True]


async def test_large_answers_do_not_make_a_call_larger_than_the_service_takes(tmp_path: Path) -> None:
    body = base64.b64encode(b"x" * 1_000_000)
    operation = b'{"op":"capture","hold_id":"%b","answer":"%b"}' % (str(UUID(int=1)).encode(), body)
    async with _client(tmp_path) as (client, service):
        service_app_limit = 4 << 20
        results = await asyncio.gather(*(client.settle(operation) for _ in range(6)), return_exceptions=True)
        assert len(results) == 6
        assert all(len(batch) * len(operation) <= service_app_limit for batch in service.batches)
