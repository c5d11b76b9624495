"""What was answered is charged and logged once, whenever the gateway dies and whatever is down."""

import asyncio
import signal

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until
from support.stack import environment

_FINISHED = 1000


async def test_37_a_killed_gateway_with_a_full_spool_loses_nothing(stack: Stack, answered: Answered) -> None:
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        created = await create_user(admin, f"spool-{new_id().hex[-12:]}", credits=50, plan="unlimited")
    await stack.kill("kafka", signal.SIGSTOP)
    try:
        async with open_client(stack, created["api_key"], answered) as user:
            for _ in range(20):
                assert (await user.post("/v1/query", json={"limit": 1})).status_code == 200
            for _ in range(_FINISHED // 20):
                await asyncio.gather(*(user.get("/v1/me") for _ in range(20)))
        await stack.kill("gateway")
    finally:
        await stack.kill("kafka", signal.SIGCONT)
    await stack.start("gateway")
    assert len(answered) > _FINISHED  # I4 is checked after every test: each is in the log, once
    async with open_client(stack, created["api_key"], answered) as user:

        async def settled() -> bool:
            return bool((await user.get("/v1/credits")).json() == {"balance": 30, "held": 0, "available": 30})

        await until("every charge to be posted", settled)


async def test_a_gateway_killed_right_after_spooling_has_charged_once(stack: Stack, answered: Answered) -> None:
    """The answer never left; the record did: the client asks again with its key and gets the stored answer."""
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        created = await create_user(admin, f"spool-{new_id().hex[-12:]}", credits=5)
    key = {"Idempotency-Key": new_id().hex}
    async with (
        environment(stack, "gateway", {"FAULTPOINTS": "gateway.spooled:2"}),
        open_client(stack, created["api_key"], answered) as user,
    ):
        assert (await user.get("/v1/me")).status_code == 200
        with pytest.raises(httpx.TransportError):
            await user.post("/v1/query", json={"limit": 1}, headers=key)
    async with open_client(stack, created["api_key"], answered) as user:

        async def repeated() -> bool:
            return (await user.post("/v1/query", json={"limit": 1}, headers=key)).status_code == 200

        await until("the stored answer", repeated)
        assert (await user.get("/v1/credits")).json()["balance"] == 4
